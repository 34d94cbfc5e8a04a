"""The message contract: every message type, role and key that gati writes, each with its kind.

This module is the only list. `mask`, `capture_content` and `detail`, the columns of the embedded
store, the fields of GATI events and the tables in `docs/mapping.md` derive from it. Standard library
only, and no other module of gati.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Any


class Kind(Enum):
    """The kind of a value. `mask` sees texts only, and `capture_content=False` drops texts only."""

    ID = "id"
    """Identifies something, or is a hash or a time: equal values must stay equal."""
    ENUM = "enum"
    """One of a fixed set of words, chosen by gati, LangChain or a provider."""
    NUMBER = "number"
    """A number or a boolean; None is unknown."""
    NAME = "name"
    """A name from the program's source: a tool, node, agent, model, step, environment or exception class."""
    TEXT = "text"
    """Everything else: language, and the user's own values with their keys."""


_NOTHING: Mapping[str, Field] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Field:
    """One key of a message, an event or an object inside them.

    Attributes:
        kind: the kind of its value. A list has the kind of its items.
        meaning: one line for `docs/mapping.md`; empty where the name says it all.
        fields: for an object, the keys that gati writes. Its other keys are the user's own texts.
        column: column of the embedded store that holds the value.
    """

    kind: Kind
    meaning: str = ""
    fields: Mapping[str, Field] = field(default_factory=lambda: _NOTHING)
    column: str | None = None


ID, ENUM, NUMBER, NAME, TEXT = (Field(kind) for kind in (Kind.ID, Kind.ENUM, Kind.NUMBER, Kind.NAME, Kind.TEXT))


def _object(**fields: Field) -> Field:
    return Field(Kind.TEXT, fields=fields)


# -- Objects inside messages and events -----------------------------------------------------------

_BLOCK_VALUES = {
    "type": ENUM, "source_type": ENUM, "media_type": ENUM, "mime_type": ENUM, "format": ENUM, "detail": ENUM,
    "id": ID, "file_id": ID, "tool_use_id": ID, "tool_call_id": ID, "index": NUMBER, "name": TEXT,
    "text": TEXT, "refusal": TEXT, "thinking": TEXT, "signature": ID, "transcript": TEXT, "url": TEXT, "data": TEXT,
    "base64": TEXT, "file_data": TEXT, "filename": TEXT, "args": TEXT, "input": TEXT, "output": TEXT,
    "annotations": TEXT, "citations": TEXT, "cache_control": TEXT, "extras": TEXT,
}  # fmt: skip
CONTENT = _object(
    **_BLOCK_VALUES,
    **{
        name: _object(**_BLOCK_VALUES)
        for name in ("image_url", "source", "file", "input_audio", "audio", "image", "video", "document", "inline_data",
                     "reasoning", "summary", "content")
    },
)  # fmt: skip
"""The content of a chat message: a text, or a list of blocks as LangChain and providers write them."""

MEDIA = {"mime": ENUM, "bytes": NUMBER, "sha256": ID}
"""The object that replaces a picture, a sound or a file: its media type, size in bytes and hash."""

TOOL_REQUEST = _object(
    id=ID, name=NAME, args=TEXT, type=ENUM, invalid=NUMBER, server=NUMBER, error=TEXT, result=TEXT, index=NUMBER,
)  # fmt: skip
"""A tool call that a model asked for."""

DOCUMENT = _object(text=TEXT, metadata=TEXT, score=NUMBER)
"""A retrieved document."""

CHAT_MESSAGE = _object(
    role=ENUM, content=CONTENT, text=TEXT, name=TEXT, tool_calls=TOOL_REQUEST, tool_call_id=ID, status=ENUM,
)  # fmt: skip
"""A message that a model call was given and that no other message reports."""

PARAMETERS = _object(
    model=NAME, model_name=NAME, model_id=NAME, _type=ENUM, tool_choice=ENUM, temperature=NUMBER, top_p=NUMBER,
    top_k=NUMBER, max_tokens=NUMBER, max_completion_tokens=NUMBER, seed=NUMBER, n=NUMBER, stop=TEXT,
    reasoning_effort=ENUM, reasoning=TEXT, response_format=TEXT,
)  # fmt: skip
"""Parameters of a model call."""

INTERRUPT = _object(value=TEXT, id=ID, paused=ENUM, reason=TEXT)
"""The data of an interrupt or a resume. `id` and `paused` are LangGraph's; `reason` is the program's, for a drain."""

METADATA = _object(environment=NAME, never_run=NUMBER)
"""Metadata of a run: the user's own, and the keys that gati adds."""

_INPUT = _object(input=TEXT)
_OUTPUT = _object(output=TEXT, artifact=TEXT, goto=TEXT, graph=TEXT)
"""A scalar becomes an object with one of these keys. The other keys are the user's own."""
_NODE_OUTPUT = _object(**_OUTPUT.fields, messages=CHAT_MESSAGE)
"""The changes that a node made to the state, and the messages that it wrote itself."""

_EMBEDDING_INPUT = _object(text=TEXT, texts=TEXT, input=TEXT)
_EMBEDDING_OUTPUT = _object(vectors=NUMBER, dimensions=NUMBER, output=TEXT)
_STORE_ITEM = _object(key=TEXT, value=TEXT)
_STORE_OPERATION = {
    "namespace": TEXT, "key": TEXT, "value": TEXT, "query": TEXT, "filter": TEXT, "limit": NUMBER, "operation": ENUM,
    "source": NAME, "input": TEXT,
}  # fmt: skip
_MEMORY_INPUT = _object(**_STORE_OPERATION, operations=_object(**_STORE_OPERATION))
_MEMORY_OUTPUT = _object(output=_STORE_ITEM, outputs=_STORE_ITEM, messages=NUMBER)

# -- Properties of messages -----------------------------------------------------------------------

PROPERTIES: Mapping[str, Field] = {
    "agent_name": Field(Kind.NAME, "name of the agent"),
    "attachments": Field(Kind.TEXT, "pictures, sounds and files of the message", CONTENT.fields),
    "attempt": Field(Kind.NUMBER, "number of the attempt, from 2 on"),
    "audio_input_tokens": Field(Kind.NUMBER, "input tokens that are audio"),
    "audio_output_tokens": Field(Kind.NUMBER, "output tokens that are audio"),
    "cache_read_tokens": Field(Kind.NUMBER, "input tokens read from the provider's cache"),
    "cache_write_tokens": Field(Kind.NUMBER, "input tokens written to the provider's cache"),
    "cached": Field(Kind.NUMBER, "true if the answer came from LangChain's cache"),
    "content_length": Field(Kind.NUMBER, "characters of the text, with `capture_content=False`"),
    "cost_usd": Field(Kind.NUMBER, "cost in US dollars", column="cost"),
    "data": Field(Kind.TEXT, "the `data` of an event made by hand"),
    "documents": Field(Kind.NUMBER, "number of documents that a retrieval returned"),
    "environment": Field(Kind.NAME, "where the program runs"),
    "error_type": Field(Kind.NAME, "class of the exception"),
    "finish_reason": Field(Kind.ENUM, "why the model stopped, with `capture_content=False`"),
    "handled": Field(Kind.NUMBER, "true if the program handled the failure"),
    "history_messages": Field(Kind.NUMBER, "messages of an earlier history that were not imported"),
    "imported": Field(Kind.NUMBER, "true if the message comes from an imported history"),
    "input_hash": Field(Kind.ID, "rolling hash over the messages that the model was sent"),
    "input_messages": Field(Kind.NUMBER, "number of messages that the model was sent"),
    "internal": Field(
        Kind.NUMBER,
        "true if the call is not for the user, or its text is not part of the answer and it requests no tools",
    ),
    "latency_ms": Field(Kind.NUMBER, "duration in milliseconds", column="latency_ms"),
    "metadata": Field(Kind.TEXT, "metadata of the run", METADATA.fields),
    "model_calls": Field(Kind.NUMBER, "model calls of the turn"),
    "name": Field(Kind.NAME, "name of the run, graph, step or event"),
    "node": Field(Kind.NAME, "name of the LangGraph node"),
    "parameters": Field(Kind.TEXT, "parameters of the call", PARAMETERS.fields),
    "parent_id": Field(Kind.ID, "parent that the destination does not have"),
    "prompt_id": Field(Kind.ID, "`externalPromptId` of the system prompt"),
    "prompt_variant": Field(Kind.NAME, "variant of a managed prompt that an A/B choice served"),
    "prompt_version": Field(Kind.ID, "hash of the template; values of variables do not change it"),
    "provider": Field(Kind.NAME, "provider of the model"),
    "reasoning_tokens": Field(Kind.NUMBER, "output tokens spent on reasoning"),
    "replaces": Field(Kind.ID, "id of the message that this one replaces, after a return to an older checkpoint"),
    "requested_by": Field(Kind.ID, "model call that asked for the tool"),
    "span_id": Field(Kind.ID, "span of OpenTelemetry in which the turn began"),
    "status": Field(Kind.ENUM, "`completed`, `error`, `aborted`, `waiting`, `resumed`, `unfinished`", column="status"),
    "step": Field(Kind.NUMBER, "LangGraph's step number"),
    "tags": Field(Kind.TEXT, "tags of the run"),
    "time_to_first_token_ms": Field(Kind.NUMBER, "milliseconds until the first token", column="first_token_ms"),
    "tokens_in": Field(Kind.NUMBER, "input tokens, cached ones included", column="tokens_in"),
    "tokens_out": Field(Kind.NUMBER, "output tokens", column="tokens_out"),
    "tool_call_id": Field(Kind.ID, "id that the model gave the call"),
    "tool_calls": Field(Kind.NUMBER, "tool calls of the turn"),
    "tools": Field(Kind.NAME, "names of the tools that the model was offered"),
    "total_tokens": Field(Kind.NUMBER, "input and output tokens"),
    "trace_id": Field(Kind.ID, "trace of OpenTelemetry in which the turn began"),
    "usage": Field(Kind.TEXT, "token counts as the provider sent them"),
}
"""Every property that gati writes into a message."""

_ANY = ("data", "error_type", "metadata", "parent_id", "span_id", "tags", "trace_id")
"""Properties that a message of any type may have."""

_TOTALS = ("tokens_in", "tokens_out", "cost_usd", "model_calls", "tool_calls", "latency_ms")
_TIMED = ("name", "latency_ms", "status")
_SPOKEN = ("status", "attachments", "imported", "history_messages", "content_length", "replaces")

# -- Message types --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MessageType:
    """One type of message.

    Attributes:
        when: what it reports.
        id: how its external id is made: `R` is the root run's id, `r` any run's.
        parent: external id of its parent.
        properties: properties of its own; any message may have those of `_ANY` too.
        input: keys of its `input`; None for the user's own.
        output: keys of its `output`; None for the user's own.
        fields: its other fields.
        in_conversation: delivered with ``detail="conversation"``.
    """

    when: str
    id: str
    parent: str
    properties: tuple[str, ...] = ()
    input: tuple[str, ...] | None = ()
    output: tuple[str, ...] | None = ()
    fields: tuple[str, ...] = ()
    in_conversation: bool = False


MESSAGE_TYPES: Mapping[str, MessageType] = {
    "user_message": MessageType(
        "text that the user wrote, new with this turn or in an imported history", "`R:user`, `R:user:1` …; `history:…`", "–", _SPOKEN,
        fields=("content",), in_conversation=True,
    ),
    "assistant_message": MessageType(
        "the answer of a model or a plain chain; a question to the user on which the turn waits; "
        "an answer in an imported history",
        "`R:answer`; `history:…`", "`R`; none for `history:…`", (*_SPOKEN, *_TOTALS),
        fields=("content", "context", "model"), in_conversation=True,
    ),
    "final_response": MessageType(
        "the answer of an agent or a graph", "`R:answer`", "`R`", (*_SPOKEN, *_TOTALS),
        fields=("content", "context", "model"), in_conversation=True,
    ),
    "system_message": MessageType(
        "a system message in the middle of a conversation", "`R:user:n`", "–", _SPOKEN,
        output=("text",), in_conversation=True,
    ),
    "chain_start": MessageType(
        "a turn begins", "`R`", "`R:user`", ("name", "agent_name", "environment"), input=None,
    ),
    "chain_end": MessageType("a turn ends", "`R:end`", "`R`", (*_TOTALS, "status"), output=("status", "error", "output")),
    "llm": MessageType(
        "a model call", "`r`", "nearest reported run above",
        ("tokens_in", "tokens_out", "cost_usd", "latency_ms", "time_to_first_token_ms", "provider", "status", "cached",
         "internal", "total_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens",
         "audio_input_tokens", "audio_output_tokens", "usage", "parameters", "tools", "prompt_id", "prompt_version",
         "prompt_variant", "finish_reason", "attachments", "input_messages", "input_hash"),
        input=("messages", "prompt"),
        output=("tool_calls", "finish_reason", "text", "candidates", "decision", "error"), fields=("model",),
    ),
    "thought": MessageType("reasoning, or text beside calls of tools that the program runs", "`r:thought`", "`r`", output=("text",)),
    "tool_call": MessageType(
        "a tool is called", "`r`, or `R:<tool_call_id>` if it never ran", "nearest reported run above",
        ("tool_call_id", "requested_by", "status", "latency_ms"), input=None, fields=("toolName",), in_conversation=True,
    ),
    "observation": MessageType(
        "its result", "`r:result`", "`r`", ("latency_ms",), output=None, fields=("toolName",), in_conversation=True,
    ),
    "tool_error": MessageType(
        "its failure", "`r:error`", "`r`", ("latency_ms", "handled"), output=("type", "message", "output"),
        fields=("toolName",), in_conversation=True,
    ),
    "retrieval": MessageType(
        "a retriever ran", "`r`", "nearest reported run above", (*_TIMED, "documents"),
        input=("query",), output=("documents", "error"), in_conversation=True,
    ),
    "task": MessageType(
        "a LangGraph node, a `@task` or a step of the program ran", "`r`", "nearest reported run above",
        ("node", *_TIMED, "step", "attempt"), input=None, output=None,
    ),
    "workflow": MessageType(
        "a graph inside a graph ran", "`r`", "nearest reported run above", _TIMED, input=None, output=None,
    ),
    "embedding": MessageType(
        "texts became vectors (the vectors are not kept)", "`r`", "nearest reported run above", _TIMED,
        input=None, output=None, fields=("model",),
    ),
    "memory_read": MessageType(
        "a wrapped store or a message history was read", "`r`", "nearest reported run above", _TIMED,
        input=None, output=None,
    ),
    "memory_write": MessageType(
        "a wrapped store or a message history was written", "`r`, `r:history`", "nearest reported run above", _TIMED,
        input=None, output=None,
    ),
    "callback": MessageType(
        "a custom event; an interrupt or resume whose payload is not just a text; a bare `Event`",
        "`r:event:n`, `R:interrupt:n`, `R:resume:n`", "the enclosing run", ("name", "status"),
        output=("name", "data", "error"),
    ),
}  # fmt: skip
"""Every message type that gati writes, with what belongs into it."""

ROLES: Mapping[str, str] = {"user": "user_message", "assistant": "assistant_message", "system": "system_message"}
"""Role of a chat message → its message type."""

ANSWER_TYPES = ("final_response", "assistant_message")
"""Types of the answer that the user read."""

CHAT_TYPES = (*ROLES.values(), "final_response")
"""Types whose text the user wrote or read."""

CONVERSATION_TYPES = frozenset(name for name, kind in MESSAGE_TYPES.items() if kind.in_conversation)
"""Types that ``detail="conversation"`` delivers."""

COMPONENT_TYPES = ("system", "user", "tool", "guardrail", "rag", "agent", "other")
"""Types of a system prompt's components."""

COMPONENT_SOURCES = ("customer", "participant", "greenflash", "agent")
"""Sources of a system prompt's components; the first is the default."""

_MESSAGE_FIELDS = frozenset(
    {"externalMessageId", "messageType", "createdAt", "parentExternalMessageId", "properties", "input", "output"}
)
_LEFT_OUT = "…"
"""Key of the note that replaces entries which did not fit."""

# -- Typed events, before they are encoded --------------------------------------------------------

EVENT_FIELDS: Mapping[str, Field] = {
    **dict.fromkeys(
        ("run_id", "event_id", "parent_event_id", "conversation_id", "user_id", "organization_id", "product_id",
         "timestamp", "tool_call_id", "requested_by", "input_hash"), ID),
    **dict.fromkeys(("event_type", "status", "finish_reason"), ENUM),
    **dict.fromkeys(
        ("run_name", "agent_name", "name", "error_type", "model", "provider", "tools", "tool_name", "node_name",
         "step_name"), NAME),
    **dict.fromkeys(
        ("started_ns", "ended_ns", "total_duration_ms", "total_cost", "tokens_in", "tokens_out", "model_calls",
         "tool_calls", "latency_ms", "cost", "time_to_first_token_ms", "is_answer", "made_answer", "internal",
         "cached", "handled", "input_messages", "duration_ms", "step", "attempt", "workflow", "write"), NUMBER),
    **dict.fromkeys(
        ("error_message", "tags", "prompt", "system_prompt", "completion", "candidates", "reasoning", "query", "data",
         "decision"), TEXT),
    "attachments": CONTENT,
    "metadata": METADATA,
    "usage": TEXT,
    "tool_requests": TOOL_REQUEST,
    "new_messages": CHAT_MESSAGE,
    "parameters": PARAMETERS,
    "structured_prompt": TEXT,
    "documents": DOCUMENT,
    "input": _INPUT,
    "output": _OUTPUT,
    "state_before": _OUTPUT,
    "state_after": _NODE_OUTPUT,
    "payload": _object(name=NAME, data=INTERRUPT),
}  # fmt: skip
"""Every field of the classes in `gati.events`, which are also the fields of GATI events."""

_FIELDS_OF_EVENT: Mapping[str, Mapping[str, Field]] = {
    "embedding": {**EVENT_FIELDS, "input": _EMBEDDING_INPUT, "output": _EMBEDDING_OUTPUT},
    "memory": {**EVENT_FIELDS, "input": _MEMORY_INPUT, "output": _MEMORY_OUTPUT},
    # `observe.span(f"answer {customer}")`: programs build the names of their steps at run time.
    "step": {**EVENT_FIELDS, "name": TEXT, "step_name": TEXT},
}

MESSAGE_TYPE_OF_EVENT: Mapping[str, str] = {
    "agent_start": "chain_start", "agent_end": "chain_end", "llm_call": "llm", "tool_call": "tool_call",
    "node_execution": "task", "step": "task", "retrieval": "retrieval", "embedding": "embedding",
    "memory": "memory_read", "custom": "callback", "event": "callback",
}  # fmt: skip
"""`kind` of an event → the type of the message that it becomes. A nested graph (`step`) becomes a
`workflow`, a write (`memory`) a `memory_write`."""

CONVERSATION_EVENTS = frozenset(
    {kind for kind, message in MESSAGE_TYPE_OF_EVENT.items() if message in CONVERSATION_TYPES}
    | {"agent_start", "agent_end"}
)
"""Kinds of events that ``detail="conversation"`` delivers to a GATI backend, which keeps a turn's
messages in its start and its end."""

CONVERSATION_PROPERTIES: Mapping[str, Field] = {"prompt_variants": NAME}
"""Properties of conversations that gati sets; the others are the user's own. `prompt_variants` is a list of
``<prompt>=<variant>``."""

CHAT_MESSAGE_PROPERTIES: Mapping[str, Field] = {name: PROPERTIES[name] for name in _SPOKEN}
"""Properties of `events.ChatMessage`."""

ACTIONS: Mapping[str, Mapping[str, Field]] = {
    "users": {
        "external_user_id": ID, "external_organization_id": ID, "name": TEXT, "email": TEXT, "phone": TEXT,
        "anonymized": NUMBER, "properties": TEXT,
    },
    "organizations": {"external_organization_id": ID, "name": TEXT, "properties": TEXT},
    "ratings": {
        "product_id": ID, "external_message_id": ID, "external_conversation_id": ID, "rating": NUMBER,
        "rating_min": NUMBER, "rating_max": NUMBER, "feedback": TEXT, "rated_at": ID, "insert_id": ID,
    },
    "events": {
        "product_id": ID, "external_conversation_id": ID, "external_user_id": ID, "insert_id": ID, "event_type": NAME,
        "value": TEXT, "value_type": ENUM, "influence": ENUM, "quality_impact_score": NUMBER, "event_at": ID,
        "properties": TEXT,
    },
}  # fmt: skip
"""Arguments of `events.Action`, by endpoint. The `value` of an event is a text only if its
`value_type` is."""


# -- Questions that other modules ask --------------------------------------------------------------


def fields_of_event(kind: str, message_type: str) -> Mapping[str, Field]:
    """Return the fields of an event, given its `kind` and the type of the message that it becomes."""
    return EVENT_FIELDS if message_type == "workflow" else _FIELDS_OF_EVENT.get(kind, EVENT_FIELDS)


def names_without_text(fields: Mapping[str, Field]) -> frozenset[str]:
    """Return the names whose values are no texts and stay with ``capture_content=False``."""
    return frozenset(name for name, known in fields.items() if known.kind is not Kind.TEXT)


def columns() -> dict[str, str]:
    """Return the store's columns that hold properties: column → property."""
    return {known.column: name for name, known in PROPERTIES.items() if known.column is not None}


def unknown_keys(message: Mapping[str, Any]) -> list[str]:
    """Return the keys of an encoded message that the contract does not know, as paths.

    ``{"messageType": "llm", "properties": {"colour": 1}}`` → ``["llm.properties.colour"]``
    """
    name = str(message.get("messageType"))
    known = MESSAGE_TYPES.get(name)
    if known is None:
        return [name]
    unknown = [f"{name}.{key}" for key in message if key not in _MESSAGE_FIELDS and key not in known.fields]
    unknown += _not_in(message, "properties", (*known.properties, *_ANY), name)
    for part, keys in (("input", known.input), ("output", known.output)):
        if keys is not None:
            unknown += _not_in(message, part, keys, name)
    return unknown


def _not_in(message: Mapping[str, Any], part: str, known: Iterable[str], name: str) -> list[str]:
    return [f"{name}.{part}.{key}" for key in message.get(part) or () if key not in known and key != _LEFT_OUT]
