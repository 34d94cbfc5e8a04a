"""The typed model of turns, messages, events and actions, as plain dataclasses.

The assembler creates them from LangChain's runs, programs can create events themselves (see
`observe.track_event`), and exporters encode them for their destination. Standard library only.

An unknown number is ``None``; ``0`` means zero. Times are nanoseconds since the epoch (``*_ns``), durations are
milliseconds as floats (``*_ms``), costs are US dollars.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

from gati._deprecation import renamed_field, warn_renamed

Status: TypeAlias = Literal["completed", "error", "aborted", "waiting", "resumed", "unfinished"]
"""Outcome of a run. ``aborted``: stopped by the user or a timeout. ``waiting``: interrupted to ask a human.
``unfinished``: LangChain never reported its end."""

ENVELOPE = ("event_type", "run_id", "run_name", "agent_name", "timestamp", "event_id", "parent_event_id")
"""Envelope fields of a GATI event. All other fields are repeated inside ``data``."""

VARIABLE_MARK = re.compile(r"\{\{([^{}]{1,200})\}\}")
"""A ``{{variable}}`` mark in the content of a prompt's component."""

_INTERNAL = frozenset({"started_ns", "ended_ns", "made_answer", "data", *ENVELOPE})


def iso(ns: int) -> str:
    """Format nanoseconds since the epoch as ``YYYY-MM-DDTHH:MM:SS.mmmZ``; clamp times that have no such form."""
    seconds, rest = divmod(ns // 1_000_000, 1000)
    try:
        return f"{_iso_second(seconds)}.{rest:03d}Z"
    except (ValueError, OverflowError, OSError):
        # A broken clock must not cost the event.
        return "1970-01-01T00:00:00.000Z" if ns < 0 else "9999-12-31T23:59:59.999Z"


@lru_cache(maxsize=64)  # most times of a turn are in the same second
def _iso_second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


@dataclass(slots=True)
class Usage:
    """Token counts of one model call, as reported by the provider.

    `input_tokens` includes cached tokens: ``input_tokens >= cache_read_tokens >= 0``.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    audio_input_tokens: int | None = None
    audio_output_tokens: int | None = None
    raw: dict[str, Any] | None = None
    """The provider's own usage object, unchanged."""


@dataclass(slots=True)
class PromptComponent:
    """A component of a system prompt. `content` may contain ``{{variable}}`` marks."""

    content: str
    name: str | None = None
    type: str = "system"
    source: str | None = None
    is_dynamic: bool = False
    external_id: str | None = None

    def render(self, variables: Mapping[str, str]) -> str:
        """Return the content with each mark replaced by its variable's value; unknown marks stay."""
        return VARIABLE_MARK.sub(lambda mark: variables.get(mark[1].strip(), mark[0]), self.content)


class ManagedVersion(NamedTuple):
    """The version of a managed prompt that rendered a text. See `gati.prompts`.

    Attributes:
        prompt_id: Greenflash's id of a version that the program pinned or chose; None for the active version.
        variant: label of the variant that an A/B choice served.
    """

    prompt_id: str | None = None
    variant: str | None = None


@dataclass(slots=True)
class Prompt:
    """A system prompt.

    Attributes:
        text: the rendered prompt, as the model received it.
        external_id: stable name; texts with the same name are versions of one prompt.
        components: the components of the template; empty if no template was recovered.
        variables: values of the variables in the components.
        managed: set if Greenflash manages the prompt. It then gets a reference instead of the components.
    """

    text: str
    external_id: str | None = None
    components: list[PromptComponent] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    managed: ManagedVersion | None = None


class ActiveSpan(NamedTuple):
    """The span of OpenTelemetry that was active when a turn began.

    Attributes:
        trace_id: 32 hexadecimal digits.
        span_id: 16 hexadecimal digits.
        sampled: the program's tracer exports the trace.
    """

    trace_id: str
    span_id: str
    sampled: bool = True


@dataclass(slots=True)
class Conversation:
    """The conversation, user and organization of a turn, as resolved by `trace.identity`."""

    id: str
    user_id: str = "anonymous"
    organization_id: str | None = None
    properties: dict[str, Any] = field(default_factory=dict)
    prompt: Prompt | None = None
    """The system prompt that an option, a scope or run metadata set explicitly."""
    product_id: str | None = None
    """Greenflash product of the conversation."""


@dataclass(slots=True)
class ChatMessage:
    """A message of the conversation: text that the user wrote or read."""

    id: str
    role: Literal["user", "assistant", "system"]
    text: str
    at_ns: int
    parent_id: str | None = None
    properties: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Event:
    """An event of a run. Base class of all events; can also be used directly.

    Attributes:
        run_id: id of the root run; there is one per top-level invocation.
        event_id: id of the event's run, so that sending it again repeats the id; random for manual events.
        parent_event_id: id of the nearest enclosing event that is reported.
        timestamp: ISO 8601, derived from `started_ns`; the time of creation if that is 0.
        name: LangChain's name of the run.
        data: additional values of a manual event.
    """

    kind: ClassVar[str] = "event"

    event_type: str = ""
    run_id: str = ""
    run_name: str = ""
    agent_name: str = ""
    timestamp: str = ""
    event_id: str = ""
    parent_event_id: str | None = None
    data: dict[str, Any] = field(default_factory=dict)

    name: str = ""
    status: Status = "completed"
    error_type: str | None = None
    error_message: str | None = None
    tags: list[str] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    conversation_id: str | None = None
    user_id: str | None = None
    organization_id: str | None = None
    product_id: str | None = None
    started_ns: int = 0
    ended_ns: int = 0

    def __post_init__(self) -> None:
        if not self.event_type:
            self.event_type = self.kind
        if not self.event_id:
            self.event_id = str(uuid.uuid4())
        if not self.timestamp:
            self.timestamp = iso(self.started_ns) if self.started_ns else iso(_now_ns())

    def to_dict(self) -> dict[str, Any]:
        """Return the event in the format of a GATI backend: the envelope, and all other fields both at the top level
        and inside ``data``. Fields that are None are omitted."""
        own: dict[str, Any] = {}
        for item in fields(self):
            if item.name not in _INTERNAL:
                value = getattr(self, item.name)
                if value is not None and not (value in ("", [], {}) and item.name in _OPTIONAL):
                    own[item.name] = _plain(value)
        envelope = {name: getattr(self, name) for name in ENVELOPE}
        return {**envelope, **own, "data": {**own, **self.data}}


_OPTIONAL = frozenset({"name", "tags", "metadata", "attachments", "candidates"})


def _now_ns() -> int:
    return int(datetime.now(UTC).timestamp() * 1e9)


def _plain(value: Any) -> Any:
    if isinstance(value, (Usage, Prompt, PromptComponent)):
        return {f.name: _plain(v) for f in fields(value) if (v := getattr(value, f.name)) is not None}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return value


@dataclass(slots=True, kw_only=True)
class AgentStartEvent(Event):
    """Start of a turn. `input` is the root run's input without the user's messages."""

    kind: ClassVar[str] = "agent_start"

    input: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class AgentEndEvent(Event):
    """End of a turn. Totals are sums over the known values of its model calls; None if no value is known."""

    kind: ClassVar[str] = "agent_end"

    output: dict[str, Any] = field(default_factory=dict)
    total_duration_ms: float | None = 0.0
    total_cost: float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    model_calls: int = 0
    tool_calls: int = 0


@renamed_field("shown", "is_answer")
@dataclass(slots=True, kw_only=True)
class LLMCallEvent(Event):
    """One call of a chat or completion model.

    Attributes:
        prompt: the last user message of the call.
        system_prompt: its system messages, joined with blank lines.
        completion: the text of the response.
        new_messages: input messages that the conversation does not report otherwise.
        input_messages: number of messages that the model was sent, system messages included.
        input_hash: rolling hash over them; None if not all are known, and with a `mask` or without content.
        latency_ms: None if the start of the call was not reported.
        attachments: pictures, sounds and files of a response that is not the turn's answer.
        candidates: the texts of the other responses, if the model was asked for several.
        is_answer: the completion is the turn's answer.
        decision: the typed answers of a decision model, by question.
        made_answer: the turn's answer was made of the completion; the program may have edited it.
        internal: the call is not part of the chat: a summarizer, router, title generator or sub-agent.
        cached: the response came from LangChain's cache, at no cost.
    """

    kind: ClassVar[str] = "llm_call"

    model: str = ""
    prompt: str = ""
    system_prompt: str = ""
    completion: str = ""
    tokens_in: int | None = None
    tokens_out: int | None = None
    latency_ms: float | None = 0.0
    cost: float | None = None

    time_to_first_token_ms: float | None = None
    provider: str | None = None
    usage: Usage | None = None
    finish_reason: str | None = None
    tool_requests: list[dict[str, Any]] = field(default_factory=list)
    tools: list[str] = field(default_factory=list)
    reasoning: str = ""
    new_messages: list[dict[str, Any]] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)
    structured_prompt: Prompt | None = None
    attachments: list[dict[str, Any]] = field(default_factory=list)
    candidates: list[str] = field(default_factory=list)
    is_answer: bool = False
    made_answer: bool = False
    internal: bool = False
    cached: bool = False
    decision: dict[str, Any] = field(default_factory=dict)
    input_messages: int | None = None
    input_hash: str | None = None


def has_client_calls(requests: list[Any]) -> bool:
    """Return True if the program must run one of the requested tools: the provider has not run it itself."""
    return any(not (isinstance(request, Mapping) and request.get("server")) for request in requests)


@dataclass(slots=True, kw_only=True)
class ToolCallEvent(Event):
    """A tool call. `handled`: the program handled its failure; None if it did not fail."""

    kind: ClassVar[str] = "tool_call"

    tool_name: str = ""
    input: dict[str, Any] = field(default_factory=dict)
    output: dict[str, Any] = field(default_factory=dict)
    latency_ms: float | None = 0.0
    tool_call_id: str | None = None
    requested_by: str | None = None
    handled: bool | None = None

    def to_dict(self) -> dict[str, Any]:
        """Extend `Event.to_dict` with `tool_input` and `tool_output` in ``data``, which readers of the backend expect."""
        wire = Event.to_dict(self)
        wire["data"] |= {"tool_input": self.input, "tool_output": self.output}
        return wire


@dataclass(slots=True, kw_only=True)
class NodeExecutionEvent(Event):
    """An execution of a LangGraph node or `@task`. `state_before` is its input, `state_after` its update of the state,
    both without chat messages, which are reported separately."""

    kind: ClassVar[str] = "node_execution"

    node_name: str = ""
    state_before: dict[str, Any] = field(default_factory=dict)
    state_after: dict[str, Any] = field(default_factory=dict)
    duration_ms: float = 0.0
    step: int | None = None
    attempt: int | None = None


@dataclass(slots=True, kw_only=True)
class StepEvent(Event):
    """A nested graph, or a step that `observe.span` or `@observe.step` records."""

    kind: ClassVar[str] = "step"

    step_name: str = ""
    input: dict[str, Any] = field(default_factory=dict)
    output: dict[str, Any] = field(default_factory=dict)
    duration_ms: float = 0.0
    workflow: bool = False
    """True for a nested graph, False for a single step."""


@dataclass(slots=True, kw_only=True)
class RetrievalEvent(Event):
    """A retriever call. Each document is ``{text, metadata, score}``."""

    kind: ClassVar[str] = "retrieval"

    query: str = ""
    documents: list[dict[str, Any]] = field(default_factory=list)
    latency_ms: float = 0.0


@dataclass(slots=True, kw_only=True)
class EmbeddingEvent(Event):
    """A call of the embeddings model `model`. The vectors are not recorded."""

    kind: ClassVar[str] = "embedding"

    model: str = ""
    input: dict[str, Any] = field(default_factory=dict)
    output: dict[str, Any] = field(default_factory=dict)
    latency_ms: float = 0.0


@dataclass(slots=True, kw_only=True)
class MemoryEvent(Event):
    """A read from or write to a LangGraph store or a message history."""

    kind: ClassVar[str] = "memory"

    write: bool = False
    input: dict[str, Any] = field(default_factory=dict)
    output: dict[str, Any] = field(default_factory=dict)
    latency_ms: float = 0.0


@dataclass(slots=True, kw_only=True)
class CustomEvent(Event):
    """A `dispatch_custom_event`, or an interrupt or resume whose payload is not user-visible text."""

    kind: ClassVar[str] = "custom"

    payload: dict[str, Any] = field(default_factory=dict)


@renamed_field("said", "messages")
@dataclass(slots=True)
class Turn:
    """One turn of a conversation: a root run and all runs below it.

    Attributes:
        messages: messages that this turn adds, oldest first: imported history, the user's messages, and system
            messages in the middle of the conversation.
        events: events in the order of their start, parents before children.
        answer: the answer that the user read; None if there was none.
        agentic: the root run is a chain, an agent or a graph rather than a bare model.
        graph: the root run is a LangGraph graph, even if none of its nodes ran.
        context: texts of this turn's retrievals.
        partial: this is one part of a turn that is delivered in parts (`submission="incremental"`).
        active_span: the span of OpenTelemetry in which the turn began; None if there was none.
    """

    run_id: str
    conversation: Conversation
    name: str = ""
    agent_name: str = ""
    status: Status = "completed"
    started_ns: int = 0
    ended_ns: int = 0
    messages: list[ChatMessage] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    answer: ChatMessage | None = None
    agentic: bool = True
    graph: bool = False
    context: str | None = None
    model: str | None = None
    partial: bool = False
    active_span: ActiveSpan | None = None


@dataclass(slots=True)
class Action:
    """A request that is not part of a conversation, from `identify_user`, `log_rating` and similar functions.

    `body` holds the arguments of the SDK's method for `endpoint`, with its snake_case names. `created_ns` is in
    nanoseconds since the epoch.
    """

    endpoint: Literal["users", "organizations", "ratings", "events"]
    body: dict[str, Any]
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    created_ns: int = field(default_factory=_now_ns)


Item: TypeAlias = "Turn | Event | Action"
"""The type of items that the assembler passes to exporters."""


def __getattr__(name: str) -> Any:
    if name == "Said":
        warn_renamed("gati.events.Said", "gati.events.ChatMessage")
        return ChatMessage
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
