"""The queue of records between the user's threads and the worker.

`Buffer.put` is the only code of the pipeline that runs in the user's thread for every record: an append
between a few comparisons. It takes no lock, because a signal handler or a finalizer may call it while it
is running in the same thread.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING
from zlib import crc32

from gati.pipeline.atomic_counter import AtomicCounter
from gati.pipeline.record_journal.format import CHECKSUM_BYTES, ENTRY, ENTRY_MAGIC, checksum
from gati.trace.record_codec import size_of, unpack_record
from gati.trace.records import Gap, ManualEvent, RunStarted
from gati.trace.stored_records import stored

if TYPE_CHECKING:
    from collections.abc import Callable

    from gati.pipeline.record_journal.journal import RecordJournal
    from gati.trace.record_codec import PackedRecord
    from gati.trace.records import Record

MAX_RECORDS = 100_000
"""Maximum number of queued records. Unless they are tiny, the limit in bytes is reached first."""

CHECK_INTERVAL = 13
"""The worker is woken early at every 13th record of a buffer that fills up."""

ENTRY_BYTES, WHOLE_BYTES = ENTRY.size, 2 * CHECKSUM_BYTES
pack_entry = ENTRY.pack


class Buffer:
    """A bounded queue that refuses records when it is full, and marks the gap.

    Once full, it refuses records until half of them have been taken. So the stretches between two gaps
    are long, and most turns in them are complete. In the place of the refused records, `take` returns a
    `Gap`, at which the assembler drops the open turns.
    """

    def __init__(
        self,
        max_bytes: int,
        max_records: int = MAX_RECORDS,
        on_wakeup: Callable[[], object] = lambda: None,
        reopen: Callable[[], bool] = lambda: False,
    ) -> None:
        """`on_wakeup` is called in the user's thread when the worker sleeps or does not run, and when the buffer
        fills up. It must not block or raise. `reopen` is called when there is a record after `close`; if it returns
        True, it has opened the buffer again."""
        self._max_bytes = max_bytes
        self._max_records = max_records
        self._on_wakeup = on_wakeup
        self._reopen = reopen
        self._closed = False
        self.journal: RecordJournal | None = None
        """Has each record before it is queued. Set by the worker."""
        self.clear()

    def clear(self) -> None:
        """Start again, empty. Called in a forked child: the queued records belong to the parent."""
        journal, self.journal = self.journal, None
        if journal is not None:
            journal.abandon()
        self._limit = self._max_bytes
        self.idle = True
        """True if the worker sleeps or does not run, so that a record has to wake it."""
        self.records: deque[PackedRecord | Record] = deque()
        self.count = 0
        """Number of records that were queued since the start."""
        self._bytes_put = self._bytes_taken = 0
        self._full = self._closed
        self._gap: object | None = None
        self._refused = AtomicCounter()
        self._refused_turns = AtomicCounter()
        self._refused_reported = 0
        self._taken = 0

    def put(self, record: PackedRecord | Record) -> None:
        """Append a record, or refuse it. Never blocks, never raises."""
        if self._full:
            self._refuse(record)
            return
        records = self.records
        if (gap := self._gap) is not None:
            records.append(Gap(0))
            # Keep the mark of another thread whose record was refused meanwhile.
            if self._gap is gap:
                self._gap = None
        size = len(record) if type(record) is bytes else size_of(record)
        # No call happens between reading and writing a sum, so no other thread can run in between.
        self._bytes_put += size
        if (journal := self.journal) is None:
            self.count += 1
            records.append(record)
        else:
            data = record if type(record) is bytes else stored(record)
            length = size if data is record else len(data)
            entry = pack_entry(ENTRY_MAGIC, length, crc32(data) if length <= WHOLE_BYTES else checksum(data))
            at = journal.position
            begin = at + ENTRY_BYTES
            end = begin + length
            if end <= journal.end:
                journal.position = end
                journal.memory[begin:end] = data
                journal.memory[at:begin] = entry  # last, so that no half of an entry is valid
                self.count += 1
                records.append(record)  # the call that ends the stretch: journal and queue have the same order
            else:
                journal.put_in_next(self, data, record)
        length, used = len(records), self._bytes_put - self._bytes_taken
        if used >= self._limit or length >= self._max_records:
            self._full = True
        if self.idle or (not length % CHECK_INTERVAL and (used > self._limit // 4 or length > self._max_records // 4)):
            self._on_wakeup()

    def _refuse(self, record: PackedRecord | Record) -> None:
        if self._closed and self._reopen():
            self.put(record)
            return
        self._refused.add()
        if not self._closed:  # a shutdown delivers the open turns as they are
            if _begins_turn(record):
                self._refused_turns.add()
            if self._gap is None and (journal := self.journal) is not None:
                journal.gap(self)
            self._gap = object()
        self._on_wakeup()

    def reserve(self, size: int) -> None:
        """Set the bytes of the limit that open turns take; at most three quarters of it. Called by the worker only."""
        self._limit = max(self._max_bytes - size, self._max_bytes // 4)

    def close(self) -> None:
        """Refuse all further records; queued ones can still be taken."""
        self._closed = self._full = True

    def reopen(self) -> None:
        """Start again, empty, after `close`."""
        self._closed = False
        self.clear()

    def take(self) -> PackedRecord | Record | None:
        """Remove and return the oldest record; None if there is none. Called by the worker only."""
        try:
            record = self.records.popleft()
        except IndexError:
            self._full = self._closed
            return self._take_last_gap()
        if type(record) is Gap:
            return self._filled_gap()
        self._taken += 1
        self._bytes_taken += size_of(record)
        if self._full and not self.backpressure:
            self._full = self._closed
        return record

    def discard(self) -> int:
        """Refuse the records that are queued; return how many of them begin a turn. Called after `close`."""
        turns = 0
        while self.records:
            try:
                record = self.records.popleft()
            except IndexError:  # the worker took it
                break
            if type(record) is not Gap:
                self._bytes_taken += size_of(record)
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
        return len(self.records)

    @property
    def ends_with_gap(self) -> bool:
        """True if records were refused after the last one that is queued."""
        return self._gap is not None

    @property
    def backpressure(self) -> bool:
        """True if the buffer is so full that the worker should not pause."""
        return self.bytes > self._limit // 2 or len(self.records) > self._max_records // 2

    @property
    def bytes(self) -> int:
        """Size of the queued records."""
        return max(0, self._bytes_put - self._bytes_taken)

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


def _begins_turn(packed: PackedRecord | Record) -> bool:
    record = unpack_record(packed)
    if type(record) is RunStarted:
        return record.parent_id is None and record.kind not in ("prompt", "parser")
    return type(record) is ManualEvent
