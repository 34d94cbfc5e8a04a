"""Hooks of the documentation site: adds the pages of the repository's root, and writes `llms.txt`.

On GitHub, pages link to files outside of `docs/`. In the site, such a link goes to the added page or to the repository.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
ADDED = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")

_pages: dict[str, tuple[str, str, str]] = {}
"""Path of each page → its address, title and text."""


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of the repository's root."""
    for name in ADDED:
        # Links relative to the root become relative to `docs/`, as `on_page_markdown` expects.
        text = re.sub(r"\]\((?!\w+:|#)", "](../", (ROOT / name).read_text("utf-8")).replace("](../docs/", "](")
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Remove comments that control tests, and point links that leave `docs/` to the site or the repository."""
    folder = posixpath.dirname(page.file.src_uri)

    def point(link: re.Match[str]) -> str:
        target = link["target"]
        path = posixpath.normpath(posixpath.join(folder, target))
        if "://" in target or not path.startswith("../"):
            return link[0]
        outside = path.removeprefix("../")
        if outside in ADDED:
            return f"]({posixpath.relpath(outside, folder or '.')}{link['anchor'] or ''})"
        return f"]({config.repo_url.rstrip('/')}/blob/main/{outside}{link['anchor'] or ''})"

    text = re.sub(r"<!--.*?-->\n?", "", markdown, flags=re.DOTALL)
    text = re.sub(r"\]\((?P<target>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)", point, text)
    title = re.search(r"^# (.+)$", text, re.MULTILINE)
    _pages[page.file.src_uri] = (page.url or "./", title[1] if title else page.file.src_uri, text)
    return text


def on_post_build(config: Any) -> None:
    """Write `llms.txt`, a list of all pages, and `llms-full.txt`, their texts."""
    folder = Path(config.site_dir)
    lines = [f"# {config.site_name}", "", f"> {config.site_description}", "", "## Pages", ""]
    lines += [f"- [{title}]({url})" for url, title, _ in _pages.values()]
    (folder / "llms.txt").write_text("\n".join(lines) + "\n", "utf-8")
    (folder / "llms-full.txt").write_text("\n\n".join(text for _, _, text in _pages.values()), "utf-8")
