"""The state of a tool call in a turn. Runs of several kinds each show a part of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from gati.trace.records import Message
    from gati.trace.run_tree import Run


class Requested(NamedTuple):
    """The request of a tool call, and the model run that made it."""

    request: dict[str, Any]
    by: Run


@dataclass(slots=True, eq=False)
class ToolCallState:
    """A tool call, as far as the runs of a turn show it.

    Attributes:
        requested: its request, if a model of the turn made it.
        edited: its request in a message. A person may have edited the arguments.
        answer: the first tool message with its result.
        has_id: the model gave it an id. A legacy function call has none.
        is_executed: a tool run executed it.
        is_paused: the last of these runs was interrupted.
        is_closed: its answer needs no event of its own, or was already returned as that of a call that never ran.
        is_shape: it only describes the shape of the turn's answer.
        is_mentioned: a message of a node contains its request.
        is_history: a request of an earlier turn follows its answer in the messages.
        is_answered_by_node: a node wrote the answer, or `update_state` did while the call waited.
        is_answered_by_input: the input of the turn contains the answer, which no event has reported.
    """

    requested: Requested | None = None
    edited: dict[str, Any] | None = None
    answer: Message | None = None
    has_id: bool = True
    is_executed: bool = False
    is_paused: bool = False
    is_closed: bool = False
    is_shape: bool = False
    is_mentioned: bool = False
    is_history: bool = False
    is_answered_by_node: bool = False
    is_answered_by_input: bool = False


UNSEEN_CALL = ToolCallState()
"""The state of a call that no run of the turn has shown. Never change it."""
