"""Tool calls: which model asked for which, and which of them were never run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from gati.trace.chat_io import TOOL_ROLES, as_message, as_messages
from gati.trace.conversation_state import ConversationState, WaitingCall
from gati.trace.outputs import updates_of
from gati.trace.records import Message, ModelResult
from gati.trace.run_tree import model_messages

if TYPE_CHECKING:
    from gati.trace.run_tree import Run


class _Requested(NamedTuple):
    request: dict[str, Any]
    by: Run


class ToolCallLedger:
    """The tool calls of one trace by their ids; `add` is told of each run once, in the order of their ends.

    Some providers count their calls from 0 with every answer: an id that is asked for again is a new call.

    Args:
        state: what earlier turns left open.
        resumed: the turn goes on where an earlier one waited.
    """

    def __init__(self, state: ConversationState, resumed: bool) -> None:
        self._earlier = state.waiting
        self._answered_earlier = state.answered
        self._resumed = resumed
        self._requested: dict[str, _Requested] = {}
        self._pending: dict[str, None] = {}
        self._mentioned: dict[str, dict[str, Any]] = {}
        self._ids: dict[Run, str] = {}
        self._requesters: dict[Run, str | None] = {}
        self._never_run: list[tuple[dict[str, Any], Run, Message | None]] = []
        self._executed: set[str] = set()
        self._paused: set[str] = set()
        self._answers: dict[str, Message] = {}
        self._answered_by_nodes: set[str] = set()
        self._reported: set[str] = set()

    def add(self, run: Run) -> None:
        """Take in what a run tells of calls."""
        if run.kind == "model":
            self._add_answers([m for item in model_messages(run) if (m := as_message(item)) is not None])
            for request in requests_of(run):
                if request.get("id"):
                    call_id = str(request["id"])
                    self._forget_earlier_request(call_id)
                    self._requested[call_id] = _Requested(request, run)
                    self._pending[call_id] = None
        elif run.kind == "tool":
            self._add_tool_run(run)
        elif run.parent is None:
            # A program may run its tools itself and hand their results to the next turn.
            answers = self._add_answers([m for u in updates_of(run.inputs) for m in _messages_in(u)])
            self._answered_by_nodes.update(call_id for call_id in answers if call_id in self._earlier)
        elif run.node is not None:
            for update in updates_of(run.output):
                if not (messages := _messages_in(update)):
                    continue
                answers = self._add_answers(messages)
                self._answered_by_nodes.update(answers)
                self._mentioned.update({str(r["id"]): r for m in messages for r in m.tool_calls if r.get("id")})
                if update.get("structured_response") is not None:
                    # This "tool" is the shape of the answer, and the answer itself is shown.
                    self._reported.update(answers)

    def _forget_earlier_request(self, call_id: str) -> None:
        """Close what an earlier request under this id began."""
        if call_id in self._requested:
            self._close(call_id, final=False)
            del self._requested[call_id]
        self._answers.pop(call_id, None)
        for known in (self._executed, self._paused, self._reported):
            known.discard(call_id)

    def _close(self, call_id: str, final: bool) -> None:
        """Keep a request as one that was never run, if it is."""
        request, run = self._requested[call_id]
        answered = call_id in self._answers or (final and is_invalid(request))
        if answered and call_id not in self._executed and call_id not in self._reported:
            self._reported.add(call_id)
            self._pending.pop(call_id, None)
            self._never_run.append((request, run, self._answers.get(call_id)))

    def _add_answers(self, messages: Iterable[Message]) -> list[str]:
        """Keep what tools answered; ids of the calls that are answered here."""
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
        """The first open request with the tool's name and arguments: the classic executor tells no id."""
        for call_id, (request, _) in self._requested.items():
            if call_id not in self._executed and request.get("name") == run.name and request.get("args") == run.inputs:
                return call_id
        return None

    def id_of(self, run: Run) -> str | None:
        """The call that a tool run answers."""
        return self._ids.get(run)

    def requester_of(self, run: Run) -> str | None:
        """Id of the model run that asked for what a tool run did."""
        return self._requesters.get(run)

    def requested_by(self, call_id: str) -> str | None:
        """Id of the model run that asked for a call last."""
        if call_id in self._requested:
            return str(self._requested[call_id].by.id)
        return self._earlier[call_id].requested_by if call_id in self._earlier else None

    def is_reported(self, call_id: str | None) -> bool:
        """Whether the answer to this call stands elsewhere: a tool run of this trace, a request of it
        that `take_never_run` tells, or a part of an earlier turn.
        """
        if call_id in self._executed or call_id in self._requested or call_id in self._answered_earlier:
            return True
        return call_id is not None and self._is_decision(call_id)

    def _is_decision(self, call_id: str) -> bool:
        """Whether a node answered a call of an earlier turn: a human refused it, or stood in for the tool."""
        if call_id not in self._answered_by_nodes or call_id in self._executed or call_id in self._requested:
            return False
        # Another process may have asked: then a turn that is resumed tells it, with what it loaded.
        return call_id in self._earlier or self._resumed

    def is_known(self, call_id: Any) -> bool:
        """Whether the request itself stands elsewhere."""
        return any(call_id in calls for calls in (self._requested, self._executed, self._earlier, self._mentioned))

    def take_never_run(self, final: bool) -> list[tuple[dict[str, Any], Run, Message | None]]:
        """Requests, who made them, and their answers, where no tool ran and a tool message answers all
        the same; each once. In the end (`final`) also invalid requests that nobody answered.

        A valid request without any answer is not among them: it waits, or the program's own
        code deals with it; it stands in the model's output.
        """
        for call_id in list(self._pending):
            self._close(call_id, final)
        found, self._never_run = self._never_run, []
        return found

    def decisions(self) -> Iterator[tuple[Message, dict[str, Any] | None]]:
        """What humans decided of calls of earlier turns, with the request as far as it is known."""
        for call_id, message in self._answers.items():
            if self._is_decision(call_id):
                earlier = self._earlier.get(call_id)
                yield message, earlier.request if earlier is not None else self._mentioned.get(call_id)

    def save_to(self, state: ConversationState, waiting: bool) -> None:
        """Tell the state what this turn leaves open."""
        asked = {call_id: WaitingCall(request, str(by.id)) for call_id, (request, by) in self._requested.items()}
        done = (self._executed - self._paused) | self._answers.keys()
        still = {call_id: call for call_id, call in {**self._earlier, **asked}.items() if call_id not in done}
        state.waiting = still if waiting else {}
        state.answered = (self._answered_earlier | done) if waiting else frozenset()


def _messages_in(update: dict[str, Any]) -> list[Message]:
    return as_messages(update.get("messages")) or []


def is_invalid(request: dict[str, Any]) -> bool:
    """Whether the arguments that a model gave could not be read."""
    return request.get("type") == "invalid_tool_call"


def requests_of(run: Run) -> list[dict[str, Any]]:
    """Tool calls in a model's answer, the invalid ones too."""
    if not isinstance(run.output, ModelResult) or not run.output.messages:
        return []
    answer = run.output.messages[0]
    if not answer.tool_calls and not answer.invalid_tool_calls:
        return []
    return [call for call in (*answer.tool_calls, *answer.invalid_tool_calls) if isinstance(call, dict)]
