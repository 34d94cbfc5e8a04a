"""Totals of a period: over time, and by model, agent, tool, prompt version, user and organization."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from gati.store import long_durations, long_sums, sum_queries, sums
from gati.store.latencies import Histogram
from gati.store.store import Store
from gati.store.sum_queries import MadeRows, Segment

UNKNOWN = "unknown"
"""Shown for model calls without a model, turns without an agent and tools without a name."""

_MAX_GROUPS = 50


@dataclass
class GroupTotals:
    """Totals of one bar, model, agent, tool or prompt version. None means unknown: no call reported the number.

    Attributes:
        turns: User messages.
        ended: Of an agent, the turns with a known outcome.
        failed_turns: Of an agent, the turns that failed.
        calls: Model calls, or calls of a tool.
        failed: Calls that failed.
        tokens_in: Input tokens.
        tokens_out: Output tokens.
        cost: US dollars.
        unpriced: Completed model calls without a known cost.
        durations: Of calls or, for an agent, of turns.
        first_tokens: Times to the first token.
        ratings: Number of ratings.
        rating: Their mean on a scale from 0 to 1.
    """

    turns: int = 0
    ended: int = 0
    failed_turns: int = 0
    calls: int = 0
    failed: int = 0
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost: float | None = None
    unpriced: int = 0
    durations: Histogram = field(default_factory=Histogram)
    first_tokens: Histogram = field(default_factory=Histogram)
    ratings: int = 0
    rating: float | None = None

    @property
    def error_rate(self) -> float | None:
        """Fraction of calls (for an agent, of turns) that failed; None if there were none."""
        if self.ended:
            return self.failed_turns / self.ended
        return self.failed / self.calls if self.calls else None

    def percentile(self, fraction: float) -> float | None:
        """Return the duration that this fraction did not exceed; None if none is known."""
        return self.durations.percentile(fraction)

    def add_counts(self, row: sqlite3.Row) -> None:
        """Add a row of `sums`."""
        for name in ("turns", "ended", "failed_turns", "calls", "failed", "unpriced"):
            setattr(self, name, getattr(self, name) + row[name])
        self.tokens_in = _add_known(self.tokens_in, row["tokens_in"])
        self.tokens_out = _add_known(self.tokens_out, row["tokens_out"])
        self.cost = _add_known(self.cost, row["cost"])

    def add_rating(self, count: int, total: float) -> None:
        """Add ratings."""
        known = (self.rating or 0.0) * self.ratings
        self.ratings += count
        self.rating = (known + total) / self.ratings if self.ratings else None


def _add_known(total: Any, value: Any) -> Any:
    """Add two numbers, either of which may be None (unknown)."""
    return total if value is None else (total or 0) + value


class VersionTotals(NamedTuple):
    """The totals of a prompt version, with its prompt and number."""

    uid: str
    name: str
    number: int
    totals: GroupTotals


class OwnerTotals(NamedTuple):
    """The conversations of a user or an organization whose last activity is in the period."""

    id: str
    name: str | None
    conversations: int
    turns: int
    errors: int
    cost: float | None
    unpriced: int
    ratings: int
    rating: float | None


@dataclass
class Overview:
    """The totals of a period: by bar in order, overall, and by group, busiest first."""

    edges: list[int]
    bars: list[GroupTotals]
    total: GroupTotals
    conversations: int
    models: dict[str, GroupTotals]
    agents: dict[str, GroupTotals]
    tools: dict[str, GroupTotals]
    versions: list[VersionTotals]
    users: list[OwnerTotals]
    organizations: list[OwnerTotals]


def compute_overview(store: Store, edges: list[int]) -> Overview:
    """Compute the totals of a period.

    Args:
        store: The store.
        edges: Beginnings of the bars, and the end of the last one, in microseconds since the epoch. All are rounded to
            quarters of an hour.
    """
    since, until = sum_queries.rounded(edges[0]), sum_queries.rounded(edges[-1])
    long_sums.prepare(store, since, until, time.time_ns() // 1000)
    bars = [GroupTotals() for _ in edges[1:]]
    with store.connections.snapshot() as db:
        made = sum_queries.made_rows(db, since, until)
        rows = sum_queries.segments(since, until, made)
        _fill_bars(db, bars, edges, made)
        models = _groups(db, sums.MODEL, rows)
        return Overview(
            edges, bars, _sum_of(bars, models.values()),
            db.execute(
                "SELECT count(*) FROM conversations WHERE last_at >= ? AND last_at < ?", (since, until)
            ).fetchone()[0],
            _busiest(models), _busiest(_groups(db, sums.AGENT, rows)), _busiest(_groups(db, sums.TOOL, rows)),
            _version_totals(db, rows, since, until), _owner_totals(db, "user", since, until),
            _owner_totals(db, "organization", since, until),
        )  # fmt: skip


def _fill_bars(db: sqlite3.Connection, bars: list[GroupTotals], edges: list[int], made: MadeRows) -> None:
    segments = [
        segment
        for bar in range(len(bars))
        for segment in sum_queries.segments(edges[bar], edges[bar + 1], made, bar, sums.LENGTHS[:2])
    ]
    for row in sum_queries.summed_counts(db, sums.MODEL, segments, "part"):
        bars[row["part"]].add_counts(row)
    for row in sum_queries.summed_counts(db, sums.AGENT, segments, "part"):
        bars[row["part"]].turns += row["turns"]
    quarters = [segment for segment in segments if segment.length == sums.QUARTER]
    days = [segment for segment in segments if segment.length != sums.QUARTER]
    for of_models, of_first_tokens, some in (
        (sums.MODEL, sums.FIRST_TOKEN, quarters), (long_durations.ALL_MODELS, long_durations.ALL_FIRST_TOKENS, days),
    ):  # fmt: skip
        sum_queries.add_durations(db, of_models, some, "part", {part: bar.durations for part, bar in enumerate(bars)})
        sum_queries.add_durations(
            db, of_first_tokens, some, "part", {part: bar.first_tokens for part, bar in enumerate(bars)}
        )
    for part, count, total in sum_queries.ratings_by_part(db, edges):
        bars[part].add_rating(count, total)


def _sum_of(bars: Iterable[GroupTotals], models: Iterable[GroupTotals]) -> GroupTotals:
    """Add up the bars. The durations are those of the models, which have fewer buckets than all bars together."""
    total = GroupTotals()
    for bar in bars:
        for name in ("turns", "calls", "failed", "unpriced"):
            setattr(total, name, getattr(total, name) + getattr(bar, name))
        for name in ("tokens_in", "tokens_out", "cost"):
            setattr(total, name, _add_known(getattr(total, name), getattr(bar, name)))
        total.add_rating(bar.ratings, (bar.rating or 0.0) * bar.ratings)
    for model in models:
        total.durations.merge(model.durations)
        total.first_tokens.merge(model.first_tokens)
    return total


def _groups(db: sqlite3.Connection, kind: str, segments: list[Segment]) -> dict[str, GroupTotals]:
    """Return the totals by name."""
    groups: dict[str, GroupTotals] = {}
    for row in sum_queries.summed_counts(db, kind, segments, "name"):
        groups.setdefault(row["name"], GroupTotals()).add_counts(row)
    sum_queries.add_durations(db, kind, segments, "name", {name: totals.durations for name, totals in groups.items()})
    if kind == sums.MODEL:
        first_tokens = {name: totals.first_tokens for name, totals in groups.items()}
        sum_queries.add_durations(db, sums.FIRST_TOKEN, segments, "name", first_tokens)
    return groups


def _busiest(groups: Mapping[str, GroupTotals]) -> dict[str, GroupTotals]:
    """Return the 50 with the most calls or turns, busiest first."""
    found = sorted(groups.items(), key=lambda item: (-max(item[1].calls, item[1].turns), item[0]))[:_MAX_GROUPS]
    return {name or UNKNOWN: totals for name, totals in found}


def _version_totals(db: sqlite3.Connection, segments: list[Segment], since: int, until: int) -> list[VersionTotals]:
    groups = _busiest(_groups(db, sums.VERSION, segments))
    for version, count, total in sum_queries.ratings_by_version(db, since, until):
        if str(version) in groups:
            groups[str(version)].add_rating(count, total)
    names = sum_queries.version_names(db, [int(version) for version in groups])
    return [VersionTotals(*names[int(version)], totals) for version, totals in groups.items() if int(version) in names]


def _owner_totals(db: sqlite3.Connection, column: str, since: int, until: int) -> list[OwnerTotals]:
    return [OwnerTotals(*row) for row in sum_queries.owners(db, column, since, until, 20)]
