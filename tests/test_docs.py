"""Pages and their links; what the README runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_lead_somewhere(page: Path):
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
    broken = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tests_and_modules_that_a_page_names_exist(page: Path):
    named = re.findall(r"`((?:tests|gati|examples|docs|\.ci)/[\w./-]+)`", page.read_text("utf-8"))
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_ci_finds_both_commands_in_the_readme():
    text = (ROOT / "README.md").read_text("utf-8")
    for name, ending in (("demo", "gati demo"), ("tests", "nox -s check")):
        (command,) = re.findall(rf"^<!-- ci: {name} -->\n```sh\n(.+)\n```$", text, re.MULTILINE)
        assert command.endswith(ending)


def test_no_registry_is_named():
    files = [ROOT / "pyproject.toml", ROOT / "noxfile.py", *(ROOT / ".ci").iterdir()]
    assert [file.name for file in files if "://" in file.read_text("utf-8")] == []


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "index.md").read_text("utf-8")
    assert [page.name for page in PAGES if page.parent.name == "docs" and f"({page.name})" not in index] == ["index.md"]
