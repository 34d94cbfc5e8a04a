"""A counter without a lock."""

from __future__ import annotations

import itertools


class AtomicCounter:
    """A counter that any thread may increment without a lock: `next` on an `itertools.count` is a single C call."""

    __slots__ = ("_count", "add")

    def __init__(self) -> None:
        self._count = itertools.count()
        self.add = self._count.__next__

    def read(self) -> int:
        """Return the value. Only the repr, `count(7)`, shows it without incrementing it."""
        return int(repr(self._count)[6:-1])
