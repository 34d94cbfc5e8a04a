"""Records: small immutable snapshots that callbacks make in the user's thread.

The handler creates them, the buffer carries them, the assembler reads them. They never reference
the user's objects: strings are shared, containers are copied, everything else is converted to plain
values. Times (`at`) are `time.perf_counter_ns` of this process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from uuid import UUID

    from gati.events import Prompt

CONVERSATION_KEYS = ("conversation_id", "thread_id", "session_id", "langfuse_session_id")
"""Keys that hold a conversation's id, in order of precedence: gati's own, then those of other tools."""
USER_KEYS = ("user_id", "langfuse_user_id")
AUTH_USER_KEYS = ("langgraph_auth_user_id",)
"""Keys in which LangGraph Server puts the user that it authenticated. Used if no other source names a user."""
ORGANIZATION_KEYS = ("organization_id",)
IDENTITY_KEYS = frozenset((*CONVERSATION_KEYS, *USER_KEYS, *AUTH_USER_KEYS, *ORGANIZATION_KEYS))

USER_ROLES = frozenset({"human", "HumanMessageChunk", "user"})
"""Values of `Message.role` for a user's message: LangChain's types and OpenAI's roles."""
ASSISTANT_ROLES = frozenset({"ai", "AIMessageChunk", "assistant"})
SYSTEM_ROLES = frozenset({"system", "SystemMessageChunk", "developer"})
TOOL_ROLES = frozenset({"tool", "ToolMessageChunk", "function"})
MESSAGE_TYPES = USER_ROLES | ASSISTANT_ROLES | SYSTEM_ROLES | TOOL_ROLES | {"remove"}
"""Values of `type` that make a dict a message. A dict with `role` may have any role, as a `ChatMessage` may."""
PAIR_ROLES = frozenset({"human", "user", "ai", "assistant", "system", "developer"})
"""Roles of the pairs that LangChain accepts as messages, such as `("user", "Hi")`."""

INTERNAL = "gati_internal"
"""Metadata key with which `observe.internal` and programs mark runs whose text is not for the user."""
INTERNAL_MARKERS = (INTERNAL, "lc_internal_call", "lc_source")
"""Metadata keys of model calls whose text is not for the user: gati's own, then those of LangChain's middleware."""

ACTIVE_SPAN = "gati_active_span"
"""Metadata key of a root run that holds the active span of OpenTelemetry: `<trace id>-<span id>-<flags>`."""

MESSAGES = "messages"
"""Key of the messages in the state of most graphs."""

COMMAND = "__command__"
"""Key of the one-entry dict that represents LangGraph's `Command` in a snapshot."""

DECISION = "decision"
"""Role of a decision model's input, and the key of its answers in the answer's `Message.additional`."""


class ObjectName(str):
    """The name of an object's type, which stands for an object that cannot be copied: `<module.Class>`."""

    __slots__ = ()


UNSEEN_START = "unseen start"
"""`RunStarted.extra` of a model whose end was reported without its start, at the time of the end."""


STREAMED = "streamed"
"""`RunStarted.extra` of a step that is a generator. Its output is what it yielded: texts are joined."""


class Message(NamedTuple):
    """A chat message at the time of the callback.

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
        """Return role and content, and name, tool calls, tool call id and status if set."""
        result = {"role": self.role, "content": self.content}
        for key in ("name", "tool_calls", "tool_call_id", "status"):
            if value := getattr(self, key):
                result[key] = value
        return result


class ErrorInfo(NamedTuple):
    """An exception's type name, message and kind.

    `control` names exceptions that are control flow, not errors: "interrupt", "drained", "parent_command",
    "closed" (GeneratorExit), "cancelled", "keyboard"; None for a real error. `payload` holds an interrupt's values,
    or the reason for which a graph was drained.
    """

    type: str
    message: str
    control: str | None = None
    payload: Any = None


class Scope(NamedTuple):
    """Values that `with observe.conversation(...)` sets for the runs inside it."""

    conversation_id: str | None = None
    user_id: str | None = None
    organization_id: str | None = None
    properties: dict[str, Any] | None = None
    system_prompt: Prompt | None = None
    product_id: str | None = None


class TemplateText(NamedTuple):
    """One text block of a template.

    `format` is "f-string", "jinja2" or "mustache", "literal" for text without variables, or "" if
    the template itself is not known (few-shot).
    """

    text: str
    format: str


class Template(NamedTuple):
    """The messages of a prompt template: `RunStarted.extra` of a prompt.

    `system` has an entry per system message, each with its text blocks; `user` an entry per user
    message. `variables` are the template's input variables, `partials` the
    values bound beforehand (callables are left out). `name` is the prompt's own name, `hub` its
    repository (``owner/repo``).
    """

    system: tuple[tuple[TemplateText, ...], ...]
    variables: tuple[str, ...] = ()
    partials: dict[str, Any] | None = None
    name: str | None = None
    hub: str | None = None
    user: tuple[tuple[TemplateText, ...], ...] = ()


class RunStarted(NamedTuple):
    """A run started. `kind`: chain, prompt, parser, model, tool, retriever, or the kind of a user-defined span.

    The whole `metadata` is set for roots only, `inputs` for roots and for programs directly below a step, and `scope` for
    roots and, with a `configurable`, for runs directly below a step. `extra` is a prompt's template, a tool's call
    id, `STREAMED` of a step, the state that the first node of a root graph received, or a weak reference to the task that awaits a model without an enclosing run. `configurable` holds ids found
    by the first runs below a root, or by a model that is a root.
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


class RepeatedMessages(NamedTuple):
    """The messages of a call that earlier calls had.

    `answer_id` and `answer_text` (a hash; None if it is not a text) are those of the last one. `lengths` are the lengths
    of the first ones: programs clear or summarize the oldest messages first.
    """

    answer_id: str | None
    answer_text: int | None
    lengths: tuple[int, ...]


class ModelCall(NamedTuple):
    """`RunStarted.inputs` of a model: its system texts and its new messages.

    `total` is the number of messages of the call. `messages` are those at its end that no earlier
    call had. `repeats` describes the others.
    """

    system: tuple[Any, ...]
    messages: tuple[Message, ...]
    total: int
    params: dict[str, Any] | None = None
    repeats: RepeatedMessages | None = None


class ModelResult(NamedTuple):
    """`RunEnded.output` of a model. `messages` are the candidates of the first prompt."""

    messages: tuple[Message, ...]
    llm_output: dict[str, Any] | None = None


class RunEnded(NamedTuple):
    """A run succeeded. `inputs` is set only if it was not available at the start (streamed chains)."""

    run_id: UUID
    at: int
    output: Any = None
    inputs: Any = None


class RunFailed(NamedTuple):
    """A run ended with an exception. `output` is the partial output.

    `streamed` is set for roots only: the numbers of pieces that models had streamed so far, by `UUID.int` of their
    runs. Models may go on after their root has ended.
    """

    run_id: UUID
    at: int
    error: ErrorInfo
    output: Any = None
    inputs: Any = None
    streamed: dict[int, int] | None = None


class FirstToken(NamedTuple):
    """The first chunk of a streamed answer. `pieces` keeps growing until the run ends."""

    run_id: UUID
    at: int
    pieces: list[str]


class Custom(NamedTuple):
    """A call of `dispatch_custom_event` inside a run."""

    run_id: UUID
    name: str
    at: int
    data: Any


class GraphState(NamedTuple):
    """LangGraph reported that a graph was interrupted or resumed."""

    run_id: UUID | None
    state: str
    at: int
    checkpoint_ns: str
    interrupts: tuple[Any, ...] = ()
    status: str = ""
    """LangGraph's name of the pause: `interrupt_before` and `interrupt_after` are static ones."""


class RepeatedHistory(NamedTuple):
    """The messages that a root's input repeats, up to its last answer.

    `roles` and `texts` (hashes) are those of its messages, or of its first and last ones if `is_whole` is
    False. `answer_id` is the id of the last answer, if it has one.
    """

    roles: tuple[str, ...]
    texts: tuple[int, ...]
    is_whole: bool
    answer_id: str | None


class HistoryRead(NamedTuple):
    """The input of a root without a conversation id repeats a history."""

    run_id: UUID
    history: RepeatedHistory


class ManualEvent(NamedTuple):
    """An event or action reported by the user (`observe.track_event`, `log_rating`).

    `run_id` is the enclosing run, if the item belongs to it or to its conversation. `configurable` holds the ids that
    the enclosing run's configuration names.
    """

    item: Any
    scope: Scope | None = None
    run_id: UUID | None = None
    configurable: dict[str, Any] | None = None


class Gap(NamedTuple):
    """Records were dropped because the buffer was full; open turns are incomplete."""

    lost: int


Record: TypeAlias = (
    "RunStarted | RunEnded | RunFailed | FirstToken | Custom | GraphState | HistoryRead | ManualEvent | Gap"
)
