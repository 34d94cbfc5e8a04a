"""Output of the commands: rich on a terminal, plain text otherwise, JSON on request.

Results go to standard output; notes, progress bars and errors go to standard error.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from enum import IntEnum
from pathlib import Path
from typing import Any, NoReturn, Self

from rich.console import Console, ConsoleOptions, ConsoleRenderable, Group, RenderableType, RenderHook
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from gati.cli.streams import encodes_all_text
from gati.store.plain_text import escape_controls, escape_json

_TABLE_WIDTH = 120
"""From this width in columns on, a table may fold its cells."""

_PLAIN_WIDTH = 160
"""Width in columns when the output is not a terminal."""


NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a write that there is no room for."""


class Exit(IntEnum):
    """Exit codes of all commands, each with its meaning for `docs/commands.md`."""

    meaning: str

    def __new__(cls, code: int, meaning: str) -> Self:
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    OK = 0, "success"
    FAILED = 1, "a check failed, or something was not delivered"
    USAGE = 2, "an argument or an option is invalid"
    NOT_FOUND = 3, "the conversation or the store does not exist"
    MISSING = 4, "a package is not installed; the message names the extra that installs it"
    OUTPUT = 5, "the output cannot be written: the disk is full, or the output is closed"


class _VisibleControls(RenderHook):
    """Escapes control characters in everything that a console prints, so that recorded text cannot control a terminal."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Escaped(renderable) for renderable in renderables]


class _Escaped:
    def __init__(self, renderable: ConsoleRenderable) -> None:
        self._renderable = renderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for segment in console.render(self._renderable, options):
            yield segment if segment.control else segment._replace(text=escape_controls(segment.text))


def console(*, stderr: bool = False) -> Console:
    """Return a console on standard output or standard error that takes no markup and escapes control characters."""
    stream = sys.stderr if stderr else sys.stdout
    made = Console(stderr=stderr, width=None if stream.isatty() else _PLAIN_WIDTH, highlight=False, markup=False)
    made.push_render_hook(_VisibleControls())
    return made


def print_result(renderable: RenderableType) -> None:
    """Print a renderable to standard output, without trailing blanks if that is not a terminal."""
    screen = console()
    if screen.is_terminal:
        screen.print(renderable)
    else:
        with screen.capture() as captured:
            screen.print(renderable)
        print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def print_note(text: str) -> None:
    """Print a line to standard error. Long lines are not wrapped, so that commands and paths can be copied."""
    with suppress(OSError):  # there is nowhere to say that it cannot be written
        console(stderr=True).print(text, soft_wrap=True)


def progress_bar(description: str, *, silent: bool) -> Progress:
    """Return a progress bar on standard error, or one that prints nothing if `silent`."""
    columns = (TextColumn(description), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), disable=silent)


def fail(text: str, code: Exit = Exit.FAILED) -> NoReturn:
    """Print an error to standard error and exit."""
    print_note(f"gati: {text}")
    raise SystemExit(int(code))


def print_json(value: Any) -> None:
    """Print a value to standard output as indented JSON. Characters that the output's encoding lacks are escaped as JSON."""
    ascii_only = not encodes_all_text(sys.stdout)
    print(escape_json(json.dumps(value, ensure_ascii=ascii_only, indent=2, default=str)))


def print_rows(rows: Sequence[Mapping[str, Any]], *, json_wanted: bool = False) -> None:
    """Print rows with the same keys: as JSON, on a terminal as a table, otherwise as TSV with a header line.

    On a narrow terminal, each row of a wide table is a paragraph.
    """
    if json_wanted:
        print_json(rows)
    elif rows and sys.stdout.isatty():
        screen, table = console(), _table(rows)
        whole = screen.measure(table, options=screen.options.update(max_width=10_000)).maximum
        if screen.width < min(whole, _TABLE_WIDTH):
            for row in rows:
                screen.print(_paragraph(row))
        else:
            screen.print(table)
    elif rows:
        print("\t".join(rows[0]))
        for row in rows:
            print("\t".join(_format_cell(value) for value in row.values()))


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in rows[0]:
        table.add_column(name.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(Text(_format_cell(value)) for value in row.values()))
    return table


def _paragraph(row: Mapping[str, Any]) -> Group:
    """Return the first value as a heading, and below it the others with their names. Empty ones are left out."""
    (_, heading), *others = row.items()
    facts = [f"{name.replace('_', ' ')} {_format_cell(value)}" for name, value in others if value not in (None, "")]
    return Group(Text(_format_cell(heading), "bold"), Padding(Text(" · ".join(facts)), (0, 0, 1, 2)))


def _format_cell(value: Any) -> str:
    return "" if value is None else " ".join(escape_controls(str(value)).split())


def gati_command() -> str:
    """Return `gati` as it can be typed in this shell and working directory.

    That is `gati` if it is on PATH, otherwise the script of this Python environment, for example `.venv/bin/gati`.
    """
    script = Path(sysconfig.get_path("scripts"), "gati.exe" if os.name == "nt" else "gati")
    if shutil.which("gati") or not script.exists():
        return "gati"
    folder = Path.cwd()
    if folder in script.parents[1:]:  # in the script's own folder, its bare name would be looked up on PATH
        script = script.relative_to(folder)
    return f'"{script}"' if " " in str(script) else str(script)
