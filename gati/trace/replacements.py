"""Recognize turns that start from an older checkpoint and so replace later turns ("regenerate", "edit").

The id of the checkpoint that a turn starts from contains its time. If `update_state` wrote an edited question to an
older checkpoint, it made a new one. Then the numbers of the steps show it: they repeat those of the replaced steps.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

if TYPE_CHECKING:
    from gati.events import Status
    from gati.trace.run_tree import Run, Trace

MAX_TURNS = 64
"""Turns remembered per conversation; the oldest is dropped first."""

_GREGORIAN_TO_UNIX = 0x01B21DD213814000
"""Intervals of 100 ns between the epoch of UUIDs (1582-10-15) and that of Unix."""


class PastTurn(NamedTuple):
    """A turn of a graph with a thread.

    Attributes:
        id: its id.
        decisive_ns: a time before its last checkpoint and after those from which it would be run again. An open turn,
            which waits or failed, goes on from the checkpoint before its last step.
        last_step: number of its last step.
        question_ids: ids of the messages that it answers. A turn without any answers those of the turn that it replaced.
        has_answer: it has an answer.
    """

    id: str
    decisive_ns: int
    last_step: int
    question_ids: tuple[str, ...]
    has_answer: bool


class PastTurns:
    """The turns of one conversation that no later turn has replaced."""

    __slots__ = ("_turns",)

    def __init__(self) -> None:
        self._turns: deque[PastTurn] = deque(maxlen=MAX_TURNS)

    def replaced_by(self, trace: Trace, has_question: bool) -> PastTurn | None:
        """Return the first turn that `trace` replaces, and forget it and those after it.

        `has_question`: the turn adds a message of the user.
        """
        if not self._turns:
            return None
        replaced: list[PastTurn] = []
        if (checkpoint := _time_of_checkpoint(trace.root.metadata.get("checkpoint_id"))) is not None:
            replaced = [turn for turn in self._turns if turn.decisive_ns > checkpoint]
        if not replaced and has_question and trace.root.inputs is None:
            # A question that `update_state` adds to the end of a thread has a step of its own. Without a checkpointer,
            # each turn begins at step 1, and so does a thread that was deleted.
            step = min(_steps(trace), default=1)
            replaced = [turn for turn in self._turns if 1 < step <= turn.last_step + 1]
        for turn in replaced:
            self._turns.remove(turn)
        return replaced[0] if replaced else None

    def add(self, trace: Trace, turn_id: str, status: Status, question_ids: tuple[str, ...], has_answer: bool) -> None:
        """Remember a turn of a graph."""
        if "thread_id" in trace.root.metadata and (steps := _steps(trace)):
            last = max(steps)
            if status == "completed":
                decisive = _time_within(steps[last], trace)
            else:
                earlier = max((step for step in steps if step < last), default=None)
                decisive = (
                    _time_within(steps[earlier], trace) if earlier is not None else trace.root.started + trace.offset
                )
            self._turns.append(PastTurn(turn_id, decisive, last, question_ids, has_answer))


def _steps(trace: Trace) -> dict[int, Run]:
    """Return the nodes that the root of a trace ran, one of each step, by the number of the step."""
    return {run.step: run for run in trace.root.children if run.node is not None and run.step is not None}


def _time_within(run: Run, trace: Trace) -> int:
    """Return a time within a step: earlier checkpoints precede the step, later ones contain its result."""
    return (run.started + (run.ended or run.started)) // 2 + trace.offset


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
