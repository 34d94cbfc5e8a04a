"""Every code block of the documentation runs: here, or in the session that its page names."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from tests.docs.blocks import PAGES, ROOT, parse_blocks, programs, read_blocks, requirements

WITH_CODE = [page for page in PAGES if any(block.runs_elsewhere is None for block in read_blocks(page))]
DOCSTRINGS_WITHOUT_PYTHON = {
    "gati/errors.py",
    "gati/pipeline/stats.py",
    "gati/pipeline/account.py",
    "gati/pipeline/record_journal/format.py",
    "gati/pipeline/spool.py",
}
"""Modules whose docstrings show a tree of names, an equation, a folder or a file format."""


SETUP = {
    "gati/testing/pytest_plugin.py": """
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from gati.testing import ScriptedChatModel

@tool
def weather(city: str) -> str:
    '''Return the weather.'''
    return "sunny"

call = {"name": "weather", "args": {"city": "Paris"}, "id": "call_1"}
agent = create_agent(ScriptedChatModel(replies=[AIMessage("", tool_calls=[call]), "It is sunny."]), [weather])

"""
}
"""The program that the code of a docstring tests."""


def is_installed(package: str) -> bool:
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_code_of_a_page_runs(page: Path):
    required = ["langchain-openai", *requirements(page)]
    if missing := [package for package in required if not is_installed(package)]:
        pytest.skip(f"needs {' '.join(missing)}; nox -s guides installs them")
    if missing := [program for program in programs(page) if shutil.which(program) is None]:
        pytest.skip(f"needs {' '.join(missing)}")
    done = subprocess.run(
        [sys.executable, "-m", "tests.docs", str(page)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_block_that_runs_elsewhere_names_a_session_that_exists(page: Path):
    sessions = re.findall(r"^def (\w+)\(session", (ROOT / "noxfile.py").read_text("utf-8"), re.MULTILINE)
    known = {".ci/run", "a release", *(f"nox -s {name}" for name in sessions)}
    assert {place for block in read_blocks(page) if (place := block.runs_elsewhere)} <= known


@pytest.mark.parametrize("page", [page for page in PAGES if requirements(page)], ids=lambda page: page.name)
def test_a_page_that_needs_other_packages_says_which_session_runs_it(page: Path):
    assert "`nox -s guides`" in page.read_text("utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_block_escapes(page: Path):
    """Every fence belongs to a block that `read_blocks` finds."""
    text = page.read_text("utf-8")
    hidden = text.count("<!-- hidden\n")
    assert len(re.findall(r"^ *```", text, re.MULTILINE)) == 2 * (len(read_blocks(page)) - hidden)


def test_comments_before_a_block_are_read():
    text = "<!-- file: a.py -->\n```python\nx = 1\n```\n\n<!-- hidden\nassert x\n-->\n\n   ```sh\n   true\n   ```\n"
    assert [(block.line, block.language, block.code, block.comments) for block in parse_blocks(text)] == [
        (3, "python", "x = 1\n", {"file": "a.py"}),
        (7, "python", "assert x\n", {}),
        (11, "sh", "true\n", {}),
    ]


def docstring_blocks() -> list[tuple[str, str]]:
    """Return the literal blocks of docstrings in `gati/`, as (module, code)."""
    found = []
    for file in sorted((ROOT / "gati").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                text = ast.get_docstring(node) or ""
                for block in re.findall(r"::\n\n((?:(?:    .*)?\n)+)", text + "\n"):
                    found.append((str(file.relative_to(ROOT)), re.sub(r"^    ", "", block, flags=re.MULTILINE)))
    return found


@pytest.mark.parametrize(
    ("module", "code"),
    [pytest.param(*found, id=found[0]) for found in docstring_blocks() if found[0] not in DOCSTRINGS_WITHOUT_PYTHON],
)
def test_the_code_of_a_docstring_runs(module: str, code: str, tmp_path: Path):
    if module in SETUP:
        pytest.importorskip("langchain")
    file = tmp_path / "test_docstring.py"
    file.write_text(SETUP.get(module, "") + code, "utf-8")
    # A docstring with tests runs as the user's tests do.
    runner = (
        ["-m", "pytest", "-q", "-p", "gati.testing.pytest_plugin", "--gati-update"]
        if "\ndef test_" in f"\n{code}"
        else ["-W", "error"]
    )
    environment = {
        "PYTHONPATH": str(ROOT),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "GATI_LOCAL": str(tmp_path / "store.db"),
        "HOME": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, *runner, str(file)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_docstring_without_python_is_still_there():
    assert {module for module, _ in docstring_blocks()} >= DOCSTRINGS_WITHOUT_PYTHON
