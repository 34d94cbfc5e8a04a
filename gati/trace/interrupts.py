"""Human in the loop: interrupts, resumes and rejected tool calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gati.events import ChatMessage, CustomEvent, Event, Status, ToolCallEvent
from gati.trace.content import text_of
from gati.trace.media import plain_blocks
from gati.trace.outputs import as_object
from gati.trace.resumes import resume_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gati.trace.conversation_state import ConversationState
    from gati.trace.run_tree import Run, Trace
    from gati.trace.tool_calls import ToolCallLedger

_TASK = "langgraph_checkpoint_ns"
"""Metadata key of a graph's task, which all runs in it have."""
_THREAD = "thread_id"


def interrupts_of(trace: Trace) -> list[dict[str, Any]]:
    """Return the interrupts of a trace as dicts with `value` and `id`, without duplicates.

    An interrupt propagates through every enclosing graph, so several runs carry the same one. Those that the turn itself
    has resumed are left out.
    """
    paused = [(run, run.error.payload) for run in trace.runs() if run.error is not None and run.interrupted]
    if not paused and not trace.interrupts:
        return []
    paused += trace.interrupts
    continued = _continued_runs(trace, (run for run, _ in paused))
    interrupts: dict[str, dict[str, Any]] = {}
    for run, payload in paused:
        if run in continued:
            continue
        for item in payload if isinstance(payload, (list, tuple)) else [payload]:
            interrupt = {k: v for k, v in item.items() if v is not None} if isinstance(item, dict) else {"value": item}
            interrupts.setdefault(str(interrupt.get("id") or interrupt.get("value")), interrupt)
    return list(interrupts.values())


def without_words_of_person(
    interrupts: list[dict[str, Any]], user_messages: list[ChatMessage], state: ConversationState
) -> list[dict[str, Any]]:
    """Return the interrupts without the entries that repeat what a person said, in this turn or before.

    Example: ``{"question": "What is a cat?", "instruction": "May I answer?"}`` after the user's "What is a cat?".
    """
    words = {message.text.strip() for message in user_messages}
    return [
        {**interrupt, "value": {k: v for k, v in value.items() if not _is_said(v, words, state)}}
        if isinstance(value := interrupt.get("value"), dict)
        else interrupt
        for interrupt in interrupts
    ]


def _is_said(value: Any, words: set[str], state: ConversationState) -> bool:
    return isinstance(value, str) and ((text := value.strip()) in words or state.was_said(text))


def pauses_of(trace: Trace) -> list[str]:
    """Return the static pauses of a trace, in LangGraph's words, without those that the turn itself has resumed."""
    if not trace.pauses:
        return []
    continued = _continued_runs(trace, (run for run, _ in trace.pauses))
    return list(dict.fromkeys(pause for run, pause in trace.pauses if run not in continued))


def _continued_runs(trace: Trace, paused: Iterable[Run]) -> set[Run]:
    """Return the paused runs that the turn itself continues, as a step does that answers a question."""
    restarts = _Restarts(trace)
    return {run for run in dict.fromkeys(paused) if restarts.has_restarted(run)}


class _Restarts:
    """The times at which a trace last started each task, and each graph without an input. Either continues a paused run."""

    def __init__(self, trace: Trace) -> None:
        self._tasks: dict[str, int] = {}
        self._graphs: dict[tuple[str, str], int] = {}
        for run in trace.runs():
            if isinstance(task := run.metadata.get(_TASK), str):
                self._tasks[task] = max(run.started, self._tasks.get(task, run.started))
            if run.inputs is None and run.has_nodes:
                graph = _graph_key(run)
                self._graphs[graph] = max(run.started, self._graphs.get(graph, run.started))

    def has_restarted(self, run: Run) -> bool:
        """Return True if a paused run, or each paused task in it, was started again after it had paused."""
        if run.ended is None:
            return False
        if run.interrupted:
            task = run.metadata.get(_TASK)
            return isinstance(task, str) and self._tasks.get(task, -1) >= run.ended
        if tasks := [below for below in run.walk() if below.interrupted]:
            return all(map(self.has_restarted, tasks))
        # A static pause. The graph goes on when it is invoked without an input.
        return run.metadata.get(_THREAD) is not None and self._graphs.get(_graph_key(run), -1) >= run.ended


def _graph_key(run: Run) -> tuple[str, str]:
    """Return what a graph has in common with its continuation: the name and the thread."""
    return run.name, str(run.metadata.get(_THREAD))


def interrupt_events(trace: Trace, interrupts: list[dict[str, Any]]) -> list[Event]:
    """Return the events of static pauses, of a drained graph, and of interrupts whose payload is not just a text."""
    at = (trace.root.ended or trace.last_record_at) + trace.offset
    payloads = [interrupt for interrupt in interrupts if not isinstance(interrupt.get("value"), str)]
    payloads += [{"value": {"paused": status}} for status in pauses_of(trace)]
    if (error := trace.root.error) is not None and error.control == "drained":
        payloads.append({"value": {"paused": "drained", "reason": error.payload}})
    return [
        _interrupt_event(trace, f"interrupt:{number}", payload, "waiting", at)
        for number, payload in enumerate(payloads)
    ]


def resume_events(trace: Trace, starts_anew: bool) -> list[Event]:
    """Return the event of the value that resumed the graph, unless the value is just a text.

    A turn that `starts_anew` resumes nothing without a value.
    """
    resume = resume_of(trace)
    if resume is None or (resume.value is None and (starts_anew or resume.texts)):
        return []
    started_ns = trace.root.started + trace.offset
    return [_interrupt_event(trace, "resume:0", {"value": resume.value}, "resumed", started_ns)]


def _interrupt_event(trace: Trace, key: str, data: dict[str, Any], status: Status, at: int) -> CustomEvent:
    name = key.split(":")[0]
    return CustomEvent(
        event_id=f"{trace.id}:{key}",
        parent_event_id=trace.id,
        name=name,
        payload={"name": name, "data": plain_blocks(data)},
        status=status,
        started_ns=at,
        ended_ns=at,
    )


def rejected_call_events(trace: Trace, ledger: ToolCallLedger) -> list[Event]:
    """Return the events of an earlier turn's tool calls that a human rejected or answered instead of the tool."""
    events: list[Event] = []
    at = trace.root.started + trace.offset
    for message, request in ledger.decisions():
        call_id = str(message.tool_call_id)
        failed = message.status == "error"
        events.append(
            ToolCallEvent(
                event_id=call_id if not ledger.is_requested(call_id) else f"{call_id}:0",
                parent_event_id=trace.id,
                tool_name=str((request or {}).get("name") or message.name or ""),
                input=as_object((request or {}).get("args"), "input"),
                output={} if failed else {"output": text_of(message)},
                tool_call_id=call_id,
                requested_by=ledger.requested_by(call_id),
                handled=True if failed else None,
                status="error" if failed else "completed",
                error_type="ToolNotRun" if failed else None,
                error_message=text_of(message) if failed else None,
                metadata={"never_run": True},
                started_ns=at,
                ended_ns=at,
            )
        )
    return events
