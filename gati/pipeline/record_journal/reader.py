"""Reads the journal of a process that was killed, and selects the records of what it had not stored."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from gati.pipeline.record_journal.format import GAP, Checkpoint, JournalHead, StoredEntry, read_entries, read_segments
from gati.trace.record_codec import ENDED, FAILED, FLATTENED, KIND, NONE, RUN, STARTED, key_at
from gati.trace.stored_records import LEFT_OUT, MANUAL, PLAIN, WITH_OBJECTS, head_of_stored, run_key

_ENDS = frozenset({ENDED, FAILED})
_RUN_RECORDS = frozenset({PLAIN, WITH_OBJECTS, LEFT_OUT})


class _RootRun:
    """The records of a root and of all runs below it.

    Attributes:
        open: keys of the runs that have not ended.
        is_torn: a record is missing.
        is_needed: something that was not stored belongs to it.
    """

    __slots__ = ("ended", "is_needed", "is_torn", "key", "open", "records")

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.records: list[StoredEntry] = []
        self.open: set[bytes] = set()
        self.ended = False
        self.is_torn = self.is_needed = False


class UnstoredRecords(NamedTuple):
    """The records of a journal from which turns have to be assembled, in order.

    Attributes:
        earlier: records of turns that are stored. The times of the turns that follow depend on theirs.
        stored: records of turns that had begun before the checkpoint. What they complete by themselves is stored.
        new: the records after it.
        torn: number of turns that cannot be assembled, because records are missing.
    """

    earlier: list[bytes]
    stored: list[bytes]
    new: list[bytes]
    torn: int


def unstored_records(data: bytes, head: JournalHead) -> UnstoredRecords:
    """Return the records of a journal of which not everything was stored."""
    entries, gaps = _in_order(data, head)
    roots, others = _by_root(entries, gaps, head.checkpoint)
    stored_until = head.checkpoint.records
    for root in roots:
        root.is_needed |= bool(root.open) or root.records[-1].number > stored_until
    whole = [root for root in roots if not root.is_torn]
    chosen = [*others, *(entry for root in whole if root.is_needed for entry in root.records)]
    earlier = [entry for root in whole if not root.is_needed for entry in root.records]
    for entries_of_turns in (chosen, earlier):
        entries_of_turns.sort(key=lambda entry: entry.number)
    return UnstoredRecords(
        [entry.data for entry in earlier],
        [entry.data for entry in chosen if entry.number <= stored_until],
        [entry.data for entry in chosen if entry.number > stored_until],
        sum(root.is_needed and root.is_torn for root in roots),
    )


def turns_in(data: bytes, head: JournalHead) -> list[list[StoredEntry]]:
    """Return all entries of each turn, also of those that are stored, and each other item's; moved ones repeatedly."""
    entries, gaps = _in_order(data, head, copies=True)
    roots, others = _by_root(entries, gaps, Checkpoint())
    return [root.records for root in roots] + [[entry] for entry in others]


def _in_order(data: bytes, head: JournalHead, *, copies: bool = False) -> tuple[list[StoredEntry], list[int]]:
    """Return the records by number, each once unless `copies`, and the numbers of the records before each gap."""
    found: dict[int, list[StoredEntry]] = {}
    gaps = [head.checkpoint.gap] if head.checkpoint.gap else []
    gaps += [head.hole] if head.hole is not None else []
    for _, before, begin, end in read_segments(data, head):
        for entry in read_entries(data, before, begin, end):
            if entry.data[0] == GAP:
                gaps.append(entry.number)
                continue
            same = found.setdefault(entry.number, [])
            if copies or all(entry.data != other.data for other in same):
                same.append(entry)
    numbers, expected = sorted(found), head.checkpoint.records + 1
    for number in numbers:
        if number > expected:
            gaps.append(expected - 1)
        expected = max(expected, number + 1)
    return [entry for number in numbers for entry in found[number]], sorted(gaps)


def _by_root(
    entries: Iterable[StoredEntry], gaps: list[int], checkpoint: Checkpoint
) -> tuple[list[_RootRun], list[StoredEntry]]:
    """Return the records by root, and those after the checkpoint that belong to none."""
    roots: list[_RootRun] = []
    by_run: dict[bytes, _RootRun] = {}
    others, gaps, has_gaps = [], gaps[:], bool(gaps)
    for entry in entries:
        while gaps and gaps[0] < entry.number:
            gaps.pop(0)
            for root in roots:
                root.is_torn |= not root.ended
        key, kind = run_key(entry.data), entry.data[0]
        head = head_of_stored(entry.data) if kind in _RUN_RECORDS and key else b""
        record = head[KIND] & ~FLATTENED if head else -1
        found = by_run.get(key)
        if record == STARTED and (found is None or found.ended):
            found = _root_of(head, key, by_run)
            if found is None:
                found = _RootRun(key)
                found.is_torn = has_gaps and head[RUN + len(key)] != NONE  # its parent may be what is missing
                roots.append(found)
            by_run[key] = found
            found.open.add(key)
        if kind == MANUAL and (entry.number > checkpoint.records):
            if found is not None:
                found.is_needed = True
            else:
                others.append(entry)
                continue
        if found is None:
            continue
        found.records.append(entry)
        found.is_torn |= kind == LEFT_OUT
        if record in _ENDS:
            found.open.discard(key)
            found.ended |= key == found.key
    if gaps:
        for root in roots:
            root.is_torn |= not root.ended
    return roots, others


def _root_of(head: bytes, key: bytes, by_run: dict[bytes, _RootRun]) -> _RootRun | None:
    parent = RUN + len(key)
    return by_run.get(key_at(head, parent)) if len(head) > parent + 1 and head[parent] != NONE else None
