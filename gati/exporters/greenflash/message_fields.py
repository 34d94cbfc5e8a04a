"""What each kind of event says in Greenflash's words, without its place in the conversation. Pure.

An event has one part of its own and perhaps a second that came out of it: a thought, a
result, a failure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from gati import events


class Part(NamedTuple):
    """One message's own fields. `suffix` makes the id of a second part, which stands at the event's end."""

    kind: str
    properties: dict[str, Any]
    input: Any = None
    output: Any = None
    tool: str | None = None
    model: str | None = None
    suffix: str = ""


_USAGE = (
    "total_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "audio_input_tokens",
    "audio_output_tokens",
)  # fmt: skip


def parts(event: events.Event, by_hand: bool, answered: bool) -> tuple[Part, ...]:
    """The event's messages.

    Args:
        event: what happened.
        by_hand: it stands alone (`observe.track_event`), so nothing of it is told elsewhere.
        answered: the turn's answer is told as a message of its own.
    """
    make = _PARTS.get(type(event)) or _by_base(type(event))
    return make(event, by_hand, answered)


def error(event: events.Event) -> dict[str, Any]:
    """Type and text of what went wrong."""
    return {"type": event.error_type or "Error", "message": event.error_message or ""}


def totals(event: events.AgentEndEvent) -> dict[str, Any]:
    """What the turn spent; None is unknown."""
    return {
        "tokens_in": event.tokens_in,
        "tokens_out": event.tokens_out,
        "cost_usd": event.total_cost,
        "model_calls": event.model_calls,
        "tool_calls": event.tool_calls,
        "latency_ms": _ms(event.total_duration_ms),
    }


def _ms(duration: float | None) -> float | None:
    return None if duration is None else round(duration, 3)


def _object(value: Any, name: str) -> Any:
    """Inputs and outputs are objects; a scalar made by hand becomes one."""
    return value if isinstance(value, dict) else {name: value}


def _some(value: Any, name: str) -> Any:
    return _object(value, name) if value or value == 0 else None


def _start(event: events.AgentStartEvent, by_hand: bool, answered: bool) -> tuple[Part, ...]:
    return (Part("chain_start", {}, _some(event.input, "input")),)  # whose it is, only the turn knows


def _end(event: events.AgentEndEvent, by_hand: bool, answered: bool) -> tuple[Part, ...]:
    output: dict[str, Any] = {"status": event.status}
    if event.output:
        output["output"] = event.output
    return (Part("chain_end", totals(event), None, output),)


def _llm(event: events.LLMCallEvent, by_hand: bool, answered: bool) -> tuple[Part, ...]:
    output: dict[str, Any] = {}
    if event.tool_requests:
        output["tool_calls"] = event.tool_requests
    if event.finish_reason:
        output["finish_reason"] = event.finish_reason
    beside = event.completion if event.tool_requests else ""
    if event.completion and not beside and not (event.is_answer and answered):
        output["text"] = event.completion
    new: dict[str, Any] = {"messages": event.new_messages} if event.new_messages else {}
    if by_hand and event.prompt:
        new["prompt"] = event.prompt
    call = Part("llm", _llm_numbers(event), new or None, output or None, model=event.model or None)
    if event.reasoning and beside:
        return call, Part("thought", {}, output={"text": f"{event.reasoning}\n\n{beside}"}, suffix=":thought")
    if event.reasoning or beside:
        return call, Part("thought", {}, output={"text": event.reasoning or beside}, suffix=":thought")
    return (call,)


def _llm_numbers(event: events.LLMCallEvent) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "tokens_in": event.tokens_in,
        "tokens_out": event.tokens_out,
        "cost_usd": event.cost,
        "latency_ms": _ms(event.latency_ms),
        "status": event.status,
    }
    if event.time_to_first_token_ms is not None:
        properties["time_to_first_token_ms"] = _ms(event.time_to_first_token_ms)
    if event.provider:
        properties["provider"] = event.provider
    if event.cached:
        properties["cached"] = True
    if event.internal:
        properties["internal"] = True
    if event.tools:
        properties["tools"] = event.tools
    if event.parameters:
        properties["parameters"] = event.parameters
    usage = event.usage
    if usage is not None:
        for name in _USAGE:
            count = getattr(usage, name)
            if count is not None:
                properties[name] = count
        if usage.raw:
            properties["usage"] = usage.raw
    return properties


def _tool(event: events.ToolCallEvent, by_hand: bool, answered: bool) -> tuple[Part, ...]:
    properties: dict[str, Any] = {}
    if event.tool_call_id:
        properties["tool_call_id"] = event.tool_call_id
    if event.requested_by:
        properties["requested_by"] = event.requested_by
    name = event.tool_name or event.name or "tool"
    call = Part("tool_call", properties, _object(event.input, "input"), tool=name)
    latency: dict[str, Any] = {"latency_ms": _ms(event.latency_ms)}
    if event.status == "error":
        output = error(event)
        if event.output:
            output["output"] = event.output
        if event.handled is not None:
            latency["handled"] = event.handled
        return call, Part("tool_error", latency, output=output, tool=name, suffix=":error")
    if event.status == "completed" or event.output:
        return call, Part("observation", latency, output=_object(event.output, "output"), tool=name, suffix=":result")
    properties |= {"status": event.status, **latency}  # no result: its end is told with its start
    return (call,)


def _node(event: events.NodeExecutionEvent, by_hand: bool, answered: bool) -> tuple[Part, ...]:
    properties: dict[str, Any] = {"node": event.node_name or event.name}
    if event.step is not None:
        properties["step"] = event.step
    properties |= {"latency_ms": _ms(event.duration_ms), "status": event.status}
    if event.attempt is not None:
        properties["attempt"] = event.attempt
    # What a node was given is what others left: only what it changed is new.
    return (Part("task", properties, None, _some(event.state_after, "output")),)


def _step(event: events.StepEvent, by_hand: bool, answered: bool) -> tuple[Part, ...]:
    properties: dict[str, Any] = {"name": event.step_name or event.name}
    properties |= {"latency_ms": _ms(event.duration_ms), "status": event.status}
    kind = "workflow" if event.workflow else "task"
    return (Part(kind, properties, _some(event.input, "input"), _some(event.output, "output")),)


def _retrieval(event: events.RetrievalEvent, by_hand: bool, answered: bool) -> tuple[Part, ...]:
    properties = {**_timed(event, event.latency_ms), "documents": len(event.documents)}
    return (Part("retrieval", properties, {"query": event.query}, {"documents": event.documents}),)


def _embedding(event: events.EmbeddingEvent, by_hand: bool, answered: bool) -> tuple[Part, ...]:
    properties = _timed(event, event.latency_ms)
    return (Part("embedding", properties, _some(event.input, "input"), _some(event.output, "output")),)


def _memory(event: events.MemoryEvent, by_hand: bool, answered: bool) -> tuple[Part, ...]:
    kind = "memory_write" if event.write else "memory_read"
    properties = _timed(event, event.latency_ms)
    return (Part(kind, properties, _some(event.input, "input"), _some(event.output, "output")),)


def _timed(event: events.Event, latency: float) -> dict[str, Any]:
    properties: dict[str, Any] = {"name": event.name} if event.name else {}
    return {**properties, "latency_ms": _ms(latency), "status": event.status}


def _custom(event: events.CustomEvent, by_hand: bool, answered: bool) -> tuple[Part, ...]:
    name = event.name or event.event_type
    output = (
        event.payload if "name" in event.payload and "data" in event.payload else {"name": name, "data": event.payload}
    )
    return (Part("callback", {"name": name, "status": event.status}, None, dict(output)),)


def _bare(event: events.Event, by_hand: bool, answered: bool) -> tuple[Part, ...]:
    name = event.name or event.event_type
    return (Part("callback", {"name": name, "status": event.status}, None, {"name": name, "data": event.data}),)


_Make = Callable[[Any, bool, bool], tuple[Part, ...]]

_PARTS: dict[type, _Make] = {
    events.AgentStartEvent: _start,
    events.AgentEndEvent: _end,
    events.LLMCallEvent: _llm,
    events.ToolCallEvent: _tool,
    events.NodeExecutionEvent: _node,
    events.StepEvent: _step,
    events.RetrievalEvent: _retrieval,
    events.EmbeddingEvent: _embedding,
    events.MemoryEvent: _memory,
    events.CustomEvent: _custom,
    events.Event: _bare,
}


def _by_base(kind: type) -> _Make:
    """Of a class of the user's own: as its nearest base that we know."""
    return next((_PARTS[base] for base in kind.__mro__ if base in _PARTS), _bare)
