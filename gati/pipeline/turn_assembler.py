"""The interface of the assembler that the worker uses; see `gati.trace.assembler.Assembler`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gati.events import Item
    from gati.trace.record_codec import PackedRecord
    from gati.trace.records import Record


class TurnAssembler(Protocol):
    """Assembles records into items. Used by one thread only."""

    @property
    def open_turns(self) -> int:
        """Number of turns that have started and were not returned yet."""
        ...

    @property
    def open_bytes(self) -> int:
        """Bytes of the buffer's limit that the open turns take."""
        ...

    @property
    def turns_begun(self) -> int:
        """Number of turns, parts of turns, events and actions that were begun, less those that turned out to be none."""
        ...

    @property
    def sampled_out(self) -> int:
        """Number of items that were not returned because of the sample rate."""
        ...

    @property
    def outside_conversation(self) -> int:
        """Number of root runs that were not returned, because they belong to no conversation."""
        ...

    @property
    def memory_bytes(self) -> int:
        """Size of the records of open turns."""
        ...

    @property
    def has_leftovers(self) -> bool:
        """True if an exception has left records or items, which the next call processes or returns."""
        ...

    def is_open(self, run: bytes) -> bool:
        """Return True if the turn of a run is open. The run is given by its `record_codec.key_at`."""
        ...

    def load(self) -> None:
        """Import what `feed` needs. Raises if that is not possible now, for example without a free descriptor."""
        ...

    def feed(self, records: Iterator[PackedRecord | Record]) -> list[Item]:
        """Process records and return completed items. A `Gap` drops all open turns.

        It returns early to let finished items become bytes before it goes on: the remaining records are passed to the
        next call. The same happens after an exception. Then the next call also returns the items that were completed
        before.
        """
        ...

    def tick(self, now_ns: int) -> list[Item]:
        """Return open turns whose timeout has passed, as unfinished. `now_ns` is `time.perf_counter_ns`."""
        ...

    def finish_cut_off(self) -> list[Item]:
        """Return turns that have ended and only wait for the end of runs below them."""
        ...

    def drain(self) -> list[Item]:
        """Return all open turns, as unfinished."""
        ...
