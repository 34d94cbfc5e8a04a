"""Match tool calls with the model runs that requested them, and find the calls that no tool ran."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from gati.trace.chat_io import as_message, as_messages
from gati.trace.content import text_of
from gati.trace.conversation_state import ConversationState
from gati.trace.outputs import updates_by, updates_of
from gati.trace.records import ASSISTANT_ROLES, TOOL_ROLES, Message, ModelCall, ModelResult
from gati.trace.requested_calls import WaitingCall, is_call_of
from gati.trace.run_tree import model_messages

if TYPE_CHECKING:
    from gati.events import Status
    from gati.trace.run_tree import Run


class _Requested(NamedTuple):
    request: dict[str, Any]
    by: Run


class ToolCallLedger:
    """The tool calls of one trace by id. Add each run once, in the order in which the runs ended.

    Some providers number their calls from 0 in every answer: a repeated id is a new call.

    Args:
        state: state of the conversation, with the calls that earlier turns left open.
        resumed: the turn resumes an interrupted one.
    """

    def __init__(self, state: ConversationState, resumed: bool) -> None:
        self._state = state
        self._earlier = state.waiting
        self._answered_earlier = state.answered
        self._resumed = resumed
        self._requested: dict[str, _Requested] = {}
        self._pending: dict[str, None] = {}
        self._mentioned: dict[str, dict[str, Any]] = {}
        self._given: dict[str, dict[str, Any]] = {}
        self._ids: dict[Run, str] = {}
        self._requesters: dict[Run, str | None] = {}
        self._never_run: list[tuple[dict[str, Any], Run, Message | None]] = []
        self._decided: list[tuple[Message, dict[str, Any] | None]] = []
        self._executed: set[str] = set()
        self._paused: set[str] = set()
        self._answers: dict[str, Message] = {}
        self._answered_by_nodes: set[str] = set()
        self._answered_by_input: set[str] = set()
        self._without_id: set[str] = set()
        self._reported: set[str] = set()
        self._described: set[str] = set()
        self._has_input = False
        self._has_models = False

    def add_input(self, inputs: Any) -> None:
        """Add the tool messages of the root's input, once.

        A program may run its tools itself and pass their results to the next turn, which another process may serve.
        """
        if self._has_input or inputs is None:
            return
        self._has_input = True
        answers = self._add_answers(_messages_of_input(inputs))
        self._answered_by_input.update(
            call_id
            for call_id in answers
            if call_id in self._earlier
            or call_id in self._state.requested
            or not self._state.has_reported_call(call_id)
        )

    def add(self, run: Run) -> None:
        """Add the requests of a model, the execution of a tool, or the tool messages of a node."""
        if run.kind == "model":
            self._has_models = True
            self._add_messages_of_model([m for item in model_messages(run) if (m := as_message(item)) is not None])
            for number, request in enumerate(requests_of(run)):
                # A legacy function call has no id. The key links it to its tool run.
                call_id = str(request.get("id") or f"{run.id}:{number}")
                if not request.get("id"):
                    self._without_id.add(call_id)
                self._close_repeated(call_id)
                self._requested[call_id] = _Requested(request, run)
                self._pending[call_id] = None
        elif run.kind == "tool":
            self._add_tool_run(run)
        elif run.parent is not None and run.node is not None:
            for update in updates_by(run):
                if not (messages := _messages_of_update(update)):
                    continue
                answers = self._add_answers(messages)
                self._answered_by_nodes.update(answers)
                self._mentioned.update(_requests_in(messages))
                if update.get("structured_response") is not None:
                    # This "tool" only describes the answer's shape, and the answer itself is reported.
                    self._reported.update(answers)
                    self._described.update(answers)

    def _add_messages_of_model(self, messages: list[Message]) -> None:
        """Add the tool messages that a model was given, and the requests that they answer."""
        answers = self._add_answers(messages)
        # `update_state` may have written the result of a call that waited.
        self._answered_by_nodes.update(call_id for call_id in answers if call_id in self._earlier)
        self._given.update(_requests_in(messages))

    def _close_repeated(self, call_id: str) -> None:
        """Close the earlier request of an id that is requested again."""
        if call_id in self._requested:
            self._close(call_id, final=False)
            del self._requested[call_id]
        elif self._is_decision(call_id):
            self._decided.append((self._answers[call_id], self._earlier_request(call_id)))
        self._answers.pop(call_id, None)
        for call_ids in (
            self._executed,
            self._paused,
            self._reported,
            self._answered_by_nodes,
            self._answered_by_input,
        ):
            call_ids.discard(call_id)

    def _close(self, call_id: str, final: bool) -> None:
        """Add a request to the calls that were never run, if it was answered without a tool run."""
        request, run = self._requested[call_id]
        answered = call_id in self._answers or (final and is_invalid(request))
        if answered and call_id not in self._executed and call_id not in self._reported:
            self._reported.add(call_id)
            self._pending.pop(call_id, None)
            self._never_run.append((request, run, self._answers.get(call_id)))

    def _add_answers(self, messages: Iterable[Message]) -> list[str]:
        """Store the tool messages among `messages`; return the ids of the calls that they answer."""
        answers = {m.tool_call_id: m for m in messages if m.role in TOOL_ROLES and m.tool_call_id}
        if answers:
            self._answers = {**answers, **self._answers}
        return list(answers)

    def _add_tool_run(self, run: Run) -> None:
        call_id = str(run.extra) if run.extra is not None else None
        if call_id is None:
            call_id = run.output.tool_call_id if isinstance(run.output, Message) else None
        if call_id is None:
            call_id = self._matching_request(run)
        if call_id is not None:
            self._ids[run] = call_id
            self._requesters[run] = self.requested_by(call_id)
            self._executed.add(call_id)
            self._pending.pop(call_id, None)
            if run.interrupted:
                self._paused.add(call_id)
            else:
                self._paused.discard(call_id)

    def _matching_request(self, run: Run) -> str | None:
        """Return the id of the first open request with the tool's name and arguments, of this turn or an earlier one.

        The classic agent executor passes no call id to its tools, nor does `tool.invoke(call["args"])`.
        """
        requests = {call_id: request for call_id, (request, _) in self._requested.items()}
        for earlier in (self._earlier, self._state.requested):
            for call_id, call in earlier.items():
                # A person may have edited the arguments.
                requests.setdefault(call_id, self._mentioned.get(call_id, call.request))
        for call_id, request in requests.items():
            if call_id not in self._executed and is_call_of(request, run):
                return call_id
        return None

    def id_of(self, run: Run) -> str | None:
        """Return the id that the model gave the call that a tool run executed; None if it gave none."""
        call_id = self._ids.get(run)
        return None if call_id in self._without_id else call_id

    def requester_of(self, run: Run) -> str | None:
        """Return the id of the model run that requested a tool run."""
        return self._requesters.get(run)

    def requested_by(self, call_id: str) -> str | None:
        """Return the id of the model run that requested a call last."""
        if call_id in self._requested:
            return self._requested[call_id].by.key
        earlier = self._earlier.get(call_id) or self._state.requested.get(call_id)
        return earlier.requested_by if earlier is not None else self._state.repeatable.get(call_id)

    def is_requested(self, call_id: str) -> bool:
        """Return True if a model of this turn requested a call with this id."""
        return call_id in self._requested

    def is_reported(self, call_id: str | None) -> bool:
        """Return True if an event of this turn or an earlier one contains the answer to a call."""
        if call_id in self._executed or call_id in self._requested or call_id in self._answered_earlier:
            return True
        return call_id is not None and self._is_decision(call_id)

    def _is_decision(self, call_id: str) -> bool:
        """Return True if no tool run of this turn answered a call of an earlier turn.

        A node did because a human rejected the call or answered it, or the turn's input contains the result.
        """
        if call_id in self._executed or call_id in self._requested:
            return False
        if call_id in self._answered_by_input:
            return True
        if call_id not in self._answered_by_nodes:
            return False
        # If another process made the request, `_earlier` lacks it. A resumed turn then reports the decision.
        return call_id in self._earlier or self._resumed

    def is_known(self, call_id: Any) -> bool:
        """Return True if an event contains the request of a call."""
        sources = (self._requested, self._executed, self._earlier, self._mentioned, self._answered_by_input)
        return any(call_id in call_ids for call_ids in sources)

    def take_never_run(self, final: bool) -> list[tuple[dict[str, Any], Run, Message | None]]:
        """Return each request that a tool message answered although no tool ran: (request, model run, answer).

        Each is returned once. With `final`, invalid requests without an answer are included. A valid
        request without an answer is not: it waits, or the program handles it itself. The model's
        event contains it.
        """
        for call_id in list(self._pending):
            self._close(call_id, final)
        calls, self._never_run = self._never_run, []
        return calls

    def decisions(self) -> Iterator[tuple[Message, dict[str, Any] | None]]:
        """Yield the answers to calls of earlier turns that no tool of this turn gave, each with its request if known."""
        yield from self._decided
        for call_id, message in self._answers.items():
            if self._is_decision(call_id):
                yield message, self._earlier_request(call_id)

    def _earlier_request(self, call_id: str) -> dict[str, Any] | None:
        earlier = self._earlier.get(call_id) or self._state.requested.get(call_id)
        return earlier.request if earlier is not None else self._mentioned.get(call_id) or self._given.get(call_id)

    def save_to(self, state: ConversationState, status: Status) -> None:
        """Store the calls that this turn leaves open in the conversation's state: those that wait for a human, those that
        the program may run itself, and those that run again if it continues a turn that did not complete."""
        waiting = status == "waiting"
        requested = {call_id: WaitingCall(request, by.key) for call_id, (request, by) in self._requested.items()}
        done = (self._executed - self._paused) | self._answers.keys()
        calls = {call_id: call for call_id, call in {**self._earlier, **requested}.items() if call_id not in done}
        for call_id in self._described & self._answers.keys():  # the thread repeats it in the next turn
            state.is_new_message(text_of(self._answers[call_id]), call_id)
        state.waiting = calls if waiting else {}
        if not self._has_models:  # a tool that the program called itself; it may call the others next
            calls = {call_id: call for call_id, call in state.requested.items() if call_id not in done} | calls
        state.requested = calls
        repeatable = {call_id: call.requested_by for call_id, call in requested.items()}
        state.repeatable = {} if status == "completed" else {**state.repeatable, **repeatable}
        state.answered = (self._answered_earlier | done) if waiting else frozenset()


def _messages_of_input(inputs: Any) -> list[Message]:
    """Return the messages in a root's input: a list of them, or those in the entries of a state or an update.

    Of a model that is called directly, return the messages after the last answer.
    """
    if isinstance(inputs, ModelCall):
        given = [m for item in reversed(inputs.messages) if (m := as_message(item)) is not None]
        return list(itertools.takewhile(lambda message: message.role not in ASSISTANT_ROLES, given))[::-1]
    if (messages := as_messages(inputs)) is not None:
        return messages
    values = [value for update in updates_of(inputs) for value in update.values()]
    return [message for value in values for message in as_messages(value) or ()]


def _messages_of_update(update: dict[str, Any]) -> list[Message]:
    return as_messages(update.get("messages")) or []


def _requests_in(messages: Iterable[Message]) -> dict[str, dict[str, Any]]:
    """Return the tool calls in messages, by id."""
    requests = (request for message in messages for request in message.tool_calls if isinstance(request, dict))
    return {str(request["id"]): request for request in requests if request.get("id")}


def is_invalid(request: dict[str, Any]) -> bool:
    """Return True if LangChain could not parse the arguments of a tool call."""
    return request.get("type") == "invalid_tool_call"


def requests_of(run: Run) -> list[dict[str, Any]]:
    """Return the tool calls in a model's answer, including invalid ones."""
    if not isinstance(run.output, ModelResult) or not run.output.messages:
        return []
    answer = run.output.messages[0]
    if not answer.tool_calls and not answer.invalid_tool_calls:
        return []
    return [call for call in (*answer.tool_calls, *answer.invalid_tool_calls) if isinstance(call, dict)]
