"""Rows and arrays in PostgreSQL's text format. Pure. Texts contain no NUL characters; see `prepared_requests`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

_SPECIAL = re.compile(r"[\\\n\r\t]")
_ESCAPED = {"\\": r"\\", "\n": r"\n", "\r": r"\r", "\t": r"\t"}


def copied(values: Iterable[Any]) -> str:
    r"""Return values as part of a row for `COPY … FROM STDIN`: ``("a⏎b", None, 1)`` → ``a\nb⇥\N⇥1``."""
    return "\t".join([r"\N" if value is None else _copied(value) for value in values])


def copied_json(text: str) -> str:
    """Return compact JSON, which has no line breaks, as part of such a row."""
    return text.replace("\\", "\\\\") if "\\" in text else text


def _copied(value: Any) -> str:
    if not isinstance(value, str):
        return str(value)
    return _SPECIAL.sub(_escape, value) if _SPECIAL.search(value) else value


def _escape(match: re.Match[str]) -> str:
    return _ESCAPED[match[0]]


def arrays(rows: Sequence[Sequence[Any]], columns: int) -> list[str]:
    """Return the columns of rows, each as an array of texts or of numbers: ``[(1, "a"), (2, "b")]`` → ``{1,2}``, ``{"a","b"}``."""
    if not rows:
        return ["{}"] * columns
    return [array(column) for column in zip(*rows, strict=True)]


def array(values: Sequence[Any]) -> str:
    """Return an array of texts or of numbers: ``["a", None]`` → ``{"a",NULL}``."""
    return f"{{{','.join([_item(value) for value in values])}}}"


def _item(value: Any) -> str:
    if value is None:
        return "NULL"
    if not isinstance(value, str):
        return str(value)
    if "\\" in value or '"' in value:
        value = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{value}"'
