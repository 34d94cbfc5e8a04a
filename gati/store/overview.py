"""Totals of a period: turns, tokens, cost, latency and errors, over time and by model and agent."""

from __future__ import annotations

import itertools
import math
import sqlite3
from dataclasses import dataclass, field
from typing import Any

from gati.store.store import Store

_SECOND = 1_000_000
_HOUR = 3600 * _SECOND
_DAY = 24 * _HOUR

PERIODS = {"24h": (_DAY, _HOUR), "7d": (7 * _DAY, 6 * _HOUR), "30d": (30 * _DAY, _DAY), "1y": (364 * _DAY, 14 * _DAY)}
"""The available periods: length of the period and of one bar, in microseconds."""


UNKNOWN = "unknown"
"""Group of model calls without a model and of turns without an agent."""


@dataclass
class GroupTotals:
    """Totals of one bar, model or agent. None means unknown: no call reported the number.

    Attributes:
        turns: User messages.
        ended: Of an agent, the turns with a known outcome.
        calls: Model calls.
        failed_calls: Model calls that failed.
        failed_turns: Of an agent, the turns that failed.
        tokens_in: Input tokens.
        tokens_out: Output tokens.
        cost: US dollars.
        unpriced: Model calls without a known cost.
        latencies: Sorted milliseconds, of model calls or, for an agent, of turns.
        first_tokens: Sorted milliseconds to the first token.
    """

    turns: int = 0
    ended: int = 0
    calls: int = 0
    failed_calls: int = 0
    failed_turns: int = 0
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost: float | None = None
    unpriced: int = 0
    latencies: list[float] = field(default_factory=list)
    first_tokens: list[float] = field(default_factory=list)

    @property
    def error_rate(self) -> float | None:
        """Fraction of model calls (for an agent, of turns) that failed; None if there were none."""
        if self.ended:
            return self.failed_turns / self.ended
        return self.failed_calls / self.calls if self.calls else None

    def percentile(self, fraction: float) -> float | None:
        """Return the latency that this fraction of calls did not exceed; None if none is known."""
        return percentile(self.latencies, fraction)

    @property
    def median_first_token(self) -> float | None:
        """Median time to the first token in milliseconds; None if none is known."""
        return percentile(self.first_tokens, 0.5)


@dataclass
class Overview:
    """The totals of a period: by bar in order, overall, and by model and agent, busiest first."""

    since: int
    until: int
    bar: int
    bars: list[GroupTotals]
    total: GroupTotals
    conversations: int
    models: dict[str, GroupTotals]
    agents: dict[str, GroupTotals]

    def groups_of_call(self, row: sqlite3.Row) -> tuple[GroupTotals, GroupTotals, GroupTotals]:
        """Return the groups that a model call belongs to, except its agent: bar, total and model."""
        return self.bars[row["bar"]], self.total, self.models.setdefault(row["model"] or UNKNOWN, GroupTotals())

    def agent_of(self, row: sqlite3.Row) -> GroupTotals:
        """Return the totals of the row's agent."""
        return self.agents.setdefault(row["agent"] or UNKNOWN, GroupTotals())


def percentile(ordered: list[float], fraction: float) -> float | None:
    """Return the value that `fraction` of the sorted values do not exceed (nearest rank); None if there are none."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(fraction * len(ordered)) - 1)]


def compute_overview(store: Store, period: str, now: int) -> Overview:
    """Compute the totals of one of `PERIODS` that ends with the bar of `now` (microseconds since the epoch)."""
    length, bar = PERIODS[period]
    until = (now // bar + 1) * bar
    since = until - length
    overview = Overview(since, until, bar, [GroupTotals() for _ in range(length // bar)], GroupTotals(), 0, {}, {})
    with store.connections.snapshot() as db:
        for row in _aggregate(db, overview, "llm"):
            for totals in overview.groups_of_call(row):
                _add_calls(totals, row)
            _add_calls(overview.agent_of(row), row)
        for row in _aggregate(db, overview, "user_message"):
            for totals in (overview.bars[row["bar"]], overview.total, overview.agent_of(row)):
                totals.turns += row["count"]
        for row in _aggregate(db, overview, "chain_end"):
            overview.agent_of(row).ended += row["count"]
            overview.agent_of(row).failed_turns += row["errors"]
        _add_latencies(db, overview)
        overview.conversations = db.execute(
            "SELECT count(*) FROM conversations WHERE last_at >= ? AND last_at < ?", (since, until)
        ).fetchone()[0]
    overview.models, overview.agents = _busiest_first(overview.models), _busiest_first(overview.agents)
    return overview


# Repeat the partial index's condition word for word, or SQLite does not recognize that `messages_numbers` applies.
# The index covers all selected columns, so no message is read.
_FROM = """
FROM messages INDEXED BY messages_numbers
WHERE type IN ('user_message', 'llm', 'chain_end') AND type = :kind AND at >= :since AND at < :until
"""


def _aggregate(db: sqlite3.Connection, overview: Overview, kind: str) -> sqlite3.Cursor:
    return db.execute(
        "SELECT (at - :since) / :bar AS bar, model, agent, count(*) AS count, sum(status IS 'error') AS errors,"
        " sum(tokens_in) AS tokens_in, sum(tokens_out) AS tokens_out, sum(cost) AS cost, sum(cost IS NULL) AS unpriced"
        f" {_FROM} GROUP BY 1, model, agent",
        {"kind": kind, "since": overview.since, "until": overview.until, "bar": overview.bar},
    )


def _add_latencies(db: sqlite3.Connection, overview: Overview) -> None:
    rows = db.cursor()
    rows.row_factory = None  # plain tuples are faster, and there may be many rows
    query = f"SELECT (at - :since) / :bar, model, agent, latency_ms, first_token_ms {_FROM}"
    values = {"since": overview.since, "until": overview.until, "bar": overview.bar}
    for bar, model, _, latency, first_token in rows.execute(query, {**values, "kind": "llm"}):
        groups = overview.bars[bar], overview.models[model or UNKNOWN]
        if latency is not None:
            for totals in groups:
                totals.latencies.append(latency)
        if first_token is not None:
            for totals in groups:
                totals.first_tokens.append(first_token)
    for _, _, agent, latency, _ in rows.execute(query, {**values, "kind": "chain_end"}):
        if latency is not None:
            overview.agents[agent or UNKNOWN].latencies.append(latency)
    for totals in (*overview.bars, *overview.models.values(), *overview.agents.values()):
        totals.latencies.sort()
        totals.first_tokens.sort()
    # `sorted` merges the sorted lists, which is faster than sorting from scratch.
    models = overview.models.values()
    overview.total.latencies = sorted(itertools.chain.from_iterable(totals.latencies for totals in models))
    overview.total.first_tokens = sorted(itertools.chain.from_iterable(totals.first_tokens for totals in models))


def _add_calls(totals: GroupTotals, row: sqlite3.Row) -> None:
    totals.calls += row["count"]
    totals.failed_calls += row["errors"]
    totals.tokens_in = _add_known(totals.tokens_in, row["tokens_in"])
    totals.tokens_out = _add_known(totals.tokens_out, row["tokens_out"])
    totals.cost = _add_known(totals.cost, row["cost"])
    totals.unpriced += row["unpriced"]


def _add_known(total: Any, value: Any) -> Any:
    """Add two numbers, either of which may be None (unknown)."""
    return total if value is None else (total or 0) + value


def _busiest_first(groups: dict[str, GroupTotals]) -> dict[str, GroupTotals]:
    """Return the 50 busiest groups in order."""
    ordered = sorted(groups.items(), key=lambda item: (-max(item[1].calls, item[1].turns), item[0]))
    return dict(ordered[:50])
