"""Sanitizes and truncates values before they are sent: valid JSON, valid UTF-8, bounded size.

Snapshots are clean already, but manual events may contain anything. A text is copied only if it must change.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Set
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from time import time_ns
from typing import Any
from uuid import UUID

import orjson

from gati import limits

MAX_DEPTH = 24
"""Nesting depth at which values are cut. This also ends cycles."""

MAX_KEY_CHARS = 200

_INT64_LIMIT = 2**63
_SMALL_BYTES = 4096
_MAX_SECOND = 253402300799  # 9999-12-31T23:59:59Z
MAX_TIMESTAMP_MS = (_MAX_SECOND - 86_400) * 1000
"""Latest timestamp of a message: a day before the latest that can be formatted, so that later messages can follow."""


def text(value: str, limit: int) -> str:
    """Truncate a text to about `limit` bytes of UTF-8 and append a marker with its original size.

    Lone surrogates and NUL, which databases reject, become U+FFFD.
    `text("a" * 5000, 10)` → `"aaaaaaaaaa… [shortened by gati, 5000 bytes in all]"`.
    """
    if value.isascii() and "\0" not in value:
        return value if len(value) <= limit else value[:limit] + limits.marker(len(value))
    value = replace_unencodable(value)
    size = None
    if (shortened := limits.split_marker(value)) is not None:  # when it was taken: keep the original size
        value, size = shortened
    raw = value.encode()
    if len(raw) > limit:
        return raw[:limit].decode(errors="ignore") + limits.marker(size or len(raw))
    return value if size is None else value + limits.marker(size)


def replace_unencodable(value: str) -> str:
    """Replace NUL and lone surrogates by U+FFFD, and join adjacent halves of a surrogate pair."""
    if "\0" in value:
        value = value.replace("\0", "\ufffd")
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return value


_is_plain_id = re.compile(rf"[\x01-\x7f]{{0,{limits.MAX_ID_CHARS}}}").fullmatch


def identifier(value: Any) -> str:
    """Return an id as text of at most 255 characters: equal for equal values, "" only for None and ""."""
    if type(value) is str and _is_plain_id(value):
        return value
    if value is None:
        return ""
    return replace_unencodable(limits.bounded_id(value if isinstance(value, str) else str(value)))


def bounded_json(value: Any, limit: int) -> tuple[Any, int]:
    """Copy a value as JSON values of about `limit` bytes at most. Return the copy and its approximate size in bytes.

    Texts that do not fit are truncated, entries that do not fit are replaced by a note:
    `[1, 2, …]` → `[1, 2, "… [998 of 1000 entries left out by gati]"]`.
    """
    small = small_json(value, limit)
    if small is not None:
        return small
    copy = _BoundedCopy(limit)
    return copy.value(value, 0), limit - copy.left


def bounded_fragment(value: Any, limit: int) -> Any:
    """Do the same as `bounded_json`, for a value that orjson encodes next."""
    raw = _small_raw(value, limit)
    return orjson.Fragment(raw) if raw is not None else _BoundedCopy(limit).value(value, 0)


def small_json(value: Any, limit: int) -> tuple[Any, int] | None:
    """Copy a small, valid value as JSON values. Return the copy and its size in bytes; None for any other value."""
    raw = _small_raw(value, limit)
    # For small values the round trip through JSON is the fastest copy.
    return None if raw is None else (orjson.loads(raw), len(raw))


def _small_raw(value: Any, limit: int) -> bytes | None:
    """Return a small, valid value as JSON; None for any other value."""
    try:
        raw = orjson.dumps(value)
    except TypeError:  # a lone surrogate, a key that is not a string, a user-defined class
        return None
    # For small values encoding is the fastest check; large texts would be copied needlessly.
    if len(raw) > min(limit, _SMALL_BYTES) or b"\\u0000" in raw or b"[shortened by gati, " in raw:
        return None
    return raw


def format_second(seconds: int) -> str:
    """Format seconds since the epoch as `YYYY-MM-DDTHH:MM:SS`."""
    return datetime.fromtimestamp(min(seconds, _MAX_SECOND), UTC).isoformat()[:19]


def parse_nanoseconds(timestamp: str) -> int:
    """Parse the timestamp of a manual event to nanoseconds since the epoch; now if it is invalid or in the future."""
    now = time_ns()
    try:
        at = datetime.fromisoformat(timestamp)
        return min(int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1e9), now)
    except (ValueError, OverflowError, AttributeError):
        return now


def trim_cache(cache: dict[Any, Any], max_size: int) -> None:
    """Delete the older half of the entries if there are more than `max_size`."""
    if len(cache) > max_size:
        for key in list(cache)[: max_size // 2]:
            del cache[key]


class _BoundedCopy:
    """Copies one field; `left` is the remaining number of bytes."""

    __slots__ = ("left",)

    def __init__(self, limit: int) -> None:
        self.left = limit

    def value(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind is str:
            size = len(value) + 3
            if size <= self.left and value.isascii() and "\0" not in value:
                self.left -= size
                return value
            return self._text(value, depth)
        if value is None or kind is bool:
            self.left -= 5
            return value
        if kind is int or kind is float:
            self.left -= 8
            return _json_number(value)
        if depth >= MAX_DEPTH:
            self.left -= 30
            return "… [nested too deep]"
        if kind is dict:
            return self._mapping(value, depth)
        if kind is list or kind is tuple:
            return self._items(value, depth)
        return self._other(value, depth)

    def _text(self, value: str, depth: int) -> str:
        # Inside a container, a long text gets only half of the remaining bytes, so that later entries fit.
        budget = max(self.left, 0) if not depth or len(value) + 3 <= self.left else max(self.left // 2, 0)
        short = text(value, budget)
        self.left -= len(short.encode()) + 3
        return short

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for key, item in list(value.items()):  # a copy, since another thread may still modify it
            if self.left <= 0:
                fields["…"] = f"[{len(value) - len(fields)} of {len(value)} entries left out by gati]"
                break
            if type(key) is not str or len(key) > MAX_KEY_CHARS or not key.isascii() or "\0" in key:
                key = _json_key(key)
            self.left -= len(key) + 4
            fields[key] = self.value(item, depth + 1)
        return fields

    def _items(self, value: Any, depth: int) -> list[Any]:
        items: list[Any] = []
        for item in list(value):
            if self.left <= 0:
                items.append(f"… [{len(value) - len(items)} of {len(value)} entries left out by gati]")
                break
            self.left -= 1
            items.append(self.value(item, depth + 1))
        return items

    def _other(self, value: Any, depth: int) -> Any:
        """Copy a value that occurs only in manual events."""
        try:
            if isinstance(value, Enum):
                return self.value(value.value, depth + 1)
            if isinstance(value, str):
                return self._text(str.__str__(value), depth)
            if isinstance(value, Mapping):
                return self._mapping(value, depth)
            if isinstance(value, (list, tuple, Set)):
                return self._items(value, depth)
            if isinstance(value, (int, float)):
                return self.value(float(value) if isinstance(value, float) else int(value), depth)
            if isinstance(value, (bytes, bytearray, memoryview)):
                return self.value({"bytes": len(value)}, depth)
            if isinstance(value, (datetime, date, time)):
                return self.value(value.isoformat(), depth)
            if isinstance(value, (UUID, Decimal, PurePath)):
                return self.value(str(value), depth)
            return f"<{type(value).__name__}>"  # no `repr`: it is the user's code, and may take any time
        except Exception:  # noqa: BLE001 - methods of user-defined classes may raise anything
            return f"<{type(value).__name__}>"


def _json_number(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if -_INT64_LIMIT <= value < _INT64_LIMIT:
        return value
    return str(value) if value.bit_length() < 1000 else f"<integer of {value.bit_length()} bits>"


def _json_key(key: Any) -> str:
    try:
        return text(key if isinstance(key, str) else str(key), MAX_KEY_CHARS)
    except Exception:  # noqa: BLE001 - the __str__ of user-defined classes may raise anything
        return f"<{type(key).__name__}>"
