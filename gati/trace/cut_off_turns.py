"""Turns whose root was cut off while runs below it were open.

A stream that is closed early ends its children after the root, and a cancelled call never ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gati.trace.conversation_lookup import conversation_id_of

if TYPE_CHECKING:
    from gati.options import Settings
    from gati.trace.run_tree import Trace

WAIT_NS = 2_000_000_000
"""Time without activity that such a turn waits for its open runs."""


class CutOffTurns:
    """Holds the turns that wait for their open runs, in the order in which they were cut off."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._traces: dict[int, Trace] = {}

    def __len__(self) -> int:
        return len(self._traces)

    def add(self, trace: Trace) -> None:
        self._traces[trace.root.id.int] = trace

    def discard(self, trace: Trace) -> None:
        self._traces.pop(trace.root.id.int, None)

    def clear(self) -> None:
        self._traces.clear()

    def all(self) -> list[Trace]:
        """Return all turns."""
        return list(self._traces.values())

    def expired(self, now: int) -> list[Trace]:
        """Return the turns that have waited long enough; `now` is `perf_counter_ns`."""
        return [trace for trace in self._traces.values() if now - trace.last_record_at > WAIT_NS]

    def without_id_before(self, trace: Trace) -> list[Trace]:
        """Return the turns without a conversation id that were cut off before `trace` began."""
        return [
            earlier
            for earlier in self._traces.values()
            if earlier is not trace
            and (earlier.root.ended or 0) < trace.root.started
            and conversation_id_of(earlier, self._settings) == earlier.id
        ]

    def before(self, trace: Trace) -> list[Trace]:
        """Return the turns of the conversation to which the open `trace` belongs."""
        if not self._traces or trace.ended_turn is not None:
            return []
        conversation = conversation_id_of(trace, self._settings)
        return [
            earlier
            for earlier in self._traces.values()
            if earlier is not trace and conversation_id_of(earlier, self._settings) == conversation
        ]
