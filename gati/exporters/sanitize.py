"""Values as any JSON reader takes them, and no larger than allowed: the last gate before a destination.

Snapshots are clean already; this holds for events that were made by hand, too. Texts are
handed on as they are: only one that is too long or cannot be encoded is copied.
"""

from __future__ import annotations

import hashlib
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

DEEPEST = 24
"""Nesting of a value; deeper parts, and with them cycles, are left out."""

LONGEST_KEY = 200
LONGEST_ID = 512
"""Bytes of an id; a longer one is cut and made unique by a hash."""

_LARGEST_INT = 2**63
_SMALL = 4096
_CUT = re.compile(r"… \[shortened by gati, (\d+) bytes in all\]\Z")
_LAST_SECOND = 253402300799  # 9999-12-31T23:59:59Z
LAST_MS = (_LAST_SECOND - 86_400) * 1000
"""The latest time that is given to a message, a day before the last that can be written."""


def text(value: str, limit: int) -> str:
    """The text, at most about `limit` bytes of UTF-8, with a marker that tells the whole length.

    Lone surrogates and NUL, which databases refuse, become U+FFFD.
    """
    if value.isascii() and "\0" not in value:
        return value if len(value) <= limit else _cut(value, len(value), value[:limit])
    value = encodable(value)
    raw = value.encode()
    return value if len(raw) <= limit else _cut(value, len(raw), raw[:limit].decode(errors="ignore"))


def _cut(whole: str, size: int, head: str) -> str:
    if earlier := _CUT.search(whole[-60:]):  # shortened once more: the first length is the true one
        size = int(earlier[1])
    return f"{head}… [shortened by gati, {size} bytes in all]"


def encodable(value: str) -> str:
    """The text without what UTF-8 or a database cannot hold; halves of a pair that meet are joined."""
    if "\0" in value:
        value = value.replace("\0", "\ufffd")
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return value


def identifier(value: Any) -> str:
    """An id as text of bounded length; the same for the same value, "" only for None and ""."""
    if type(value) is str and len(value) <= LONGEST_ID and value.isascii() and "\0" not in value:
        return value
    whole = "" if value is None else encodable(value if isinstance(value, str) else str(value))
    raw = whole.encode()
    if len(raw) <= LONGEST_ID:
        return whole
    return f"{raw[: LONGEST_ID - 40].decode(errors='ignore')}-{hashlib.sha256(raw).hexdigest()[:32]}"


def plain(value: Any, limit: int) -> tuple[Any, int]:
    """The value as JSON values of at most about `limit` bytes, and its size in bytes, about.

    What does not fit is shortened or left out with a note that says so.
    """
    found = small(value, limit)
    if found is not None:
        return found
    walk = _Walk(limit)
    return walk.value(value, 0), limit - walk.left


def small(value: Any, limit: int) -> tuple[Any, int] | None:
    """The value as JSON values, and its size; None unless it is small and in order."""
    try:
        raw = orjson.dumps(value)
    except TypeError:  # a lone surrogate, a key that is no string, a class of the user's own, …
        return None
    # Small values make the round trip faster than any look at them; large ones would be copied.
    if len(raw) > min(limit, _SMALL) or b"\\u0000" in raw:
        return None
    return orjson.loads(raw), len(raw)


def second(seconds: int) -> str:
    """A second since the epoch as ``YYYY-MM-DDTHH:MM:SS``."""
    return datetime.fromtimestamp(min(seconds, _LAST_SECOND), UTC).isoformat()[:19]


def nanoseconds(timestamp: str) -> int:
    """Nanoseconds since the epoch of a timestamp made by hand; now when it cannot be read or lies in the future."""
    now = time_ns()
    try:
        at = datetime.fromisoformat(timestamp)
        return min(int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1e9), now)
    except (ValueError, OverflowError, AttributeError):
        return now


def forget(remembered: dict[Any, Any], most: int) -> None:
    """Drop the older half of what has grown beyond its bound."""
    if len(remembered) > most:
        for key in list(remembered)[: most // 2]:
            del remembered[key]


class _Walk:
    """One field on its way through: what is left of its bytes."""

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
            return _number(value)
        if depth >= DEEPEST:
            self.left -= 30
            return "… [nested too deep]"
        if kind is dict:
            return self._mapping(value, depth)
        if kind is list or kind is tuple:
            return self._items(value, depth)
        return self._other(value, depth)

    def _text(self, value: str, depth: int) -> str:
        # Inside a container one long text leaves room for its neighbours.
        room = max(self.left, 0) if not depth or len(value) + 3 <= self.left else max(self.left // 2, 0)
        short = text(value, room)
        self.left -= len(short.encode()) + 3
        return short

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for key, item in list(value.items()):  # a list: the user's code may still write to it
            if self.left <= 0:
                fields["…"] = f"[{len(value) - len(fields)} of {len(value)} entries left out by gati]"
                break
            if type(key) is not str or len(key) > LONGEST_KEY or not key.isascii() or "\0" in key:
                key = _key(key)
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
        """Values that no snapshot holds: events made by hand bring them."""
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
            return f"<{type(value).__name__}>" if _says_nothing(value) else self._text(repr(value), 1)
        except Exception:  # noqa: BLE001 - the value's own methods may raise anything
            return f"<{type(value).__name__}>"


def _says_nothing(value: Any) -> bool:
    inherited: Any = object.__repr__
    return type(value).__repr__ is inherited


def _number(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if -_LARGEST_INT <= value < _LARGEST_INT:
        return value
    return str(value) if value.bit_length() < 1000 else f"<integer of {value.bit_length()} bits>"


def _key(key: Any) -> str:
    try:
        return text(key if isinstance(key, str) else str(key), LONGEST_KEY)
    except Exception:  # noqa: BLE001 - the key's own `__str__` may raise anything
        return f"<{type(key).__name__}>"
