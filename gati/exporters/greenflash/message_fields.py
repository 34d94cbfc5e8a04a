"""Maps each event class to the fields of its Greenflash messages, without ids, parents and times. Pure.

An event becomes one message, and a second one for its outcome if there is one: a thought, a result, an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from gati import events


class MessageFields(NamedTuple):
    """Fields of one message. A second message of an event has a `suffix` for its id and is dated at the event's end."""

    message_type: str
    properties: dict[str, Any]
    input: Any = None
    output: Any = None
    tool_name: str | None = None
    model: str | None = None
    suffix: str = ""


_USAGE = (
    "total_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "audio_input_tokens",
    "audio_output_tokens",
)  # fmt: skip

_OPTIONAL = (
    "provider", "cached", "internal", "input_hash", "tools", "attachments", "parameters",
)  # fmt: skip
"""Properties of a model call that are left out if they are empty."""


def message_fields(event: events.Event, manual: bool, answered: bool) -> tuple[MessageFields, ...]:
    """Return the fields of the event's messages.

    Args:
        event: The event.
        manual: The event came from `observe.track_event`, so no other message contains parts of it.
        answered: The turn's answer has a message of its own.
    """
    build = _BUILDERS.get(type(event)) or _builder_of_base(type(event))
    return build(event, manual, answered)


def error_fields(event: events.Event) -> dict[str, Any]:
    """Return the event's error as `{"type": …, "message": …}`."""
    return {"type": event.error_type or "Error", "message": event.error_message or ""}


def total_fields(event: events.AgentEndEvent) -> dict[str, Any]:
    """Return the turn's totals; unknown ones are None."""
    return {
        "tokens_in": event.tokens_in,
        "tokens_out": event.tokens_out,
        "cost_usd": event.total_cost,
        "model_calls": event.model_calls,
        "tool_calls": event.tool_calls,
        "latency_ms": _round_ms(event.total_duration_ms),
    }


def _round_ms(duration: float | None) -> float | None:
    return None if duration is None else round(duration, 3)


def _wrap_scalar(value: Any, name: str) -> Any:
    """Wrap a scalar of a manual event, since inputs and outputs must be objects: `7` → `{"input": 7}`."""
    return value if isinstance(value, dict) else {name: value}


def _optional_object(value: Any, name: str) -> Any:
    return _wrap_scalar(value, name) if value or value == 0 else None


def _start_fields(event: events.AgentStartEvent, manual: bool, answered: bool) -> tuple[MessageFields, ...]:
    return (
        MessageFields("chain_start", {}, _optional_object(event.input, "input")),
    )  # TurnEncoder adds the properties


def _end_fields(event: events.AgentEndEvent, manual: bool, answered: bool) -> tuple[MessageFields, ...]:
    output: dict[str, Any] = {"status": event.status}
    if event.output:
        output["output"] = event.output
    return (MessageFields("chain_end", total_fields(event), None, output),)


def _llm_fields(event: events.LLMCallEvent, manual: bool, answered: bool) -> tuple[MessageFields, ...]:
    output: dict[str, Any] = {}
    if event.tool_requests:
        output["tool_calls"] = event.tool_requests
    if event.finish_reason:
        output["finish_reason"] = event.finish_reason
    # Beside calls that the provider ran itself, such as a web search, the text answers like any other.
    comment = event.completion if event.tool_requests and events.has_client_calls(event.tool_requests) else ""
    if event.completion and not comment and not (event.is_answer and answered):
        output["text"] = event.completion
    if event.candidates:
        output["candidates"] = event.candidates
    if event.decision:
        output["decision"] = event.decision
    new: dict[str, Any] = {"messages": event.new_messages} if event.new_messages else {}
    if manual and event.prompt:
        new["prompt"] = event.prompt
    call = MessageFields("llm", _llm_properties(event), new or None, output or None, model=event.model or None)
    if event.reasoning and comment:
        return call, MessageFields("thought", {}, output={"text": f"{event.reasoning}\n\n{comment}"}, suffix=":thought")
    if event.reasoning or comment:
        return call, MessageFields("thought", {}, output={"text": event.reasoning or comment}, suffix=":thought")
    return (call,)


def _llm_properties(event: events.LLMCallEvent) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "tokens_in": event.tokens_in,
        "tokens_out": event.tokens_out,
        "cost_usd": event.cost,
        "latency_ms": _round_ms(event.latency_ms),
        "status": event.status,
    }
    if event.input_messages is not None:
        properties["input_messages"] = event.input_messages
    if event.time_to_first_token_ms is not None:
        properties["time_to_first_token_ms"] = _round_ms(event.time_to_first_token_ms)
    for name in _OPTIONAL:
        value = getattr(event, name)
        if value:
            properties[name] = value
    usage = event.usage
    if usage is not None:
        for name in _USAGE:
            count = getattr(usage, name)
            if count is not None:
                properties[name] = count
        if usage.raw:
            properties["usage"] = usage.raw
    return properties


def _tool_fields(event: events.ToolCallEvent, manual: bool, answered: bool) -> tuple[MessageFields, ...]:
    properties: dict[str, Any] = {}
    if event.tool_call_id:
        properties["tool_call_id"] = event.tool_call_id
    if event.requested_by:
        properties["requested_by"] = event.requested_by
    name = event.tool_name or event.name or "tool"
    call = MessageFields("tool_call", properties, _wrap_scalar(event.input, "input"), tool_name=name)
    latency: dict[str, Any] = {"latency_ms": _round_ms(event.latency_ms)}
    if event.status == "error":
        output = error_fields(event)
        if event.output:
            output["output"] = event.output
        if event.handled is not None:
            latency["handled"] = event.handled
        return call, MessageFields("tool_error", latency, output=output, tool_name=name, suffix=":error")
    if event.status == "completed" or event.output:
        return call, MessageFields(
            "observation", latency, output=_wrap_scalar(event.output, "output"), tool_name=name, suffix=":result"
        )
    properties |= {"status": event.status, **latency}  # the only message, so it has them
    return (call,)


def _node_fields(event: events.NodeExecutionEvent, manual: bool, answered: bool) -> tuple[MessageFields, ...]:
    properties: dict[str, Any] = {"node": event.node_name or event.name}
    if event.step is not None:
        properties["step"] = event.step
    properties |= {"latency_ms": _round_ms(event.duration_ms), "status": event.status}
    if event.attempt is not None:
        properties["attempt"] = event.attempt
    # The input is omitted: it is the state that earlier nodes already reported.
    return (MessageFields("task", properties, None, _optional_object(event.state_after, "output")),)


def _step_fields(event: events.StepEvent, manual: bool, answered: bool) -> tuple[MessageFields, ...]:
    properties: dict[str, Any] = {"name": event.step_name or event.name}
    properties |= {"latency_ms": _round_ms(event.duration_ms), "status": event.status}
    message_type = "workflow" if event.workflow else "task"
    return (
        MessageFields(
            message_type, properties, _optional_object(event.input, "input"), _optional_object(event.output, "output")
        ),
    )


def _retrieval_fields(event: events.RetrievalEvent, manual: bool, answered: bool) -> tuple[MessageFields, ...]:
    properties = {**_timed_properties(event, event.latency_ms), "documents": len(event.documents)}
    return (MessageFields("retrieval", properties, {"query": event.query}, {"documents": event.documents}),)


def _embedding_fields(event: events.EmbeddingEvent, manual: bool, answered: bool) -> tuple[MessageFields, ...]:
    properties = _timed_properties(event, event.latency_ms)
    return (
        MessageFields(
            "embedding",
            properties,
            _optional_object(event.input, "input"),
            _optional_object(event.output, "output"),
            model=event.model or None,
        ),
    )


def _memory_fields(event: events.MemoryEvent, manual: bool, answered: bool) -> tuple[MessageFields, ...]:
    message_type = "memory_write" if event.write else "memory_read"
    properties = _timed_properties(event, event.latency_ms)
    return (
        MessageFields(
            message_type, properties, _optional_object(event.input, "input"), _optional_object(event.output, "output")
        ),
    )


def _timed_properties(event: events.Event, latency: float) -> dict[str, Any]:
    properties: dict[str, Any] = {"name": event.name} if event.name else {}
    return {**properties, "latency_ms": _round_ms(latency), "status": event.status}


def _custom_fields(event: events.CustomEvent, manual: bool, answered: bool) -> tuple[MessageFields, ...]:
    name = event.name or event.event_type
    output = (
        event.payload if "name" in event.payload and "data" in event.payload else {"name": name, "data": event.payload}
    )
    return (MessageFields("callback", {"name": name, "status": event.status}, None, dict(output)),)


def _base_event_fields(event: events.Event, manual: bool, answered: bool) -> tuple[MessageFields, ...]:
    name = event.name or event.event_type
    return (
        MessageFields("callback", {"name": name, "status": event.status}, None, {"name": name, "data": event.data}),
    )


_Builder = Callable[[Any, bool, bool], tuple[MessageFields, ...]]

_BUILDERS: dict[type, _Builder] = {
    events.AgentStartEvent: _start_fields,
    events.AgentEndEvent: _end_fields,
    events.LLMCallEvent: _llm_fields,
    events.ToolCallEvent: _tool_fields,
    events.NodeExecutionEvent: _node_fields,
    events.StepEvent: _step_fields,
    events.RetrievalEvent: _retrieval_fields,
    events.EmbeddingEvent: _embedding_fields,
    events.MemoryEvent: _memory_fields,
    events.CustomEvent: _custom_fields,
    events.Event: _base_event_fields,
}


def _builder_of_base(event_class: type) -> _Builder:
    """Return the builder for the nearest known base of a user-defined event class."""
    return next((_BUILDERS[base] for base in event_class.__mro__ if base in _BUILDERS), _base_event_fields)
