"""Turns that have not ended, as their packed records.

A turn may stay open for seconds or hours. Until its root ends, its records wait as they came: bytes, which the garbage
collector does not track. Then the assembler builds the run tree from all of them at once.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns
from typing import TYPE_CHECKING

from gati.events import Action
from gati.trace.record_codec import CUSTOM, ENDED, FAILED, STARTED, pack_record, peek, size_without_media, unpack_record
from gati.trace.records import ManualEvent, ModelResult, RunEnded
from gati.trace.turn_memory import RUN_BYTES

if TYPE_CHECKING:
    from gati.trace.record_codec import PackedRecord
    from gati.trace.records import Record
    from gati.trace.turn_memory import TurnMemory


class OpenTurn:
    """The records of a turn, in the order of their creation.

    Attributes:
        root: id of the root run.
        offset: add it to the records' times to get nanoseconds since the epoch.
        last_at: time of the last start or end of a run.
        memory: size of the records, and `RUN_BYTES` for each run.
        runs: ids of its runs.
        left_out: ids of the open runs that there was no space for.
    """

    __slots__ = ("last_at", "left_out", "memory", "offset", "records", "root", "runs")

    def __init__(self, root: int, offset: int) -> None:
        self.root = root
        self.offset = offset
        self.last_at = 0
        self.memory = 0
        self.records: list[PackedRecord | Record] = []
        self.runs: list[int] = []
        self.left_out: set[int] | None = None


class OpenTurns:
    """The open turns, by the ids of their runs.

    Args:
        memory: counts them, and limits their size.
        is_known: tells whether the assembler knows a run already, so that its records must not wait here.
        make_space: called before a turn begins if the memory is full.
        on_left_out: called for each step that there is no space for.
    """

    def __init__(
        self,
        memory: TurnMemory,
        is_known: Callable[[int], bool],
        make_space: Callable[[], object],
        on_left_out: Callable[[], object],
    ) -> None:
        self._memory = memory
        self._is_known = is_known
        self._make_space = make_space
        self._on_left_out = on_left_out
        self._turns: dict[int, OpenTurn] = {}
        self._by_run: dict[int, OpenTurn] = {}

    def __len__(self) -> int:
        return len(self._turns)

    @property
    def runs(self) -> int:
        """Number of their runs."""
        return sum(len(turn.runs) for turn in list(self._turns.values()))

    def add(self, packed: PackedRecord | Record, offset: int, may_begin: bool = True) -> OpenTurn | bool:
        """Keep a record if it belongs to an open turn, or begins one.

        Args:
            packed: the record.
            offset: see `OpenTurn`.
            may_begin: False if the assembler has to know at once which turns begin.

        Returns:
            True if the record was kept or left out, the whole turn if the record ends its root, False if it belongs to
            none.
        """
        kind, run, parent, at = peek(packed)
        by_run, memory = self._by_run, self._memory
        turn = by_run.get(run) if run is not None else None
        size = len(packed) if type(packed) is bytes else size_without_media(packed)
        if turn is None:
            if kind != STARTED or run is None or self._is_known(run):
                return False
            if parent is not None:
                turn = by_run.get(parent)
                if turn is None:
                    return False
                is_scarce = memory.used > memory.turn_limit or turn.left_out is not None
                if is_scarce and self._leave_out_if_full(turn, run, parent):
                    return True
            elif may_begin:
                turn = self._begin(run, offset, size)
            else:
                return False
            by_run[run] = turn
            turn.runs.append(run)
            size += RUN_BYTES
        elif memory.used > memory.turn_limit or turn.left_out is not None:
            kept = self._shorten(turn, packed, kind, run)
            if type(kept) is bool:
                return kept
            packed, size = kept, size_without_media(kept)
        turn.records.append(packed)
        turn.memory += size
        memory.used += size
        if at is not None:
            turn.last_at = at
            if run == turn.root and kind in (ENDED, FAILED):
                self._remove(turn)
                return turn
        return True

    def _begin(self, root: int, offset: int, size: int) -> OpenTurn:
        if not self._memory.fits(size + RUN_BYTES):
            self._make_space()
        turn = self._turns[root] = OpenTurn(root, offset)
        return turn

    def _leave_out_if_full(self, turn: OpenTurn, run: int, parent: int) -> bool:
        """Leave out a run that has no space, or that is below one. Return False if there is space."""
        left_out = turn.left_out or set()
        if self._memory.has_space(turn) and parent not in left_out:
            return False
        left_out.add(run)
        turn.left_out = left_out
        turn.last_at = perf_counter_ns()
        self._by_run[run] = turn
        self._on_left_out()
        return True

    def _shorten(
        self, turn: OpenTurn, packed: PackedRecord | Record, kind: int, run: int | None
    ) -> PackedRecord | Record | bool:
        """Return what is kept of a record of a turn that may have no space; True or False are for `add` to return."""
        if turn.left_out is not None and run in turn.left_out:
            if kind in (ENDED, FAILED):
                turn.left_out.discard(run)
                del self._by_run[run]
            return True
        if self._memory.has_space(turn):
            return packed
        if kind == CUSTOM:
            self._on_left_out()
            return True
        if type(packed) is ManualEvent and not isinstance(packed.item, Action):
            return False  # it becomes an item of its own
        if kind == ENDED and run != turn.root:
            record = unpack_record(packed)
            if isinstance(record, RunEnded) and not isinstance(record.output, ModelResult):
                return pack_record(record._replace(output=None))
        return packed

    def take_idle(self, before: int) -> list[OpenTurn]:
        """Remove and return the turns none of whose runs has started or ended since a time."""
        return self._take([turn for turn in self._turns.values() if turn.last_at < before])

    def take_longest_waiting(self, before: int | None) -> list[OpenTurn]:
        """Remove and return the turn whose last record is the oldest, if it is older than a time; else nothing."""
        turn = min(self._turns.values(), key=lambda turn: turn.last_at, default=None)
        return self._take([turn] if turn is not None and (before is None or turn.last_at < before) else [])

    def take_all(self) -> list[OpenTurn]:
        """Remove and return all turns, in the order of their start."""
        return self._take(list(self._turns.values()))

    def _take(self, turns: list[OpenTurn]) -> list[OpenTurn]:
        for turn in turns:
            self._remove(turn)
        return turns

    def _remove(self, turn: OpenTurn) -> None:
        del self._turns[turn.root]
        self._memory.used -= turn.memory
        by_run = self._by_run
        for run in turn.runs:
            del by_run[run]
        for run in turn.left_out or ():
            del by_run[run]
