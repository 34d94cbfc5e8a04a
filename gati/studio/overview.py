"""Sums over a period: volume, tokens, cost, latency and errors, over time and by model and agent."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from gati.studio.store import Store

_SECOND = 1_000_000
_HOUR = 3600 * _SECOND
_DAY = 24 * _HOUR

PERIODS = {"24h": (_DAY, _HOUR), "7d": (7 * _DAY, 6 * _HOUR), "30d": (30 * _DAY, _DAY), "1y": (364 * _DAY, 14 * _DAY)}
"""What can be looked at: its length and that of one bar, in microseconds."""


@dataclass
class Tally:
    """Sums of one bar, model or agent. None is unknown: no call of it told that number.

    Of an agent, `ended` counts its turns that told how they ended, and `errors` and `latencies`
    (milliseconds) are those of turns; else they are those of model calls.
    """

    turns: int = 0
    ended: int = 0
    calls: int = 0
    errors: int = 0
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost: float | None = None
    unpriced: int = 0
    latencies: list[float] = field(default_factory=list)
    first_tokens: list[float] = field(default_factory=list)

    @property
    def error_rate(self) -> float | None:
        """Share of model calls (of turns, for an agent) that failed; None when there were none."""
        count = self.ended or self.calls
        return self.errors / count if count else None

    def percentile(self, share: float) -> float | None:
        """The latency that this share of calls did not exceed (nearest rank); None when none is known."""
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


def percentile(values: list[float], share: float) -> float | None:
    """The value that `share` of the values do not exceed (nearest rank)."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]


def overview(store: Store, period: str, now: int) -> Overview:
    """The sums of a period of `PERIODS` that ends with the bar of `now` (microseconds)."""
    length, bar = PERIODS[period]
    until = (now // bar + 1) * bar
    since = until - length
    bars = [Tally() for _ in range(length // bar)]
    total = Tally()
    models: dict[str, Tally] = defaultdict(Tally)
    agents: dict[str, Tally] = defaultdict(Tally)
    with store.connections.snapshot() as db:
        for row in _rows(db, "llm", since, until):
            tallies = [bars[(row["at"] - since) // bar], total, models[row["model"] or "unknown"]]
            for tally in tallies:
                _add_call(tally, row)
                _add_outcome(tally, row)
            _add_call(agents[row["agent"] or "unknown"], row)
        for row in _rows(db, "user_message", since, until):
            bars[(row["at"] - since) // bar].turns += 1
            total.turns += 1
            agents[row["agent"] or "unknown"].turns += 1
        for row in _rows(db, "chain_end", since, until):
            agents[row["agent"] or "unknown"].ended += 1
            _add_outcome(agents[row["agent"] or "unknown"], row)
        conversations = db.execute(
            "SELECT count(*) FROM conversations WHERE last_at >= ? AND last_at < ?", (since, until)
        ).fetchone()[0]
    return Overview(since, until, bar, bars, total, conversations, _busiest(models), _busiest(agents))


def _rows(db: sqlite3.Connection, kind: str, since: int, until: int) -> sqlite3.Cursor:
    # Only columns of the index `messages_numbers`, so that no message is read; the index's own condition must
    # stand here word for word, or SQLite does not see that it may use it.
    return db.execute(
        "SELECT at, model, agent, status, latency_ms, first_token_ms, tokens_in, tokens_out, cost"
        " FROM messages INDEXED BY messages_numbers WHERE type IN ('user_message', 'llm', 'chain_end')"
        " AND type = ? AND at >= ? AND at < ?",
        (kind, since, until),
    )


def _add_call(tally: Tally, row: sqlite3.Row) -> None:
    tally.calls += 1
    tally.tokens_in = _plus(tally.tokens_in, row["tokens_in"])
    tally.tokens_out = _plus(tally.tokens_out, row["tokens_out"])
    tally.cost = _plus(tally.cost, row["cost"])
    tally.unpriced += row["cost"] is None
    if row["first_token_ms"] is not None:
        tally.first_tokens.append(row["first_token_ms"])


def _add_outcome(tally: Tally, row: sqlite3.Row) -> None:
    tally.errors += row["status"] == "error"
    if row["latency_ms"] is not None:
        tally.latencies.append(row["latency_ms"])


def _plus(total: Any, more: Any) -> Any:
    return total if more is None else (total or 0) + more


def _busiest(tallies: dict[str, Tally]) -> dict[str, Tally]:
    ordered = sorted(tallies.items(), key=lambda item: (-max(item[1].calls, item[1].turns), item[0]))
    return dict(ordered[:50])
