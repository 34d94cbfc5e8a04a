"""Runs → events: one small function for each kind of run that is worth showing.

Plumbing (sequences, lambdas, parsers, prompts, branches, hidden runs) makes no event; what
is below it hangs on the nearest event_ids run above.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gati.events import (
    CustomEvent,
    EmbeddingEvent,
    Event,
    LLMCallEvent,
    MemoryEvent,
    NodeExecutionEvent,
    RetrievalEvent,
    Status,
    StepEvent,
    ToolCallEvent,
)
from gati.trace.content import text_of
from gati.trace.identity import user_metadata
from gati.trace.llm_calls import model_event
from gati.trace.media import plain_blocks as plain
from gati.trace.outputs import as_object, normalize_document, result_of, state_of, tool_message_in, tool_output
from gati.trace.records import ErrorInfo, Message
from gati.trace.tool_calls import is_invalid

if TYPE_CHECKING:
    from gati.trace.prompt_index import PromptIndex
    from gati.trace.run_tree import Run, Trace
    from gati.trace.tool_calls import ToolCallLedger

_STATUS_OF_CONTROL: dict[str, Status] = {
    "interrupt": "waiting",
    "parent_command": "completed",
    "closed": "aborted",
    "cancelled": "aborted",
    "keyboard": "aborted",
}


def status_of(run: Run, root_ended: bool = True) -> Status:
    """How a run ended. A run whose end never came, below a root that ended, was cancelled."""
    if run.error is not None:
        return _STATUS_OF_CONTROL.get(run.error.control or "", "error")
    if run.ended is None:
        return "aborted" if root_ended else "unfinished"
    return "completed"


class EventBuilder:
    """The events of one trace, made in the order of the runs' starts."""

    def __init__(self, trace: Trace, agent_name: str, ledger: ToolCallLedger, prompts: PromptIndex) -> None:
        self.trace = trace
        self.agent_name = agent_name
        self.prompts = prompts
        self.root_id = trace.id
        self.root_ended = trace.root.ended is not None
        self.ledger = ledger
        self.events: list[Event] = []
        self.models: list[tuple[Run, LLMCallEvent]] = []
        self.event_ids: dict[Run, str] = {}
        self._attempts: dict[tuple[Any, ...], int] = {}
        self._never_run_counts: dict[str, int] = {}
        self._history_runs: list[Run] = []

    def collect(self, start: Run) -> None:
        """Add the events of `start` and all below it, but for those that stand here already."""
        runs = [run for run in start.walk() if run not in self.event_ids]
        for run in sorted(runs, key=_end_time):
            self.ledger.add(run)
            self.prompts.add(run)
        for run in runs:
            factory = self._factory_for(run)
            parent = self._parent_of(run)
            if factory is not None:
                event = factory(run)
                self._set_run_fields(event, run, parent)
                self.events.append(event)
                self.event_ids[run] = event.event_id
            else:
                self.event_ids[run] = parent or self.root_id
            if factory is _history_read_event:
                self._history_runs.append(_history_wrapper_of(run))
            for number, custom in enumerate(run.custom_events):
                self._add_custom_event(run, number, custom.name, custom.data, custom.at)
            for event in run.manual_events:
                event.parent_event_id = event.parent_event_id or self.event_ids[run]
                self.events.append(event)
        for request, run, answer in self.ledger.take_never_run(final=start.parent is None):
            self.events.append(self._never_run_event(request, run, answer))
        if start.parent is None:
            self.events += [
                self._history_written(run) for run in self._history_runs if run.ended is not None and run.error is None
            ]

    def _parent_of(self, run: Run) -> str | None:
        return self.event_ids.get(run.parent) if run.parent is not None else None

    def _factory_for(self, run: Run) -> Callable[[Run], Event] | None:
        if run.kind == "model":
            return self._model_event
        if run.kind == "tool":
            return self._tool_event
        if run.kind == "retriever":
            return _retrieval_event
        if run.parent is None and run.kind in ("chain", "prompt", "step"):
            return None  # the turn's own start and end tell of it
        if (factory := _SPAN_EVENTS.get(run.kind)) is not None:
            return factory
        if run.hidden or run.kind != "chain":
            return None
        if run.node is not None:
            return self._node_event
        if run.name == "load_history":
            return _history_read_event
        if any(child.node is not None for child in run.children):
            return _workflow_event
        return None

    def _set_run_fields(self, event: Event, run: Run, parent: str | None) -> None:
        event.run_id = self.root_id
        event.agent_name = self.agent_name
        event.parent_event_id = parent
        event.name = run.name
        event.started_ns = run.started + self.trace.offset
        event.ended_ns = (run.ended or self.trace.touched) + self.trace.offset
        if event.status == "completed":
            event.status = status_of(run, self.root_ended)
        if run.error is not None and run.error.control is None:
            event.error_type, event.error_message = run.error.type, run.error.message
        if run.parent is None:
            event.metadata = plain(user_metadata(run.metadata))
        if run.tags:
            event.tags = [tag for tag in run.tags if ":" not in tag]

    # -- makers ------------------------------------------------------------------------------

    def _model_event(self, run: Run) -> Event:
        event = model_event(run, self.ledger, self.prompts)
        self.models.append((run, event))
        return event

    def _tool_event(self, run: Run) -> Event:
        event = ToolCallEvent(
            event_id=str(run.id),
            timestamp="-",
            tool_name=run.name,
            input=as_object(run.inputs, "input"),
            latency_ms=_latency_ms(run),
            tool_call_id=self.ledger.id_of(run),
        )
        event.requested_by = self.ledger.requester_of(run)
        if run.ended is not None and run.error is None:
            answer = tool_message_in(run.output, event.tool_call_id)
            event.output = tool_output(run.output, answer)
            if answer is not None and answer.status == "error":
                event.status, event.handled = "error", True
                event.error_type, event.error_message = "ToolError", text_of(answer)
                event.output = {k: v for k, v in event.output.items() if k == "artifact"}
        elif run.error is not None and run.error.control is None:
            event.handled = not _error_propagated(run)
        return event

    def _node_event(self, run: Run) -> Event:
        key = (run.parent, run.node, run.metadata.get("langgraph_checkpoint_ns"))
        attempt = self._attempts[key] = self._attempts.get(key, 0) + 1
        return NodeExecutionEvent(
            event_id=str(run.id),
            timestamp="-",
            node_name=run.node or run.name,
            state_after=result_of(run.output) if run.is_task else state_of(run.output),
            duration_ms=_latency_ms(run),
            step=run.step,
            attempt=attempt if attempt > 1 else None,
        )

    def _add_custom_event(self, run: Run, number: int, name: str, data: Any, at: int) -> None:
        self.events.append(
            CustomEvent(
                event_id=f"{run.id}:event:{number}",
                timestamp="-",
                run_id=self.root_id,
                agent_name=self.agent_name,
                parent_event_id=self.event_ids.get(run, self.root_id),
                name=name,
                payload={"name": name, "data": plain(data)},
                started_ns=at + self.trace.offset,
                ended_ns=at + self.trace.offset,
            )
        )

    def _history_written(self, run: Run) -> Event:
        """The history wrapper keeps what was said when what it wraps has ended well."""
        event = MemoryEvent(
            event_id=f"{run.id}:history", timestamp="-", name=run.name, write=True, input={"source": run.name}
        )
        self._set_run_fields(event, run, self.event_ids.get(run, self.root_id))
        event.started_ns = event.ended_ns
        event.metadata = {}
        return event

    def _never_run_event(self, request: dict[str, Any], run: Run, answer: Message | None) -> Event:
        """A tool call that a model asked for and nobody ran, with the answer that it was given."""
        call_id = str(request["id"])
        number = self._never_run_counts[call_id] = self._never_run_counts.get(call_id, 0) + 1
        event = ToolCallEvent(
            event_id=call_id if number == 1 else f"{call_id}:{number}",
            timestamp="-",
            tool_name=str(request.get("name") or ""),
            input=as_object(request.get("args"), "input"),
            tool_call_id=call_id,
            requested_by=str(run.id),
        )
        self._set_run_fields(event, run, str(run.id))
        event.name = event.tool_name
        event.metadata = {"never_run": True}
        event.started_ns = event.ended_ns
        told = text_of(answer) if answer is not None else ""
        if is_invalid(request):
            event.status, event.handled, event.error_type = "error", True, "InvalidToolCall"
            event.error_message = told or str(request.get("error") or "the arguments cannot be read")
        elif (answer is not None and answer.status == "error") or told.startswith("Error:"):
            # LangChain answers structured output of the wrong shape in these words, without a status.
            event.status, event.handled, event.error_type = "error", True, "ToolNotRun"
            event.error_message = told
        else:
            event.output = {"output": told}
        return event


def _end_time(run: Run) -> float:
    return math.inf if run.ended is None else run.ended


def _latency_ms(run: Run) -> float:
    return (run.ended - run.started) / 1e6 if run.ended is not None else 0.0


def _error_propagated(run: Run) -> bool:
    """Whether a tool's exception went on through its node (or root): then nobody handled it."""
    for above in run.above():
        if above.error is not None:
            return _same_error(above.error, run.error)
        if above.node is not None:
            return False
    return run.parent is None


def _same_error(one: ErrorInfo, other: ErrorInfo | None) -> bool:
    return other is not None and one.type == other.type and one.message == other.message


def _retrieval_event(run: Run) -> Event:
    documents = run.output if isinstance(run.output, list) else []
    return RetrievalEvent(
        event_id=str(run.id),
        timestamp="-",
        query=run.inputs if isinstance(run.inputs, str) else str(plain(run.inputs)),
        documents=[normalize_document(item) for item in documents],
        latency_ms=_latency_ms(run),
    )


def _workflow_event(run: Run) -> Event:
    return StepEvent(
        event_id=str(run.id), timestamp="-", step_name=run.name, duration_ms=_latency_ms(run), workflow=True
    )


def _history_wrapper_of(read: Run) -> Run:
    """The run of the history wrapper that a history was loaded for."""
    for above in read.above():
        if above.name == "insert_history" and above.parent is not None:
            return above.parent
    return read.parent or read


def _history_read_event(run: Run) -> Event:
    return MemoryEvent(
        event_id=str(run.id), timestamp="-", input={"source": run.name},
        output={"messages": run.output} if run.output is not None else {}, latency_ms=_latency_ms(run),
    )  # fmt: skip


def _step_event(run: Run) -> Event:
    return StepEvent(
        event_id=str(run.id), timestamp="-", step_name=run.name, input=as_object(run.inputs, "input"),
        output=as_object(run.output, "output"), duration_ms=_latency_ms(run),
    )  # fmt: skip


def _embedding_event(run: Run) -> Event:
    return EmbeddingEvent(
        event_id=str(run.id), timestamp="-", input=as_object(run.inputs, "input"),
        output=as_object(run.output, "output"), latency_ms=_latency_ms(run),
    )  # fmt: skip


def _memory_event(run: Run) -> Event:
    return MemoryEvent(
        event_id=str(run.id), timestamp="-", write=run.kind == "memory_write", input=as_object(run.inputs, "input"),
        output=as_object(run.output, "output"), latency_ms=_latency_ms(run),
    )  # fmt: skip


_SPAN_EVENTS: dict[str, Callable[[Run], Event]] = {
    "step": _step_event,
    "embedding": _embedding_event,
    "memory_read": _memory_event,
    "memory_write": _memory_event,
}
