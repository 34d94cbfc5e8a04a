"""Sums by time, kept up to date with every message, so that a page costs the same however many messages it sums up.

`sums` counts turns, calls, tokens, cost and failures by model, agent, prompt version and tool. `durations` counts their
durations by bucket. Every message is added to the row of its quarter of an hour (UTC). `long_sums` makes rows of days and
of four weeks from them, and `long_durations` those of durations. A period is read as the longest rows that it contains plus shorter ones at its ends. All time
zones begin their days at a quarter.
"""

from __future__ import annotations

import functools
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from gati.store import latencies, message_columns
from gati.store.message_columns import MessageMetrics

_SECOND = 1_000_000
QUARTER, DAY, WEEKS = 900 * _SECOND, 86_400 * _SECOND, 28 * 86_400 * _SECOND
LENGTHS = (QUARTER, DAY, WEEKS)
"""Lengths of the rows in microseconds. Each divides the next."""

MODEL, AGENT, VERSION, TOOL, FIRST_TOKEN = "model", "agent", "version", "tool", "first_token"
"""Kinds of sums. The last has durations only, by model."""

KINDS = "('model', 'agent', 'version', 'tool', 'first_token', 'all_models', 'all_first_tokens')"
"""All kinds, for SQL. The last two are made by `long_durations`."""

TOOL_TYPES = ("tool_call", "observation", "tool_error")
TYPES = ("user_message", "llm", "chain_end", *TOOL_TYPES)
"""The message types that count."""

COUNTERS = ("turns", "ended", "failed_turns", "calls", "failed", "tokens_in", "tokens_out", "cost", "unpriced")
"""Columns of `sums`. Tokens and cost are NULL while no call has reported them."""

_NULLABLE = ("tokens_in", "tokens_out", "cost")

SCHEMA = f"""
CREATE TABLE sums (
  kind TEXT NOT NULL,
  length INTEGER NOT NULL,
  start INTEGER NOT NULL,
  name TEXT NOT NULL,
  {", ".join(f"{column} REAL" if column in _NULLABLE else f"{column} INTEGER NOT NULL" for column in COUNTERS)},
  PRIMARY KEY (kind, length, start, name)
) WITHOUT ROWID;
CREATE TABLE durations (
  kind TEXT NOT NULL,
  length INTEGER NOT NULL,
  start INTEGER NOT NULL,
  name TEXT NOT NULL,
  bucket INTEGER NOT NULL,
  count INTEGER NOT NULL,
  total REAL NOT NULL,
  PRIMARY KEY (kind, length, start, name, bucket)
) WITHOUT ROWID;
CREATE TABLE long_sums (length INTEGER NOT NULL, start INTEGER NOT NULL, PRIMARY KEY (length, start)) WITHOUT ROWID
"""

_MOST_RANGES = 200
"""Quarters that one query looks for."""

_COMPLETED = (None, "completed")


def is_unpriced(status: str | None, cost: float | None) -> bool:
    """Return True if a completed model call has no known cost. Failed and stopped calls do not make sums uncertain."""
    return cost is None and status in _COMPLETED


class Fact(NamedTuple):
    """A message as far as it counts. `tool` is empty except for tool calls; `version` is a prompt version's row."""

    type: str
    at: int
    agent: str | None
    metrics: MessageMetrics
    version: int | None = None
    tool: str = ""


class _Key(NamedTuple):
    kind: str
    length: int
    start: int
    name: str


class SumsBatch:
    """Contributions of several messages, added up before they are written."""

    def __init__(self) -> None:
        self._counts: dict[_Key, dict[str, float]] = {}
        self._durations: dict[tuple[_Key, int], tuple[int, float]] = {}

    def add(self, fact: Fact) -> None:
        """Add one message."""
        metrics = fact.metrics
        agent = fact.agent or ""
        if fact.type == "user_message":
            self._count(AGENT, agent, fact.at, {"turns": 1})
        elif fact.type == "chain_end":
            self._count(AGENT, agent, fact.at, {"ended": 1, "failed_turns": metrics.status == "error"})
            self._time(AGENT, agent, fact.at, metrics.latency_ms)
        elif fact.type == "llm":
            self._add_model_call(fact, agent)
        elif fact.type == "tool_call":
            self._count(TOOL, fact.tool, fact.at, {"calls": 1})
        else:
            if fact.type == "tool_error":
                self._count(TOOL, fact.tool, fact.at, {"failed": 1})
            self._time(TOOL, fact.tool, fact.at, metrics.latency_ms)

    def _add_model_call(self, fact: Fact, agent: str) -> None:
        metrics, model = fact.metrics, fact.metrics.model or ""
        counts = {
            "calls": 1, "failed": metrics.status == "error", "tokens_in": metrics.tokens_in,
            "tokens_out": metrics.tokens_out, "cost": metrics.cost,
            "unpriced": is_unpriced(metrics.status, metrics.cost),
        }  # fmt: skip
        self._count(MODEL, model, fact.at, counts)
        self._count(AGENT, agent, fact.at, counts)
        self._time(MODEL, model, fact.at, metrics.latency_ms)
        self._time(FIRST_TOKEN, model, fact.at, metrics.first_token_ms)
        if fact.version is not None:
            self._count(VERSION, str(fact.version), fact.at, counts)
            self._time(VERSION, str(fact.version), fact.at, metrics.latency_ms)

    def _count(self, kind: str, name: str, at: int, counts: dict[str, Any]) -> None:
        sums = self._counts.setdefault(_Key(kind, QUARTER, at // QUARTER * QUARTER, name), {})
        for counter, number in counts.items():
            if number is not None:
                sums[counter] = sums.get(counter, 0) + number

    def _time(self, kind: str, name: str, at: int, milliseconds: float | None) -> None:
        if milliseconds is None:
            return
        bucket = latencies.bucket_of(milliseconds)
        key = _Key(kind, QUARTER, at // QUARTER * QUARTER, name), bucket
        count, total = self._durations.get(key, (0, 0.0))
        self._durations[key] = count + 1, total + milliseconds

    def long_rows(self) -> set[tuple[int, int]]:
        """Return (length, start) of the days and weeks that these contributions belong to."""
        keys = [*self._counts, *(key for key, _ in self._durations)]
        return {(length, key.start // length * length) for key in keys for length in LENGTHS[1:]}

    def write(self, db: sqlite3.Connection) -> None:
        """Add the contributions to the tables."""
        db.executemany("DELETE FROM long_sums WHERE length = ? AND start = ?", self.long_rows())
        db.executemany(_ADD_COUNTS, self.count_rows())
        db.executemany(_ADD_DURATIONS, self.duration_rows())

    def count_rows(self) -> list[tuple[Any, ...]]:
        """Return rows for `sums`."""
        return [
            (*key, *(counts.get(name, None if name in _NULLABLE else 0) for name in COUNTERS))
            for key, counts in self._counts.items()
        ]

    def duration_rows(self) -> list[tuple[Any, ...]]:
        """Return rows for `durations`."""
        return [(*key, bucket, *values) for (key, bucket), values in self._durations.items()]

    def subtract(self, db: sqlite3.Connection) -> None:
        """Take the contributions out of the tables, for messages that are deleted."""
        _delete_starts(db, _LONG_TABLES, self.long_rows())
        of_key = "kind = ? AND length = ? AND start = ? AND name = ?"
        less = ", ".join(f"{name} = {name} - ?" for name in COUNTERS)
        rows = [(*(counts.get(name, 0) for name in COUNTERS), *key) for key, counts in self._counts.items()]
        db.executemany(f"UPDATE sums SET {less} WHERE {of_key}", rows)  # noqa: S608  # our own names
        empty = " AND ".join(f"{name} <= 0" for name in ("turns", "ended", "calls", "failed"))
        db.executemany(f"DELETE FROM sums WHERE {of_key} AND {empty}", self._counts)  # noqa: S608  # our own names
        db.executemany(
            f"UPDATE durations SET count = count - ?, total = total - ? WHERE {of_key} AND bucket = ?",  # noqa: S608  # our own names
            [(*values, *key, bucket) for (key, bucket), values in self._durations.items()],
        )
        db.executemany(
            f"DELETE FROM durations WHERE {of_key} AND bucket = ? AND count <= 0",  # noqa: S608  # our own names
            [(*key, bucket) for key, bucket in self._durations],
        )


_KEY = "kind, length, start, name"

ADD_COUNTS = f"ON CONFLICT ({_KEY}) DO UPDATE SET " + ", ".join(
    f"{name} = CASE WHEN excluded.{name} IS NULL THEN sums.{name} ELSE coalesce(sums.{name}, 0) + excluded.{name} END"
    if name in _NULLABLE
    else f"{name} = sums.{name} + excluded.{name}"
    for name in COUNTERS
)
ADD_DURATIONS = (
    f"ON CONFLICT ({_KEY}, bucket) DO UPDATE SET"
    " count = durations.count + excluded.count, total = durations.total + excluded.total"
)
"""Ends of the statements that add rows to those that exist."""

_ADD_COUNTS = f"INSERT INTO sums VALUES ({', '.join('?' * (4 + len(COUNTERS)))}) {ADD_COUNTS}"  # noqa: S608  # our own names
_ADD_DURATIONS = f"INSERT INTO durations VALUES (?, ?, ?, ?, ?, ?, ?) {ADD_DURATIONS}"  # noqa: S608  # as above


ParentLookup = Callable[[str], "tuple[int, str] | None"]
"""Returns time and tool name of the tool call with an external id."""


def tool_fact(message: dict[str, Any], at: int, agent: str | None, parent_of: ParentLookup) -> Fact:
    """Return the fact of a tool call or its result. A result may leave its tool and its duration to its call."""
    kind = message_columns.message_type(message)
    metrics = message_columns.extract_metrics(message, None)
    tool = message.get("toolName")
    if kind != "tool_call" and (not tool or metrics.latency_ms is None):
        parent = parent_of(str(message.get("parentExternalMessageId") or ""))
        if parent is not None:
            tool = tool or parent[1]
            if metrics.latency_ms is None and at > parent[0]:  # one time for both says nothing, see `turn_view`
                metrics = metrics._replace(latency_ms=(at - parent[0]) / 1000)
    return Fact(kind, at, agent, metrics, tool=str(tool or ""))


def stored_tool_call(db: sqlite3.Connection, conversation: int, external_id: str) -> tuple[int, str] | None:
    """Return time and tool name of a stored tool call."""
    row = db.execute(
        "SELECT at, body FROM messages WHERE conversation = ? AND external_id = ? AND type = 'tool_call'",
        (conversation, external_id),
    ).fetchone()
    return row and (row["at"], str(json.loads(row["body"]).get("toolName") or ""))


_METRICS = "m.model, m.status, m.latency_ms, m.first_token_ms, m.tokens_in, m.tokens_out, m.cost"


def stored_facts(db: sqlite3.Connection, conversation: int | None = None) -> Iterator[Fact]:
    """Yield the facts of one conversation, or of all."""
    if conversation is None:
        return _facts_where(db, "1 = 1", [])
    return _facts_where(db, "m.conversation = ?", [conversation])


def _facts_where(db: sqlite3.Connection, condition: str, values: list[int]) -> Iterator[Fact]:
    types = ", ".join(f"'{name}'" for name in TYPES)
    rows = db.execute(
        f"SELECT m.type, m.at, m.agent, m.conversation, k.version, {_METRICS},"  # noqa: S608  # our own names
        " CASE WHEN m.type NOT IN ('user_message', 'llm', 'chain_end') THEN m.body END AS body"
        f" FROM messages m JOIN calls k ON k.id = m.call WHERE m.type IN ({types}) AND {condition}",
        values,
    )
    for row in rows:
        if row["body"] is not None:
            owner = row["conversation"]
            yield tool_fact(
                json.loads(row["body"]),
                row["at"],
                row["agent"],
                functools.partial(stored_tool_call, db, owner),
            )
        else:
            yield Fact(row["type"], row["at"], row["agent"], MessageMetrics(*row[5:12]), row["version"])


_LONG_TABLES = ("long_sums", "sums", "long_durations")


def _delete_starts(db: sqlite3.Connection, tables: Iterable[str], rows: set[tuple[int, int]]) -> None:
    """Delete the rows with these lengths and starts."""
    for table in tables:
        kinds = "" if table == "long_sums" else f"kind IN {KINDS} AND "
        db.executemany(f"DELETE FROM {table} WHERE {kinds}length = ? AND start = ?", sorted(rows))  # noqa: S608  # our own names


def rebuild(db: sqlite3.Connection, quarters: set[int]) -> None:
    """Make the rows of some quarters of an hour again, from the messages that are there now.

    Subtracting would not restore "unknown" where only removed messages had reported a number.
    """
    starts = sorted(quarters)
    long_rows = {(length, start // length * length) for start in starts for length in LENGTHS[1:]}
    _delete_starts(db, _LONG_TABLES, long_rows)
    _delete_starts(db, ("sums", "durations"), {(QUARTER, start) for start in starts})
    for first in range(0, len(starts), _MOST_RANGES):
        some = starts[first : first + _MOST_RANGES]
        within = " OR ".join(["(m.at >= ? AND m.at < ?)"] * len(some))
        add_all(db, _facts_where(db, f"({within})", [bound for start in some for bound in (start, start + QUARTER)]))


def remove_conversation(db: sqlite3.Connection, conversation: int) -> None:
    """Take a conversation's messages out of the sums, before they are deleted."""
    batch = SumsBatch()
    for fact in stored_facts(db, conversation):
        batch.add(fact)
    batch.subtract(db)


def add_all(db: sqlite3.Connection, facts: Iterable[Fact]) -> None:
    """Add facts to the tables."""
    batch = SumsBatch()
    for fact in facts:
        batch.add(fact)
    batch.write(db)
