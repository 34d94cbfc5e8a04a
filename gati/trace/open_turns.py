"""Turns that have not ended, as their packed records.

A turn may stay open for seconds or hours. Until its root ends, its records wait as they came: bytes, which the garbage
collector does not track. Then the assembler builds the run tree from all of them at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gati.trace.record_codec import ENDED, FAILED, STARTED, RecordWithObjects, peek

if TYPE_CHECKING:
    from gati.trace.record_codec import PackedRecord
    from gati.trace.records import Record

OBJECT_BYTES = 300
"""What a record without a packed form counts for."""


class OpenTurn:
    """The records of a turn, in the order of their creation.

    Attributes:
        root: id of the root run.
        offset: add it to the records' times to get nanoseconds since the epoch.
        last_at: time of the last start or end of a run.
        bytes: size of the records.
        runs: ids of its runs.
    """

    __slots__ = ("bytes", "last_at", "offset", "records", "root", "runs")

    def __init__(self, root: int, offset: int) -> None:
        self.root = root
        self.offset = offset
        self.last_at = 0
        self.bytes = 0
        self.records: list[PackedRecord | Record] = []
        self.runs: list[int] = []


class OpenTurns:
    """The open turns, by the ids of their runs.

    Args:
        is_known: tells whether the assembler knows a run already, so that its records must not wait here.
    """

    def __init__(self, is_known: Callable[[int], bool]) -> None:
        self._is_known = is_known
        self._turns: dict[int, OpenTurn] = {}
        self._by_run: dict[int, OpenTurn] = {}
        self.bytes = 0
        """Size of all records."""

    def __len__(self) -> int:
        return len(self._turns)

    def add(self, packed: PackedRecord | Record, offset: int, may_begin: bool = True) -> OpenTurn | bool:
        """Keep a record if it belongs to an open turn, or begins one.

        Args:
            packed: the record.
            offset: see `OpenTurn`.
            may_begin: False if the assembler has to know at once which turns begin.

        Returns:
            True if the record was kept, the whole turn if the record ends its root, False if it belongs to none.
        """
        kind, run, parent, at = peek(packed)
        turn = self._by_run.get(run) if run is not None else None
        if turn is None:
            if kind != STARTED or run is None or self._is_known(run):
                return False
            if parent is not None:
                turn = self._by_run.get(parent)
                if turn is None:
                    return False
            elif not may_begin:
                return False
            else:
                turn = self._turns[run] = OpenTurn(run, offset)
            self._by_run[run] = turn
            turn.runs.append(run)
        size = len(packed) if type(packed) is bytes else size_of(packed)
        turn.records.append(packed)
        turn.bytes += size
        self.bytes += size
        if at is not None:
            turn.last_at = at
            if run == turn.root and kind in (ENDED, FAILED):
                self._remove(turn)
                return turn
        return True

    def take_idle(self, before: int) -> list[OpenTurn]:
        """Remove and return the turns none of whose runs has started or ended since a time."""
        return self._take([turn for turn in self._turns.values() if turn.last_at < before])

    def take_all(self) -> list[OpenTurn]:
        """Remove and return all turns, in the order of their start."""
        return self._take(list(self._turns.values()))

    def _take(self, turns: list[OpenTurn]) -> list[OpenTurn]:
        for turn in turns:
            self._remove(turn)
        return turns

    def _remove(self, turn: OpenTurn) -> None:
        del self._turns[turn.root]
        self.bytes -= turn.bytes
        for run in turn.runs:
            del self._by_run[run]


def size_of(packed: PackedRecord | Record) -> int:
    """Return the size of a record, without that of large media, whose content is described by now."""
    if type(packed) is RecordWithObjects:
        packed = packed.data
    return len(packed) if type(packed) is bytes else OBJECT_BYTES
