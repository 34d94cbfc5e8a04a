"""The queue of records between the user's threads and the worker.

`Buffer.put` is the only code of the pipeline that runs in the user's thread for every record: an append
between a few comparisons. It takes no lock, because a signal handler or a finalizer may call it while it
is running in the same thread.
"""

from __future__ import annotations

import itertools
from collections import deque
from typing import TYPE_CHECKING, Any

from gati.pipeline.atomic_counter import AtomicCounter
from gati.trace.records import Gap, ManualEvent, Message, ModelCall, ModelResult, RunStarted

if TYPE_CHECKING:
    from collections.abc import Callable

    from gati.trace.records import Record

MAX_RECORDS = 100_000
"""Maximum number of queued records. Unless they are tiny, the limit in bytes is reached first."""

RECORD_OVERHEAD_BYTES = 700
"""Memory of a record in addition to its texts: the tuple, its ids, its place in the queue."""

SAMPLE_INTERVAL = 13
"""Estimate the size of every 13th record, since the estimate costs more than the rest of `put`. A prime: most
turns have an even number of records, and with an even interval their largest could be skipped every time."""


class Buffer:
    """A bounded queue that refuses records when it is full, and marks the gap.

    Once full, it refuses records until half of them have been taken. So the stretches between two gaps
    are long, and most turns in them are complete. In the place of the refused records, `take` returns a
    `Gap`, at which the assembler drops the open turns.
    """

    def __init__(
        self, max_bytes: int, max_records: int = MAX_RECORDS, on_wakeup: Callable[[], object] = lambda: None
    ) -> None:
        """`on_wakeup` is called in the user's thread when the worker sleeps or does not run, and when the buffer
        fills up. It must not block or raise."""
        self._max_bytes = max_bytes
        self._max_records = max_records
        self._on_wakeup = on_wakeup
        self._closed = False
        self.reserved = 0
        """Bytes of the limit that open turns take; at most three quarters of it."""
        self.clear()

    def clear(self) -> None:
        """Start again, empty. Called in a forked child: the queued records belong to the parent."""
        self.reserved = 0
        self.idle = True
        """True if the worker sleeps or does not run, so that a record has to wake it."""
        self._capacity = self._max_records
        self._mean_bytes = float(RECORD_OVERHEAD_BYTES)
        self._samples = 0
        self._records: deque[Record] = deque()
        self._full = self._closed
        self._gap: object | None = None
        self._refused = AtomicCounter()
        self._refused_turns = AtomicCounter()
        self._refused_reported = 0
        self._taken = 0

    def put(self, record: Record) -> None:
        """Append a record, or refuse it. Never blocks, never raises."""
        if self._full:
            self._refuse(record)
            return
        records = self._records
        if (gap := self._gap) is not None:
            records.append(Gap(0))
            # Keep the mark of another thread whose record was refused meanwhile.
            if self._gap is gap:
                self._gap = None
        records.append(record)
        length = len(records)
        backpressure = not length % SAMPLE_INTERVAL and self._is_under_pressure(record, length)
        if length >= self._capacity:
            self._full = True
        if self.idle or backpressure:
            self._on_wakeup()

    def _refuse(self, record: Record) -> None:
        self._refused.add()
        if not self._closed:  # a shutdown delivers the open turns as they are
            if _begins_turn(record):
                self._refused_turns.add()
            self._gap = object()
        self._on_wakeup()

    def close(self) -> None:
        """Refuse all further records; queued ones can still be taken."""
        self._closed = self._full = True

    def _is_under_pressure(self, record: Record, length: int) -> bool:
        self._learn_size(record)
        return length > self._capacity // 4

    def _learn_size(self, record: Record) -> None:
        """Update the mean size of a record and the capacity.

        A mean, because a few records of a turn hold most of its text. After the buffer was empty, the
        mean until then counts as one sample.
        """
        self._samples = min(self._samples + 1, 64)
        self._mean_bytes += (estimate_size(record) - self._mean_bytes) / (self._samples + 1)
        left = max(self._max_bytes - self.reserved, self._max_bytes // 4)
        self._capacity = min(self._max_records, int(left / self._mean_bytes))

    def take(self) -> Record | None:
        """Remove and return the oldest record; None if there is none. Called by the worker only."""
        try:
            record = self._records.popleft()
        except IndexError:
            self._full = self._closed
            self._samples = 0
            return self._take_last_gap()
        if type(record) is Gap:
            return self._filled_gap()
        self._taken += 1
        if self._full and len(self._records) <= self._capacity // 2:
            self._full = self._closed
        return record

    def discard(self) -> int:
        """Refuse the records that are queued; return how many of them begin a turn. Called after `close`."""
        turns = 0
        while self._records:
            try:
                record = self._records.popleft()
            except IndexError:  # the worker took it
                break
            if type(record) is not Gap:
                self._refused.add()
                turns += _begins_turn(record)
        return turns

    def _take_last_gap(self) -> Gap | None:
        """Return the gap after which no record has come yet; None if there is none."""
        gap = self._gap
        if gap is None:
            return None
        if self._gap is gap:  # else another record was refused meanwhile: that gap follows
            self._gap = None
        return self._filled_gap()

    def _filled_gap(self) -> Gap:
        refused = self._refused.read()
        gap, self._refused_reported = Gap(refused - self._refused_reported), refused
        return gap

    def __len__(self) -> int:
        return len(self._records)

    @property
    def ends_with_gap(self) -> bool:
        """True if records were refused after the last one that is queued."""
        return self._gap is not None

    @property
    def backpressure(self) -> bool:
        """True if the buffer is so full that the worker should not pause."""
        return len(self._records) > self._capacity // 2

    @property
    def bytes(self) -> int:
        """Approximate memory of the queued records."""
        return int(len(self._records) * self._mean_bytes)

    @property
    def taken(self) -> int:
        """Number of records that the worker has taken."""
        return self._taken

    @property
    def refused(self) -> int:
        """Number of records that were refused because the buffer was full or closed."""
        return self._refused.read()

    @property
    def refused_turns(self) -> int:
        """Number of turns, manual events and actions whose first record was refused because the buffer was full."""
        return self._refused_turns.read()


def _begins_turn(record: Record) -> bool:
    if type(record) is RunStarted:
        return record.parent_id is None and record.kind not in ("prompt", "parser")
    return type(record) is ManualEvent


def estimate_size(record: Record) -> int:
    """Estimate the size of a record in bytes, at a cost that does not grow with its size."""
    cost = RECORD_OVERHEAD_BYTES
    for value in record:
        if value.__class__ is str:
            cost += len(value)
        elif value.__class__ in _CONTAINERS:
            cost += _estimate_value_size(value, 3)
    return cost


_CONTAINERS = frozenset({dict, list, tuple, ModelCall, ModelResult, Message})


def _estimate_value_size(value: Any, depth: int) -> int:
    kind = type(value)
    if kind is str:
        return len(value) + 50
    if kind not in _CONTAINERS or not value:
        return 30
    if depth == 0:
        return 100 * len(value)
    members: Any = value.values() if kind is dict else value
    # Extrapolate from the first few: the memory limit may be approximate, but `put` must stay fast.
    seen, cost = 0, 60
    for member in itertools.islice(members, 8):
        cost += _estimate_value_size(member, depth - 1)
        seen += 1
    return cost * len(value) // seen
