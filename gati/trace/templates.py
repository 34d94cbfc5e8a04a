"""Parse template text into literal pieces and variables, and find the text of each piece in a rendering.

A template is trusted only if its pieces reproduce the rendered text. If values are not known
(callables bound beforehand) or do not fit (the template was edited after its first use, a value was
shortened), they are inferred from the rendered text, provided that there is exactly one way to do so.
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
    """A literal text (`name` is empty), or a variable with its conversion and format spec."""

    text: str
    name: str = ""
    convert: str = ""
    spec: str = ""


class FilledPiece(NamedTuple):
    """The text of a piece in a rendering; `name` is empty for literal text."""

    name: str
    text: str


_NAME = re.compile(r"[A-Za-z_]\w*")
_DOTTED = r"[A-Za-z_]\w*(?:\.\w+)*"
_JINJA = re.compile(r"\{\{ *(" + _DOTTED + r") *\}\}")
_MUSTACHE = re.compile(r"\{\{\{ *(" + _DOTTED + r") *\}\}\}|\{\{&? *(" + _DOTTED + r") *\}\}")
_INSTRUCTIONS = re.compile(r"[^\W\d_]{2}")
"""Two letters: what a template needs besides variables to be an instruction."""
_MAX_PIECES = 1_000


@lru_cache(maxsize=256)
def parse(blocks: tuple[TemplateText, ...]) -> tuple[Piece, ...] | None:
    """Parse the blocks of one message, joined by line breaks; return None for a template with logic or without text.

    Example: an f-string ``"Be {how}."`` → ``(Piece("Be "), Piece("", "how"), Piece("."))``.
    """
    pieces: list[Piece] = []
    for index, block in enumerate(blocks):
        parsed = _parse_block(block)
        if parsed is None or len(pieces) + len(parsed) > _MAX_PIECES:
            return None
        if index:
            pieces.append(Piece("\n"))
        pieces += parsed
    return tuple(pieces)


@lru_cache(maxsize=256)
def has_instructions(blocks: tuple[TemplateText, ...]) -> bool:
    """Return True if a user message's template has text of its own, not only variables; False for a literal message."""
    pieces = parse(blocks) if any(block.format != "literal" for block in blocks) else None
    return pieces is not None and any(_INSTRUCTIONS.search(piece.text) for piece in pieces)


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
            if literal and pieces and not pieces[-1].name:  # split at a doubled brace
                pieces[-1] = Piece(pieces[-1].text + literal)
            elif literal:
                pieces.append(Piece(literal))
            if name is not None:
                if not _NAME.fullmatch(name) or "{" in (spec or ""):
                    return None
                pieces.append(Piece("", name, convert or "", spec or ""))
    except ValueError:  # not a valid format string
        return None
    return pieces


def _parse_marks(text: str, marks: re.Pattern[str]) -> list[Piece] | None:
    """Split a text at its variable marks. Example: ``"Be {{ how }}."`` → literal, variable ``how``, literal."""
    pieces: list[Piece] = []
    end = 0
    for mark in marks.finditer(text):
        pieces += [Piece(text[end : mark.start()]), Piece("", next(filter(None, mark.groups())).replace(".", "_"))]
        end = mark.end()
    pieces.append(Piece(text[end:]))
    # Remaining braces are logic: sections, filters, calls, comments, other delimiters.
    return None if any("{{" in piece.text for piece in pieces) else [p for p in pieces if p.text or p.name]


def fill_pieces(pieces: Sequence[Piece], values: dict[str, Any], rendered: str) -> list[FilledPiece] | None:
    """Return the text of each piece in `rendered`.

    Return None if the template cannot have produced the text, or if its values cannot be inferred
    unambiguously. Example: pieces of ``"Be {how}."`` and rendered ``"Be brief."`` →
    ``[("", "Be "), ("how", "brief"), ("", ".")]``, also without the value of ``how``.
    """
    known = [_format_value(piece, values) if piece.name else piece.text for piece in pieces]
    if None not in known and "".join(filter(None, known)) == rendered:
        return [FilledPiece(piece.name, text or "") for piece, text in zip(pieces, known, strict=True)]
    # First with the values that occur in the text, then without any values.
    unknown = [None if piece.name else piece.text for piece in pieces]
    trusted = [text if text and text in rendered else bare for text, bare in zip(known, unknown, strict=True)]
    for guess in (trusted, unknown):
        texts = _infer_texts(guess, rendered)
        if texts is not None:
            filled = [FilledPiece(piece.name, text) for piece, text in zip(pieces, texts, strict=True)]
            if _is_consistent(pieces, filled):
                return filled
    return None


def _format_value(piece: Piece, values: dict[str, Any]) -> str | None:
    """Format a variable's value as the template does; return None if it is unknown or cannot be formatted."""
    if piece.name not in values:
        return None
    value = values[piece.name]
    try:
        if piece.convert:
            value = Formatter().convert_field(value, piece.convert)
        return format(value, piece.spec) if piece.spec else str(value)
    except Exception:  # noqa: BLE001 - the plain copy may not support the format spec of the user's object
        return None


def _infer_texts(parts: list[str | None], rendered: str) -> list[str] | None:
    """Replace the unknown parts (None) by their texts in `rendered`; return None if that is ambiguous or impossible.

    Example: ``["Be ", None, "."]`` and ``"Be brief."`` → ``["Be ", "brief", "."]``.
    """
    literals: list[str] = [""]  # the text between unknown parts
    for part in parts:
        if part is None:
            literals.append("")
        else:
            literals[-1] += part
    if len(literals) == 1:
        return [part or "" for part in parts] if literals[0] == rendered else None
    inner = literals[1:-1]
    if "" in inner or not (rendered.startswith(literals[0]) and rendered.endswith(literals[-1])):
        return None
    first, last = len(literals[0]), len(rendered) - len(literals[-1])
    positions = _earliest_positions(inner, rendered, first, last)
    if positions is None or positions != _latest_positions(inner, rendered, first, last):
        return None
    starts = [first, *(at + len(literal) for at, literal in zip(positions, inner, strict=True))]
    texts = iter([rendered[start:end] for start, end in zip(starts, [*positions, last], strict=True)])
    return [next(texts) if part is None else part for part in parts]


def _earliest_positions(literals: list[str], text: str, start: int, end: int) -> list[int] | None:
    """Return the position of each literal, each as early as possible after the one before it."""
    positions = []
    if start > end:
        return None
    for literal in literals:
        at = text.find(literal, start, end)
        if at < 0:
            return None
        positions.append(at)
        start = at + len(literal)
    return positions


def _latest_positions(literals: list[str], text: str, start: int, end: int) -> list[int] | None:
    """Return the position of each literal, each as late as possible before the one after it."""
    positions = []
    for literal in reversed(literals):
        at = text.rfind(literal, start, end)
        if at < 0:
            return None
        positions.append(at)
        end = at
    return positions[::-1]


def _is_consistent(pieces: Sequence[Piece], filled: list[FilledPiece]) -> bool:
    """Return True if every occurrence of a variable in the same format has the same text."""
    seen: dict[Piece, str] = {}
    return all(seen.setdefault(p, f.text) == f.text for p, f in zip(pieces, filled, strict=True) if p.name)
