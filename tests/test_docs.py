"""The documentation: links, generated sections, and commands in the README."""

from __future__ import annotations

import importlib.util
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
REPOSITORY = "https://github.com/greenflash-ai/gati"
GENERATE = runpy.run_path(str(ROOT / "docs" / "generate.py"))
"""Names of `docs/generate.py`, which is not in a package."""


def installed_from(page: Path) -> set[bool]:
    """Return for the commands of a page that install gati whether they name an address, such as that of the repository."""
    installed = re.findall(r'pip install [^"\n]*"(gati-greenflash[^"]*)"', page.read_text("utf-8"))
    return {" @ " in package for package in installed}


INSTALLING = [page for page in (*PAGES, ROOT / "examples" / "container" / "Dockerfile") if installed_from(page)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_are_valid(page: Path):
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
    broken = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert broken == []


def test_links_of_the_readme_are_absolute_and_valid():
    """The README is also the page in the package index, where relative links lead nowhere."""
    targets = re.findall(r"\]\(([^)#\s]+)", (ROOT / "README.md").read_text("utf-8"))
    assert [target for target in targets if not target.startswith("https://")] == []
    own = re.compile(
        rf"{REPOSITORY}/(?:blob|tree)/main/|{REPOSITORY.replace('github.com', 'raw.githubusercontent.com')}/main/"
    )
    paths = [target[found.end() :] for target in targets if (found := own.match(target))]
    assert len(paths) > 10
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_site_is_built_without_warnings_and_loads_nothing_from_other_hosts(tmp_path: Path):
    if any(importlib.util.find_spec(name) is None for name in ("material", "mkdocstrings")):
        pytest.skip("needs the extra docs; nox -s site builds the site")
    command = (sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path))
    # Without -q, which keeps warnings from `--strict`.
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    loads = re.compile(
        r"""<(?:script|img|iframe)\b[^>]*\bsrc=["']?(\w+:)?//|<link\b[^>]*\brel=["']?(?:stylesheet|preconnect)[^>]*//|@import|url\((?:\w+:)?//"""
    )
    files = [file for file in tmp_path.rglob("*") if file.suffix in (".html", ".css")]
    assert [
        str(file)
        for file in files
        if loads.search(re.sub(r"<code>.*?</code>", "", file.read_text("utf-8"), flags=re.DOTALL))
    ] == []
    assert "[Quick start](quickstart/)" in (tmp_path / "llms.txt").read_text("utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_mentioned_in_a_page_exist(page: Path):
    named = re.findall(r"`((?:tests|gati|examples|docs|\.ci)/[\w./-]+)`", page.read_text("utf-8"))
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_ci_finds_both_commands_in_the_readme():
    text = (ROOT / "README.md").read_text("utf-8")
    for name, ending in (("demo", "gati demo"), ("tests", "nox -s check")):
        (command,) = re.findall(rf"^<!-- ci: {name} -->\n```sh\n(.+)\n```$", text, re.MULTILINE)
        assert command.endswith(ending)


@pytest.mark.parametrize("page", INSTALLING, ids=lambda page: page.name)
def test_gati_is_installed_from_where_the_quick_start_installs_it(page: Path):
    assert installed_from(page) == installed_from(ROOT / "docs" / "quickstart.md")


def test_the_page_about_releasing_lists_the_files_that_name_the_repository_as_the_source():
    text = (ROOT / "docs" / "releasing.md").read_text("utf-8")
    names = [str(page.relative_to(ROOT)) for page in INSTALLING if True in installed_from(page)]
    assert [name for name in names if f"`{name}`" not in text] == []


def test_configuration_contains_no_url_except_the_repository():
    """Package indexes differ between machines."""
    names = ("pyproject.toml", "noxfile.py", "mkdocs.yml", ".pre-commit-config.yaml")
    files = [*(ROOT / name for name in names), *(ROOT / ".ci").iterdir()]
    addresses = [address for file in files for address in re.findall(r"\w+://[^\s\"']*", file.read_text("utf-8"))]
    assert [address for address in addresses if not address.startswith(REPOSITORY)] == []


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "index.md").read_text("utf-8")
    pages = [page for page in PAGES if page.parent == ROOT / "docs"]
    assert [page.name for page in pages if f"({page.name})" not in index] == ["index.md"]
    assert "(decisions/README.md)" in index


def test_decisions_are_numbered_dated_and_listed():
    index = (ROOT / "docs" / "decisions" / "README.md").read_text("utf-8")
    assert [page.name[:4] for page in DECISIONS] == [f"{n:04}" for n in range(1, len(DECISIONS) + 1)]
    for page in DECISIONS:
        title, date = re.findall(
            r"\A# (\d{4}: .+)\n\n(?:Accepted|Superseded), (\d{4}-\d\d-\d\d)\b", page.read_text("utf-8")
        )[0]
        assert f"| [{title}]({page.name}) | {date} |" in index


@pytest.mark.parametrize("page", GENERATE["SECTIONS"])
def test_generated_sections_are_current(page: str):
    current = (ROOT / "docs" / page).read_text("utf-8")
    assert current == GENERATE["generate_page"](page), "run: python docs/generate.py"


def test_every_generated_section_has_a_generator():
    for page in PAGES:
        names = re.findall(r"^<!-- generated: (.+) -->$", page.read_text("utf-8"), re.MULTILINE)
        assert names == list(GENERATE["SECTIONS"].get(page.name, {})), page.name


def test_replace_section_keeps_the_rest_of_the_page():
    page = "# Title\n<!-- generated: a -->\n<!-- end generated -->\nText.\n<!-- generated: b -->\nold\n<!-- end generated -->\n"
    expected = (
        "# Title\n<!-- generated: a -->\n<!-- end generated -->\nText.\n"
        "<!-- generated: b -->\n\n| \\1 |\n\n<!-- end generated -->\n"
    )
    once = GENERATE["replace_section"](page, "b", "| \\1 |\n")
    assert once == expected
    assert GENERATE["replace_section"](once, "b", "| \\1 |") == expected


@pytest.mark.parametrize("page", ["", "<!-- generated: a -->\n", 2 * "<!-- generated: a -->\n<!-- end generated -->\n"])
def test_replace_section_requires_exactly_one_section(page: str):
    with pytest.raises(ValueError, match="generated: a"):
        GENERATE["replace_section"](page, "a", "text")
