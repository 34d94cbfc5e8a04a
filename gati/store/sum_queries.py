"""Queries of the sums: which rows make up a period, and their sums by part of the period or by name."""

from __future__ import annotations

import bisect
import json
import sqlite3
from collections.abc import Mapping
from typing import Any, NamedTuple

from gati.store import long_sums
from gati.store.latencies import Histogram
from gati.store.store import Store
from gati.store.sums import AGENT, COUNTERS, LENGTHS, MODEL, QUARTER


class Segment(NamedTuple):
    """Rows of one length from `since` to before `until`, which belong to one part of a period."""

    part: int
    length: int
    since: int
    until: int


def rounded(at: int) -> int:
    """Return the nearest quarter of an hour."""
    return (at + QUARTER // 2) // QUARTER * QUARTER


MadeRows = dict[int, list[int]]
"""Length → beginnings of the rows of this length that are up to date, in order."""


def made_rows(db: sqlite3.Connection, since: int, until: int) -> MadeRows:
    """Return the rows of days and weeks of a period that can be read."""
    return {length: sorted(long_sums.made(db, length, since, until)) for length in LENGTHS[1:]}


def segments(
    since: int, until: int, made: MadeRows, part: int = 0, lengths: tuple[int, ...] = LENGTHS
) -> list[Segment]:
    """Return the rows that make up a period: the longest that fit and are up to date, and shorter ones between them."""
    return _longest_rows(part, rounded(since), rounded(until), made, lengths)


def _longest_rows(part: int, since: int, until: int, made: MadeRows, lengths: tuple[int, ...]) -> list[Segment]:
    *shorter, length = lengths
    if not shorter:
        return [Segment(part, length, since, until)] if until > since else []
    found: list[Segment] = []
    starts = made[length]
    for start in starts[bisect.bisect_left(starts, since) : bisect.bisect_right(starts, until - length)]:
        found += _longest_rows(part, since, start, made, tuple(shorter))
        if found and found[-1].length == length:
            found[-1] = found[-1]._replace(until=start + length)
        else:
            found.append(Segment(part, length, start, start + length))
        since = start + length
    return found + _longest_rows(part, since, until, made, tuple(shorter))


def earliest(store: Store, default: int) -> int:
    """Return the beginning of the first day that has sums."""
    with store.connections.reading() as db:
        found = [
            db.execute("SELECT min(start) FROM sums WHERE kind = ? AND length = ?", (kind, QUARTER)).fetchone()[0]
            for kind in (MODEL, AGENT)
        ]
    return min((start for start in found if start is not None), default=default)


_BY = {"part": "p.part", "name": "s.name"}


def _rows_of(
    db: sqlite3.Connection, table: str, kind: str, some: list[Segment], columns: str, groups: str = ""
) -> list[sqlite3.Row]:
    """Read the rows `s` of the parts `p` of a period."""
    if not some:
        return []
    parts = ", ".join(f"({', '.join(map(str, segment))})" for segment in some)  # numbers, and there may be many
    query = (
        f"WITH p(part, length, since, until) AS (VALUES {parts}) SELECT {columns} FROM p CROSS JOIN {table} s"  # noqa: S608  # our own names
        f" ON s.kind = ? AND s.length = p.length AND s.start >= p.since AND s.start < p.until{groups}"
    )
    return db.execute(query, (kind,)).fetchall()


def summed_counts(db: sqlite3.Connection, kind: str, some: list[Segment], by: str) -> list[sqlite3.Row]:
    """Return the sums of `sums`, one row for each part or name."""
    counts = ", ".join(f"sum(s.{name}) AS {name}" for name in COUNTERS)
    return _rows_of(db, "sums", kind, some, f"{_BY[by]} AS {by}, {counts}", f" GROUP BY {_BY[by]}")


def add_durations(
    db: sqlite3.Connection, kind: str, some: list[Segment], by: str, histograms: Mapping[Any, Histogram]
) -> None:
    """Add durations to the histogram of their part or name, and leave out those without one."""
    quarters = [segment for segment in some if segment.length == QUARTER]
    longer = [segment for segment in some if segment.length != QUARTER]
    columns = f"{_BY[by]}, s.bucket, sum(s.count), sum(s.total)"
    for key, *values in _rows_of(db, "durations", kind, quarters, columns, f" GROUP BY {_BY[by]}, s.bucket"):
        if (histogram := histograms.get(key)) is not None:
            histogram.add(*values)
    for key, packed in _rows_of(db, "long_durations", kind, longer, f"{_BY[by]}, s.buckets"):
        if (histogram := histograms.get(key)) is not None:
            histogram.add_packed(packed)


def ratings_by_part(db: sqlite3.Connection, edges: list[int]) -> list[tuple[int, int, float]]:
    """Return (part, ratings, sum of their shares) for the parts between these times."""
    if len(edges) < 2:
        return []
    bounds = ", ".join(f"({part}, {edges[part]}, {edges[part + 1]})" for part in range(len(edges) - 1))
    return db.execute(
        f"WITH p(part, since, until) AS (VALUES {bounds}) SELECT p.part, count(*), sum(r.share) FROM p"  # noqa: S608  # only numbers
        " CROSS JOIN ratings r ON r.at >= p.since AND r.at < p.until GROUP BY 1"
    ).fetchall()


def ratings_by_version(db: sqlite3.Connection, since: int, until: int) -> list[tuple[int, int, float]]:
    """Return (prompt version, ratings, sum of their shares)."""
    return db.execute(
        "SELECT version, count(*), sum(share) FROM ratings WHERE at >= ? AND at < ? AND version IS NOT NULL GROUP BY 1",
        (since, until),
    ).fetchall()


def version_names(db: sqlite3.Connection, versions: list[int]) -> dict[int, tuple[str, str, int]]:
    """Return (uid, name, number) of prompt versions by row id."""
    rows = db.execute(
        "SELECT v.id, p.uid, p.name, v.number FROM prompt_versions v JOIN prompts p ON p.id = v.prompt"
        " WHERE v.id IN (SELECT value FROM json_each(?))",
        (json.dumps(versions),),
    )
    return {row[0]: (row[1], row[2], row[3]) for row in rows}


_OWNER_SUMS = (
    "count(*) AS conversations, sum(turns) AS turns, sum(errors) AS errors, sum(cost) AS cost,"
    " sum(unpriced) AS unpriced, sum(ratings) AS ratings, sum(rating * ratings) / sum(ratings) AS rating"
)


def owners(db: sqlite3.Connection, column: str, since: int, until: int, limit: int) -> list[sqlite3.Row]:
    """Return the users or organizations with the most conversations in a period, and the sums of these.

    Counts all of them first, and sums up only those with the most.
    """
    active = (
        f"FROM conversations INDEXED BY conversations_{column} WHERE {column} IS NOT NULL"  # our own names
        " AND last_at >= :since AND last_at < :until"
    )
    busiest = f"SELECT {column} {active} GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT :limit"
    return db.execute(
        f"SELECT o.owner, {name_of('o.owner', f'{column}s')}, conversations, turns, errors, cost, unpriced, ratings,"  # noqa: S608  # our own names
        f" rating FROM (SELECT {column} AS owner, {_OWNER_SUMS} {active} AND {column} IN ({busiest}) GROUP BY 1) o"
        " ORDER BY conversations DESC, owner",
        {"since": since, "until": until, "limit": limit},
    ).fetchall()


def name_of(column: str, endpoint: str) -> str:
    """Return SQL for the name of the user or organization with the id in a column."""
    return (
        f"(SELECT json_extract(a.body, '$.name') FROM actions a WHERE a.endpoint = '{endpoint}' AND a.key = {column})"  # noqa: S608  # our own names
    )
