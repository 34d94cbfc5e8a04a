"""The run tree: runs built from records, and the trace they form."""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from gati.trace.chat_messages import as_message
from gati.trace.records import INTERNAL, ModelCall

if TYPE_CHECKING:
    from uuid import UUID

    from gati.events import Action, Conversation, Event
    from gati.trace.records import Custom, ErrorInfo, Message, RepeatedHistory, RunStarted, Scope

T = TypeVar("T")

HIDDEN_TAG = "langsmith:hidden"
NODE_TAG = "graph:step:"
NESTED_KEY = "gati_nested"
_started = attrgetter("started")
_EMPTY: Any = ()
"""Shared initial value of a run's lists. Most runs never fill them, and each list that exists makes the garbage
collector, which stops the program's threads too, slower."""


def appended(items: list[T], item: T) -> list[T]:
    """Append `item` to `items` and return the list; replace the shared empty value by a new list."""
    if not items:
        return [item]
    items.append(item)
    return items


class Run:
    """A LangChain run or a user-defined span. Times are `perf_counter_ns`.

    Attributes:
        pieces_read: number of `pieces` at the time when the root ended with an exception, if this run was still open.
        renamed: replaces the id in what is delivered, if another run had the same id.
        streamed: the input of a chain arrived with its end, because the chain was read as a stream.
        updates: the state updates in the output, once `outputs.updates_by` was asked for them.
    """

    __slots__ = (
        "attempt", "children", "custom_events", "ended", "error", "extra", "first_token", "id", "inputs", "is_task", "kind",
        "manual_events", "metadata", "name", "node", "output", "parent", "parent_id", "pieces", "pieces_read", "renamed",
        "started", "step", "streamed", "tags", "trace", "updates",
    )  # fmt: skip

    def __init__(self, record: RunStarted, parent: Run | None) -> None:
        self.id: UUID = record.run_id
        self.parent_id = record.parent_id
        self.parent = parent
        self.kind = record.kind
        self.name = record.name
        self.started = record.at
        self.ended: int | None = None
        self.inputs = record.inputs
        self.output: Any = None
        self.tags = record.tags
        self.metadata: dict[str, Any] = record.metadata or {}
        self.extra = record.extra
        self.error: ErrorInfo | None = None
        self.first_token: int | None = None
        self.pieces: list[str] | None = None
        self.pieces_read: int | None = None
        self.renamed: str | None = None
        self.children: list[Run] = _EMPTY
        self.custom_events: list[Custom] = _EMPTY
        self.manual_events: list[Event] = _EMPTY
        self.is_task = False
        self.node, self.step = self._node_and_step()
        self.attempt: int | None = None
        self.streamed = False
        self.updates: list[dict[str, Any]] | None = None
        self.trace: Trace

    @property
    def key(self) -> str:
        """The id of the run in what is delivered."""
        return self.renamed or str(self.id)

    def unlink(self) -> None:
        """Break the parent/child reference cycle so the runs are freed without the garbage collector."""
        self.parent = None
        self.children = _EMPTY
        del self.trace

    def _node_and_step(self) -> tuple[str | None, int | None]:
        """Return name and step of the LangGraph node or task that this run executes, else (None, None).

        Example: a run tagged ``graph:step:3`` with ``langgraph_node="agent"`` → ``("agent", 3)``.
        """
        for tag in self.tags:
            if tag.startswith(NODE_TAG):
                step = tag[len(NODE_TAG) :]
                return str(self.metadata.get("langgraph_node") or self.name), int(step) if step.isdigit() else None
        name = self.metadata.get("langgraph_node")
        if name is None or name != self.name or self.kind != "chain":
            return None, None
        # A task has no such tag, but a checkpoint namespace of its own. Runs inside a node share the node's.
        parent_ns = self.parent.metadata.get("langgraph_checkpoint_ns") if self.parent is not None else None
        if parent_ns is None or parent_ns == self.metadata.get("langgraph_checkpoint_ns"):
            return None, None
        self.is_task = True
        number = self.metadata.get("langgraph_step")
        return str(name), number if isinstance(number, int) else None

    @property
    def has_nodes(self) -> bool:
        """True for a graph of which a node has run."""
        return any(child.node is not None for child in self.children)

    @property
    def hidden(self) -> bool:
        """True if the run is tagged as internal plumbing."""
        return HIDDEN_TAG in self.tags

    @property
    def interrupted(self) -> bool:
        """True if the run stopped to wait for human input."""
        return self.error is not None and self.error.control == "interrupt"

    def walk(self) -> Iterator[Run]:
        """Yield this run and all runs below it, parents first, siblings by start."""
        stack = [self]
        while stack:
            run = stack.pop()
            yield run
            if run.children:
                stack.extend(run.children[::-1])

    def ancestors(self) -> Iterator[Run]:
        """Yield the parent, its parent and so on, up to the root."""
        run = self.parent
        while run is not None:
            yield run
            run = run.parent


class Identity(NamedTuple):
    """What names the conversation of a run in a root step: the scope around it, if it is directly in a step, and its config."""

    scope: Scope | None = None
    configurable: dict[str, Any] | None = None


class Trace:
    """A root run and all runs below it: one turn, open until every run has ended.

    Attributes:
        id: id of the turn: that of the root run.
        first_attempt: id of the turn's first attempt, if LangGraph Server repeats it.
        actions: ratings and business events that were reported inside, and belong to the conversation.
        offset: add it to a run's times to get nanoseconds since the epoch.
        open: number of runs that have not ended.
        last_record_at: time of the last record (`perf_counter_ns`).
        memory: see `turn_memory.Holder`.
        interrupts: interrupts reported by graphs that were passed the handler, with the graph's run.
        pauses: static interrupts, in LangGraph's words; no run's end reports them.
        ended_turn: run id and conversation of the turn that had ended before this work started or
            finished; None for a turn of its own.
        identities: who the runs directly in a root step belong to (`served_conversations`).
        history: the messages that the root's input repeats; recorded without a conversation id only.
        serves_several: the programs of several conversations have been split off; what is left is nobody's words.
        without_id: the program gave the turn no conversation id.
        walked: see `runs`.
    """

    __slots__ = (
        "actions", "configurable", "ended_turn", "first_attempt", "history", "id", "identities", "interrupts", "last_record_at", "memory",
        "offset", "open", "pauses", "resumed", "root", "scope", "serves_several", "size", "walked", "without_id",
    )  # fmt: skip

    def __init__(self, root: Run, scope: Scope | None, offset: int) -> None:
        self.id = root.key
        self.root = root
        self.first_attempt: str | None = None
        self.actions: list[Action] = _EMPTY
        self.scope = scope
        self.configurable: dict[str, Any] | None = None
        self.offset = offset
        self.open = 1
        self.size = 1
        self.memory = 0
        self.last_record_at = root.started
        self.interrupts: list[tuple[Run, Any]] = []
        self.pauses: list[tuple[Run, str]] = []
        self.resumed = False
        self.serves_several = False
        self.ended_turn: tuple[str, Conversation] | None = None
        self.history: RepeatedHistory | None = None
        self.without_id = False
        self.walked: list[Run] = _EMPTY
        self.identities: dict[Run, Identity] | None = None

    @property
    def is_graph(self) -> bool:
        """True if the root is a LangGraph graph."""
        root = self.root
        # LangGraph sets this metadata key on every graph, also on one that a subclass or an agent factory built.
        return root.kind == "chain" and (
            "ls_integration" in root.metadata or any(run.node is not None for run in root.children)
        )

    @property
    def is_internal(self) -> bool:
        """True if the program marked the root as internal (`observe.internal`): a title, a judge."""
        return bool(self.root.metadata.get(INTERNAL))

    def runs(self) -> list[Run]:
        """Return all runs as `Run.walk` yields them. The list is kept until the number of runs changes."""
        if len(self.walked) != self.size:
            self.walked = list(self.root.walk())
        return self.walked

    def models(self) -> list[Run]:
        """Return the model runs by start."""
        return sorted([run for run in self.runs() if run.kind == "model"], key=_started)


def is_nested(trace: Trace) -> bool:
    """Return True if another program, which is recorded too, calls this graph as a part of its own turn.

    Example: a `RemoteGraph` that is a node, with the metadata ``{"gati_nested": True}``.
    """
    return trace.root.metadata.get(NESTED_KEY) in (True, "true")


def model_messages(run: Run) -> list[Message]:
    """Return the new messages of a model run. A model of the program's own may have reported them in any form."""
    if not isinstance(run.inputs, ModelCall):
        return []
    return [message for item in run.inputs.messages if (message := as_message(item)) is not None]


def state_of_first_node(trace: Trace) -> dict[Any, Any]:
    """Return the state that the first node of a graph received; {} if it is not known."""
    return next((run.extra for run in trace.runs() if run.node is not None and isinstance(run.extra, dict)), {})


def split_off_open_work(trace: Trace) -> list[Trace]:
    """Move the open runs of a trace whose root succeeded into traces of their own, and return these.

    A task that the root did not await becomes a later part of the turn.
    """
    return [
        split_off(trace, run)
        for run in list(trace.root.walk())
        if run.ended is None and run.parent is not None and all(r.ended is not None for r in run.ancestors())
    ]


def split_off(trace: Trace, run: Run) -> Trace:
    """Move a run and all runs below it into a trace of their own, and return it."""
    if run.parent is not None:
        run.parent.children.remove(run)
        run.parent = None
    part = Trace(run, trace.scope, trace.offset)
    part.size = part.open = 0
    for below in run.walk():
        below.trace = part
        part.size += 1
        part.open += below.ended is None
    trace.size -= part.size
    trace.open -= part.open
    part.last_record_at = trace.last_record_at
    for paused, moved in ((trace.interrupts, part.interrupts), (trace.pauses, part.pauses)):
        moved += [pause for pause in paused if pause[0].trace is part]
        paused[:] = [pause for pause in paused if pause[0].trace is trace]
    return part
