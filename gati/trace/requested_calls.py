"""Tool requests in messages, and the runs and conversations that they belong to.

In the tool loop of LangChain's guides, the program calls models and tools in turn: `tool.invoke(call)` carries only the id
of the call, and `tool.invoke(call["args"])` only the arguments.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from gati.trace.content import parsed_arguments, text_of
from gati.trace.outputs import read_json
from gati.trace.tool_results import ToolResults, is_distinctive

if TYPE_CHECKING:
    from gati.events import Conversation
    from gati.trace.records import ErrorInfo, Message
    from gati.trace.run_tree import Run

MAX_CONVERSATIONS = 256
"""Conversations with open requests that are kept; the least recent is dropped first."""
_SINGLE_ARGUMENT = "__arg1"
"""Key under which OpenAI's functions pass the argument of a tool that takes one text."""


def requests_in(messages: Iterable[Message]) -> list[tuple[str, dict[str, Any]]]:
    """Return the tool calls in messages, each with its id. A plain history may hold anything in their place."""
    requests = (request for message in messages for request in message.tool_calls if isinstance(request, dict))
    return [(str(request["id"]), request) for request in requests if request.get("id")]


class WaitingCall(NamedTuple):
    """A tool call that no tool has answered yet.

    Attributes:
        request: the model's request, as it was edited last.
        requested_by: id of the model run.
        within: id of the call whose tool ran the model; None outside of any.
    """

    request: dict[str, Any]
    requested_by: str
    within: str | None = None


@dataclass(frozen=True, eq=False)
class LinkableCall:
    """A tool call that a run without an id may have executed. Many runs may be compared with it.

    Attributes:
        id: id of the call.
        request: its request, as it was edited last.
        since: time when the model run started that requested it; 0 of an earlier turn.
        within: id of the call whose tool ran the model; None outside of any.
        answer: the result in the messages, if there is one.
    """

    id: str
    request: dict[str, Any]
    since: int
    within: str | None
    answer: Message | None

    @cached_property
    def _arguments(self) -> Any:
        return parsed_arguments(self.request.get("args"))

    @cached_property
    def _text(self) -> str:
        return text_of(self.answer) if self.answer is not None else ""

    @cached_property
    def _value(self) -> Any:
        return read_json(self._text)

    def has_arguments_of(self, run: Run) -> bool:
        """Return True if a tool run has the arguments of the request."""
        return _is_input_of(run, self._arguments)

    def is_answered_by(self, result: ToolResults) -> bool:
        """Return True if the answer is the result of a tool run."""
        return self.answer is not None and result.has(self._text, self._value)

    def has_outcome_of(self, run: Run, result: ToolResults) -> bool:
        """Return True if the result or the failure of a tool run is in the answer."""
        if self.answer is None:
            return False
        if run.error is not None:
            return self._has_failure(run.error, self.answer)
        return result.is_in(self._text, self._value)

    def _has_failure(self, error: ErrorInfo, answer: Message) -> bool:
        """Return True if an exception's message is in the answer.

        It may be as short as "'a'", the message of ``KeyError("a")``. Then the answer must report a failure.
        """
        message, text = error.message, self._text
        if not message or message not in text:
            return False
        return (
            message == text
            or is_distinctive(message)
            or answer.status == "error"
            or "Error" in text
            or error.type in text
        )


def call_executed_by(run: Run, calls: list[LinkableCall], decision: Any) -> LinkableCall | None:
    """Return the first of the open calls that a tool run without an id executed, by the best evidence; None if it was none.

    A call has the name of the tool. Its arguments may have been changed by a person or the program. Then it is the call whose
    answer contains the result of the run. If there is no answer yet, the `decision` with which a person resumed the turn
    contains the arguments.
    """
    calls = [call for call in calls if call.request.get("name") == run.name]
    with_arguments = [call for call in calls if call.has_arguments_of(run)]
    result = ToolResults([run])
    found = itertools.chain(
        (call for call in with_arguments if call.has_outcome_of(run, result)),
        (call for call in calls if call.is_answered_by(result)),
        (call for call in calls if call.has_outcome_of(run, result)),
        with_arguments,
        (call for call in calls if call.answer is None and _contains(decision, run.inputs)),
    )
    return next(found, None)


def _contains(value: Any, arguments: Any, depth: int = 6) -> bool:
    """Return True if a value is, or holds at any place, the arguments of a tool: an object, or the text of a tool with one argument."""
    if not arguments or not depth:
        return False
    if value == arguments:
        return True
    entries = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(_contains(entry, arguments, depth - 1) for entry in entries)


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
    return bool(run.inputs) and any(_is_call_of(call.request, run) for call in requested.values())


def _is_call_of(request: dict[str, Any], run: Run) -> bool:
    """Return True if a tool run has the name and the arguments of a request."""
    if request.get("name") != run.name:
        return False
    return _is_input_of(run, parsed_arguments(request.get("args")))


def _is_input_of(run: Run, arguments: Any) -> bool:
    return arguments in (run.inputs, {_SINGLE_ARGUMENT: run.inputs})
