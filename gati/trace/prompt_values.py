"""Find data in a plain-text prompt: values that the program is known to have, dates and times.

A prompt that was filled with data before LangChain saw it has no template. Its values are found again in
the state of the graph, the runtime context, the configuration, the metadata and the user's id, so that
the same prompt for ten users is one version.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from gati.trace.outputs import updates_by, updates_of
from gati.trace.records import COMMAND, Message
from gati.trace.scripts import CJK, HANGUL, SPACELESS
from gati.trace.templates import FilledPiece

if TYPE_CHECKING:
    from gati.trace.run_tree import Run, Trace

MAX_VALUES = 500
"""Known values of a trace; further ones are ignored."""
_MAX_DEPTH = 4
_MIN_CHARS = 3
_MIN_CJK_CHARS = 2
_LONG_CHARS = 8
"""From this length on, a text counts as data whatever its characters."""
_MAX_PROMPT_CHARS = 200_000
"""Longest prompt that is searched."""

_MAX_FORMATTED = 10**15
"""Largest number that is also searched with separators and decimals."""
_RETRIEVED = "context"
"""Name of the variable that holds retrieved texts."""
_INTERNAL_PREFIXES = ("langgraph_", "ls_", "lc_", "__", "checkpoint", "langchain_", "gati_")
_INTERNAL_KEYS = frozenset({"messages", "system_prompt", "run_attempt", "assistant_id", "graph_id"})

_IS_CJK = re.compile(f"[{CJK}{HANGUL}]")
_IS_SPACELESS = re.compile(f"[{SPACELESS}{HANGUL}]")

_MONTH = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?"
    r"|Nov(?:ember)?|Dec(?:ember)?)\.?"
)
_DAY_NAME = r"(?:(?:Mon|Tues?|Wed(?:nes)?|Thu(?:rs)?|Fri|Sat(?:ur)?|Sun)(?:day)?\.?,?\s+)?"
_DAY, _YEAR = r"(?:0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th)?", r"(?:19|20|21)\d\d"
_CLOCK = r"(?:[01]?\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:[.,]\d{1,9})?)?"
_ZONE = r"(?:\s?(?:[AaPp][Mm]\b|[AaPp]\.[Mm]\.))?(?:\s?(?:Z|UTC|GMT|[+-]\d\d:?\d\d)\b)?"
_TIME = _CLOCK + _ZONE
_SHORT_DATE = "|".join((
    rf"{_DAY_NAME}(?:0?[1-9]|[12]\d|3[01])/(?:0?[1-9]|[12]\d|3[01])/\d\d",
    rf"{_DAY_NAME}{_MONTH}\s+{_DAY}",
    rf"{_DAY_NAME}{_DAY}\.?\s+(?:of\s+)?{_MONTH}(?<!\.)",
    rf"{_MONTH},?\s+{_YEAR}",
))  # fmt: skip
"""Dates without a century, without a year or without a day."""
_DATE = "|".join((
    rf"{_DAY_NAME}{_YEAR}-\d\d-\d\d",
    rf"{_DAY_NAME}{_YEAR}/\d\d?/\d\d?",
    rf"{_DAY_NAME}\d\d?[./-]\d\d?[./-]{_YEAR}",
    rf"{_DAY_NAME}{_MONTH}\s+{_DAY},?\s+{_YEAR}",
    rf"{_DAY_NAME}{_DAY}\.?\s+(?:of\s+)?{_MONTH},?\s+{_YEAR}",
    rf"{_YEAR}\s?[年년]\s?\d\d?\s?[月월]\s?\d\d?\s?[日일]",
))  # fmt: skip
_MOMENT = re.compile(
    rf"(?<![\w.:/-])(?:(?P<ctime>{_DAY_NAME}{_MONTH}\s+{_DAY}\s+{_CLOCK}\s+{_YEAR})"
    rf"|(?P<datetime>(?:{_DATE}|{_SHORT_DATE})(?:T|,?\s+(?:at\s+)?){_TIME})|(?P<date>{_DATE}|{_SHORT_DATE})"
    rf"|(?P<time>{_TIME}))(?![\w/-]|[.:]\d)"
)
_MOMENT_NAMES = {"ctime": "datetime", "datetime": "datetime", "date": "date", "time": "time"}


class _Span(NamedTuple):
    """A part of a text that a variable replaces. `rank` decides between spans of equal length; lower wins."""

    start: int
    end: int
    rank: int
    name: str


class KnownValues:
    """The values that one trace is known to have, in order of precedence.

    Args:
        trace: the turn's runs.
        user_id: the user's id; None if it is not known.
    """

    def __init__(self, trace: Trace, user_id: str | None) -> None:
        self._trace = trace
        self._user_id = user_id
        self._nodes: list[Run] = []

    def add(self, run: Run) -> None:
        """Add what a node wrote to the state."""
        if run.node is not None and run.output is not None:
            self._nodes.append(run)

    def fill(self, text: str, retrieved: Iterable[str] = ()) -> list[FilledPiece] | None:
        """Split a prompt into literal text and values; None if it contains no values, or marks of its own.

        `retrieved` are texts of this turn's retrievals; those that follow each other become one value.
        """
        if len(text) > _MAX_PROMPT_CHARS or _has_marks(text):
            return None
        spans = [*self._value_spans(text, retrieved), *_moment_spans(text)]
        spans.sort(key=lambda span: (span.start - span.end, span.rank, span.start))
        chosen: list[_Span] = []
        for span in spans:
            if all(span.end <= other.start or span.start >= other.end for other in chosen):
                chosen.append(span)
        return _pieces(text, _merge_retrieved(text, sorted(chosen))) if chosen else None

    def _value_spans(self, text: str, retrieved: Iterable[str]) -> Iterator[_Span]:
        whole = text.strip()
        seen: set[str] = set()
        documents = ((_RETRIEVED, document.strip()) for document in retrieved)
        for rank, (name, value) in enumerate((*documents, *self._values())):
            if value in seen or value not in text or not is_recognizable(value) or value.strip() == whole:
                continue
            seen.add(value)
            for start in _occurrences(value, text):
                yield _Span(start, start + len(value), rank, name)

    def _values(self) -> Iterator[tuple[str, str]]:
        """Yield names and texts: of the state, the context and configuration, the metadata and the user's id."""
        root = self._trace.root
        sources: list[Any] = [root.inputs]
        sources += [update for run in self._nodes for update in updates_by(run)]
        sources += [root.output, self._trace.configurable, root.metadata, {"user_id": self._user_id}]
        count = 0
        for source in sources:
            if isinstance(source, dict) and COMMAND in source:
                found: Iterable[tuple[str, str]] = (item for u in updates_of(source) for item in _texts_in("", u, 0))
            else:
                found = _texts_in("", source, 0) if isinstance(source, dict) else ()
            for item in found:
                yield item
                if (count := count + 1) >= MAX_VALUES:
                    return


def is_recognizable(value: str) -> bool:
    """Return True if a value can be distinguished from the prompt's own words.

    It has at least three characters (two in CJK), and a digit, an upper-case letter, a symbol or a letter outside of
    ASCII, or at least eight characters. Example: "Anna", "u-7" and "premium-plan" → True; "free" → False.
    """
    stripped = value.strip()
    if len(stripped) < (_MIN_CJK_CHARS if _IS_CJK.search(stripped) else _MIN_CHARS):
        return False
    return len(stripped) >= _LONG_CHARS or any(
        not c.isascii() or c.isupper() or not (c.isalpha() or c.isspace()) for c in stripped
    )


def _texts_in(name: str, value: Any, depth: int) -> Iterator[tuple[str, str]]:
    """Yield the texts in a value with the names of their variables, the whole of a list before its items.

    Example: ``{"user": {"name": "Anna"}, "tags": ["vip", "eu"]}`` → ``user_name``: "Anna"; ``tags``: "vip, eu", …
    """
    if value is None or isinstance(value, (bool, Message, bytes)) or depth > _MAX_DEPTH:
        return
    if isinstance(value, (str, int, float)):
        if name:
            yield from ((name, text) for text in _forms_of(value))
    elif isinstance(value, Mapping):
        if name:
            yield name, str(value)
        for key, entry in value.items():
            key = str(key)
            if depth or not (key.startswith(_INTERNAL_PREFIXES) or key in _INTERNAL_KEYS):
                yield from _texts_in(_variable_name(name, key), entry, depth + 1)
    elif isinstance(value, (list, tuple)):
        texts = [str(entry) for entry in value if isinstance(entry, (str, int, float)) and not isinstance(entry, bool)]
        if len(texts) == len(value) > 1:
            for joined in (str(value), *(separator.join(texts) for separator in (", ", "\n- ", "\n* ", "\n", "; "))):
                yield name, joined
        for entry in value:
            yield from _texts_in(name, entry, depth + 1)


def _forms_of(value: str | float) -> Iterator[str]:
    """Yield the forms in which prompts contain a value. Example: 1234.5 → "1234.5", "1234.50", "1,234.5", "1,234.50"."""
    yield str(value)
    if isinstance(value, str) or not abs(value) <= _MAX_FORMATTED:  # NaN has no other form
        return
    if isinstance(value, float):
        yield f"{value:.2f}"
    if abs(value) >= 1000:
        yield f"{value:,}"
        yield f"{value:,.2f}"


def _variable_name(outer: str, key: str) -> str:
    """Return a name without braces and blanks. Example: ``("user", "first name")`` → ``"user_first_name"``."""
    inner = re.sub(r"\W+", "_", key).strip("_") or "value"
    return f"{outer}_{inner}"[:100] if outer else inner[:100]


def _occurrences(value: str, text: str) -> Iterator[int]:
    """Yield where a value occurs at word boundaries; in scripts without spaces, everywhere."""
    at = text.find(value)
    while at >= 0:
        end = at + len(value)
        before, after = _neighbours(text, at, end)
        if _is_boundary(before, value[0]) and _is_boundary(after, value[-1]) and before != "{" and after != "}":
            yield at
            at = text.find(value, end)
        else:
            at = text.find(value, at + 1)


def _neighbours(text: str, start: int, end: int) -> tuple[str, str]:
    """Return the characters before and after a part of a text, outside of the marks of Markdown's emphasis (`_Anna_`)."""
    while start and text[start - 1] == "_" == text[end : end + 1]:
        start, end = start - 1, end + 1
    return text[start - 1 : start] if start else "", text[end : end + 1]


def _is_boundary(neighbour: str, edge: str) -> bool:
    """Return True if a word ends between a value's edge and its neighbour in the text."""
    if not _is_word_character(neighbour) or not _is_word_character(edge):
        return True
    return bool(_IS_SPACELESS.match(neighbour) or _IS_SPACELESS.match(edge))


def _is_word_character(character: str) -> bool:
    return character.isalnum() or character == "_"


def _has_marks(text: str) -> bool:
    """Return True if a text has marks of a template, such as `{{name}}`. Linear, unlike a regular expression."""
    begin = text.find("{{")
    return begin >= 0 and text.find("}}", begin + 2) >= 0


@lru_cache(maxsize=32)  # most calls of a program have one of few prompts
def _moment_spans(text: str) -> tuple[_Span, ...]:
    """Return the dates and times in a text. Those of one kind are numbered, whether they are equal or not."""
    numbers: dict[str, int] = {}
    spans: list[_Span] = []
    for found in _MOMENT.finditer(text):
        if text[found.start() - 1 : found.start()] == "{" or text[found.end() : found.end() + 1] == "}":
            continue
        name = _MOMENT_NAMES[str(found.lastgroup)]
        numbers[name] = numbers.get(name, 0) + 1
        number = f"_{numbers[name]}" if numbers[name] > 1 else ""
        spans.append(_Span(found.start(), found.end(), MAX_VALUES, name + number))
    return tuple(spans)


def _merge_retrieved(text: str, spans: list[_Span]) -> list[_Span]:
    """Join retrieved texts that only white space or a separator divides, so that their number does not matter."""
    merged: list[_Span] = []
    for span in spans:
        last = merged[-1] if merged else None
        if (
            last is not None
            and last.name == span.name == _RETRIEVED
            and not text[last.end : span.start].strip(" \r\n\t-*#=|")
        ):
            merged[-1] = last._replace(end=span.end)
        else:
            merged.append(span)
    return merged


def _pieces(text: str, spans: Iterable[_Span]) -> list[FilledPiece]:
    pieces: list[FilledPiece] = []
    end = 0
    for span in spans:
        if span.start > end:
            pieces.append(FilledPiece("", text[end : span.start]))
        pieces.append(FilledPiece(span.name, text[span.start : span.end]))
        end = span.end
    if end < len(text):
        pieces.append(FilledPiece("", text[end:]))
    return pieces
