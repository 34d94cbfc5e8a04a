"""Recognize and read the frames in which a web server streams: server-sent events, JSON, and lines of Vercel's AI SDK."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from itertools import accumulate
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_FRAME = re.compile(r'\s*(?:(?::(?:[ \w\r][^\n]*)?\n\s*)*(?:data|event|id|retry):|\w:["{\[]|\{\s*"|\[\s*["{\[])')
"""Beginning of server-sent events, perhaps with comments (`: ping`) before the first one, of a stream of Vercel's AI SDK
(`0:"Hi"`), or of JSON."""
_LINE = re.compile(r'(data:|\w:(?=["{\[]))?\s*(.*)')
_CONTROL = re.compile(r"(?:event|id|retry)?:")
_UNCOMPARED = re.compile(r'[\s"]+')
_MAX_DEPTH = 8
_read_value = json.JSONDecoder().raw_decode


def is_frame(text: str) -> bool:
    """Return True for the beginning of a stream or of an object that a program reads."""
    return _FRAME.match(text) is not None


def spells(stream: str, text: str) -> bool:
    """Return True if one field of the frames of a stream has a text as whole values, one after the other.

    Example: ``data: {"sources": ["A book"]}``, ``data: {"token": "Hi "}``, ``data: {"token": "Ann"}`` spell "Hi Ann".
    """
    wanted = _compared(text)
    fields: defaultdict[str, list[str]] = defaultdict(list)
    for field, value in _values_in(stream):
        fields[field].append(_compared(value))
    for values in fields.values():
        joined, bounds = "".join(values), {0, *accumulate(map(len, values))}
        if any(at + len(wanted) in bounds and joined.startswith(wanted, at) for at in bounds):
            return True
    return False


def _values_in(stream: str) -> Iterator[tuple[str, str]]:
    """Yield the texts in the frames of a stream, with the names of their fields."""
    for line in stream.split("\n"):
        found = None if _CONTROL.match(line) else _LINE.match(line.strip())
        if found is None:
            continue
        kind, payload = found.groups(default="data:")
        for value in _payload_values(payload):
            yield from _texts_in(value, kind)


def _payload_values(payload: str) -> Iterator[Any]:
    """Yield the JSON values in a payload; what is no JSON is one text."""
    at = 0
    while at < len(payload):
        try:
            value, at = _read_value(payload, at) if payload[at] in '"{[' else (payload[at:], len(payload))
        except (ValueError, RecursionError):
            value, at = payload[at:], len(payload)
        yield value
        while at < len(payload) and payload[at] in " ,":
            at += 1


def _texts_in(value: Any, field: str, depth: int = _MAX_DEPTH) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield field, value
    elif depth and isinstance(value, list):
        for item in value:
            yield from _texts_in(item, field, depth - 1)
    elif depth and isinstance(value, dict):
        for key, item in value.items():
            yield from _texts_in(item, f"{field}/{key}", depth - 1)


def _compared(text: str) -> str:
    """Return a text without blanks and quotation marks: a token may be quoted, or be a quotation mark itself."""
    return _UNCOMPARED.sub("", text)
