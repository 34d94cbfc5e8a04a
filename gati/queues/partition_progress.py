"""Tracks which records of a partition are settled: the offset to commit, and the settled records behind it."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gati.queues.log import LogRecord

MAX_METADATA_BYTES = 4_000
"""Kafka stores 4,096 bytes with a commit by default."""


class PartitionProgress:
    """The records of a partition since it was assigned. Belongs to one thread."""

    def __init__(self) -> None:
        self.open: OrderedDict[int, LogRecord | None] = OrderedDict()
        """Records from the first one that is not settled on; None for those that a former owner has settled."""
        self._done: set[int] = set()
        self._settled_before: set[int] = set()
        self._next_offset: int | None = None

    def resume(self, offset: int, metadata: str | None) -> int:
        """Continue at a former owner's commit; return the number that was saved with it, 0 if there is none.

        Args:
            offset: the committed offset; negative if nothing was committed.
            metadata: as `metadata` made it, or anything else.
        """
        floor, _, ranges = (metadata or "").partition(";")
        if offset < 0 or not floor.isdecimal():
            return 0
        self._next_offset = offset
        for part in ranges.split(",") if ranges else ():
            first, _, last = part.partition("-")
            if first.isdecimal() and (last or first).isdecimal() and int(last or first) - int(first) < 10_000:
                self._settled_before |= set(range(offset + int(first), offset + int(last or first) + 1))
        return int(floor)

    def add(self, record: LogRecord) -> bool:
        """Add the next record; return False if a former owner has settled it."""
        is_new = record.position not in self._settled_before
        self.open[record.position] = record if is_new else None
        if not is_new:
            self._settled_before.discard(record.position)
            self._done.add(record.position)
        return is_new

    def settle(self, position: int) -> None:
        """Note that a record is settled."""
        if position in self.open:
            self._done.add(position)

    def advance(self) -> int | None:
        """Return the offset to commit: all records before it are settled. None if it is unknown."""
        while self.open and (first := next(iter(self.open))) in self._done:
            del self.open[first]
            self._done.discard(first)
            self._next_offset = first + 1
        return next(iter(self.open), self._next_offset)

    def metadata(self, floor: int) -> str:
        """Return what to commit with the offset of `advance`: a number, and the settled records behind the offset."""
        offset = self.advance() or 0
        text = f"{floor};"
        for first, last in _ranges(sorted(self._done | self._settled_before)):
            part = f"{first - offset}" if first == last else f"{first - offset}-{last - offset}"
            if len(text) + len(part) >= MAX_METADATA_BYTES:
                break
            text += part if text.endswith(";") else f",{part}"
        return text


def _ranges(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and the last number of each gapless run."""
    for _, run in itertools.groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        members = [number for _, number in run]
        yield members[0], members[-1]
