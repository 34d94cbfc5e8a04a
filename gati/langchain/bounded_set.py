"""A set of bounded size, which several threads may use without a lock."""

from __future__ import annotations

from collections.abc import Hashable


class BoundedSet:
    """A set that drops its oldest half when it is full.

    Safe without a lock: losing a race costs one repeated snapshot, which the assembler drops.
    """

    __slots__ = ("entries", "max_size")

    def __init__(self, max_size: int) -> None:
        self.max_size = max_size
        self.entries: dict[Hashable, None] = {}

    def __contains__(self, key: Hashable) -> bool:
        return key in self.entries

    def add(self, key: Hashable) -> None:
        self.entries[key] = None
        if len(self.entries) > self.max_size:
            for oldest in list(self.entries)[: self.max_size // 2]:
                self.entries.pop(oldest, None)
