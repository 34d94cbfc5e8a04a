"""Maps each event class to name, kind and attributes of its span. Pure.

Attributes of the GenAI semantic conventions have their names; what the conventions do not define begins with ``gati.``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from gati import events, semconv
from gati.exporters.otlp import messages

INTERNAL, CLIENT = 1, 3
"""Kinds of spans, as in the protocol."""

_PARAMETERS = {
    "temperature": "gen_ai.request.temperature", "top_p": "gen_ai.request.top_p", "top_k": "gen_ai.request.top_k",
    "max_tokens": "gen_ai.request.max_tokens", "max_completion_tokens": "gen_ai.request.max_tokens",
    "max_output_tokens": "gen_ai.request.max_tokens", "seed": "gen_ai.request.seed",
    "frequency_penalty": "gen_ai.request.frequency_penalty", "presence_penalty": "gen_ai.request.presence_penalty",
}  # fmt: skip
"""Parameter of a model call → attribute."""

_FLOATS = frozenset({"temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty"})
"""Parameters whose attribute is a double."""

_USAGE = {
    "cache_read_tokens": "gen_ai.usage.cache_read.input_tokens",
    "cache_write_tokens": "gen_ai.usage.cache_creation.input_tokens",
    "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
}
"""Field of `events.Usage` → attribute."""


class SpanFields(NamedTuple):
    """The part of a span that comes from its event.

    Attributes:
        name: its name.
        kind: `INTERNAL` or `CLIENT`.
        attributes: attributes without text; those that are None are left out.
        content: attributes with text, which are opt-in. Values that are no texts become JSON.
        label: the name if texts are included; empty if it is the same.
    """

    name: str
    kind: int
    attributes: Mapping[str, Any]
    content: Mapping[str, Any]
    label: str = ""


def span_fields(event: events.Event) -> SpanFields:
    """Return the fields of an event's span."""
    build = next((_BUILDERS[base] for base in type(event).__mro__ if base in _BUILDERS), _step_span)
    return build(event)


def operation(name: str, subject: str) -> str:
    """Return a span's name: `operation("chat", "gpt-4o")` → `"chat gpt-4o"`."""
    return f"{name} {subject}" if subject else name


def _chat_span(call: events.LLMCallEvent) -> SpanFields:
    parameters = call.parameters
    named = (parameters.get("model"), parameters.get("model_name"))
    requested = next((name for name in named if name and isinstance(name, str)), call.model)
    first_chunk = call.time_to_first_token_ms
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": semconv.provider_name(call.provider) if call.provider else None,
        "gen_ai.request.model": requested or None,
        "gen_ai.response.model": call.model or None,
        "gen_ai.response.finish_reasons": [call.finish_reason] if call.finish_reason else None,
        "gen_ai.usage.input_tokens": call.tokens_in,
        "gen_ai.usage.output_tokens": call.tokens_out,
        "gen_ai.request.stream": True if first_chunk is not None else None,
        "gen_ai.response.time_to_first_chunk": None if first_chunk is None else first_chunk / 1000,
        "gen_ai.prompt.name": call.structured_prompt.external_id if call.structured_prompt else None,
        "gati.cost_usd": call.cost,
        "gati.input_messages": call.input_messages,
        "gati.cached": True if call.cached else None,
        "gati.internal": True if call.internal else None,
    }
    for parameter, name in _PARAMETERS.items():
        value = parameters.get(parameter)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            attributes[name] = float(value) if parameter in _FLOATS else int(value)
    if call.usage is not None:
        attributes |= {name: getattr(call.usage, field) for field, name in _USAGE.items()}
    stop = parameters.get("stop")
    content = {
        "gen_ai.system_instructions": messages.system_instructions(call.system_prompt) if call.system_prompt else None,
        "gen_ai.input.messages": messages.call_input(call) or None,
        "gen_ai.output.messages": messages.call_output(call) or None,
        "gen_ai.tool.definitions": messages.tool_definitions(call.tools) if call.tools else None,
        "gen_ai.request.stop_sequences": [text for text in stop if isinstance(text, str)]
        if isinstance(stop, (list, tuple))
        else None,
        "gati.decision": call.decision or None,
    }
    return SpanFields(operation("chat", requested), CLIENT, attributes, content)


def _tool_span(call: events.ToolCallEvent) -> SpanFields:
    name = call.tool_name or call.name or "tool"
    attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": name,
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": call.tool_call_id,
        "gati.handled": call.handled,
    }
    content = {"gen_ai.tool.call.arguments": call.input or None, "gen_ai.tool.call.result": call.output or None}
    return SpanFields(operation("execute_tool", name), INTERNAL, attributes, content)


def _retrieval_span(call: events.RetrievalEvent) -> SpanFields:
    attributes = {"gen_ai.operation.name": "retrieval", "gati.documents": len(call.documents)}
    found: list[Any] = call.documents  # of a manual event, anything
    documents = [
        {"content": document.get("text"), "score": document.get("score"), "metadata": document.get("metadata")}
        for document in found
        if isinstance(document, Mapping)
    ]
    content = {"gen_ai.retrieval.query.text": call.query or None, "gen_ai.retrieval.documents": documents or None}
    return SpanFields(operation("retrieval", call.name), CLIENT, attributes, content)


def _embeddings_span(call: events.EmbeddingEvent) -> SpanFields:
    output: Any = call.output  # of a manual event, anything
    dimensions = output.get("dimensions") if isinstance(output, Mapping) else None
    attributes = {
        "gen_ai.operation.name": "embeddings",
        "gen_ai.request.model": call.model or None,
        "gen_ai.embeddings.dimension.count": dimensions if isinstance(dimensions, int) else None,
    }
    return SpanFields(operation("embeddings", call.model), CLIENT, attributes, {"gati.input": call.input or None})


def _node_span(event: events.NodeExecutionEvent) -> SpanFields:
    name = event.node_name or event.name
    attributes = {"gati.node": name or None, "gati.step": event.step, "gati.attempt": event.attempt}
    return SpanFields(name or "node", INTERNAL, attributes, {"gati.output": event.state_after or None})


def _step_span(event: Any) -> SpanFields:
    """Return the fields of a step, a nested graph, a store operation, or an event without a convention."""
    name = event.name or event.event_type
    attributes: dict[str, Any] = {"gati.event": event.event_type}
    label = ""
    if isinstance(event, events.StepEvent):
        name = event.step_name or name
        if event.workflow:
            attributes |= {"gen_ai.operation.name": "invoke_workflow", "gen_ai.workflow.name": name}
            name = operation("invoke_workflow", name)
        else:
            # Programs build the names of steps at run time, so they may contain anything.
            name, label = "step", name
    content = {
        "gati.input": getattr(event, "input", None) or None,
        "gati.output": getattr(event, "output", None) or None,
        "gati.data": getattr(event, "payload", None) or event.data or None,
    }
    return SpanFields(name, INTERNAL, attributes, content, label)


_BUILDERS: Mapping[type, Callable[[Any], SpanFields]] = {
    events.LLMCallEvent: _chat_span,
    events.ToolCallEvent: _tool_span,
    events.RetrievalEvent: _retrieval_span,
    events.EmbeddingEvent: _embeddings_span,
    events.NodeExecutionEvent: _node_span,
}
