"""Runs as they are read from a source, and the records that they become."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, TypeAlias

from gati.trace.records import UNSEEN_START, ErrorInfo, Record, RunEnded, RunFailed, RunStarted, Scope

RunKind: TypeAlias = Literal["chain", "prompt", "parser", "model", "tool", "retriever"]

NAMESPACE = uuid.UUID("5f1c9a0e-6a55-4c2b-8f0c-6a1f0b6f3c11")
"""Namespace of the run ids that are derived from ids of a source."""


@dataclass(slots=True)
class ImportedRun:
    """A run of a source. Values are plain, with `Message`s for chat messages, as in records.

    Attributes:
        id: its id in the source. A UUID stays the same, so that a turn that gati reported already is recognized.
        parent_id: id of the enclosing run; None for a turn's root.
        started_ns: nanoseconds since the epoch.
        ended_ns: None if the source does not say when it ended.
        inputs: a `ModelCall` for a model.
        output: a `ModelResult` for a model.
        tool_call_id: the id that the model gave the call of a tool.
        is_timed: False if the source has no start, so that the latency is unknown.
    """

    id: str
    kind: RunKind
    name: str
    started_ns: int
    ended_ns: int | None = None
    parent_id: str | None = None
    inputs: Any = None
    output: Any = None
    error: ErrorInfo | None = None
    tool_call_id: str | None = None
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    is_timed: bool = True


class ImportedTurn(NamedTuple):
    """A root run with all runs below it, and to whom it belongs.

    Attributes:
        runs: the root first.
        conversation_id: the id of a thread or session; None if the source names none.
        user_id: None if the source names none.
    """

    runs: Sequence[ImportedRun]
    conversation_id: str | None
    user_id: str | None = None

    @property
    def root(self) -> ImportedRun:
        """The run that encloses the others."""
        return self.runs[0]


def run_id_of(id_: str) -> uuid.UUID:
    """Return the UUID of a run: its own id if it is one, else one that is derived from it."""
    try:
        return uuid.UUID(id_)
    except ValueError:
        return uuid.uuid5(NAMESPACE, id_)


def to_ns(value: Any) -> int | None:
    """Return a time as nanoseconds since the epoch: ISO 8601 (UTC if it names no zone), or seconds to nanoseconds."""
    if isinstance(value, str) and value:
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            return None
        at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
        return round(at.timestamp() * 1e6) * 1_000
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
        digits = 10  # of the seconds since the epoch, until the year 2286
        return int(value * 10 ** max(0, 9 - max(0, len(str(int(value))) - digits)))
    return None


def records_of(turn: ImportedTurn, source: str, clock_offset: int) -> list[Record]:
    """Return a turn's records, in the order of time.

    Args:
        turn: the turn.
        source: name of the tool; becomes the property `imported_from`.
        clock_offset: nanoseconds since the epoch when the clock of the records was 0.
    """
    timed: list[tuple[int, int, Record]] = []
    ends = _ends_of(turn.runs)
    depths = _depths_of(turn.runs)
    for number, run in enumerate(turn.runs):
        started, ended = run.started_ns, ends[run.id]
        scope = Scope(turn.conversation_id, turn.user_id, properties={"imported_from": source}) if number == 0 else None
        parent = run_id_of(run.parent_id) if run.parent_id is not None else None
        run_id = run_id_of(run.id)
        extra = run.tool_call_id if run.is_timed or run.kind == "tool" else UNSEEN_START
        start = RunStarted(
            run_id, parent, run.kind, run.name, started - clock_offset, run.inputs, run.tags, run.metadata, extra, scope
        )
        end: Record = RunEnded(run_id, ended - clock_offset, run.output)
        if run.error is not None:
            end = RunFailed(run_id, ended - clock_offset, run.error, run.output)
        # At equal times a parent starts before its children and ends after them.
        depth = depths[run.id]
        timed += [(started, depth, start), (ended, 1_000_000 - depth, end)]
    timed.sort(key=lambda entry: entry[:2])
    return [record for _, _, record in timed]


def _depths_of(runs: Sequence[ImportedRun]) -> dict[str, int]:
    depths: dict[str, int] = {}
    for run in runs:
        depths[run.id] = depths.get(run.parent_id or "", -1) + 1
    return depths


def _ends_of(runs: Sequence[ImportedRun]) -> dict[str, int]:
    """Return when each run ended: not before any run below it."""
    ends = {run.id: max(run.started_ns, run.ended_ns or run.started_ns) for run in runs}
    for run in reversed(runs):
        if run.parent_id in ends:
            ends[run.parent_id] = max(ends[run.parent_id], ends[run.id])
    return ends


def turns_of(
    runs: Iterable[ImportedRun], owner_of: Callable[[Sequence[ImportedRun]], tuple[str | None, str | None]]
) -> Iterator[ImportedTurn]:
    """Group runs into turns, ordered by the start of their roots.

    Args:
        runs: runs in any order. A run whose parent is missing is a root.
        owner_of: returns conversation and user of a root and the runs below it.
    """
    by_id = {run.id: run for run in runs}
    children: dict[str, list[ImportedRun]] = {}
    roots: list[ImportedRun] = []
    for run in sorted(by_id.values(), key=lambda run: run.started_ns):
        if run.parent_id is not None and run.parent_id in by_id:
            children.setdefault(run.parent_id, []).append(run)
        else:
            run.parent_id = None
            roots.append(run)
    for root in roots:
        found = [root]
        for run in found:  # grows while it is read: parents come before their children
            found += children.get(run.id, ())
        yield ImportedTurn(found, *owner_of(found))
