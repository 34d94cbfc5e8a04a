"""Find the conversation that requested a tool which the program calls itself, outside of any conversation.

In the tool loop of LangChain's guides, the program calls models and tools in turn: `tool.invoke(call)` carries only the id
of the call, and `tool.invoke(call["args"])` only the arguments.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple

from gati.trace.content import parsed_arguments

if TYPE_CHECKING:
    from gati.events import Conversation
    from gati.trace.run_tree import Run

MAX_CONVERSATIONS = 256
"""Conversations with open requests that are kept; the least recent is dropped first."""
_SINGLE_ARGUMENT = "__arg1"
"""Key under which OpenAI's functions pass the argument of a tool that takes one text."""


class WaitingCall(NamedTuple):
    """A tool call that no tool has answered yet: its request, and the id of the model run that requested it."""

    request: dict[str, Any]
    requested_by: str


class RequestedCalls:
    """The tool requests that the latest model calls of the latest conversations left open.

    They stay until the next model call of their conversation, because the program may call a tool again after a failure.

    Attributes:
        is_used: there were any.
    """

    def __init__(self) -> None:
        self.is_used = False
        self._open: OrderedDict[str, tuple[Conversation, dict[str, WaitingCall]]] = OrderedDict()

    def note(self, conversation: Conversation, requested: dict[str, WaitingCall]) -> None:
        """Remember the requests that a turn with a model left open."""
        if not requested:
            self._open.pop(conversation.id, None)
            return
        self.is_used = True
        self._open[conversation.id] = (conversation, requested)
        self._open.move_to_end(conversation.id)
        if len(self._open) > MAX_CONVERSATIONS:
            self._open.popitem(last=False)

    def conversation_of(self, run: Run) -> Conversation | None:
        """Return the conversation that requested a tool run; None if none did, or several could have.

        Two people may ask for the same, and some providers number their calls from 0.
        """
        found = [
            conversation
            for conversation, requested in self._open.values()
            if (str(run.extra) in requested if run.extra is not None else _has_call(requested, run))
        ]
        return found[0] if len(found) == 1 else None


def _has_call(requested: dict[str, WaitingCall], run: Run) -> bool:
    return bool(run.inputs) and any(is_call_of(call.request, run) for call in requested.values())


def is_call_of(request: dict[str, Any], run: Run) -> bool:
    """Return True if a tool run has the name and the arguments of a request."""
    if request.get("name") != run.name:
        return False
    return parsed_arguments(request.get("args")) in (run.inputs, {_SINGLE_ARGUMENT: run.inputs})
