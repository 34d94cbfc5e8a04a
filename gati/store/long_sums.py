"""Rows of days and of four weeks, made from shorter ones when a page needs them.

`long_sums` lists the ones that are up to date; a message removes those that it belongs to from the list. They are made
for the past only, so that messages that arrive now do not make them again and again. Without them a period is read from
shorter rows, with the same result.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from gati.store import long_durations
from gati.store.store import Store
from gati.store.sums import AGENT, COUNTERS, DAY, MODEL, QUARTER, TOOL, WEEKS

_MOST_DAYS = 1200
"""Days that are made at once. Others are made by the next request."""


def prepare(store: Store, since: int, until: int, now: int) -> None:
    """Make the rows that lie in a period and before `now`."""
    last = min(until, now - QUARTER)
    with store.connections.reading() as db:
        days = sorted(_missing(db, DAY, since, last))[-_MOST_DAYS:]
    if not days:
        return
    store.transaction(lambda db: _make_long_rows(db, days, min(days), last))


def made(db: sqlite3.Connection, length: int, since: int, until: int) -> set[int]:
    """Return the beginnings of the rows in a period that are up to date."""
    rows = db.execute(
        "SELECT start FROM long_sums WHERE length = ? AND start >= ? AND start < ?", (length, since, until)
    )
    return {row[0] for row in rows}


def _missing(db: sqlite3.Connection, length: int, since: int, until: int) -> set[int]:
    """Return the beginnings of the rows in a period that have messages but are not up to date."""
    first, last = -(-since // length) * length, until // length * length
    found: set[int] = set()
    for kind in _COUNTED:
        values = {"kind": kind, "quarter": QUARTER, "length": length, "first": first, "last": last}
        found |= {row[0] for row in db.execute(_STARTS, values)}
    return found - made(db, length, first, last)


_COUNTED = (MODEL, AGENT, TOOL)
"""Every message that counts is in the sums of one of these kinds."""

_NEXT = (
    "SELECT min(start) / :length * :length FROM sums WHERE kind = :kind AND length = :quarter AND start >= {}"
    " AND start < :last"
)
_STARTS = (
    f"WITH RECURSIVE t(at) AS ({_NEXT.format(':first')} UNION ALL SELECT ({_NEXT.format('at + :length')}) FROM t"  # noqa: S608  # our own names
    " WHERE at IS NOT NULL) SELECT at FROM t WHERE at IS NOT NULL"
)
"""Finds the days or weeks that have quarters by jumping through the index, which is faster than reading all quarters."""


def _make_long_rows(db: sqlite3.Connection, days: Iterable[int], since: int, until: int) -> None:
    for day in days:
        _add_up(db, QUARTER, DAY, day)
        long_durations.make_day(db, day)
    for weeks in _missing(db, WEEKS, since // WEEKS * WEEKS, until):
        if not _missing(db, DAY, weeks, weeks + WEEKS):
            _add_up(db, DAY, WEEKS, weeks)
            long_durations.make_weeks(db, WEEKS, weeks)


def _add_up(db: sqlite3.Connection, shorter: int, length: int, start: int) -> None:
    """Replace the rows of one time by the sums of shorter ones."""
    counters = ", ".join(f"sum({name})" for name in COUNTERS)
    kinds = "kind IN ('model', 'agent', 'version', 'tool')"
    db.execute(f"DELETE FROM sums WHERE {kinds} AND length = ? AND start = ?", (length, start))  # noqa: S608  # our own names
    db.execute(
        f"INSERT INTO sums SELECT kind, ?, ?, name, {counters} FROM sums WHERE {kinds} AND length = ?"  # noqa: S608  # our own names
        " AND start >= ? AND start < ? GROUP BY kind, name",
        (length, start, shorter, start, start + length),
    )
    db.execute("INSERT OR IGNORE INTO long_sums VALUES (?, ?)", (length, start))
