"""Tool calls: which model asked for which, and which of them were never run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from gati.trace.records import Message, ModelResult
from gati.trace.results import updates_of
from gati.trace.said import TOOLS, as_message, as_messages
from gati.trace.tree import model_messages

if TYPE_CHECKING:
    from gati.trace.tree import Run


class _Asked(NamedTuple):
    request: dict[str, Any]
    by: Run


class Calls:
    """The tool calls of one trace by their ids; `note` is told of each run once."""

    def __init__(self) -> None:
        self._asked: dict[str, _Asked] = {}
        self._ids: dict[Run, str] = {}
        self._run: set[str] = set()
        self._answers: dict[str, Message] = {}
        self._by_nodes: set[str] = set()
        self._told: set[str] = set()

    def note(self, run: Run) -> None:
        """Take in what a run tells of calls."""
        if run.kind == "model":
            for request in requests_of(run):
                if request.get("id"):
                    self._asked.setdefault(str(request["id"]), _Asked(request, run))
            self._note_answers([m for item in model_messages(run) if (m := as_message(item)) is not None])
        elif run.kind == "tool":
            self._note_tool(run)
        elif run.node is not None:
            for update in updates_of(run.output):
                answers = self._note_answers(as_messages(update.get("messages")) or ())
                self._by_nodes.update(answers)
                if update.get("structured_response") is not None:
                    # This "tool" is the shape of the answer, and the answer itself is shown.
                    self._told.update(answers)

    def _note_answers(self, messages: Iterable[Message]) -> list[str]:
        """Keep what tools answered; ids of the calls that are answered here."""
        answers = {m.tool_call_id: m for m in messages if m.role in TOOLS and m.tool_call_id}
        self._answers = {**answers, **self._answers}
        return list(answers)

    def _note_tool(self, run: Run) -> None:
        call_id = str(run.extra) if run.extra is not None else None
        if call_id is None:
            call_id = run.output.tool_call_id if isinstance(run.output, Message) else None
        if call_id is None:
            call_id = self._alike(run)
        if call_id is not None:
            self._ids[run] = call_id
            self._run.add(call_id)

    def _alike(self, run: Run) -> str | None:
        """The first open request with the tool's name and arguments: the classic executor tells no id."""
        for call_id, (request, _) in self._asked.items():
            if call_id not in self._run and request.get("name") == run.name and request.get("args") == run.inputs:
                return call_id
        return None

    def id_of(self, run: Run) -> str | None:
        """The call that a tool run answers."""
        return self._ids.get(run)

    def requested_by(self, call_id: str | None) -> str | None:
        """Id of the model run that asked for a call."""
        asked = self._asked.get(call_id) if call_id is not None else None
        return str(asked.by.id) if asked is not None else None

    def is_told(self, call_id: str | None) -> bool:
        """Whether the answer to this call stands elsewhere: a tool run of this trace, or a request
        of it that `never_run` tells.
        """
        return call_id in self._run or call_id in self._asked

    def never_run(self, final: bool) -> Iterator[tuple[dict[str, Any], Run, Message | None]]:
        """Requests, who made them, and their answers, where no tool ran and a tool message answers all
        the same; each once. In the end (`final`) also invalid requests that nobody answered.

        A valid request without any answer is not among them: it waits, or the program's own
        code deals with it; it stands in the model's output.
        """
        for call_id, (request, run) in self._asked.items():
            answered = call_id in self._answers or (final and is_invalid(request))
            if answered and call_id not in self._run and call_id not in self._told:
                self._told.add(call_id)
                yield request, run, self._answers.get(call_id)

    def strangers(self) -> Iterator[Message]:
        """Answers that nodes gave to calls which no model of this trace asked for: what a human
        decided of a call of an earlier turn; each once.
        """
        for call_id, message in self._answers.items():
            if call_id in self._by_nodes and not (call_id in self._run or call_id in self._asked):
                self._by_nodes.discard(call_id)
                yield message

    def open_requests(self) -> dict[str, dict[str, Any]]:
        """Requests of this trace that nothing answered, by id."""
        return {
            call_id: asked.request
            for call_id, asked in self._asked.items()
            if call_id not in self._run and call_id not in self._answers
        }


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
