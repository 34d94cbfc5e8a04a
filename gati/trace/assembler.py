"""Records → turns. Owned by one background thread, so it needs no locks.

It keeps the runs that are open, closes a trace when its root has ended and nobody below is
left, and hands out the turn. Every container here has a bound.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from time import perf_counter_ns, time_ns
from typing import TYPE_CHECKING, Any

from gati.events import Event, Item
from gati.trace.conversation_state import ConversationStates
from gati.trace.records import (
    Custom,
    FirstToken,
    Gap,
    GraphState,
    ManualEvent,
    Record,
    RunEnded,
    RunFailed,
    RunStarted,
)
from gati.trace.run_tree import Run, Trace, appended
from gati.trace.turn_builder import Options, TurnBuilder, complete_manual_event

if TYPE_CHECKING:
    from uuid import UUID

    from gati.events import Conversation, Turn

LINGER_NS = 2_000_000_000
"""How long a trace whose root was cut off waits for runs below that have not ended: a stream
closed early ends its children after the root, a cancelled call never ends."""
_PARTS_OF_CHAINS = frozenset({"prompt", "parser"})
"""Kinds of runs that make no turn by themselves: a prompt unlinked_prompts or an answer parsed outside of a chain."""
REMEMBERED_RUNS = 20_000
"""Most ended runs remembered, so that what starts or ends late finds its turn."""


class Assembler:
    """Builds run trees from records.

    Args:
        options: what the settings say of builder turns.
        turn_timeout: seconds without news after which an open trace is handed out unfinished.
        on_abandoned: manual_events of each run that was handed out without an end.
    """

    def __init__(
        self,
        options: Options,
        turn_timeout: float = 3600.0,
        on_abandoned: Callable[[UUID], object] = lambda run_id: None,
    ) -> None:
        self.options = options
        self.on_abandoned = on_abandoned
        self.turn_timeout_ns = int(turn_timeout * 1e9)
        self.states = ConversationStates()
        # Keyed by `UUID.int`: hashing a UUID itself runs Python code.
        self._runs: dict[int, Run] = {}
        self._traces: dict[int, Trace] = {}
        self._ended: OrderedDict[int, tuple[str, Conversation]] = OrderedDict()
        self._lingering: dict[int, Trace] = {}
        self._offset = time_ns() - perf_counter_ns()
        self._finished: list[Item] = []
        self._gap_until = 0
        self._handlers: dict[type, Callable[[Any], None]] = {
            RunStarted: self._started,
            RunEnded: self._ended_well,
            RunFailed: self._failed,
            FirstToken: self._first_token,
            Custom: self._custom_event,
            GraphState: self._graph_state,
            ManualEvent: self._manual_event,
            Gap: self._gap,
        }

    @property
    def open_turns(self) -> int:
        """Turns that have begun and are not yet handed out."""
        return len(self._traces)

    def feed(self, records: Iterable[Record]) -> list[Item]:
        """Take records in the order of their builder; give back what is finished.

        What was finished before a fault is given back by the next call.
        """
        self._offset = time_ns() - perf_counter_ns()
        take = self._handlers
        for record in records:
            take[type(record)](record)
        return self._take_done()

    def tick(self, now: int) -> list[Item]:
        """Hand out traces that wait in vain; `now` is `perf_counter_ns`."""
        for trace in [t for t in self._lingering.values() if now - t.touched > LINGER_NS]:
            self._finish(trace)
        for trace in [t for t in self._traces.values() if now - t.touched > self.turn_timeout_ns]:
            self._finish(trace)
        return self._take_done()

    def settle(self) -> list[Item]:
        """Hand out every trace whose root has ended, whoever below has not."""
        for trace in list(self._lingering.values()):
            self._finish(trace)
        return self._take_done()

    def drain(self) -> list[Item]:
        """Hand out everything, open traces as unfinished."""
        while self._traces:
            for trace in list(self._traces.values()):
                self._finish(trace)
        return self._take_done()

    # -- records ------------------------------------------------------------------------------

    def _started(self, record: RunStarted) -> None:
        key = record.run_id.int
        if key in self._runs or key in self._ended:
            return
        parent_id = record.parent_id
        above = self._runs.get(parent_id.int) if parent_id is not None else None
        run = Run(record, above)
        if above is None:
            late = self._ended.get(parent_id.int) if parent_id is not None else None
            if parent_id is not None and late is None and record.at < self._gap_until:
                return  # what it belongs to was lost in the gap: a turn is manual_events whole or not at all
            trace = Trace(run, record.scope, self._offset)
            trace.late = late
            self._traces[key] = trace
        else:
            trace = above.trace
            above.children = appended(above.children, run)
            trace.open += 1
            trace.size += 1
            trace.touched = record.at
            if trace.configurable is None:
                trace.configurable = record.configurable
        run.trace = trace
        self._runs[key] = run

    def _ended_well(self, record: RunEnded) -> None:
        run = self._runs.get(record.run_id.int)
        if run is None or run.ended is not None:
            return
        run.output = record.output
        if record.inputs is not None and run.inputs is None:
            run.inputs, run.streamed = record.inputs, True
        self._close(run, record.at)

    def _failed(self, record: RunFailed) -> None:
        run = self._runs.get(record.run_id.int)
        if run is None or run.ended is not None:
            return
        run.error = record.error
        run.output = record.output
        if record.inputs is not None and run.inputs is None:
            run.inputs, run.streamed = record.inputs, True
        self._close(run, record.at)

    def _first_token(self, record: FirstToken) -> None:
        run = self._runs.get(record.run_id.int)
        if run is not None and run.first_token is None:
            run.first_token = record.at
            run.pieces = record.pieces

    def _custom_event(self, record: Custom) -> None:
        run = self._runs.get(record.run_id.int)
        if run is not None:
            run.custom_events = appended(run.custom_events, record)

    def _graph_state(self, record: GraphState) -> None:
        run = self._runs.get(record.run_id.int) if record.run_id is not None else None
        if run is None:
            return
        trace = run.trace
        if record.state == "resumed":
            trace.resumed = True
        elif record.interrupts:
            trace.interrupts.extend(record.interrupts)
        elif record.status not in trace.pauses:
            trace.pauses.append(record.status)

    def _manual_event(self, record: ManualEvent) -> None:
        item = record.item
        run = self._runs.get(record.run_id.int) if record.run_id is not None else None
        if not isinstance(item, Event):
            self._finished.append(item)
        elif run is not None and not item.conversation_id and not item.run_id:
            run.manual_events = appended(run.manual_events, item)
        else:
            self._finished.append(complete_manual_event(item, record.scope, self.options))

    def _gap(self, record: Gap) -> None:
        for kept in (self._traces, self._lingering, self._runs):
            kept.clear()
        self._gap_until = perf_counter_ns() + self.turn_timeout_ns

    # -- lifecycle ------------------------------------------------------------------------------

    def _close(self, run: Run, at: int) -> None:
        run.ended = at
        trace = run.trace
        trace.open -= 1
        trace.touched = at
        if trace.open == 0:
            if trace.root.ended is not None:
                self._finish(trace)
        elif run is trace.root:
            if run.error is None and not run.streamed:
                self._finish(trace, self._split_off(trace))
            else:
                self._lingering[run.id.int] = trace
        elif self.options.incremental and trace.root.ended is None and trace.late is None:
            self._hand_out(trace, run)

    def _hand_out(self, trace: Trace, run: Run) -> None:
        """The part of an open turn that `run` was the last to complete, if it can go by itself."""
        top = run
        while top.parent is not None and top.parent is not trace.root:
            top = top.parent
        if top.ended is None or any(below.ended is None for below in top.walk()):
            return
        if trace.builder is None:
            trace.builder = TurnBuilder(trace, self.options, self.states)
        part = trace.builder.part(top)
        if part is not None:
            part.partial = True
            self._finished.append(part)

    def _split_off(self, trace: Trace) -> list[Trace]:
        """Takes the work out of a trace that goes on after its root ended well (a task that nobody
        waited for): it will be a later part of the turn."""
        split_off = []
        for run in list(trace.root.walk()):
            if run.ended is None and run.parent is not None and all(above.ended is not None for above in run.above()):
                run.parent.children.remove(run)
                run.parent = None
                split_off.append(Trace(run, trace.scope, trace.offset))
        for later in split_off:
            self._traces[later.root.id.int] = later
            later.size = later.open = 0
            for run in later.root.walk():
                run.trace = later
                later.size += 1
                later.open += run.ended is None
            trace.size -= later.size
            trace.open -= later.open
            later.touched = trace.touched
        return split_off

    def _finish(self, trace: Trace, split_off: Sequence[Trace] = ()) -> None:
        self._traces.pop(trace.root.id.int, None)
        self._lingering.pop(trace.root.id.int, None)
        if trace.root.kind in _PARTS_OF_CHAINS and trace.size == 1:
            self._forget([trace.root])
            self.states.unlinked_prompts.add(trace.root)
            return
        turn = self._build_rest(trace)
        whose = (turn.run_id, turn.conversation)
        for later in split_off:
            later.late = whose
        runs = list(trace.root.walk())
        for run in runs:
            self._ended[run.id.int] = whose
        self._forget(runs)
        while len(self._ended) > REMEMBERED_RUNS:
            self._ended.popitem(last=False)
        self._finished.append(turn)

    def _forget(self, runs: list[Run]) -> None:
        for run in runs:
            self._runs.pop(run.id.int, None)
            if run.ended is None:
                self.on_abandoned(run.id)
            run.unlink()

    def _build_rest(self, trace: Trace) -> Turn:
        builder = trace.builder or TurnBuilder(trace, self.options, self.states)
        turn = builder.turn() if trace.late is None else builder.late_part()
        turn.partial = trace.builder is not None or trace.late is not None
        return turn

    def _take_done(self) -> list[Item]:
        done, self._finished = self._finished, []
        return done
