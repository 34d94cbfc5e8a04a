"""Where the user's threads leave records and the worker finds them.

`Buffer.put` is the only code of the pipeline that runs with every record in the user's thread: an
append between a few comparisons. There is no lock in it, because a signal handler or a finalizer
may call it in the middle of itself.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from gati.trace.records import Gap, Message, ModelCall, ModelResult

if TYPE_CHECKING:
    from collections.abc import Callable

    from gati.trace.records import Record

MAX_RECORDS = 100_000
"""Records that may wait; the bound in bytes is reached first unless they are tiny."""

RECORD_OVERHEAD_BYTES = 700
"""What a record costs beside its texts: the tuple, its ids, its place in the queue."""

SAMPLE_INTERVAL = 13
"""One record in so many is weighed: weighing costs more than all the rest. A prime, because most turns
have an even number of records, and their heaviest must have its turn."""


class AtomicCounter:
    """A count that any thread may raise without a lock: `next` on an `itertools.count` is one C call.

    A reading takes a number as well, and is subtracted again.
    """

    __slots__ = ("_lock", "_reads", "add")

    def __init__(self) -> None:
        self.add = itertools.count().__next__
        self._reads = 0
        self._lock = threading.RLock()

    def read(self) -> int:
        with self._lock:
            value = self.add() - self._reads
            self._reads += 1
            return value


class Buffer:
    """A bounded queue that refuses when it is full, and says where.

    Once full it refuses until half of it has been taken: so the stretches between two gaps are
    long, and most turns in them are whole. Before the first record after a refusal it puts a
    `Gap`, at which the assembler drops the turns that were open.
    """

    def __init__(
        self, max_bytes: int, max_records: int = MAX_RECORDS, on_wakeup: Callable[[], object] = lambda: None
    ) -> None:
        """`on_wakeup` is called, in the user's thread, when somebody had better look: nobody does by himself, or it
        fills up. It must not block or raise."""
        self._max_bytes = max_bytes
        self._max_records = max_records
        self._on_wakeup = on_wakeup
        self._closed = False
        self.clear()

    def clear(self) -> None:
        """Start again, empty, in a forked child: what waits is the parent's."""
        self.idle = True
        """Whether nobody looks by himself: the worker sleeps, or there is none."""
        self._capacity = self._max_records
        self._mean_bytes = float(RECORD_OVERHEAD_BYTES)
        self._samples = 0
        self._records: deque[Record] = deque()
        self._full = self._closed
        self._gap: object | None = None
        self._refused = AtomicCounter()
        self._gaps_reported = 0
        self._taken = 0

    def put(self, record: Record) -> None:
        """Add a record, or refuse it. Never blocks, never raises."""
        if self._full:
            self._gap = object()
            self._refused.add()
            self._on_wakeup()
            return
        records = self._records
        if (gap := self._gap) is not None:
            records.append(Gap(0))
            # Another thread may have been refused meanwhile: its mark must stay.
            if self._gap is gap:
                self._gap = None
        records.append(record)
        length = len(records)
        backpressure = not length % SAMPLE_INTERVAL and self._is_under_pressure(record, length)
        if length >= self._capacity:
            self._full = True
        if self.idle or backpressure:
            self._on_wakeup()

    def close(self) -> None:
        """Refuse everything from now on; what waits can be taken."""
        self._closed = self._full = True

    def _is_under_pressure(self, record: Record, length: int) -> bool:
        self._learn_size(record)
        return length > self._capacity // 4

    def _learn_size(self, record: Record) -> None:
        """Learn the usual weight of what waits. A mean, since few of a turn's records carry most of its text;
        the last time's counts as one of the samples.
        """
        self._samples = min(self._samples + 1, 64)
        self._mean_bytes += (estimate_size(record) - self._mean_bytes) / (self._samples + 1)
        self._capacity = min(self._max_records, int(self._max_bytes / self._mean_bytes))

    def take(self) -> Record | None:
        """The oldest record. Called by the worker only."""
        try:
            record = self._records.popleft()
        except IndexError:
            self._full = self._closed
            self._samples = 0
            return None
        if type(record) is Gap:
            refused = self._refused.read()
            record, self._gaps_reported = Gap(refused - self._gaps_reported), refused
            return record
        self._taken += 1
        if self._full and len(self._records) <= self._capacity // 2:
            self._full = self._closed
        return record

    def __len__(self) -> int:
        return len(self._records)

    @property
    def backpressure(self) -> bool:
        """Whether so much waits that the worker had better not rest."""
        return len(self._records) > self._capacity // 2

    @property
    def bytes(self) -> int:
        """Roughly the memory that the waiting records hold."""
        return int(len(self._records) * self._mean_bytes)

    @property
    def taken(self) -> int:
        """Records that the worker has taken."""
        return self._taken

    @property
    def refused(self) -> int:
        """Records that found the buffer full or closed."""
        return self._refused.read()


def estimate_size(record: Record) -> int:
    """Roughly the bytes of a record, at a cost that does not grow with its size."""
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
    # The first few stand for the rest: a bound on memory may be rough, the user's time may not.
    seen, cost = 0, 60
    for member in itertools.islice(members, 8):
        cost += _estimate_value_size(member, depth - 1)
        seen += 1
    return cost * len(value) // seen
