"""Recognize turns that start from an older checkpoint and so replace later turns ("regenerate", "edit")."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

if TYPE_CHECKING:
    from gati.trace.run_tree import Trace

MAX_TURNS = 64
"""Turns remembered per conversation; the oldest is dropped first."""

_GREGORIAN_TO_UNIX = 0x01B21DD213814000
"""Intervals of 100 ns between the epoch of UUIDs (1582-10-15) and that of Unix."""


class _PastTurn(NamedTuple):
    id: str
    last_step_ns: int
    """A time within the last step: earlier checkpoints precede the step, later ones contain its result."""


class PastTurns:
    """The turns of one conversation that no later turn has replaced."""

    __slots__ = ("_turns",)

    def __init__(self) -> None:
        self._turns: deque[_PastTurn] = deque(maxlen=MAX_TURNS)

    def replaced_by(self, trace: Trace) -> str | None:
        """Return the id of the first turn that `trace` replaces, and forget it and those after it."""
        checkpoint = _time_of_checkpoint(trace.root.metadata.get("checkpoint_id"))
        if checkpoint is None:
            return None
        replaced = [turn for turn in self._turns if turn.last_step_ns > checkpoint]
        for turn in replaced:
            self._turns.remove(turn)
        return replaced[0].id if replaced else None

    def add(self, trace: Trace, turn_id: str) -> None:
        """Remember a turn of a graph."""
        if (step := _last_step_ns(trace)) is not None:
            self._turns.append(_PastTurn(turn_id, step))


def _last_step_ns(trace: Trace) -> int | None:
    steps = [run for run in trace.root.children if run.node is not None and run.ended is not None]
    if not steps or "thread_id" not in trace.root.metadata:
        return None
    last = max(steps, key=lambda run: run.started)
    return (last.started + (last.ended or last.started)) // 2 + trace.offset


def _time_of_checkpoint(checkpoint_id: Any) -> int | None:
    """Return the time in the id of a checkpoint, in nanoseconds since the epoch; None for other ids.

    LangGraph's ids are UUIDs of version 6.
    """
    try:
        number = UUID(str(checkpoint_id)).int
    except ValueError:
        return None
    if (number >> 76) & 0xF != 6:
        return None
    return (((number >> 80) << 12 | (number >> 64) & 0xFFF) - _GREGORIAN_TO_UNIX) * 100
