"""A human in the loop: what they were asked, what they answered, what they refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gati.events import CustomEvent, Event, Status, ToolCallEvent
from gati.trace.content import text_of
from gati.trace.media import plain_blocks
from gati.trace.outputs import as_object
from gati.trace.user_input import resume_of

if TYPE_CHECKING:
    from gati.trace.run_tree import Trace
    from gati.trace.tool_calls import ToolCallLedger


def interrupts_of(trace: Trace) -> list[dict[str, Any]]:
    """What humans were asked, once each: an interrupt passes through every enclosing graph."""
    found: dict[str, dict[str, Any]] = {}
    payloads = [run.error.payload for run in trace.root.walk() if run.error is not None and run.interrupted]
    for payload in (*payloads, trace.interrupts):
        for item in payload if isinstance(payload, (list, tuple)) else [payload]:
            asked = {k: v for k, v in item.items() if v is not None} if isinstance(item, dict) else {"value": item}
            found.setdefault(str(asked.get("id") or asked.get("value")), asked)
    return list(found.values())


def interrupt_events(trace: Trace, interrupts: list[dict[str, Any]]) -> list[Event]:
    """The interrupt_events that are no text a person saw, and pauses without a question."""
    at = (trace.root.ended or trace.touched) + trace.offset
    asked = [one for one in interrupts if not isinstance(one.get("value"), str)]
    asked += [{"value": {"paused": status}} for status in trace.pauses]
    return [_interrupt_event(trace, f"interrupt:{number}", one, "waiting", at) for number, one in enumerate(asked)]


def resume_events(trace: Trace) -> list[Event]:
    """The decision with which this turn goes on, if it is no text."""
    resume = resume_of(trace)
    if resume is None or resume.texts:
        return []
    return [_interrupt_event(trace, "resume:0", {"value": resume.value}, "resumed", trace.root.started + trace.offset)]


def _interrupt_event(trace: Trace, key: str, data: dict[str, Any], status: Status, at: int) -> CustomEvent:
    root_id, name = trace.id, key.split(":")[0]
    return CustomEvent(
        event_id=f"{root_id}:{key}",
        timestamp="-",
        parent_event_id=root_id,
        name=name,
        payload={"name": name, "data": plain_blocks(data)},
        status=status,
        started_ns=at,
        ended_ns=at,
    )


def rejected_call_events(trace: Trace, ledger: ToolCallLedger) -> list[Event]:
    """ToolCallLedger of an earlier, waiting turn that a human refused: no tool ran, a message tells."""
    made: list[Event] = []
    at = trace.root.started + trace.offset
    for message, request in ledger.decisions():
        call_id = str(message.tool_call_id)
        failed = message.status == "error"
        made.append(
            ToolCallEvent(
                event_id=call_id,
                timestamp="-",
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
    return made
