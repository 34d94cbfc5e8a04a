"""Assemble turns from records. One background thread owns the assembler, so it needs no locks.

The assembler keeps the open runs, closes a trace when its root and every run below have ended, and
returns the turn. Every container here is bounded.
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
from gati.trace.turn_builder import TurnBuilder, complete_manual_event, conversation_of

if TYPE_CHECKING:
    from uuid import UUID

    from gati.events import Conversation, Prompt, Turn
    from gati.options import Settings

LINGER_NS = 2_000_000_000
"""Time that a trace whose root was cut off waits for its open runs: a stream closed early ends its
children after the root, and a cancelled call never ends."""
_PARTS_OF_CHAINS = frozenset({"prompt", "parser"})
"""Kinds of roots that are not turns: a prompt rendered or an answer parsed outside of a chain."""
REMEMBERED_RUNS = 20_000
"""Ended runs remembered, so that runs that start or end late are added to their turn."""


class Assembler:
    """Builds run trees from records and turns from run trees.

    Args:
        settings: the options of `init`.
        on_abandoned: called with the id of each run that had not ended when its turn was returned.
        report_error: called with a place and an exception when a value of the user's is invalid.
    """

    def __init__(
        self,
        settings: Settings,
        on_abandoned: Callable[[UUID], object] = lambda run_id: None,
        report_error: Callable[[str, Exception], object] = lambda place, error: None,
    ) -> None:
        self.settings = settings
        self.on_abandoned = on_abandoned
        self.report_error = report_error
        self.turn_timeout_ns = int(settings.turn_timeout * 1e9)
        self.states = ConversationStates()
        self._incremental = settings.submission == "incremental"
        # Keyed by `UUID.int`: hashing a UUID itself runs Python code.
        self._runs: dict[int, Run] = {}
        self._traces: dict[int, Trace] = {}
        self._builders: dict[int, TurnBuilder] = {}
        self._ended: OrderedDict[int, tuple[str, Conversation]] = OrderedDict()
        self._lingering: dict[int, Trace] = {}
        self._offset = time_ns() - perf_counter_ns()
        self._finished: list[Item] = []
        self._gap_until = 0
        self.turns_begun = 0
        """Items that were begun: turns, parts of turns, and manual events and actions that stand alone."""
        self._handlers: dict[type, Callable[[Any], None]] = {
            RunStarted: self._on_started,
            RunEnded: self._on_ended,
            RunFailed: self._on_failed,
            FirstToken: self._on_first_token,
            Custom: self._on_custom,
            GraphState: self._on_graph_state,
            ManualEvent: self._on_manual_event,
            Gap: self._on_gap,
        }

    @property
    def open_turns(self) -> int:
        """Number of turns that have started and have not been returned."""
        return len(self._traces)

    def feed(self, records: Iterable[Record]) -> list[Item]:
        """Process records in the order of their creation; return the items that they complete.

        If a record raises, the items completed before it are returned by the next call.
        """
        self._offset = time_ns() - perf_counter_ns()
        handlers = self._handlers
        for record in records:
            handlers[type(record)](record)
        return self._take_finished()

    def tick(self, now: int) -> list[Item]:
        """Return the turns that have timed out; `now` is `perf_counter_ns`."""
        for trace in [t for t in self._lingering.values() if now - t.last_record_at > LINGER_NS]:
            self._finish(trace)
        for trace in [t for t in self._traces.values() if now - t.last_record_at > self.turn_timeout_ns]:
            self._finish(trace)
        return self._take_finished()

    def settle(self) -> list[Item]:
        """Return every turn whose root has ended, even if runs below it have not."""
        for trace in list(self._lingering.values()):
            self._finish(trace)
        return self._take_finished()

    def drain(self) -> list[Item]:
        """Return every turn, open ones as unfinished."""
        while self._traces:
            for trace in list(self._traces.values()):
                self._finish(trace)
        return self._take_finished()

    # -- records ------------------------------------------------------------------------------

    def _on_started(self, record: RunStarted) -> None:
        key = record.run_id.int
        if key in self._runs or key in self._ended:
            return
        parent_id = record.parent_id
        parent = self._runs.get(parent_id.int) if parent_id is not None else None
        run = Run(record, parent)
        if parent is None:
            ended_turn = self._ended.get(parent_id.int) if parent_id is not None else None
            if parent_id is not None and ended_turn is None and record.at < self._gap_until:
                return  # its parent was lost in the gap, and a turn is delivered whole or not at all
            trace = Trace(run, record.scope, self._offset)
            trace.ended_turn = ended_turn
            self._traces[key] = trace
            self.turns_begun += 1
        else:
            trace = parent.trace
            parent.children = appended(parent.children, run)
            trace.open += 1
            trace.size += 1
            trace.last_record_at = record.at
            if trace.configurable is None:
                trace.configurable = record.configurable
        run.trace = trace
        self._runs[key] = run

    def _on_ended(self, record: RunEnded) -> None:
        run = self._runs.get(record.run_id.int)
        if run is None or run.ended is not None:
            return
        run.output = record.output
        if record.inputs is not None and run.inputs is None:
            run.inputs, run.streamed = record.inputs, True
        self._close(run, record.at)

    def _on_failed(self, record: RunFailed) -> None:
        run = self._runs.get(record.run_id.int)
        if run is None or run.ended is not None:
            return
        run.error = record.error
        run.output = record.output
        if record.inputs is not None and run.inputs is None:
            run.inputs, run.streamed = record.inputs, True
        self._close(run, record.at)

    def _on_first_token(self, record: FirstToken) -> None:
        run = self._runs.get(record.run_id.int)
        if run is not None and run.first_token is None:
            run.first_token = record.at
            run.pieces = record.pieces

    def _on_custom(self, record: Custom) -> None:
        run = self._runs.get(record.run_id.int)
        if run is not None:
            run.custom_events = appended(run.custom_events, record)

    def _on_graph_state(self, record: GraphState) -> None:
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

    def _on_manual_event(self, record: ManualEvent) -> None:
        item = record.item
        run = self._runs.get(record.run_id.int) if record.run_id is not None else None
        if not isinstance(item, Event):
            self.turns_begun += 1
            self._finished.append(item)
        elif run is not None and not item.conversation_id and not item.run_id:
            run.manual_events = appended(run.manual_events, item)
        else:
            self.turns_begun += 1
            self._finished.append(complete_manual_event(item, record.scope, self.settings))

    def _on_gap(self, record: Gap) -> None:
        for container in (self._traces, self._builders, self._lingering, self._runs):
            container.clear()
        self._gap_until = perf_counter_ns() + self.turn_timeout_ns

    # -- lifecycle ------------------------------------------------------------------------------

    def _close(self, run: Run, at: int) -> None:
        run.ended = at
        trace = run.trace
        trace.open -= 1
        trace.last_record_at = at
        if trace.open == 0:
            if trace.root.ended is not None:
                self._finish(trace)
        elif run is trace.root:
            if run.error is None and not run.streamed:
                self._finish(trace, self._split_off_open_work(trace))
            else:
                self._lingering[run.id.int] = trace
        elif self._incremental and trace.root.ended is None and trace.ended_turn is None:
            self._deliver_part(trace, run)

    def _deliver_part(self, trace: Trace, run: Run) -> None:
        """Deliver the part of an open turn that `run` completed, if nothing in it must wait for the turn's end."""
        top = run
        while top.parent is not None and top.parent is not trace.root:
            top = top.parent
        if top.ended is None or any(below.ended is None for below in top.walk()):
            return
        key = trace.root.id.int
        builder = self._builders.get(key)
        if builder is None:
            builder = self._builders[key] = self._builder_for(trace)
        part = builder.part(top)
        if part is not None:
            part.partial = True
            self.turns_begun += 1
            self._finished.append(part)

    def _split_off_open_work(self, trace: Trace) -> list[Trace]:
        """Move the open runs of a trace whose root succeeded into traces of their own, and return these.

        A task that the root did not await becomes a later part of the turn.
        """
        traces = []
        for run in list(trace.root.walk()):
            if run.ended is None and run.parent is not None and all(r.ended is not None for r in run.ancestors()):
                run.parent.children.remove(run)
                run.parent = None
                traces.append(Trace(run, trace.scope, trace.offset))
        self.turns_begun += len(traces)
        for later in traces:
            self._traces[later.root.id.int] = later
            later.size = later.open = 0
            for run in later.root.walk():
                run.trace = later
                later.size += 1
                later.open += run.ended is None
            trace.size -= later.size
            trace.open -= later.open
            later.last_record_at = trace.last_record_at
        return traces

    def _finish(self, trace: Trace, open_work: Sequence[Trace] = ()) -> None:
        key = trace.root.id.int
        self._traces.pop(key, None)
        self._lingering.pop(key, None)
        if trace.root.kind in _PARTS_OF_CHAINS and trace.size == 1:
            self.turns_begun -= 1
            self._forget([trace.root])
            self.states.unlinked_prompts.add(trace.root)
            return
        turn = self._finished_turn(trace, self._builders.pop(key, None))
        ended_turn = (turn.run_id, turn.conversation)
        for later in open_work:
            later.ended_turn = ended_turn
        runs = list(trace.root.walk())
        for run in runs:
            self._ended[run.id.int] = ended_turn
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

    def _finished_turn(self, trace: Trace, builder: TurnBuilder | None) -> Turn:
        """Build the turn, or its last part if `builder` has delivered parts already."""
        is_late = trace.ended_turn is not None
        partial = is_late or builder is not None
        builder = builder or self._builder_for(trace)
        turn = builder.late_part() if is_late else builder.finish()
        turn.partial = partial
        return turn

    def _builder_for(self, trace: Trace) -> TurnBuilder:
        conversation = conversation_of(trace, self.settings, self._read_prompt)
        return TurnBuilder(trace, conversation, self.settings, self.states)

    def _read_prompt(self, value: Any) -> Prompt | None:
        """Convert a `system_prompt` of run metadata; report and ignore an invalid one."""
        from gati.prompt_model import parse_prompt  # late: it loads pydantic, which most traces do not need

        try:
            return parse_prompt(value)
        except Exception as error:  # noqa: BLE001 - metadata may hold any value under this key
            self.report_error("metadata.system_prompt", error)
            return None

    def _take_finished(self) -> list[Item]:
        finished, self._finished = self._finished, []
        return finished
