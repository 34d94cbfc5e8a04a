"""Build events from runs: one small function for each kind of run that is reported.

Plumbing (sequences, lambdas, parsers, prompts, branches, hidden runs) has no event. The parent of
an event is the nearest ancestor that has one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

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
from gati.trace.billing import NO_MEDIA, request_media
from gati.trace.content import text_of
from gati.trace.identity import user_metadata
from gati.trace.llm_calls import model_event
from gati.trace.media import plain_blocks as plain
from gati.trace.outputs import as_object, normalize_document, result_of, state_of, tool_message_in, tool_output
from gati.trace.records import ModelCall
from gati.trace.run_tree import is_nested
from gati.trace.tool_calls import is_invalid

if TYPE_CHECKING:
    from gati.trace.model_input import ModelInputs
    from gati.trace.prompt_index import PromptIndex
    from gati.trace.records import ErrorInfo, Message
    from gati.trace.run_tree import Run, Trace
    from gati.trace.tool_calls import ToolCallLedger

Fields: TypeAlias = dict[str, Any]
"""Arguments that every event of a run is created with, see `EventBuilder._fields`."""
Factory: TypeAlias = "Callable[[Run, Fields], Event]"

_STATUS_OF_CONTROL: dict[str, Status] = {
    "interrupt": "waiting",
    "drained": "waiting",
    "parent_command": "completed",
    "closed": "aborted",
    "cancelled": "aborted",
    "keyboard": "aborted",
}


def status_of(run: Run, root_ended: bool = True) -> Status:
    """Return a run's status. A run without an end below a root that ended was cancelled."""
    if run.error is not None:
        return _STATUS_OF_CONTROL.get(run.error.control or "", "error")
    if run.ended is None:
        return "aborted" if root_ended else "unfinished"
    return "completed"


class EventBuilder:
    """Builds the events of one trace, in the order in which the runs started.

    The turn that the events are part of sets their run, agent, conversation and user
    (`TurnBuilder`).

    Attributes:
        model_inputs: the messages that model calls were sent; None if no hash of them may be delivered.
        events: the events so far.
        models: the model runs so far, each with its event.
        nodes: the runs of nodes so far, each with its event.
        event_ids: run → id of its event, or of its nearest ancestor's if it has none.
        nested_retrievals: ids of the events of retrievers that another retriever called.
    """

    def __init__(
        self,
        trace: Trace,
        turn_id: str,
        ledger: ToolCallLedger,
        prompts: PromptIndex,
        model_inputs: ModelInputs | None = None,
    ) -> None:
        self.trace = trace
        self.turn_id = turn_id
        self.root_ended = trace.root.ended is not None
        self.ledger = ledger
        self.prompts = prompts
        self.model_inputs = model_inputs
        self.events: list[Event] = []
        self.models: list[tuple[Run, LLMCallEvent]] = []
        self.nodes: list[tuple[Run, NodeExecutionEvent]] = []
        self.event_ids: dict[Run, str] = {}
        self.nested_retrievals: set[str] = set()
        self._attempts: dict[tuple[Any, ...], int] = {}
        self._never_run_counts: dict[str, int] = {}
        self._history_runs: list[Run] = []
        self._media = NO_MEDIA

    def collect(self, start: Run) -> None:
        """Add the events of `start` and the runs below it, except those added before."""
        self.ledger.add_input(self.trace.root.inputs)
        runs = [run for run in start.walk() if run not in self.event_ids]
        for run in sorted(runs, key=_end_or_infinity):
            self.ledger.add(run)
            self.prompts.add(run)
        if self.ledger.by_hand:
            self.ledger.link()
            self.ledger.by_hand = []
        for run in runs:
            factory = self._factory_for(run)
            parent = self.event_ids.get(run.parent) if run.parent is not None else None
            if factory is not None:
                event = factory(run, self._fields(run, parent))
                self._set_outcome(event, run)
                self.events.append(event)
                self.event_ids[run] = event.event_id
            else:
                self.event_ids[run] = parent or self.turn_id
            if factory is _history_read_event:
                self._history_runs.append(_history_wrapper_of(run))
            for number, custom in enumerate(run.custom_events):
                self._add_custom_event(run, number, custom.name, custom.data, custom.at)
            for manual in run.manual_events:
                manual.parent_event_id = manual.parent_event_id or self.event_ids[run]
                self.events.append(manual)
        for request, run, answer in self.ledger.take_never_run(final=start.parent is None):
            self.events.append(self._never_run_event(request, run, answer))
        if start.parent is None:
            self.events += [
                self._history_write_event(run)
                for run in self._history_runs
                if run.ended is not None and run.error is None
            ]

    def _factory_for(self, run: Run) -> Factory | None:
        """Return the function that builds the run's event; None for plumbing."""
        if run.kind == "model":
            return self._model_event
        if run.kind == "tool":
            return self._tool_event
        if run.kind == "retriever":
            if any(ancestor.kind == "retriever" for ancestor in run.ancestors()):
                self.nested_retrievals.add(str(run.id))
            return _retrieval_event
        if run.parent is None and run.kind in ("chain", "prompt", "step"):
            # The turn's start and end events represent it, but a nested turn and an internal graph have none.
            has_no_frame = is_nested(self.trace) or (self.trace.is_internal and self.trace.is_graph)
            return _workflow_event if has_no_frame else None
        if (factory := _SPAN_EVENTS.get(run.kind)) is not None:
            return factory
        if run.hidden or run.kind != "chain":
            return None
        if run.node is not None:
            return self._node_event
        if run.name == "load_history":
            return _history_read_event
        if run.has_nodes:
            return _workflow_event
        return None

    def _fields(self, run: Run, parent_event_id: str | None) -> Fields:
        """Return the arguments that the run's event is created with. The timestamp follows from `started_ns`."""
        offset = self.trace.offset
        return {
            "event_id": run.key,
            "parent_event_id": parent_event_id,
            "name": run.name,
            "started_ns": run.started + offset,
            "ended_ns": (run.ended or self.trace.last_record_at) + offset,
        }

    def _end_fields(self, run: Run, parent_event_id: str | None, event_id: str, name: str) -> Fields:
        """Return the arguments for an event that happened when `run` ended."""
        at = (run.ended or self.trace.last_record_at) + self.trace.offset
        return {
            "event_id": event_id,
            "parent_event_id": parent_event_id,
            "name": name,
            "started_ns": at,
            "ended_ns": at,
        }

    def _set_outcome(self, event: Event, run: Run) -> None:
        """Set status, error, metadata and tags from the run."""
        if event.status == "completed":
            event.status = status_of(run, self.root_ended)
        if run.error is not None and run.error.control is None:
            event.error_type, event.error_message = run.error.type, run.error.message
        if run.parent is None:
            event.metadata = plain(user_metadata(run.metadata))
        if run.tags:
            event.tags = [tag for tag in run.tags if ":" not in tag]

    # -- factories ---------------------------------------------------------------------------

    def _model_event(self, run: Run, fields: Fields) -> Event:
        # A model receives the media of the turn's earlier messages too.
        self._media |= request_media(run)
        event = model_event(run, self.ledger, self.prompts, fields, self._media)
        if isinstance(run.inputs, ModelCall):
            event.input_messages = run.inputs.total
            if self.model_inputs is not None:
                event.input_hash = self.model_inputs.add(run, event)
        self.models.append((run, event))
        return event

    def _tool_event(self, run: Run, fields: Fields) -> Event:
        event = ToolCallEvent(
            **fields,
            tool_name=run.name,
            input=as_object(run.inputs, "input"),
            latency_ms=_duration_ms(run),
            tool_call_id=self.ledger.id_of(run),
            requested_by=self.ledger.requester_of(run),
        )
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

    def _node_event(self, run: Run, fields: Fields) -> Event:
        key = (run.parent, run.node, run.metadata.get("langgraph_checkpoint_ns"))
        attempt = self._attempts[key] = self._attempts.get(key, 0) + 1
        event = NodeExecutionEvent(
            **fields,
            node_name=run.node or run.name,
            state_after=result_of(run.output) if run.is_task else state_of(run.output),
            duration_ms=_duration_ms(run),
            step=run.step,
            attempt=attempt if attempt > 1 else None,
        )
        self.nodes.append((run, event))
        return event

    def _add_custom_event(self, run: Run, number: int, name: str, data: Any, at: int) -> None:
        self.events.append(
            CustomEvent(
                event_id=f"{run.key}:event:{number}",
                parent_event_id=self.event_ids.get(run, self.turn_id),
                name=name,
                payload={"name": name, "data": plain(data)},
                started_ns=at + self.trace.offset,
                ended_ns=at + self.trace.offset,
            )
        )

    def _history_write_event(self, run: Run) -> Event:
        """Build the event of the history wrapper's write, which follows the success of what it wraps."""
        fields = self._end_fields(run, self.event_ids.get(run, self.turn_id), f"{run.key}:history", run.name)
        event = MemoryEvent(**fields, write=True, input={"source": run.name})
        self._set_outcome(event, run)
        event.metadata = {}
        return event

    def _never_run_event(self, request: dict[str, Any], run: Run, answer: Message | None) -> Event:
        """Build the event of a tool call that a model requested and no tool ran, with the answer the model got."""
        call_id = str(request["id"])
        number = self._never_run_counts[call_id] = self._never_run_counts.get(call_id, 0) + 1
        event_id = call_id if number == 1 else f"{call_id}:{number}"
        name = str(request.get("name") or "")
        event = ToolCallEvent(
            **self._end_fields(run, run.key, event_id, name),
            tool_name=name,
            input=as_object(request.get("args"), "input"),
            tool_call_id=call_id,
            requested_by=run.key,
        )
        self._set_outcome(event, run)
        event.metadata = {"never_run": True}
        text = text_of(answer) if answer is not None else ""
        if is_invalid(request):
            event.status, event.handled, event.error_type = "error", True, "InvalidToolCall"
            event.error_message = text or str(request.get("error") or "the arguments cannot be read")
        elif (answer is not None and answer.status == "error") or text.startswith("Error:"):
            # LangChain answers structured output of the wrong shape with this prefix and without a status.
            event.status, event.handled, event.error_type = "error", True, "ToolNotRun"
            event.error_message = text
        else:
            event.output = {"output": text}
        return event


def _end_or_infinity(run: Run) -> float:
    return math.inf if run.ended is None else run.ended


def _duration_ms(run: Run) -> float:
    return (run.ended - run.started) / 1e6 if run.ended is not None else 0.0


def _error_propagated(run: Run) -> bool:
    """Return True if a tool's exception propagated through its node or root, so the program did not handle it."""
    for ancestor in run.ancestors():
        if ancestor.error is not None:
            return _is_same_error(ancestor.error, run.error)
        if ancestor.node is not None:
            return False
    return run.parent is None


def _is_same_error(error: ErrorInfo, tool_error: ErrorInfo | None) -> bool:
    return tool_error is not None and error.type == tool_error.type and error.message == tool_error.message


def _retrieval_event(run: Run, fields: Fields) -> Event:
    documents = run.output if isinstance(run.output, list) else []
    return RetrievalEvent(
        **fields,
        query=run.inputs if isinstance(run.inputs, str) else str(plain(run.inputs)),
        documents=[normalize_document(item) for item in documents],
        latency_ms=_duration_ms(run),
    )


def _workflow_event(run: Run, fields: Fields) -> Event:
    return StepEvent(**fields, step_name=run.name, duration_ms=_duration_ms(run), workflow=True)


def _history_wrapper_of(load_run: Run) -> Run:
    """Return the run of the history wrapper (`RunnableWithMessageHistory`) that `load_run` loaded messages for."""
    for ancestor in load_run.ancestors():
        if ancestor.name == "insert_history" and ancestor.parent is not None:
            return ancestor.parent
    return load_run.parent or load_run


def _history_read_event(run: Run, fields: Fields) -> Event:
    return MemoryEvent(
        **fields,
        input={"source": run.name},
        output={"messages": run.output} if run.output is not None else {},
        latency_ms=_duration_ms(run),
    )


def _step_event(run: Run, fields: Fields) -> Event:
    return StepEvent(
        **fields,
        step_name=run.name,
        input=as_object(run.inputs, "input"),
        output=as_object(run.output, "output"),
        duration_ms=_duration_ms(run),
    )


def _embedding_event(run: Run, fields: Fields) -> Event:
    inputs = as_object(run.inputs, "input")
    model = inputs.pop("model", None)
    return EmbeddingEvent(
        **fields,
        model=model if isinstance(model, str) else "",
        input=inputs,
        output=as_object(run.output, "output"),
        latency_ms=_duration_ms(run),
    )


def _memory_event(run: Run, fields: Fields) -> Event:
    return MemoryEvent(
        **fields,
        write=run.kind == "memory_write",
        input=as_object(run.inputs, "input"),
        output=as_object(run.output, "output"),
        latency_ms=_duration_ms(run),
    )


_SPAN_EVENTS: dict[str, Factory] = {
    "step": _step_event,
    "embedding": _embedding_event,
    "memory_read": _memory_event,
    "memory_write": _memory_event,
}
