"""Assemble turns from records. One background thread owns the assembler, so it needs no locks.

The assembler keeps the open runs, closes a trace when its root and every run below have ended, and
returns the turn. Every container here is bounded.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from time import perf_counter_ns, time_ns
from typing import TYPE_CHECKING, Any
from uuid import UUID

from gati.events import Action, Item
from gati.trace.authorship import is_part_of_conversation, is_state_update
from gati.trace.conversation_lookup import complete_action, complete_manual_event, conversation_of
from gati.trace.conversation_state import ConversationStates
from gati.trace.cut_off_turns import CutOffTurns
from gati.trace.deferred_media import describe_all, unhashed
from gati.trace.open_turns import OpenTurn, OpenTurns
from gati.trace.record_codec import PackedRecord, run_of, size_without_media, unpack_record
from gati.trace.records import (
    UNSEEN_START,
    Custom,
    FirstToken,
    Gap,
    GraphState,
    HistoryRead,
    ManualEvent,
    Record,
    RunEnded,
    RunFailed,
    RunStarted,
)
from gati.trace.run_tree import Run, Trace, appended, split_off_open_work
from gati.trace.sampling import sampler_of
from gati.trace.served_conversations import note_identity, split_off_served
from gati.trace.stored_records import run_number
from gati.trace.turn_builder import TurnBuilder
from gati.trace.turn_ids import RepeatedIds, new_trace
from gati.trace.turn_memory import RUN_BYTES, TurnMemory, TurnTooLargeError

if TYPE_CHECKING:
    from gati.events import Conversation, Prompt
    from gati.options import Settings
    from gati.trace.records import Scope

_PARTS_OF_CHAINS = frozenset({"prompt", "parser"})
"""Kinds of roots that are not turns: a prompt rendered or an answer parsed outside of a chain."""
OPEN_TURNS_SHARE = 3 / 8
"""Part of `buffer_max_bytes` that open turns may take."""
REMEMBERED_RUNS = 20_000
"""Ended runs remembered, so that runs that start or end late are added to their turn."""


class Assembler:
    """Builds run trees from records and turns from run trees.

    Args:
        settings: the options of `init`.
        on_abandoned: called with the id of each run that had not ended when its turn was returned.
        report_error: called with a place and an exception when a value of the user's is invalid.
        on_missing_id: called for each turn without a conversation id.
        offset_ns: add it to a record's time to get nanoseconds since the epoch; None to ask the system's clock.

    Attributes:
        outside_conversation: number of root runs that were not delivered, because they were work
            outside any conversation.
    """

    def __init__(
        self,
        settings: Settings,
        on_abandoned: Callable[[UUID], object] = lambda run_id: None,
        report_error: Callable[[str, Exception], object] = lambda place, error: None,
        on_missing_id: Callable[[], object] = lambda: None,
        offset_ns: int | None = None,
    ) -> None:
        self.settings = settings
        self.on_abandoned = on_abandoned
        self.report_error = report_error
        self.on_missing_id = on_missing_id
        self.turn_timeout_ns = int(settings.turn_timeout * 1e9)
        self.states = ConversationStates()
        self._incremental = settings.submission == "incremental"
        # Keyed by `UUID.int`: hashing a UUID itself runs Python code.
        self._runs: dict[int, Run] = {}
        self._left_out: dict[int, Run] = {}
        """The nearest recorded run above each open run that was left out."""
        self._memory = TurnMemory(int(settings.buffer_max_bytes * OPEN_TURNS_SHARE))
        self._traces: dict[int, Trace] = {}
        self._builders: dict[int, TurnBuilder] = {}
        self._ended: OrderedDict[int, tuple[str, Conversation]] = OrderedDict()
        self._cut_off_turns = CutOffTurns(settings)
        self._repeated_ids = RepeatedIds()
        self._sampler = sampler_of(settings)
        self._fixed_offset = offset_ns
        self._offset = self._current_offset()
        self._finished: list[Item] = []
        self._gap_until = 0
        self.outside_conversation = 0
        self._turns_begun = 0
        self._open_turns = OpenTurns(
            self._memory, self._is_known, self._may_begin_open, self._make_space, self._report_left_out
        )
        self._due: deque[PackedRecord | Record] = deque()
        self._record_bytes = 0
        """Size of the record that is processed; 0 while a turn is assembled that was within the limits as it waited."""
        self._handlers: dict[type, Callable[[Any], None]] = {
            RunStarted: self._on_started,
            RunEnded: self._on_ended,
            RunFailed: self._on_failed,
            FirstToken: self._on_first_token,
            Custom: self._on_custom,
            GraphState: self._on_graph_state,
            HistoryRead: self._on_history_read,
            ManualEvent: self._on_manual_event,
            Gap: self._on_gap,
        }

    @property
    def open_turns(self) -> int:
        """Number of turns that have started and have not been returned."""
        return len(self._traces) + len(self._open_turns)

    @property
    def turns_begun(self) -> int:
        """Number of items that were begun: turns, parts of turns, manual events and actions, less those not returned."""
        return self._turns_begun + len(self._open_turns)

    @property
    def open_bytes(self) -> int:
        """Bytes that the open turns take of their limit: the size of their records and `RUN_BYTES` for each run."""
        return self._memory.used

    @property
    def memory_bytes(self) -> int:
        """Size of the records of open turns."""
        runs = self._open_turns.runs + sum(trace.size for trace in list(self._traces.values()))
        return max(0, self._memory.used - runs * RUN_BYTES)

    @property
    def has_leftovers(self) -> bool:
        """True if an exception has left records or items, which the next call processes or returns."""
        return bool(self._due or self._finished)

    def is_open(self, run: bytes) -> bool:
        """Return True if the turn of a run is open. The run is given by its `record_codec.key_at`."""
        return run in self._open_turns or (bool(self._runs) and run_number(run) in self._runs)

    @property
    def sampled_out(self) -> int:
        """Number of turns, events and actions that were not returned because of the sample rate."""
        return self._sampler.sampled_out if self._sampler is not None else 0

    def feed(self, records: Iterable[PackedRecord | Record]) -> list[Item]:
        """Process records in the order of their creation; return the items that they complete.

        If a record raises, the items completed before it are returned by the next call.
        """
        self._offset = self._current_offset()
        self._process_due()
        for packed in records:
            self._take(packed)
        return self._take_finished()

    def advance(self, records: Iterator[PackedRecord | Record]) -> list[Item]:
        """Do the same as `feed`, but return as soon as a record completes items; `records` holds the rest."""
        self._offset = self._current_offset()
        self._process_due()
        for packed in records:
            self._take(packed)
            if self._finished:
                break
        return self._take_finished()

    def _current_offset(self) -> int:
        """Return what is added to the time of a record to get nanoseconds since the epoch."""
        return time_ns() - perf_counter_ns() if self._fixed_offset is None else self._fixed_offset

    def _take(self, packed: PackedRecord | Record) -> None:
        """Keep a record of a turn that is open; process it otherwise, and the turn if the record ends its root."""
        if unhashed:
            describe_all()
        if type(packed) is Gap:
            self._assemble(self._open_turns.take_all())
        kept = False if self._incremental else self._open_turns.add(packed, self._offset)
        if kept is False:
            self._record_bytes = size_without_media(packed)
            self._process(packed)
        elif kept is not True:
            self._assemble([kept])

    def _assemble(self, turns: list[OpenTurn]) -> None:
        """Process the records of turns that waited as bytes."""
        now = self._offset
        for turn in turns:
            self._due += turn.records
            self._offset = turn.offset
            self._process_due()
            trace = self._traces.get(turn.root)
            if trace is not None:
                self._memory.hold(trace, turn.memory)
            if turn.left_out:
                self._keep_left_out(turn.left_out, turn.root, trace)
        self._offset = now

    def _keep_left_out(self, keys: set[bytes], root: int, trace: Trace | None) -> None:
        """Remember to which turn the open runs belong that were left out of it."""
        runs = map(run_of, keys)
        if trace is not None:
            self._left_out.update(dict.fromkeys(runs, trace.root))
        elif (ended_turn := self._ended.get(root)) is not None:
            self._ended.update(dict.fromkeys(runs, ended_turn))

    def _process_due(self) -> None:
        """Process records that wait. If one raises, the next call goes on after it."""
        self._record_bytes = 0
        due, handlers = self._due, self._handlers
        while due:
            record = unpack_record(due.popleft())
            handlers[type(record)](record)

    def _process(self, packed: PackedRecord | Record) -> None:
        record = unpack_record(packed)
        self._handlers[type(record)](record)

    def _make_space(self) -> None:
        """Return the open turn that waits longest as it is, so that another one can begin."""
        trace = min(self._traces.values(), key=lambda trace: trace.last_record_at, default=None)
        waiting = self._open_turns.take_longest_waiting(trace.last_record_at if trace is not None else None)
        if waiting:
            self._assemble(waiting)
            trace = self._traces.get(waiting[0].root)
        if trace is not None:
            self._finish(trace)

    def _may_begin_open(self) -> bool:
        return not self._cut_off_turns

    def _is_known(self, key: int) -> bool:
        return key in self._runs or key in self._ended

    def tick(self, now: int) -> list[Item]:
        """Return the turns that have timed out; `now` is `perf_counter_ns`."""
        self._process_due()
        self._assemble(self._open_turns.take_idle(now - self.turn_timeout_ns))
        for trace in self._cut_off_turns.expired(now):
            self._finish(trace)
        for trace in [t for t in self._traces.values() if now - t.last_record_at > self.turn_timeout_ns]:
            self._finish(trace)
        return self._take_finished()

    def finish_cut_off(self) -> list[Item]:
        """Return every turn whose root has ended, even if runs below it have not."""
        self._process_due()
        for trace in self._cut_off_turns.all():
            self._finish(trace)
        return self._take_finished()

    def drain(self) -> list[Item]:
        """Return every turn, open ones as unfinished."""
        self._process_due()
        self._assemble(self._open_turns.take_all())
        while self._traces:
            for trace in list(self._traces.values()):
                self._finish(trace)
        return self._take_finished()

    # -- records ------------------------------------------------------------------------------

    def _on_started(self, record: RunStarted) -> None:
        key = record.run_id.int
        known = self._runs.get(key)
        if known is not None and known.ended is None:
            return  # a second handler reports the same run
        if record.extra == UNSEEN_START and (known is not None or key in self._ended):
            return  # a second handler reports the same end
        parent_id = record.parent_id
        parent = self._runs.get(parent_id.int) if parent_id is not None else None
        if parent is None and self._left_out and parent_id is not None:
            parent = self._left_out.get(parent_id.int)
        if self._record_bytes and parent is not None and not self._memory.has_space(parent.trace):
            self._leave_out(key, parent)
            return
        run = Run(record, parent)
        if known is not None or key in self._ended:
            run.renamed = self._repeated_ids.rename(run.id)
        if parent is None:
            ended_turn = self._ended.get(parent_id.int) if parent_id is not None else None
            if parent_id is not None and ended_turn is None and record.at < self._gap_until:
                return  # its parent was lost in the gap, and a turn is delivered whole or not at all
            if known is not None and known.trace.root is known:
                self._finish(known.trace)
            trace = self._start_trace(run, record, ended_turn)
        else:
            trace = parent.trace
            if parent.children:
                parent.children.append(run)
            else:
                parent.children = [run]
            trace.open += 1
            trace.size += 1
            trace.last_record_at = record.at
            run.trace = trace
            if record.configurable is not None:
                self._add_identity(trace, record.configurable, run, record.scope)
        if self._record_bytes:
            self._memory.hold(trace, self._record_bytes + RUN_BYTES)
        self._runs[key] = run

    def _leave_out(self, key: int, parent: Run) -> None:
        """Record no further step of a turn that has become too large."""
        self._left_out[key] = parent
        parent.trace.last_record_at = perf_counter_ns()
        self._report_left_out()

    def _report_left_out(self) -> None:
        self.report_error("open_turn", TurnTooLargeError())

    def _has_space(self, trace: Trace) -> bool:
        return not self._record_bytes or self._memory.has_space(trace)

    def _take_left_out(self, trace: Trace) -> list[int]:
        """Forget and return the open runs that were left out of a turn, which is about to end."""
        keys = [key for key, run in self._left_out.items() if run.trace is trace]
        for key in keys:
            del self._left_out[key]
        return keys

    def _start_trace(self, root: Run, record: RunStarted, ended_turn: tuple[str, Conversation] | None) -> Trace:
        if self._record_bytes and not self._memory.fits(self._record_bytes + RUN_BYTES):
            self._make_space()
        trace = root.trace = new_trace(root, record.scope, self._offset)
        trace.configurable, trace.ended_turn = record.configurable, ended_turn
        self._traces[root.id.int] = trace
        self._turns_begun += 1
        self._finish_earlier_cut_off(trace)
        return trace

    def _add_identity(
        self, trace: Trace, configurable: dict[str, Any] | None, run: Run, scope: Scope | None = None
    ) -> None:
        """Add ids that were not known when the trace began."""
        if trace.root.kind == "step":
            note_identity(trace, run, scope, configurable)
            self._finish_earlier_cut_off(trace)
        elif configurable:
            trace.configurable = {**configurable, **(trace.configurable or {})}
            self._finish_earlier_cut_off(trace)

    def _finish_earlier_cut_off(self, trace: Trace) -> None:
        """Finish earlier turns of the same conversation that were cut off. The next turn must not overtake them."""
        for earlier in self._cut_off_turns.before(trace):
            self._finish(earlier)

    def _on_ended(self, record: RunEnded) -> None:
        run = self._runs.get(record.run_id.int)
        if run is None or run.ended is not None:
            self._left_out.pop(record.run_id.int, None)
            return
        run.output = record.output
        if self._record_bytes:
            self._hold_output(run)
        if record.inputs is not None and run.inputs is None:
            run.inputs, run.streamed = record.inputs, True
        self._close(run, record.at)

    def _hold_output(self, run: Run) -> None:
        """Drop the output if no space is left for it, unless it is that of a model or of the turn."""
        if self._memory.has_space(run.trace) or run.kind == "model" or run.parent is None:
            self._memory.hold(run.trace, self._record_bytes)
        else:
            run.output = None

    def _on_failed(self, record: RunFailed) -> None:
        run = self._runs.get(record.run_id.int)
        if run is None or run.ended is not None:
            self._left_out.pop(record.run_id.int, None)
            return
        self._memory.hold(run.trace, self._record_bytes)
        run.error = record.error
        run.output = record.output
        if run is run.trace.root and record.streamed is not None:
            for below in run.walk():
                below.pieces_read = record.streamed.get(below.id.int)
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
        if run is not None and self._has_space(run.trace):
            self._memory.hold(run.trace, self._record_bytes)
            run.custom_events = appended(run.custom_events, record)
        elif run is not None:
            self._report_left_out()

    def _on_graph_state(self, record: GraphState) -> None:
        run = self._runs.get(record.run_id.int) if record.run_id is not None else None
        if run is None:
            return
        trace = run.trace
        if record.state == "resumed":
            trace.resumed = True
        elif record.interrupts:
            trace.interrupts.extend((run, interrupt) for interrupt in record.interrupts)
        else:
            trace.pauses.append((run, record.status))

    def _on_history_read(self, record: HistoryRead) -> None:
        run = self._runs.get(record.run_id.int)
        if run is not None:
            run.trace.history = record.history

    def _on_manual_event(self, record: ManualEvent) -> None:
        item = record.item
        run = self._runs.get(record.run_id.int) if record.run_id is not None else None
        if isinstance(item, Action):
            self._on_action(item, record, run)
        elif run is not None and not item.conversation_id and not item.run_id and self._has_space(run.trace):
            self._memory.hold(run.trace, self._record_bytes)
            run.manual_events = appended(run.manual_events, item)
        else:
            self._add(complete_manual_event(item, record.scope, self.settings))

    def _on_action(self, action: Action, record: ManualEvent, run: Run | None) -> None:
        """Deliver an action, if it belongs to the conversation of a run after the run's turn."""
        ended_turn = self._ended.get(record.run_id.int) if record.run_id is not None else None
        if run is not None:
            self._add_identity(run.trace, record.configurable, run)
            run.trace.actions = appended(run.trace.actions, action)
        elif ended_turn is not None:
            self._add(complete_action(action, ended_turn[1]))
        elif record.run_id is None or action.endpoint != "ratings":
            self._add(action)

    def _on_gap(self, record: Gap) -> None:
        for trace in self._traces.values():
            self._deliver_actions(trace, conversation_of(trace, self.settings, self._read_prompt))
        for container in (self._traces, self._builders, self._cut_off_turns, self._runs, self._left_out, self._memory):
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
                open_work = split_off_open_work(trace)
                self._turns_begun += len(open_work)
                self._traces.update((later.root.id.int, later) for later in open_work)
                self._finish(trace, open_work)
            else:
                self._cut_off_turns.add(trace)
        elif self._incremental and trace.root.ended is None and trace.ended_turn is None:
            self._deliver_part(trace, run)

    def _deliver_part(self, trace: Trace, run: Run) -> None:
        """Deliver the part of an open turn that `run` completed, if nothing in it must wait for the turn's end."""
        top = run
        while top.parent is not None and top.parent is not trace.root:
            top = top.parent
        if top.ended is None or any(below.ended is None for below in top.walk()):
            return
        if trace.root.kind != "chain":
            return  # a step: what it does later may show whose conversation it is
        if trace.root.inputs is None and not trace.is_graph:
            return  # a streamed chain: its input, which may continue a conversation, arrives with its end
        key = trace.root.id.int
        builder = self._builders.get(key)
        if builder is None:
            builder = self._builders[key] = self._builder_for(trace)
        part = builder.part(top)
        if part is not None:
            part.partial = True
            self._add(part)

    def _finish(self, trace: Trace, open_work: Sequence[Trace] = ()) -> None:
        root = trace.root
        key = root.id.int
        self._traces.pop(key, None)
        self._cut_off_turns.discard(trace)
        self._memory.release(trace)
        if root.kind == "step" and trace.ended_turn is None:
            for part in split_off_served(trace, self.settings):
                self._turns_begun += 1
                self._finish(part)
        if root.kind in _PARTS_OF_CHAINS and trace.size == 1:
            self._turns_begun -= 1
            self._forget([root])
            self.states.unlinked_prompts.add(root)
            return
        is_in_parts = key in self._builders or trace.ended_turn is not None
        builder = self._builders.pop(key, None) or self._builder_for(trace)
        if not builder.has_begun and not self._is_turn(trace, builder):
            self._discard(trace)
            return
        is_own_turn = trace.ended_turn is None and not trace.is_internal
        turn = builder.finish() if is_own_turn else builder.late_part()
        turn.partial = is_in_parts
        if (builder.state.requested or self.states.requested_calls.is_used) and builder.event_builder.models:
            # A graph runs its tools itself, or waits until a person has approved them.
            open_calls = {} if trace.is_graph else builder.state.requested
            self.states.requested_calls.note(turn.conversation, open_calls)
        if trace.without_id:
            self.states.continuations.remember(trace, turn)
            self.on_missing_id()
        ended_turn = (turn.run_id, turn.conversation)
        for later in open_work:
            later.ended_turn = ended_turn
        runs = trace.runs()
        self._ended.update([(run.id.int, ended_turn) for run in runs])
        if self._left_out:
            self._ended.update(dict.fromkeys(self._take_left_out(trace), ended_turn))
        self._forget(runs)
        while len(self._ended) > REMEMBERED_RUNS:
            self._ended.popitem(last=False)
        self._finished.append(turn)
        self._deliver_actions(trace, turn.conversation)

    def _deliver_actions(self, trace: Trace, conversation: Conversation) -> None:
        self._add(*(complete_action(action, conversation) for action in trace.actions))

    def _forget(self, runs: list[Run]) -> None:
        known = self._runs
        for run in runs:
            if known.get(key := run.id.int) is run:
                del known[key]
            if run.ended is None:
                self.on_abandoned(run.id)
            run.unlink()

    def _is_turn(self, trace: Trace, builder: TurnBuilder) -> bool:
        """Return True if a trace is delivered; count it if it is work outside any conversation."""
        if is_state_update(trace):
            return bool(trace.models())
        if is_part_of_conversation(trace, builder.conversation):
            return True
        self.outside_conversation += 1
        return False

    def _discard(self, trace: Trace) -> None:
        """Forget a trace that is not delivered, except for the events that the program reported itself."""
        self._turns_begun -= 1
        self._take_left_out(trace)
        runs = trace.runs()
        for run in runs:
            self._add(*(complete_manual_event(event, trace.scope, self.settings) for event in run.manual_events))
        # A rating would refer to a conversation that does not exist.
        self._add(*(action for action in trace.actions if action.endpoint != "ratings"))
        self._forget(runs)

    def _builder_for(self, trace: Trace) -> TurnBuilder:
        conversation = conversation_of(trace, self.settings, self._read_prompt)
        if trace.ended_turn is None and conversation.id == trace.id and not trace.is_internal:
            for earlier in self._cut_off_turns.without_id_before(trace):
                self._finish(earlier)  # this turn may continue it
            requesting = self.states.requested_calls.conversation_of(trace.root) if trace.root.kind == "tool" else None
            if requesting is not None:
                conversation.id, conversation.user_id = requesting.id, requesting.user_id
            else:
                trace.without_id = True
                continued = self.states.continuations.continued_by(trace, conversation.user_id)
                conversation.id = continued or trace.id
        return TurnBuilder(trace, conversation, self.settings, self.states)

    def _read_prompt(self, value: Any) -> Prompt | None:
        """Convert a `system_prompt` of run metadata; report and ignore an invalid one."""
        from gati.prompt_model import parse_prompt  # late: it loads pydantic, which most traces do not need

        try:
            return parse_prompt(value)
        except Exception as error:  # noqa: BLE001 - metadata may hold any value under this key
            self.report_error("metadata.system_prompt", error)
            return None

    def _add(self, *items: Item) -> None:
        """Return items that are not counted as begun yet."""
        self._turns_begun += len(items)
        self._finished += items

    def _take_finished(self) -> list[Item]:
        finished, self._finished = self._finished, []
        if self._sampler is None:
            return finished
        kept = self._sampler.filter(finished, self._conversation_of_message)
        self._turns_begun -= len(finished) - len(kept)
        return kept

    def _conversation_of_message(self, message_id: str) -> str | None:
        """Return the conversation of an answer of an ended turn. Its id begins with that of the root run."""
        try:
            ended_turn = self._ended.get(UUID(message_id.partition(":")[0]).int)
        except ValueError:
            return None
        return ended_turn[1].id if ended_turn is not None else None
