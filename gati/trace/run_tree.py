"""The run tree: runs as the records tell them, and the trace they make up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from uuid import UUID

    from gati.events import Conversation, Event
    from gati.trace.records import Custom, ErrorInfo, Message, RunStarted, Scope
    from gati.trace.turn_builder import TurnBuilder

T = TypeVar("T")

HIDDEN_TAG = "langsmith:hidden"
NODE_TAG = "graph:step:"
_EMPTY: Any = ()
"""Stands for an empty list until there is something to put in: most runs have none, and the garbage collector,
which stops the program's threads too, looks at each list."""


def appended(kept: list[T], one: T) -> list[T]:
    """The list with one more in it."""
    if not kept:
        return [one]
    kept.append(one)
    return kept


class Run:
    """One run of LangChain, or a span of the user's own. Times are `perf_counter_ns`.

    `streamed`: a chain whose input came with its end, because it was read as a stream.
    """

    __slots__ = (
        "attempt",
        "children",
        "custom_events",
        "ended",
        "error",
        "extra",
        "first_token",
        "id",
        "inputs",
        "is_task",
        "kind",
        "manual_events",
        "metadata",
        "name",
        "node",
        "output",
        "parent",
        "parent_id",
        "pieces",
        "started",
        "step",
        "streamed",
        "tags",
        "trace",
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
        self.children: list[Run] = _EMPTY
        self.custom_events: list[Custom] = _EMPTY
        self.manual_events: list[Event] = _EMPTY
        self.is_task = False
        self.node, self.step = self._as_node()
        self.attempt: int | None = None
        self.streamed = False
        self.trace: Trace

    def unlink(self) -> None:
        """Forget the runs above and below: without the ring all go at once, and the garbage collector has nothing to find."""
        self.parent = None
        self.children = _EMPTY
        del self.trace

    def _as_node(self) -> tuple[str | None, int | None]:
        """Name and step of the LangGraph node or task that this run is; (None, None) if it is none."""
        for tag in self.tags:
            if tag.startswith(NODE_TAG):
                step = tag[len(NODE_TAG) :]
                return str(self.metadata.get("langgraph_node") or self.name), int(step) if step.isdigit() else None
        name = self.metadata.get("langgraph_node")
        if name is None or name != self.name or self.kind != "chain":
            return None, None
        # A task has no tag of its own, but a place of its own, while what runs inside a node has the node's.
        above = self.parent.metadata.get("langgraph_checkpoint_ns") if self.parent is not None else None
        if above is None or above == self.metadata.get("langgraph_checkpoint_ns"):
            return None, None
        self.is_task = True
        number = self.metadata.get("langgraph_step")
        return str(name), number if isinstance(number, int) else None

    @property
    def hidden(self) -> bool:
        """Whether its maker marked it as plumbing."""
        return HIDDEN_TAG in self.tags

    @property
    def interrupted(self) -> bool:
        """Whether it stopped to ask a human."""
        return self.error is not None and self.error.control == "interrupt"

    def walk(self) -> Iterator[Run]:
        """This run and all below it, parents first, in the order of their starts."""
        stack = [self]
        while stack:
            run = stack.pop()
            yield run
            if run.children:
                stack.extend(run.children[::-1])

    def above(self) -> Iterator[Run]:
        """The runs above, nearest first."""
        run = self.parent
        while run is not None:
            yield run
            run = run.parent


class Trace:
    """A root run and all below it: one turn, open until the root has ended and nobody is left.

    Attributes:
        id: the root's.
        offset: what to add to a run's times to get nanoseconds since the epoch.
        open: number of runs that have not ended.
        touched: time of the last record (`perf_counter_ns`).
        interrupts: what humans were asked, as graphs that were handed the handler manual_events.
        pauses: static interrupts, in LangGraph's words; no run's end carries them.
        late: the turn (root id and conversation) that had ended when this work began.
        builder: the turn so far, where turns are handed out in parts.
    """

    __slots__ = (
        "builder",
        "configurable",
        "id",
        "interrupts",
        "late",
        "offset",
        "open",
        "pauses",
        "resumed",
        "root",
        "scope",
        "size",
        "touched",
    )  # fmt: skip

    def __init__(self, root: Run, scope: Scope | None, offset: int) -> None:
        self.id = str(root.id)
        self.root = root
        self.scope = scope
        self.configurable: dict[str, Any] | None = None
        self.offset = offset
        self.open = 1
        self.size = 1
        self.touched = root.started
        self.interrupts: list[Any] = []
        self.pauses: list[str] = []
        self.resumed = False
        self.late: tuple[str, Conversation] | None = None
        self.builder: TurnBuilder | None = None

    @property
    def is_graph(self) -> bool:
        """Whether the root is a graph of LangGraph: it says so by this key, whoever built it."""
        root = self.root
        return root.kind == "chain" and (
            "ls_integration" in root.metadata or any(run.node is not None for run in root.children)
        )

    def models(self) -> list[Run]:
        """Model runs by start."""
        return sorted((r for r in self.root.walk() if r.kind == "model"), key=lambda r: r.started)


def model_messages(run: Run) -> tuple[Message, ...]:
    """The messages that a model run was given anew."""
    return run.inputs.messages if run.inputs is not None else ()
