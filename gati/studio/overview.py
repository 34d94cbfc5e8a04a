"""Sums over a period: volume, tokens, cost, latency and errors, over time and by model and agent."""

from __future__ import annotations

import itertools
import math
import sqlite3
from dataclasses import dataclass, field
from typing import Any

from gati.studio.store import Store

_SECOND = 1_000_000
_HOUR = 3600 * _SECOND
_DAY = 24 * _HOUR

PERIODS = {"24h": (_DAY, _HOUR), "7d": (7 * _DAY, 6 * _HOUR), "30d": (30 * _DAY, _DAY), "1y": (364 * _DAY, 14 * _DAY)}
"""What can be looked at: its length and that of one bar, in microseconds."""


UNKNOWN = "unknown"
"""Where calls without a model, and turns without an agent, are counted."""


@dataclass
class Tally:
    """Sums of one bar, model or agent. None is unknown: no call of it told that number.

    Attributes:
        ended, failed_turns: of an agent, the turns that told how they ended, and those that failed.
        latencies: milliseconds in order; of model calls, or for an agent of turns.
        first_tokens: milliseconds to the first token, in order.
        unpriced: model calls without a known cost.
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
        """Share of model calls (of turns, for an agent) that failed; None when there were none."""
        if self.ended:
            return self.failed_turns / self.ended
        return self.failed_calls / self.calls if self.calls else None

    def percentile(self, share: float) -> float | None:
        """The latency that this share of calls did not exceed; None when none is known."""
        return percentile(self.latencies, share)

    @property
    def median_first_token(self) -> float | None:
        """Median time to the first token in milliseconds; None when none is known."""
        return percentile(self.first_tokens, 0.5)


@dataclass
class Overview:
    """A period: its bars in order, its total, and the same by model and by agent, the busiest first."""

    since: int
    until: int
    bar: int
    bars: list[Tally]
    total: Tally
    conversations: int
    models: dict[str, Tally]
    agents: dict[str, Tally]


def percentile(ordered: list[float], share: float) -> float | None:
    """The value that `share` of the ordered values do not exceed (nearest rank); None when there are none."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def overview(store: Store, period: str, now: int) -> Overview:
    """The sums of a period of `PERIODS` that ends with the bar of `now` (microseconds)."""
    length, bar = PERIODS[period]
    until = (now // bar + 1) * bar
    since = until - length
    made = Overview(since, until, bar, [Tally() for _ in range(length // bar)], Tally(), 0, {}, {})
    with store.connections.snapshot() as db:
        for row in _sums(db, made, "llm"):
            for tally in _of(made, row):
                _add(tally, row)
            _add(_agent(made, row), row)
        for row in _sums(db, made, "user_message"):
            for tally in (made.bars[row["bar"]], made.total, _agent(made, row)):
                tally.turns += row["count"]
        for row in _sums(db, made, "chain_end"):
            _agent(made, row).ended += row["count"]
            _agent(made, row).failed_turns += row["errors"]
        _add_times(db, made)
        made.conversations = db.execute(
            "SELECT count(*) FROM conversations WHERE last_at >= ? AND last_at < ?", (since, until)
        ).fetchone()[0]
    made.models, made.agents = _busiest(made.models), _busiest(made.agents)
    return made


# The index's own condition must stand here word for word, or SQLite does not see that it may use
# `messages_numbers`, which has all that is asked: no message is read.
_FROM = """
FROM messages INDEXED BY messages_numbers
WHERE type IN ('user_message', 'llm', 'chain_end') AND type = :kind AND at >= :since AND at < :until
"""


def _sums(db: sqlite3.Connection, made: Overview, kind: str) -> sqlite3.Cursor:
    return db.execute(
        "SELECT (at - :since) / :bar AS bar, model, agent, count(*) AS count, sum(status IS 'error') AS errors,"
        " sum(tokens_in) AS tokens_in, sum(tokens_out) AS tokens_out, sum(cost) AS cost, sum(cost IS NULL) AS unpriced"
        f" {_FROM} GROUP BY 1, model, agent",  # our own
        {"kind": kind, "since": made.since, "until": made.until, "bar": made.bar},
    )


def _add_times(db: sqlite3.Connection, made: Overview) -> None:
    rows = db.cursor()
    rows.row_factory = None  # plain tuples: there may be very many
    times = f"SELECT (at - :since) / :bar, model, agent, latency_ms, first_token_ms {_FROM}"  # our own
    values = {"since": made.since, "until": made.until, "bar": made.bar}
    for bar, model, _, latency, first in rows.execute(times, {**values, "kind": "llm"}):
        tallies = made.bars[bar], made.models[model or UNKNOWN]
        if latency is not None:
            for tally in tallies:
                tally.latencies.append(latency)
        if first is not None:
            for tally in tallies:
                tally.first_tokens.append(first)
    for _, _, agent, latency, _ in rows.execute(times, {**values, "kind": "chain_end"}):
        if latency is not None:
            made.agents[agent or UNKNOWN].latencies.append(latency)
    for tally in (*made.bars, *made.models.values(), *made.agents.values()):
        tally.latencies.sort()
        tally.first_tokens.sort()
    # Runs that are in order are merged, which is quicker than to sort anew.
    made.total.latencies = sorted(itertools.chain.from_iterable(tally.latencies for tally in made.models.values()))
    made.total.first_tokens = sorted(
        itertools.chain.from_iterable(tally.first_tokens for tally in made.models.values())
    )


def _of(made: Overview, row: sqlite3.Row) -> tuple[Tally, Tally, Tally]:
    """What a model call counts for: its bar, the total, its model."""
    return made.bars[row["bar"]], made.total, made.models.setdefault(row["model"] or UNKNOWN, Tally())


def _agent(made: Overview, row: sqlite3.Row) -> Tally:
    return made.agents.setdefault(row["agent"] or UNKNOWN, Tally())


def _add(tally: Tally, row: sqlite3.Row) -> None:
    tally.calls += row["count"]
    tally.failed_calls += row["errors"]
    tally.tokens_in = _plus(tally.tokens_in, row["tokens_in"])
    tally.tokens_out = _plus(tally.tokens_out, row["tokens_out"])
    tally.cost = _plus(tally.cost, row["cost"])
    tally.unpriced += row["unpriced"]


def _plus(total: Any, more: Any) -> Any:
    return total if more is None else (total or 0) + more


def _busiest(tallies: dict[str, Tally]) -> dict[str, Tally]:
    ordered = sorted(tallies.items(), key=lambda item: (-max(item[1].calls, item[1].turns), item[0]))
    return dict(ordered[:50])
