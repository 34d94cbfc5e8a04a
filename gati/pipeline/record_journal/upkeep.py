"""What the worker does with the journal of records: it notes what is stored, and frees what is not needed any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from gati.clock import epoch_offset_ns
from gati.pipeline.internal_errors import contain
from gati.pipeline.record_journal.format import Checkpoint
from gati.trace.record_codec import RUN, head_of, key_at
from gati.trace.records import FirstToken, Gap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gati.pipeline.buffer import Buffer
    from gati.pipeline.outbox import Outbox
    from gati.trace.record_codec import PackedRecord
    from gati.trace.records import Record


class OpenRuns(Protocol):
    """What an assembler tells about open turns; see `turn_assembler.TurnAssembler`."""

    @property
    def open_turns(self) -> int: ...

    @property
    def has_leftovers(self) -> bool: ...

    def is_open(self, run: bytes) -> bool: ...


class JournalUpkeep:
    """Keeps the journal of a buffer, if there is one. Used by the worker's thread."""

    def __init__(self, buffer: Buffer, assembler: OpenRuns, outboxes: Sequence[Outbox]) -> None:
        self._buffer = buffer
        self._assembler = assembler
        self._outboxes = outboxes
        self._gap = 0

    def take(self, record: PackedRecord | Record) -> None:
        """Notice a record that was taken from the buffer: a gap, or the first token of a stream."""
        if type(record) is Gap:
            self._gap = self._buffer.taken
        elif type(record) is FirstToken and (journal := self._buffer.journal) is not None:
            journal.watch(record, key_at(head_of(record), RUN))

    def begin_round(self) -> None:
        """Note the clock of the turns that are assembled next."""
        if (journal := self._buffer.journal) is not None:
            journal.note_clock(epoch_offset_ns())

    def end_round(self) -> None:
        """Note that everything that was taken is stored. Called when it is."""
        journal = self._buffer.journal
        if journal is None:
            return
        with contain("journal"):
            is_open = self._assembler.is_open
            journal.save_streams(self._buffer, is_open)
            if self._assembler.has_leftovers or any(outbox.holds_in_memory for outbox in self._outboxes):
                return
            journal.mark_stored(Checkpoint(self._buffer.taken, self._gap))
            journal.free_segments(self._buffer, is_open, has_open=bool(self._assembler.open_turns))
