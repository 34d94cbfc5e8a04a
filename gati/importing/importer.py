"""Sends imported turns through a pipeline, as if the program had just recorded them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from gati.events import AgentEndEvent, Item, ToolCallEvent, Turn
from gati.importing.imported_run import ImportedTurn, records_of
from gati.pipeline.pipeline import Pipeline
from gati.trace.assembler import Assembler
from gati.trace.record_codec import pack_record, size_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gati.exporters.base import Exporter
    from gati.settings import Settings
    from gati.trace.record_codec import PackedRecord
    from gati.trace.records import Record

TURNS_AT_ONCE = 500
BYTES_AT_ONCE = 2_000_000
"""Turns, or bytes of records, after which the importer waits until they are delivered, so that nothing is refused for lack
of memory."""

FLUSH_SECONDS = 600.0
"""Longest time for delivering these turns. What is not delivered by then stays in the spool."""


FindFirstLive: TypeAlias = Callable[[str, frozenset[int]], int | None]
"""Returns when a conversation's first message was reported that is not an imported one, in nanoseconds since the epoch;
None if there is none. Arguments: its id, and the times of the messages to import, in milliseconds."""


@dataclass
class Selection:
    """Selects the turns to import.

    Attributes:
        threads: ids of conversations; empty for all.
        since: only turns that started at this time or later, in nanoseconds since the epoch.
        before: only turns that ended before this time.
        find_first_live: turns from the first message on that gati reported itself are left out, since they are there.
    """

    threads: frozenset[str] = frozenset()
    since: int | None = None
    before: int | None = None
    find_first_live: FindFirstLive = lambda conversation, times: None

    def select(self, turns: Iterable[ImportedTurn]) -> Iterator[tuple[ImportedTurn, bool]]:
        """Yield all turns, those of one conversation together, each with True if it is to be imported."""
        conversations: dict[str, list[ImportedTurn]] = {}
        for turn in turns:
            conversations.setdefault(turn.conversation_id or f"\0{turn.root.id}", []).append(turn)
        for found in conversations.values():
            until = self._until(found)
            for turn in found:
                yield turn, self._is_selected(turn, until)

    def _until(self, turns: list[ImportedTurn]) -> float:
        conversation = turns[0].conversation_id
        limits = [math.inf if self.before is None else self.before]
        if conversation is not None:
            times = {time for turn in turns for time in _possible_times(turn)}
            live = self.find_first_live(conversation, frozenset(times))
            limits += [] if live is None else [live]
        return min(limits)

    def _is_selected(self, turn: ImportedTurn, until: float) -> bool:
        if self.threads and turn.conversation_id not in self.threads:
            return False
        ended = max(run.ended_ns or run.started_ns for run in turn.runs)
        return (self.since is None or turn.root.started_ns >= self.since) and ended < until


def _possible_times(turn: ImportedTurn) -> Iterator[int]:
    """Yield the milliseconds at which messages of a turn may be. Those of one time are sent one millisecond apart."""
    messages = 3 * len(turn.runs)
    for run in turn.runs:
        for at in (run.started_ns, run.ended_ns):
            if at is not None:
                yield from range(at // 1_000_000, at // 1_000_000 + messages)


@dataclass
class ImportResult:
    """The outcome of an import.

    Attributes:
        turns: turns that were read and selected.
        conversations: ids of their conversations; turns without one make a conversation each.
        skipped: turns that were not selected.
        messages: messages that were delivered.
        left: messages that are in the spool or in memory.
        lost: messages that were rejected or dropped.
    """

    turns: int = 0
    conversations: set[str] = field(default_factory=set)
    skipped: int = 0
    messages: int = 0
    left: int = 0
    lost: int = 0


class _ImportingAssembler(Assembler):
    """An assembler that reports no durations of runs whose source has none."""

    def feed(self, records: Iterable[PackedRecord | Record]) -> list[Item]:
        """Process records; return the items that they complete."""
        items = super().feed(records)
        for item in items:
            if isinstance(item, Turn) and item.conversation.properties.get("imported_from") == CHECKPOINTS:
                _forget_durations(item)
        return items

    def load(self) -> None:
        """Do nothing: everything is imported."""

    def tick(self, now: int) -> list[Item]:
        """Return nothing: the records are old, and no turn times out."""
        return []


CHECKPOINTS = "langgraph"
"""The source whose times are those of checkpoints, so that no duration is known."""


def _forget_durations(turn: Turn) -> None:
    for event in turn.events:
        if isinstance(event, ToolCallEvent):
            event.latency_ms = None
        elif isinstance(event, AgentEndEvent):
            event.total_duration_ms = None


def import_turns(
    turns: Iterable[ImportedTurn],
    source: str,
    settings: Settings,
    exporters: Sequence[Exporter],
    *,
    selection: Selection | None = None,
    on_progress: Callable[[ImportResult], None] = lambda result: None,
) -> ImportResult:
    """Deliver turns. Repeating an import changes nothing, because ids derive from those of the source.

    Args:
        turns: what a reader returns.
        source: name of the source, for the property `imported_from`.
        settings: options, with the mask.
        exporters: the destinations.
        selection: which turns to import; default: all.
        on_progress: called after each part.
    """
    result = ImportResult()
    pipeline = Pipeline(lambda: _ImportingAssembler(settings), exporters, options=settings)
    offset = time.time_ns() - time.perf_counter_ns()
    turns_put = bytes_put = 0
    try:
        for turn, is_selected in (selection or Selection()).select(turns):
            if not is_selected:
                result.skipped += 1
                continue
            for record in records_of(turn, source, offset):
                packed = pack_record(record)  # once; the size of what is packed is known, too
                pipeline.put(packed)
                bytes_put += size_of(packed)
            turns_put += 1
            result.turns += 1
            result.conversations.add(turn.conversation_id or turn.root.id)
            if turns_put >= TURNS_AT_ONCE or bytes_put >= BYTES_AT_ONCE:
                pipeline.flush(FLUSH_SECONDS)
                turns_put = bytes_put = 0
                on_progress(result)
    finally:
        pipeline.flush(FLUSH_SECONDS)
        stats = pipeline.stats()
        pipeline.shutdown(1.0)
    result.messages, result.left = stats.delivered, stats.spooled + stats.pending
    result.lost = stats.rejected + sum(stats.dropped.values()) + sum(stats.turns_dropped.values())
    on_progress(result)
    return result
