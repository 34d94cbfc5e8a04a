"""Match tool calls with the model runs that requested them, and find the calls that no tool ran."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from gati.trace.chat_messages import as_message, as_messages
from gati.trace.content import text_of
from gati.trace.conversation_state import ConversationState
from gati.trace.outputs import updates_by, updates_of
from gati.trace.records import ASSISTANT_ROLES, MESSAGES, TOOL_ROLES, Message, ModelCall, ModelResult
from gati.trace.requested_calls import LinkableCall, WaitingCall, call_executed_by, requests_in
from gati.trace.run_tree import model_messages
from gati.trace.tool_call_state import UNSEEN_CALL, Requested, ToolCallState

if TYPE_CHECKING:
    from gati.events import Status
    from gati.trace.resumes import Resume
    from gati.trace.run_tree import Run


class _Execution(NamedTuple):
    call_id: str
    requested_by: str | None


class ToolCallLedger:
    """The tool calls of one trace by id. Add each run once, in the order in which the runs ended.

    Some providers number their calls from 0 in every answer: a repeated id is a new call.

    Args:
        state: state of the conversation, with the calls that earlier turns left open.
        resume: what the turn resumes an interrupted one with; None if it does not.

    Attributes:
        by_hand: tool runs without an id, until `link` has found their calls.
    """

    def __init__(self, state: ConversationState, resume: Resume | None) -> None:
        self._state = state
        self._earlier = state.waiting
        self._answered_earlier = state.answered
        self._resume = resume
        self._calls: defaultdict[str, ToolCallState] = defaultdict(ToolCallState)
        self._pending: dict[str, None] = {}  # requested, and neither executed nor closed
        self.by_hand: list[Run] = []
        self._executions: dict[Run, _Execution] = {}
        self._never_run: list[tuple[dict[str, Any], Run, Message | None]] = []
        self._decided: list[tuple[Message, dict[str, Any] | None]] = []
        self._has_input = False
        self._has_models = False

    def add_input(self, inputs: Any) -> None:
        """Add the tool messages of the root's input, once.

        A program may run its tools itself and pass their results to the next turn, which another process may serve.
        """
        if self._has_input or inputs is None:
            return
        self._has_input = True
        for call_id in self._add_answers(_messages_of_input(inputs)):
            is_open = call_id in self._earlier or call_id in self._state.requested
            if is_open or not self._state.has_reported_call(call_id):
                self._calls[call_id].is_answered_by_input = True

    def add(self, run: Run) -> None:
        """Add the requests of a model, the execution of a tool, or the tool messages of a node."""
        if run.kind == "model":
            self._has_models = True
            self._add_messages_of_model(model_messages(run))
            for number, request in enumerate(requests_of(run)):
                given_id = request.get("id")
                # A legacy function call has no id. The key links it to its tool run.
                call_id = str(given_id or f"{run.id}:{number}")
                self._close_repeated(call_id)
                self._calls[call_id] = ToolCallState(Requested(request, run), has_id=bool(given_id))
                self._pending[call_id] = None
        elif run.kind == "tool":
            self._add_tool_run(run)
        elif run.parent is not None and run.node is not None:
            for update in updates_by(run):
                if messages := _messages_of_update(update):
                    self._add_messages_of_node(messages, update.get("structured_response") is not None)

    def _add_messages_of_model(self, messages: list[Message]) -> None:
        """Add the tool messages that a model was given, and the requests that they answer."""
        answers = self._add_answers(messages)
        for call_id in answers:
            if call_id in self._earlier:  # `update_state` may have written the result of a call that waited
                self._calls[call_id].is_answered_by_node = True
        if requests := requests_in(messages):
            self._add_edited(requests)
            for call_id in set(answers) - self._without_history(answers, messages):
                self._calls[call_id].is_history = True

    def _add_messages_of_node(self, messages: list[Message], has_structured_response: bool) -> None:
        """Add the tool messages that a node wrote, and the requests among its messages."""
        answers = self._add_answers(messages)
        if answers:
            for call_id in self._without_history(answers, messages):
                self._calls[call_id].is_answered_by_node = True
        if requests := requests_in(messages):
            for call_id, _ in requests:
                self._calls[call_id].is_mentioned = True
            self._add_edited(requests)
        if has_structured_response:
            for call_id in answers:  # the "tool" only describes the answer's shape, and the answer itself is reported
                self._calls[call_id].is_closed = self._calls[call_id].is_shape = True

    def _without_history(self, answers: list[str], messages: list[Message]) -> set[str]:
        """Return those of the answered calls that no request of an earlier turn follows.

        A nested graph returns the whole thread of its checkpoint, and some nodes their whole state, with the results of
        earlier turns.
        """
        found: set[str] = set()
        requested_later: set[str] = set()
        for message in reversed(messages):
            if message.tool_calls:
                requested = [call_id for call_id, _ in requests_in([message])]
                requested_later.update([call_id for call_id in requested if not self.is_requested(call_id)])
            elif (call_id := _answered_id(message)) and (not requested_later or call_id in requested_later):
                found.add(call_id)
        return {call_id for call_id in found.intersection(answers) if not self._calls[call_id].is_history}

    def _add_edited(self, requests: list[tuple[str, dict[str, Any]]]) -> None:
        """Store the requests that messages contain, by id. A person may have edited the arguments.

        A message with one edited call may repeat another one as it was before it was edited.
        """
        for call_id, request in requests:
            call = self._calls[call_id]
            is_complete = "name" in request and "args" in request
            if is_complete and (call.edited is None or request != self._original(call_id)):
                call.edited = request

    def _call(self, call_id: str) -> ToolCallState:
        """Return what is known of a call, to be read only."""
        return self._calls.get(call_id, UNSEEN_CALL)

    def _original(self, call_id: str) -> dict[str, Any] | None:
        """Return the request of a call as the model made it, if this process knows it."""
        if (requested := self._call(call_id).requested) is not None:
            return requested.request
        earlier = self._earlier.get(call_id) or self._state.requested.get(call_id)
        return earlier.request if earlier is not None else None

    def _latest(self, call_id: str) -> dict[str, Any] | None:
        """Return the request of a call as it was edited last, if a message contains it, else as the model made it."""
        return self._call(call_id).edited or self._original(call_id)

    def _close_repeated(self, call_id: str) -> None:
        """Close the earlier call of an id that is requested again, and forget it."""
        call = self._call(call_id)
        if self.by_hand and (call.requested is not None or call.answer is not None):
            self.link()
        if call.requested is not None:
            self._close(call_id, final=False)
        elif call.answer is not None and self._is_decision(call_id):
            self._decided.append((call.answer, self._latest(call_id)))
        self._calls.pop(call_id, None)

    def _close(self, call_id: str, final: bool) -> None:
        """Add a request to the calls that were never run, if it was answered without a tool run."""
        call = self._calls[call_id]
        if call.requested is None or call.is_executed or call.is_closed:
            return
        request, run = call.requested
        if call.answer is not None or (final and is_invalid(request)):
            call.is_closed = True
            self._pending.pop(call_id, None)
            self._never_run.append((call.edited or request, run, call.answer))

    def _add_answers(self, messages: Iterable[Message]) -> list[str]:
        """Store the tool messages among `messages`; return the ids of the calls that they answer."""
        answers = {call_id: m for m in messages if m.role in TOOL_ROLES and (call_id := _answered_id(m))}
        for call_id, message in answers.items():
            call = self._calls[call_id]
            if call.answer is None:
                call.answer = message
        return list(answers)

    def _add_tool_run(self, run: Run) -> None:
        call_id = str(run.extra) if run.extra is not None else None
        if call_id is None:
            call_id = run.output.tool_call_id if isinstance(run.output, Message) else None
        if call_id is None:
            self.by_hand.append(run)
        else:
            self._take(run, call_id)

    def _take(self, run: Run, call_id: str) -> None:
        """Note that a tool run executed a call."""
        self._executions[run] = _Execution(call_id, self.requested_by(call_id))
        call = self._calls[call_id]
        call.is_executed, call.is_paused = True, run.interrupted
        self._pending.pop(call_id, None)

    def link(self) -> None:
        """Find the calls that the runs of `by_hand` executed.

        The classic agent executor passes no call id to its tools, nor does `tool.invoke(call["args"])`. What shows the call of
        such a run may be written after it. What a tool calls while it runs for a request, perhaps a tool of the same name
        with the same arguments, can only execute requests of models in that tool.
        """
        decision = self._resume.value if self._resume is not None else None
        calls = self._linkable_calls()
        self.by_hand.sort(key=lambda run: run.started)  # a tool before those that it calls
        for run in self.by_hand:
            if run in self._executions:
                continue
            around = self._call_around(run)
            open_calls = [
                call
                for call in calls
                if not self._call(call.id).is_executed and call.within == around and call.since <= run.started
            ]
            if (found := call_executed_by(run, open_calls, decision)) is not None:
                self._take(run, found.id)
                if isinstance(run.inputs, dict) and not found.has_arguments_of(run):
                    self._calls[found.id].edited = {**found.request, "args": run.inputs}

    def _linkable_calls(self) -> list[LinkableCall]:
        """Return the calls of this turn and of earlier ones that a tool run without an id may have executed."""
        requested = self._requested_calls().items()
        origins = {call_id: (by.started, self._call_around(by)) for call_id, (_, by) in requested}
        for earlier in (self._earlier, self._state.requested):
            for call_id, call in earlier.items():
                origins.setdefault(call_id, (0, call.within))
        for call_id in self._calls:
            if self._is_decision(call_id):  # another process may have made the request
                origins.setdefault(call_id, (0, None))
        return [
            LinkableCall(call_id, request, since, within, self._call(call_id).answer)
            for call_id, (since, within) in origins.items()
            if not self._call(call_id).is_answered_by_input and (request := self._latest(call_id)) is not None
        ]

    def _requested_calls(self) -> dict[str, Requested]:
        """Return the requests of this turn's models by id, in the order in which they were made."""
        return {call_id: call.requested for call_id, call in self._calls.items() if call.requested is not None}

    def _call_around(self, run: Run) -> str | None:
        """Return the id of the call whose tool run encloses a run, the innermost one; None outside of any."""
        for above in run.ancestors():
            if above.kind != "tool":
                continue
            if above.extra:
                return str(above.extra)
            if above in self._executions:
                return self._executions[above].call_id
        return None

    def id_of(self, run: Run) -> str | None:
        """Return the id that the model gave the call that a tool run executed; None if it gave none."""
        execution = self._executions.get(run)
        return execution.call_id if execution is not None and self._call(execution.call_id).has_id else None

    def requester_of(self, run: Run) -> str | None:
        """Return the id of the model run that requested a tool run."""
        execution = self._executions.get(run)
        return execution.requested_by if execution is not None else None

    def requested_by(self, call_id: str) -> str | None:
        """Return the id of the model run that requested a call last."""
        if (requested := self._call(call_id).requested) is not None:
            return requested.by.key
        earlier = self._earlier.get(call_id) or self._state.requested.get(call_id)
        return earlier.requested_by if earlier is not None else self._state.repeatable.get(call_id)

    def is_requested(self, call_id: str) -> bool:
        """Return True if a model of this turn requested a call with this id."""
        return self._call(call_id).requested is not None

    def is_reported(self, call_id: Any) -> bool:
        """Return True if an event of this turn or an earlier one contains the answer to a call."""
        call_id = str(call_id)
        call = self._call(call_id)
        if call.is_executed or call.requested is not None or call_id in self._answered_earlier:
            return True
        return self._is_decision(call_id)

    def _is_decision(self, call_id: str) -> bool:
        """Return True if a call of an earlier turn was answered in this one without running the tool.

        A node wrote the result because a person rejected or answered the call, or the turn's input contains it.
        """
        call = self._call(call_id)
        if call.is_executed or call.requested is not None:
            return False
        if call.is_answered_by_input:
            return True
        if not call.is_answered_by_node:
            return False
        # If another process made the request, `_earlier` lacks it. A resumed turn then reports the decision.
        if self._resume is None or call.is_history or self._state.has_reported_call(call_id):
            return call_id in self._earlier
        return True

    def is_known(self, call_id: Any) -> bool:
        """Return True if an event contains the request of a call."""
        call_id = str(call_id)
        call = self._call(call_id)
        is_shown = call.requested is not None or call.is_executed or call.is_mentioned or call.is_answered_by_input
        return is_shown or call_id in self._earlier

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
        for call_id, call in self._calls.items():
            if call.answer is not None and self._is_decision(call_id):
                yield call.answer, self._latest(call_id)

    def save_to(self, state: ConversationState, status: Status) -> None:
        """Store the calls that this turn leaves open in the conversation's state: those that wait for a human, those that
        the program may run itself, and those that run again if it continues a turn that did not complete."""
        waiting = status == "waiting"
        requested = {
            call_id: WaitingCall(request, by.key) for call_id, (request, by) in self._requested_calls().items()
        }
        done = {
            call_id
            for call_id, call in self._calls.items()
            if call.answer is not None or (call.is_executed and not call.is_paused)
        }
        if waiting:
            done -= self._executed_again(done)
        calls = {call_id: call for call_id, call in {**self._earlier, **requested}.items() if call_id not in done}
        if calls:
            calls = {call_id: self._left_open(call_id, call) for call_id, call in calls.items()}
        for call_id, call in self._calls.items():
            if call.is_shape and call.answer is not None:  # the thread repeats it in the next turn
                state.is_new_message(text_of(call.answer), call_id)
        state.waiting = calls if waiting else {}
        if not self._has_models:  # a tool that the program called itself; it may call the others next
            calls = {call_id: call for call_id, call in state.requested.items() if call_id not in done} | calls
        state.requested = calls
        if status == "completed":
            state.repeatable = {}
        else:
            repeatable = {call_id: call.requested_by for call_id, call in requested.items()}
            state.repeatable = {**state.repeatable, **repeatable}
        state.answered = (self._answered_earlier | done) if waiting else frozenset()

    def _executed_again(self, done: set[str]) -> set[str]:
        """Return those of the calls that their node calls again when it is resumed, because it was interrupted after them."""
        return {
            call_id
            for run, (call_id, _) in self._executions.items()
            if call_id in done
            and self._call(call_id).answer is None
            and (node := _node_of(run)) is not None
            and node.interrupted
        }

    def _left_open(self, call_id: str, waiting: WaitingCall) -> WaitingCall:
        """Return a call for the next turn: as it was edited last, and with its level."""
        call = self._call(call_id)
        if call.requested is None:
            return waiting._replace(request=call.edited or waiting.request)
        request, by = call.requested
        return WaitingCall(call.edited or request, by.key, self._call_around(by))


def _messages_of_input(inputs: Any) -> list[Message]:
    """Return the messages in a root's input after the last answer: of a list, or of each list in a state or an update.

    A request for tools is no answer, unless a model is called directly.
    """
    if isinstance(inputs, ModelCall):
        given = [m for item in reversed(inputs.messages) if (m := as_message(item)) is not None]
        return list(itertools.takewhile(lambda message: message.role not in ASSISTANT_ROLES, given))[::-1]
    if (messages := as_messages(inputs)) is not None:
        return _after_last_answer(messages)
    values = [value for update in updates_of(inputs) for value in update.values()]
    return [message for value in values for message in _after_last_answer(as_messages(value) or [])]


def _after_last_answer(messages: list[Message]) -> list[Message]:
    for number in range(len(messages) - 2, -1, -1):  # the last message may be the beginning of an answer
        if messages[number].role in ASSISTANT_ROLES and not messages[number].tool_calls:
            return messages[number + 1 :]
    return messages


def _messages_of_update(update: dict[str, Any]) -> list[Message]:
    return as_messages(update.get(MESSAGES)) or []


def _node_of(run: Run) -> Run | None:
    return next((above for above in run.ancestors() if above.node is not None), None)


def _answered_id(message: Message) -> str:
    """Return the id of the call that a message answers; "" if it answers none. A plain history may hold any value as id."""
    return str(message.tool_call_id or "")


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
