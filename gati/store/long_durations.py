"""Durations of days and of four weeks: one row for each name, with all its buckets, which is faster to read than many rows.

`long_sums` makes these rows together with those of `sums`, and lists which of them are up to date.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict

from gati.store.latencies import Histogram
from gati.store.sums import DAY, FIRST_TOKEN, KINDS, MODEL, QUARTER

ALL_MODELS, ALL_FIRST_TOKENS = "all_models", "all_first_tokens"
"""Kinds that only days have: the durations of all models together, which charts read."""

_OF_ALL = {ALL_MODELS: MODEL, ALL_FIRST_TOKENS: FIRST_TOKEN}

_TABLE = """
CREATE TABLE long_durations (
  kind TEXT NOT NULL,
  length INTEGER NOT NULL,
  start INTEGER NOT NULL,
  name TEXT NOT NULL,
  buckets BLOB NOT NULL,
  PRIMARY KEY (kind, length, start, name)
) WITHOUT ROWID
"""


def add_long_durations(db: sqlite3.Connection) -> None:
    """Create the table. The rows of days and weeks are made again by the next page that needs them."""
    db.execute(_TABLE)
    db.execute("DELETE FROM durations WHERE length > ?", (QUARTER,))
    db.execute("DELETE FROM long_sums")


def make_day(db: sqlite3.Connection, day: int) -> None:
    """Add up the durations of a day's quarters."""
    rows = db.execute(
        "SELECT kind, name, bucket, sum(count), sum(total) FROM durations"
        " WHERE kind IN ('model', 'agent', 'version', 'tool', 'first_token') AND length = ? AND start >= ? AND start < ?"
        " GROUP BY kind, name, bucket",
        (QUARTER, day, day + DAY),
    )
    found: dict[tuple[str, str], Histogram] = defaultdict(Histogram)
    for kind, name, *values in rows:
        found[kind, name].add(*values)
    for kind, of in _OF_ALL.items():
        for histogram in [histogram for key, histogram in found.items() if key[0] == of]:
            found[kind, ""].merge(histogram)
    _replace_packed(db, DAY, day, found)


def make_weeks(db: sqlite3.Connection, length: int, start: int) -> None:
    """Add up the durations of days."""
    rows = db.execute(
        "SELECT kind, name, buckets FROM long_durations WHERE kind IN ('model', 'agent', 'version', 'tool', 'first_token')"
        " AND length = ? AND start >= ? AND start < ?",
        (DAY, start, start + length),
    )
    found: dict[tuple[str, str], Histogram] = defaultdict(Histogram)
    for kind, name, packed in rows:
        found[kind, name].add_packed(packed)
    _replace_packed(db, length, start, found)


def _replace_packed(db: sqlite3.Connection, length: int, start: int, found: dict[tuple[str, str], Histogram]) -> None:
    db.execute(f"DELETE FROM long_durations WHERE kind IN {KINDS} AND length = ? AND start = ?", (length, start))  # noqa: S608  # our own names
    db.executemany(
        "INSERT INTO long_durations VALUES (?, ?, ?, ?, ?)",
        [(kind, length, start, name, histogram.pack()) for (kind, name), histogram in found.items()],
    )
