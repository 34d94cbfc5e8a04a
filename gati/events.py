"""What happened, as plain dataclasses: the middle of the house.

The assembler makes them from LangChain's runs, users may make them by hand
(`observe.track_event`), exporters turn them into what their destination takes.
Standard library only.

A number that is not known is ``None``; ``0`` means zero. Times are nanoseconds since
the epoch (``*_ns``), durations milliseconds as floats (``*_ms``), costs US dollars.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal, TypeAlias

from gati._deprecation import renamed_field, warn_renamed

Status: TypeAlias = Literal["completed", "error", "aborted", "waiting", "resumed", "unfinished"]
"""How a run ended. ``aborted``: stopped by the user or a timeout. ``waiting``: interrupted
for a human's answer. ``unfinished``: its end was never reported."""

ENVELOPE = ("event_type", "run_id", "run_name", "agent_name", "timestamp", "event_id", "parent_event_id")
"""Fields of the old backend's envelope; every other field of an event stands in ``data`` too."""

VARIABLE_MARK = re.compile(r"\{\{([^{}]{1,200})\}\}")
"""A ``{{variable}}`` mark in the content of a prompt's component."""

_INTERNAL = frozenset({"started_ns", "ended_ns", "data", *ENVELOPE})


def iso(ns: int) -> str:
    """Format nanoseconds since the epoch as ``YYYY-MM-DDTHH:MM:SS.mmmZ``; clamp times that have no such form."""
    seconds, rest = divmod(ns // 1_000_000, 1000)
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:03d}Z"
    except (ValueError, OverflowError, OSError):
        # A broken clock must not cost the event.
        return "1970-01-01T00:00:00.000Z" if ns < 0 else "9999-12-31T23:59:59.999Z"


@dataclass(slots=True)
class Usage:
    """Tokens of one model call, as the provider counted them.

    `input_tokens` includes the cached ones: ``input_tokens >= cache_read_tokens >= 0``.
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
    """What the provider sent, untouched."""


@dataclass(slots=True)
class PromptComponent:
    """One part of a system prompt; `content` may hold ``{{variable}}`` marks."""

    content: str
    name: str | None = None
    type: str = "system"
    source: str | None = None
    is_dynamic: bool = False
    external_id: str | None = None

    def render(self, variables: Mapping[str, str]) -> str:
        """Return the content with each mark replaced by its variable's value; unknown marks stay."""
        return VARIABLE_MARK.sub(lambda mark: variables.get(mark[1].strip(), mark[0]), self.content)


@dataclass(slots=True)
class Prompt:
    """A system prompt with its lineage.

    Attributes:
        text: the prompt as the model received it.
        external_id: name that stays when the text changes; the destination shows versions under it.
        components: the template's parts; empty when no template could be recovered.
        variables: values of the marks in the components.
    """

    text: str
    external_id: str | None = None
    components: list[PromptComponent] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Conversation:
    """Whose conversation it is; the result of the precedence rules of `trace.identity`."""

    id: str
    user_id: str = "anonymous"
    organization_id: str | None = None
    properties: dict[str, Any] = field(default_factory=dict)
    prompt: Prompt | None = None
    """A system prompt given explicitly by option, scope or metadata."""


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
    """Something that happened in a run. Base of all events, and usable by itself.

    Attributes:
        run_id: id of the root run (one per top-level invocation).
        event_id: the run's own id, so that a resend repeats it; random when made by hand.
        parent_event_id: id of the nearest shown event above.
        timestamp: ISO 8601; made from `started_ns`, else the time of creation.
        name: LangChain's name of the run.
        data: further values of the user's own.
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
        """The event as an existing GATI backend takes it: the envelope, and every other
        known field both at the top level and inside ``data``. Unknown values are left out."""
        own: dict[str, Any] = {}
        for item in fields(self):
            if item.name not in _INTERNAL:
                value = getattr(self, item.name)
                if value is not None and not (value in ("", [], {}) and item.name in _OPTIONAL):
                    own[item.name] = _plain(value)
        envelope = {name: getattr(self, name) for name in ENVELOPE}
        return {**envelope, **own, "data": {**own, **self.data}}


_OPTIONAL = frozenset({"name", "tags", "metadata"})


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
    """A root run began: one turn. `input` holds what is not already a user's text."""

    kind: ClassVar[str] = "agent_start"

    input: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class AgentEndEvent(Event):
    """A root run ended. Totals are sums over the turn's model calls, None if any is unknown
    and none is known."""

    kind: ClassVar[str] = "agent_end"

    output: dict[str, Any] = field(default_factory=dict)
    total_duration_ms: float = 0.0
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
        prompt: the user's text of the call. `system_prompt`: its system text, several joined
            with a blank line. `completion`: the answer's text.
        new_messages: messages of the call that stand nowhere else in the conversation.
        is_answer: the completion is the turn's answer.
        internal: summariser, router, title maker, sub-agent: never part of the chat.
        cached: the answer came from LangChain's cache and cost nothing.
    """

    kind: ClassVar[str] = "llm_call"

    model: str = ""
    prompt: str = ""
    system_prompt: str = ""
    completion: str = ""
    tokens_in: int | None = None
    tokens_out: int | None = None
    latency_ms: float = 0.0
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
    is_answer: bool = False
    internal: bool = False
    cached: bool = False


@dataclass(slots=True, kw_only=True)
class ToolCallEvent(Event):
    """One call of a tool. `handled`: it failed, and the program dealt with it."""

    kind: ClassVar[str] = "tool_call"

    tool_name: str = ""
    input: dict[str, Any] = field(default_factory=dict)
    output: dict[str, Any] = field(default_factory=dict)
    latency_ms: float = 0.0
    tool_call_id: str | None = None
    requested_by: str | None = None
    handled: bool | None = None

    def to_dict(self) -> dict[str, Any]:
        """As of `Event`, with both names by which readers of the old backend look."""
        wire = Event.to_dict(self)
        wire["data"] |= {"tool_input": self.input, "tool_output": self.output}
        return wire


@dataclass(slots=True, kw_only=True)
class NodeExecutionEvent(Event):
    """One execution of a LangGraph node or `@task`. States are what the node was given and
    what it changed, without the messages that stand elsewhere."""

    kind: ClassVar[str] = "node_execution"

    node_name: str = ""
    state_before: dict[str, Any] = field(default_factory=dict)
    state_after: dict[str, Any] = field(default_factory=dict)
    duration_ms: float = 0.0
    step: int | None = None
    attempt: int | None = None


@dataclass(slots=True, kw_only=True)
class StepEvent(Event):
    """A graph inside a graph, or a step of the user's own (`observe.step`)."""

    kind: ClassVar[str] = "step"

    step_name: str = ""
    input: dict[str, Any] = field(default_factory=dict)
    output: dict[str, Any] = field(default_factory=dict)
    duration_ms: float = 0.0
    workflow: bool = False
    """True for a nested graph, False for a single step."""


@dataclass(slots=True, kw_only=True)
class RetrievalEvent(Event):
    """One search of a retriever; each document is ``{text, metadata, score}``."""

    kind: ClassVar[str] = "retrieval"

    query: str = ""
    documents: list[dict[str, Any]] = field(default_factory=list)
    latency_ms: float = 0.0


@dataclass(slots=True, kw_only=True)
class EmbeddingEvent(Event):
    """Texts turned into vectors; the vectors themselves are not kept."""

    kind: ClassVar[str] = "embedding"

    input: dict[str, Any] = field(default_factory=dict)
    output: dict[str, Any] = field(default_factory=dict)
    latency_ms: float = 0.0


@dataclass(slots=True, kw_only=True)
class MemoryEvent(Event):
    """A read or a write of a store or a message history."""

    kind: ClassVar[str] = "memory"

    write: bool = False
    input: dict[str, Any] = field(default_factory=dict)
    output: dict[str, Any] = field(default_factory=dict)
    latency_ms: float = 0.0


@dataclass(slots=True, kw_only=True)
class CustomEvent(Event):
    """`dispatch_custom_event`, and interrupts and resumes that are no text a person saw."""

    kind: ClassVar[str] = "custom"

    payload: dict[str, Any] = field(default_factory=dict)


@renamed_field("said", "messages")
@dataclass(slots=True)
class Turn:
    """A root run and all below it: what a person said, what was done, what they were answered.

    Attributes:
        messages: messages that this turn adds, oldest first: imported history, the user's
            texts, system messages in mid conversation.
        events: what was done, by start; a parent stands before its children.
        answer: the text that the person saw; None if there was none.
        agentic: the root is a chain, an agent or a graph (not a bare model).
        graph: the root is a LangGraph graph, even if no node of it ran.
        context: texts of this turn's retrievals, for the answer.
        partial: delivered in parts (`submission="incremental"`); this is one of them.
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


@dataclass(slots=True)
class Action:
    """Something told to the destination beside conversations.

    `endpoint` is one of ``users``, ``organizations``, ``ratings``, ``events``; `body` holds the
    arguments in the SDK's snake_case names.
    """

    endpoint: Literal["users", "organizations", "ratings", "events"]
    body: dict[str, Any]
    id: str = field(default_factory=lambda: str(uuid.uuid4()))


Item: TypeAlias = "Turn | Event | Action"
"""What the assembler hands to the exporters."""


def __getattr__(name: str) -> Any:
    if name == "Said":
        warn_renamed("gati.events.Said", "gati.events.ChatMessage")
        return ChatMessage
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
