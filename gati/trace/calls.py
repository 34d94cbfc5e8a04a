"""Tool calls: which model asked for which, and which of them were never run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from gati.trace.records import COMMAND, Message, ModelResult
from gati.trace.said import TOOLS, as_message, as_messages
from gati.trace.tree import model_messages

if TYPE_CHECKING:
    from gati.trace.tree import Run, Trace


class Calls:
    """The tool calls of one trace by their ids."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._askers: dict[str, Run] = {}
        self._run: set[str] = set()
        self._answers: dict[str, Message] | None = None
        self._structured = False
        for run in trace.root.walk():
            if run.kind == "model":
                for request in requests_of(run):
                    if request.get("id"):
                        self._askers.setdefault(str(request["id"]), run)
            elif run.kind == "tool" and (call_id := self.id_of(run)) is not None:
                self._run.add(call_id)

    @staticmethod
    def id_of(run: Run) -> str | None:
        """The call that a tool run answers: told at its start, else by the message it returned."""
        if run.extra is not None:
            return str(run.extra)
        return run.output.tool_call_id if isinstance(run.output, Message) else None

    def requested_by(self, call_id: str | None) -> str | None:
        """Id of the model run that asked for a call."""
        asker = self._askers.get(call_id) if call_id is not None else None
        return str(asker.id) if asker is not None else None

    def is_told(self, call_id: str | None) -> bool:
        """Whether the answer to this call stands elsewhere: a tool run of this trace, or a
        request of it that `never_run` tells."""
        return call_id in self._run or call_id in self._askers

    def never_run(self, run: Run) -> Iterator[tuple[dict[str, Any], Message]]:
        """Requests of a model run that no tool run answers, but a tool message does.

        A request without any answer is not among them: it waits, or the program's own code
        deals with it; it stands in the model's output.
        """
        for request in requests_of(run):
            call_id = request.get("id")
            if not call_id or call_id in self._run:
                continue
            answer = self._all_answers().get(str(call_id))
            if answer is not None and not self._structured:
                yield request, answer

    def strangers(self) -> Iterator[Message]:
        """Answers that nodes gave to calls which no model of this trace asked for: what a human
        decided of a call of an earlier turn."""
        for run in self._trace.root.walk():
            if run.node is not None:
                for message in _messages_in(run):
                    call_id = message.tool_call_id
                    if message.role in TOOLS and call_id and call_id not in self._run and call_id not in self._askers:
                        self._run.add(call_id)
                        yield message

    def open_requests(self) -> dict[str, dict[str, Any]]:
        """Requests of this trace that nothing answered, by id."""
        return {
            str(request["id"]): request
            for run in self._trace.root.walk()
            if run.kind == "model"
            for request in requests_of(run)
            if request.get("id") and request["id"] not in self._run and str(request["id"]) not in self._all_answers()
        }

    def _all_answers(self) -> dict[str, Message]:
        if self._answers is None:
            self._answers = {}
            for run in self._trace.root.walk():
                for message in _messages_in(run):
                    if message.role in TOOLS and message.tool_call_id:
                        self._answers.setdefault(message.tool_call_id, message)
                if isinstance(run.output, dict) and run.output.get("structured_response") is not None:
                    # The "tool" was the shape of the answer; the answer itself is shown.
                    self._structured = True
        return self._answers


def requests_of(run: Run) -> list[dict[str, Any]]:
    """Tool calls in a model's answer, the invalid ones (which have an `error`) too."""
    if not isinstance(run.output, ModelResult) or not run.output.messages:
        return []
    answer = run.output.messages[0]
    if not answer.tool_calls and not answer.invalid_tool_calls:
        return []
    return [call for call in (*answer.tool_calls, *answer.invalid_tool_calls) if isinstance(call, dict)]


def _messages_in(run: Run) -> Iterator[Message]:
    if run.kind == "model":
        yield from (m for item in model_messages(run) if (m := as_message(item)) is not None)
        return
    value = run.output
    if isinstance(value, dict) and COMMAND in value:
        value = value[COMMAND].get("update")
    if isinstance(value, dict):
        value = value.get("messages")
    yield from as_messages(value) or ()
