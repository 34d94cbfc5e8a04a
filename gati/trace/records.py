"""What a callback leaves behind: small immutable values, made in the user's thread.

The handler writes them, the buffer carries them, the assembler reads them. They hold no
object of the user's: strings are shared, containers are copied, all else is described.
Times (`at`) are `time.perf_counter_ns` of this process.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

CONVERSATION_KEYS = ("conversation_id", "thread_id", "session_id", "langfuse_session_id")
"""Names under which programs keep a conversation's id, first hit wins: ours, then the ecosystem's."""
USER_KEYS = ("user_id", "langfuse_user_id")
ORGANIZATION_KEYS = ("organization_id",)
IDENTITY_KEYS = frozenset((*CONVERSATION_KEYS, *USER_KEYS, *ORGANIZATION_KEYS))

COMMAND = "__command__"
"""Key of the one-entry dict that stands for LangGraph's `Command` in a snapshot."""


class Message(NamedTuple):
    """A chat message as it stood when a callback saw it.

    `role` is LangChain's `type` (system, human, ai, tool, …). `content` is a text or a list of
    plain blocks. `usage` and `response` are LangChain's `usage_metadata` and `response_metadata`.
    """

    role: str
    content: Any
    id: str | None = None
    name: str | None = None
    tool_calls: tuple[Any, ...] = ()
    invalid_tool_calls: tuple[Any, ...] = ()
    tool_call_id: str | None = None
    status: str | None = None
    additional: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None
    response: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """As a reader wants it: role and content, and what else there is but bookkeeping."""
        told = {"role": self.role, "content": self.content}
        for key in ("name", "tool_calls", "tool_call_id", "status"):
            if value := getattr(self, key):
                told[key] = value
        return told


class ErrorInfo(NamedTuple):
    """An exception without the exception: its type's name, its text, and its kind.

    `control` names control flow that is no error: "interrupt", "parent_command", "closed"
    (GeneratorExit), "cancelled", "keyboard"; None for a real error.
    """

    type: str
    message: str
    control: str | None = None
    payload: Any = None


class Scope(NamedTuple):
    """What `with observe.conversation(...)` says of the runs inside it."""

    conversation_id: str | None = None
    user_id: str | None = None
    organization_id: str | None = None
    properties: dict[str, Any] | None = None
    system_prompt: Any = None


class TemplateText(NamedTuple):
    """One text block of a template. `format`: "f-string", "jinja2", "mustache", "literal" for a
    text without variables, "" when the template itself is not known (few-shot)."""

    text: str
    format: str


class Template(NamedTuple):
    """A prompt template, as far as it makes system messages: `RunStarted.extra` of a prompt.

    `system` has an entry per system message, each with its text blocks. `variables` are the
    template's input variables, `partials` the values bound beforehand (callables are left out).
    `name` is the prompt's own, `hub` its repository (``owner/repo``).
    """

    system: tuple[tuple[TemplateText, ...], ...]
    variables: tuple[str, ...] = ()
    partials: dict[str, Any] | None = None
    name: str | None = None
    hub: str | None = None


class RunStarted(NamedTuple):
    """A run began. `kind`: chain, prompt, parser, model, tool, retriever, or a span of the user's own.

    `inputs`, `scope` and the whole `metadata` only for roots. `extra`: a prompt's template, a
    tool's call id. `configurable`: ids found by the first run below a root.
    """

    run_id: UUID
    parent_id: UUID | None
    kind: str
    name: str
    at: int
    inputs: Any = None
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] | None = None
    extra: Any = None
    scope: Scope | None = None
    configurable: dict[str, Any] | None = None


class ModelCall(NamedTuple):
    """`RunStarted.inputs` of a model: its system texts and the messages not seen before.

    `total` is the number of messages of the call, `messages` its new tail.
    """

    system: tuple[Any, ...]
    messages: tuple[Message, ...]
    total: int
    params: dict[str, Any] | None = None


class ModelResult(NamedTuple):
    """`RunEnded.output` of a model. `messages` are the candidates of the first prompt."""

    messages: tuple[Message, ...]
    llm_output: dict[str, Any] | None = None


class RunEnded(NamedTuple):
    """A run ended well. `inputs` only where the start could not know them (streamed chains)."""

    run_id: UUID
    at: int
    output: Any = None
    inputs: Any = None


class RunFailed(NamedTuple):
    """A run ended with an exception; `output` is what there was of an answer."""

    run_id: UUID
    at: int
    error: ErrorInfo
    output: Any = None
    inputs: Any = None


class FirstToken(NamedTuple):
    """The first piece of a streamed answer. `pieces` keeps growing until the run ends."""

    run_id: UUID
    at: int
    pieces: list[str]


class Custom(NamedTuple):
    """`dispatch_custom_event` inside a run."""

    run_id: UUID
    name: str
    at: int
    data: Any


class GraphState(NamedTuple):
    """LangGraph's own news of a graph: interrupted or resumed."""

    run_id: UUID | None
    state: str
    at: int
    checkpoint_ns: str
    interrupts: tuple[Any, ...] = ()
    status: str = ""
    """LangGraph's word for the pause: `interrupt_before` and `interrupt_after` are static ones."""


class ManualEvent(NamedTuple):
    """An event or action that the user told us by hand (`observe.track_event`, `log_rating`),
    and the run that it was told in."""

    item: Any
    scope: Scope | None = None
    run_id: UUID | None = None


class Gap(NamedTuple):
    """Records were refused here because the buffer was full; open turns are incomplete."""

    lost: int


Record: TypeAlias = "RunStarted | RunEnded | RunFailed | FirstToken | Custom | GraphState | ManualEvent | Gap"
