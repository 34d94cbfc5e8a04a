"""Read the code blocks of a page, and the comments that say how they run.

Blocks of a page run in order, in one process and one folder: Python in one namespace, `sh` with bash. Comments before a
block change that:

    <!-- file: app.py -->            write the block to this file instead of running it
    <!-- run by: nox -s check -->    something else runs the block
    <!-- until: http -->             run it until it prints a line with this text, then interrupt it
    <!-- exits: 3 -->                the expected exit code of a shell block

Comments on their own:

    <!-- requires: fastapi httpx --> packages, at the beginning of a page; `nox -s guides` installs them
    <!-- programs: redis-server --> programs of the system, below that; without them the page is skipped
    <!-- hidden                      Python that runs at this place of the page, and is not shown
    …
    -->
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]

OUTPUT = {"", "text"}
"""Languages of blocks that show output, diagrams or files, and are not code."""

_PIECE = re.compile(
    r"<!-- hidden\n(?P<hidden>.*?)^-->$"
    r"|(?P<comments>(?:^[ ]*<!-- (?:file|run by|until|exits|ci): [^\n]*-->\n)*)"
    r"^(?P<indent>[ ]*)```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^(?P=indent)```[ ]*$",
    re.DOTALL | re.MULTILINE,
)


class Block(NamedTuple):
    """A code block of a page, or hidden code."""

    line: int
    language: str
    code: str
    comments: dict[str, str]

    @property
    def runs_elsewhere(self) -> str | None:
        """Return what runs the block instead of the test of its page."""
        return ".ci/run" if "ci" in self.comments else self.comments.get("run by")


def read_blocks(page: Path) -> list[Block]:
    """Return the blocks of a page in order."""
    return parse_blocks(page.read_text("utf-8"))


def parse_blocks(text: str) -> list[Block]:
    """Return the blocks of a page's text."""
    blocks = []
    for found in _PIECE.finditer(text):
        if found["hidden"] is not None:
            start, language, code, comments = found.start("hidden"), "python", found["hidden"], {}
        else:
            start, language = found.start("code"), found["language"]
            code = re.sub(rf"^{found['indent']}", "", found["code"], flags=re.MULTILINE)
            comments = dict(re.findall(r"<!-- ([\w ]+): (.*?) -->", found["comments"]))
        blocks.append(Block(text.count("\n", 0, start) + 1, language, code, comments))
    return blocks


def requirements(page: Path) -> list[str]:
    """Return the packages that a page needs beside gati."""
    return _names_after("requires", page)


def programs(page: Path) -> list[str]:
    """Return the programs that a page starts and that no Python package has."""
    return _names_after("programs", page)


def _names_after(key: str, page: Path) -> list[str]:
    found = re.search(rf"^<!-- {key}: (.*?) -->$", page.read_text("utf-8"), re.MULTILINE)
    return found[1].split() if found else []
