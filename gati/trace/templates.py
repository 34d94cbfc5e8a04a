"""Template text apart: its literal pieces, its variables, and what filled them.

A template is trusted only as far as it gives the rendered text again. Where the values are
not known (callables bound beforehand) or do not fit (the template was edited after its first
use, a value was shortened), they are read off the rendered text, if that can be done in one
way only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from string import Formatter
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from gati.trace.records import TemplateText


class Piece(NamedTuple):
    """A literal text (`name` is empty), or a variable with its format, if it has one."""

    text: str
    name: str = ""
    convert: str = ""
    spec: str = ""


class FilledPiece(NamedTuple):
    """A piece with the text that stands for it in the rendering."""

    name: str
    text: str


_NAME = re.compile(r"[A-Za-z_]\w*")
_DOTTED = r"[A-Za-z_]\w*(?:\.\w+)*"
_JINJA = re.compile(r"\{\{ *(" + _DOTTED + r") *\}\}")
_MUSTACHE = re.compile(r"\{\{\{ *(" + _DOTTED + r") *\}\}\}|\{\{&? *(" + _DOTTED + r") *\}\}")
_MAX_PIECES = 1_000


@lru_cache(maxsize=256)
def parse(blocks: tuple[TemplateText, ...]) -> tuple[Piece, ...] | None:
    """The pieces of one message; its blocks stand on lines of their own. None if the template
    has logic, or is not known.
    """
    pieces: list[Piece] = []
    for index, block in enumerate(blocks):
        found = _parse_block(block)
        if found is None or len(pieces) + len(found) > _MAX_PIECES:
            return None
        if index:
            pieces.append(Piece("\n"))
        pieces += found
    return tuple(pieces)


def _parse_block(block: TemplateText) -> list[Piece] | None:
    text, form = block
    if form == "literal":
        return [Piece(text)]
    if form == "f-string":
        return _parse_f_string(text)
    if form == "jinja2":
        # Jinja drops one line break at the end.
        text = text.removesuffix("\n")
        return None if "{%" in text or "{#" in text else _parse_marks(text, _JINJA)
    return _parse_marks(text, _MUSTACHE) if form == "mustache" else None


def _parse_f_string(text: str) -> list[Piece] | None:
    pieces: list[Piece] = []
    try:
        for literal, name, spec, convert in Formatter().parse(text):
            if literal and pieces and not pieces[-1].name:  # cut at a doubled brace
                pieces[-1] = Piece(pieces[-1].text + literal)
            elif literal:
                pieces.append(Piece(literal))
            if name is not None:
                if not _NAME.fullmatch(name) or "{" in (spec or ""):
                    return None
                pieces.append(Piece("", name, convert or "", spec or ""))
    except ValueError:  # no template at all
        return None
    return pieces


def _parse_marks(text: str, marks: re.Pattern[str]) -> list[Piece] | None:
    pieces: list[Piece] = []
    end = 0
    for mark in marks.finditer(text):
        pieces += [Piece(text[end : mark.start()]), Piece("", next(filter(None, mark.groups())).replace(".", "_"))]
        end = mark.end()
    pieces.append(Piece(text[end:]))
    # What is left of the braces is logic: sections, filters, calls, comments, other delimiters.
    return None if any("{{" in piece.text for piece in pieces) else [p for p in pieces if p.text or p.name]


def fill_pieces(pieces: Sequence[Piece], values: dict[str, Any], rendered: str) -> list[FilledPiece] | None:
    """What stands for each piece in `rendered`; None if the template cannot have given it, or
    could have in more than one way.
    """
    known = [_formatted(piece, values) if piece.name else piece.text for piece in pieces]
    if None not in known and "".join(filter(None, known)) == rendered:
        return [FilledPiece(piece.name, text or "") for piece, text in zip(pieces, known, strict=True)]
    # First with the values that do occur in the text, then with none of them.
    unknown = [None if piece.name else piece.text for piece in pieces]
    trusted = [text if text and text in rendered else bare for text, bare in zip(known, unknown, strict=True)]
    for guess in (trusted, unknown):
        texts = _infer_texts(guess, rendered)
        if texts is not None:
            filled = [FilledPiece(piece.name, text) for piece, text in zip(pieces, texts, strict=True)]
            if _is_consistent(pieces, filled):
                return filled
    return None


def _formatted(piece: Piece, values: dict[str, Any]) -> str | None:
    """A value as the template shows it; None if it is not known or cannot be shown so."""
    if piece.name not in values:
        return None
    value = values[piece.name]
    try:
        if piece.convert:
            value = Formatter().convert_field(value, piece.convert)
        return format(value, piece.spec) if piece.spec else str(value)
    except Exception:  # noqa: BLE001 - a plain copy need not take the format that the user's object took
        return None


def _infer_texts(parts: list[str | None], rendered: str) -> list[str] | None:
    """The texts of the unknown parts (None), if there is exactly one way to read them."""
    runs: list[str] = [""]
    for part in parts:
        if part is None:
            runs.append("")
        else:
            runs[-1] += part
    if len(runs) == 1:
        return [part or "" for part in parts] if runs[0] == rendered else None
    if "" in runs[1:-1] or not (rendered.startswith(runs[0]) and rendered.endswith(runs[-1])):
        return None
    first, last = len(runs[0]), len(rendered) - len(runs[-1])
    early = _earliest_positions(runs[1:-1], rendered, first, last)
    if early is None or early != _latest_positions(runs[1:-1], rendered, first, last):
        return None
    starts = [first, *(at + len(run) for at, run in zip(early, runs[1:-1], strict=True))]
    found = [rendered[a:b] for a, b in zip(starts, [*early, last], strict=True)]
    unknown = iter(found)
    return [next(unknown) if part is None else part for part in parts]


def _earliest_positions(runs: list[str], text: str, start: int, end: int) -> list[int] | None:
    """Where each run stands if it stands as early as it can."""
    found = []
    if start > end:
        return None
    for run in runs:
        at = text.find(run, start, end)
        if at < 0:
            return None
        found.append(at)
        start = at + len(run)
    return found


def _latest_positions(runs: list[str], text: str, start: int, end: int) -> list[int] | None:
    """Where each run stands if it stands as late as it can."""
    found = []
    for run in reversed(runs):
        at = text.rfind(run, start, end)
        if at < 0:
            return None
        found.append(at)
        end = at
    return found[::-1]


def _is_consistent(pieces: Sequence[Piece], filled: list[FilledPiece]) -> bool:
    """Whether a variable that occurs more than once, in one format, has one text."""
    seen: dict[Piece, str] = {}
    return all(seen.setdefault(p, f.text) == f.text for p, f in zip(pieces, filled, strict=True) if p.name)
