"""How commands speak: rich on a terminal, plain lines elsewhere, JSON when asked."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any, NoReturn

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

_PLAIN_WIDTH = 160
"""Columns where there is no terminal whose width could be asked."""


class Exit(IntEnum):
    """Exit codes of all commands."""

    OK = 0
    FAILED = 1
    """A check failed, or something was not delivered."""
    USAGE = 2
    """An argument or an option of gati is wrong."""
    NOT_FOUND = 3
    """There is no such conversation or store."""
    MISSING = 4
    """A package is not installed; the message says which extra brings it."""


def console() -> Console:
    """Where results go."""
    return Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH, highlight=False)


def show(part: RenderableType) -> None:
    """Print a result; elsewhere than on a terminal without blanks at the ends of lines."""
    screen = console()
    if screen.is_terminal:
        screen.print(part)
    else:
        with screen.capture() as captured:
            screen.print(part)
        print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def say(text: str) -> None:
    """Print a line for the person, beside the results."""
    Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else _PLAIN_WIDTH).print(text, markup=False)


def progress(what: str, *, silent: bool) -> Progress:
    """A progress bar beside the results."""
    parts = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*parts, console=Console(stderr=True), disable=silent)


def fail(text: str, code: Exit = Exit.FAILED) -> NoReturn:
    """Print what is wrong and end the command."""
    say(f"gati: {text}")
    raise SystemExit(int(code))


def as_json(value: Any) -> None:
    """Print a value as JSON."""
    print(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def rows(table: Sequence[Mapping[str, Any]], *, json_wanted: bool = False) -> None:
    """Print equal rows: as JSON, as a table on a terminal, else tab-separated with a head line."""
    if json_wanted:
        as_json(table)
    elif table and sys.stdout.isatty():
        shown = Table(box=None, header_style="bold", pad_edge=False)
        for name in table[0]:
            shown.add_column(name.replace("_", " "), overflow="fold")
        for row in table:
            shown.add_row(*(_cell(value) for value in row.values()))
        console().print(shown)
    elif table:
        print("\t".join(table[0]))
        for row in table:
            print("\t".join(_cell(value) for value in row.values()))


def _cell(value: Any) -> str:
    return "" if value is None else " ".join(str(value).split())
