"""Reads packed records that come from a disk. `marshal.loads` must not: its format can crash the interpreter.

Reads the part of marshal's version 2 that `record_codec` writes: None, booleans, integers, floats, texts, bytes, tuples,
lists and dicts. Depth and sizes are limited by the length of the data, so that no input takes much memory or time.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

MAX_NESTING = 100
"""Deepest nesting that is read. Snapshots are far less deep."""

MAX_DIGITS = 5_000
"""Most digits of an integer, of 15 bits each."""

_float = struct.Struct("<d").unpack_from
_size = struct.Struct("<i").unpack_from


def read_packed(data: bytes) -> Any:
    """Return the value that `marshal.dumps(value, 2)` packed.

    Raises:
        ValueError: the data is nothing that `record_codec` packs, or goes on after the value.
    """
    reader = _Reader(data)
    try:
        value = reader.read(MAX_NESTING)
    except (IndexError, KeyError, TypeError, struct.error) as error:  # cut off, unknown, or a key that is a list
        raise ValueError(f"not a packed record: {type(error).__name__}") from None
    if reader.at != len(data):
        raise ValueError("not a packed record: too long")
    return value


class _Reader:
    """A position in packed data."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def read(self, depth: int) -> Any:
        """Read the value at the position, with at most `depth` levels."""
        if depth <= 0:
            raise ValueError("not a packed record: too deep")
        kind = self.data[self.at]
        self.at += 1
        return _READERS[kind](self, depth - 1)

    def length(self) -> int:
        """Read a length. Each item takes at least one byte."""
        (size,) = _size(self.data, self.at)
        self.at += 4
        if not 0 <= size <= len(self.data) - self.at:
            raise ValueError("not a packed record: wrong length")
        return int(size)

    def bytes(self) -> bytes:
        """Read a length and so many bytes."""
        size = self.length()
        self.at += size
        return self.data[self.at - size : self.at]

    def small_integer(self) -> int:
        (value,) = _size(self.data, self.at)
        self.at += 4
        return int(value)

    def integer(self) -> int:
        (size,) = _size(self.data, self.at)
        self.at += 4
        end = self.at + 2 * abs(size)
        if end > len(self.data) or abs(size) > MAX_DIGITS:
            raise ValueError("not a packed record: wrong length")
        value = 0
        for position in range(end - 2, self.at - 1, -2):
            value = value << 15 | int.from_bytes(self.data[position : position + 2], "little") & 0x7FFF
        self.at = end
        return value if size >= 0 else -value

    def float(self) -> float:
        (value,) = _float(self.data, self.at)
        self.at += 8
        return float(value)

    def items(self, depth: int) -> list[Any]:
        return [self.read(depth) for _ in range(self.length())]

    def dictionary(self, depth: int) -> dict[Any, Any]:
        found = {}
        while self.data[self.at] != _END:
            key = self.read(depth)
            found[key] = self.read(depth)
        self.at += 1
        return found


_END = ord("0")
_READERS: dict[int, Callable[[_Reader, int], Any]] = {
    ord("N"): lambda reader, depth: None,
    ord("T"): lambda reader, depth: True,
    ord("F"): lambda reader, depth: False,
    ord("i"): lambda reader, depth: reader.small_integer(),
    ord("l"): lambda reader, depth: reader.integer(),
    ord("g"): lambda reader, depth: reader.float(),
    ord("u"): lambda reader, depth: reader.bytes().decode("utf-8", "surrogatepass"),
    ord("s"): lambda reader, depth: reader.bytes(),
    ord("("): lambda reader, depth: tuple(reader.items(depth)),
    ord("["): lambda reader, depth: reader.items(depth),
    ord("{"): lambda reader, depth: reader.dictionary(depth),
}
