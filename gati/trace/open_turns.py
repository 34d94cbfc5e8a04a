"""Turns that have not ended, as their packed records.

A turn may stay open for seconds or hours. Until its root ends, its records wait as they came: bytes, which the garbage
collector does not track. Then the assembler builds the run tree from all of them at once.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns
from typing import TYPE_CHECKING

from gati.events import Action
from gati.trace.record_codec import (
    CUSTOM,
    ENDED,
    FAILED,
    FLATTENED,
    KIND,
    NONE,
    RUN,
    STARTED,
    head_of,
    key_at,
    pack_record,
    run_of,
    size_without_media,
    time_of,
    unpack_record,
)
from gati.trace.records import ManualEvent, ModelResult, RunEnded
from gati.trace.turn_memory import RUN_BYTES

if TYPE_CHECKING:
    from gati.trace.record_codec import PackedRecord
    from gati.trace.records import Record
    from gati.trace.turn_memory import TurnMemory

_ENDS = frozenset({ENDED, FAILED})
_KIND_MASK = ~FLATTENED
"""What the first byte of a record says beside the flag of a flattened one."""


class OpenTurn:
    """The records of a turn, in the order of their creation. Runs are identified by `record_codec.key_at`.

    Attributes:
        root: id of the root run.
        key: key of the root run.
        offset: add it to the records' times to get nanoseconds since the epoch.
        memory: size of the records, and `RUN_BYTES` for each run.
        runs: keys of its runs.
        left_out: keys of the open runs that there was no space for.
    """

    __slots__ = ("_last_at", "_timed", "key", "left_out", "memory", "offset", "records", "root", "runs")

    def __init__(self, key: bytes, offset: int) -> None:
        self.root = run_of(key)
        self.key = key
        self.offset = offset
        self.memory = 0
        self.records: list[PackedRecord | Record] = []
        self.runs: list[bytes] = []
        self.left_out: set[bytes] | None = None
        self._timed = self._last_at = 0

    @property
    def last_at(self) -> int:
        """Time of the last start or end of a run."""
        for index in range(len(self.records) - 1, self._timed - 1, -1):
            if (at := time_of(self.records[index])) is not None:
                self._last_at = max(at, self._last_at)
                break
        self._timed = len(self.records)
        return self._last_at

    def leave_out(self, run: bytes) -> None:
        """Do not record a run, and no run below it."""
        if self.left_out is None:
            self.left_out = set()
        self.left_out.add(run)
        self._last_at = perf_counter_ns()


class OpenTurns:
    """The open turns, by their runs.

    Args:
        memory: counts them, and limits their size.
        is_known: returns True if the assembler knows a run already, so that its records must not wait here.
        may_begin: returns False if the assembler has to know at once which turns begin.
        make_space: called before a turn begins if the memory is full.
        on_left_out: called for each step that there is no space for.
    """

    def __init__(
        self,
        memory: TurnMemory,
        is_known: Callable[[int], bool],
        may_begin: Callable[[], bool],
        make_space: Callable[[], object],
        on_left_out: Callable[[], object],
    ) -> None:
        self._memory = memory
        self._is_known = is_known
        self._may_begin = may_begin
        self._make_space = make_space
        self._on_left_out = on_left_out
        self._turns: dict[bytes, OpenTurn] = {}
        self._by_run: dict[bytes, OpenTurn] = {}

    def __len__(self) -> int:
        return len(self._turns)

    def __contains__(self, run: bytes) -> bool:
        return run in self._by_run

    @property
    def runs(self) -> int:
        """Number of their runs."""
        return sum(len(turn.runs) for turn in list(self._turns.values()))

    def add(self, packed: PackedRecord | Record, offset: int) -> OpenTurn | bool:
        """Keep a record if it belongs to an open turn, or begins one.

        Args:
            packed: the record.
            offset: see `OpenTurn`.

        Returns:
            True if the record was kept or left out, the whole turn if the record ends its root, False if it belongs to
            none.
        """
        head = packed if type(packed) is bytes else head_of(packed)
        run, kind = key_at(head, RUN), head[KIND] & _KIND_MASK
        memory, turn = self._memory, self._by_run.get(run)
        size = len(head) if head is packed else size_without_media(packed)
        if turn is None:
            if kind != STARTED:
                return False
            found = self._turn_of(head, run, size, offset)
            if type(found) is bool:
                return found
            turn = found
            size += RUN_BYTES
        elif memory.used > memory.turn_limit or turn.left_out is not None:
            kept = self._shorten(turn, packed, kind, run)
            if type(kept) is bool:
                return kept
            packed, size = kept, size_without_media(kept)
        turn.records.append(packed)
        turn.memory += size
        memory.used += size
        if kind in _ENDS and run == turn.key:
            self._remove(turn)
            return turn
        return True

    def _turn_of(self, head: bytes, run: bytes, size: int, offset: int) -> OpenTurn | bool:
        """Return the turn to which a run that starts belongs; True or False are for `add` to return."""
        parent = RUN + len(run)
        memory = self._memory
        if head[parent] == NONE:
            if not self._may_begin() or self._is_known(run_of(run)):
                return False
            if memory.used + size + RUN_BYTES > memory.limit:
                self._make_space()
            turn = self._turns[run] = OpenTurn(run, offset)
        else:
            key = key_at(head, parent)
            found = self._by_run.get(key)
            if found is None or self._is_known(run_of(run)):
                return False
            turn = found
            if memory.used > memory.turn_limit or turn.left_out is not None:
                if not memory.has_space(turn) or (turn.left_out is not None and key in turn.left_out):
                    turn.leave_out(run)
                    self._by_run[run] = turn
                    self._on_left_out()
                    return True
        self._by_run[run] = turn
        turn.runs.append(run)
        return turn

    def _shorten(
        self, turn: OpenTurn, packed: PackedRecord | Record, kind: int, run: bytes
    ) -> PackedRecord | Record | bool:
        """Return the part of a record for which its turn has space; True or False are for `add` to return."""
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
        if kind == ENDED and run != turn.key:
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
        del self._turns[turn.key]
        self._memory.used -= turn.memory
        by_run = self._by_run
        for run in turn.runs:
            del by_run[run]
        for run in turn.left_out or ():
            del by_run[run]
