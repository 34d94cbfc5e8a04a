"""Queries of users: a list with sums of their conversations, and one user."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from typing import Any

from gati.store import labels, sum_queries, words
from gati.store.store import Store

SORTS = {
    "last seen": "last_at DESC", "conversations": "conversations DESC", "cost": "cost IS NULL, cost DESC", "errors": "errors DESC",
    "rating": "rating IS NULL, rating",
}  # fmt: skip
"""Orders of the list: name → SQL. `rating` has the worst first."""


@dataclass(frozen=True)
class UserSummary:
    """A user with the sums of the conversations in a period. None means unknown.

    Attributes:
        id: The external id.
        name: The name; None if it was never reported.
        conversations: Number of conversations.
        turns: Their turns.
        errors: Their failures.
        cost: Their cost in US dollars.
        unpriced: Their completed model calls without a known cost.
        ratings: Their ratings.
        rating: The mean of the ratings on a scale from 0 to 1.
        first_at: The beginning of the first conversation, in microseconds since the epoch.
        last_at: The last activity.
    """

    id: str
    name: str | None
    conversations: int
    turns: int
    errors: int
    cost: float | None
    unpriced: int
    ratings: int
    rating: float | None
    first_at: int
    last_at: int


_SUMS = (
    "count(*) AS conversations, sum(turns) AS turns, sum(errors) AS errors, sum(cost) AS cost,"
    " sum(unpriced) AS unpriced, sum(ratings) AS ratings, sum(rating * ratings) / sum(ratings) AS rating,"
    " min(first_at) AS first_at, max(last_at) AS last_at"
)
_NAME = sum_queries.name_of("o.id", "users")


def active_users(
    store: Store,
    typed: str = "",
    since: int | None = None,
    until: int | None = None,
    sort: str = "last seen",
    limit: int = 100,
    offset: int = 0,
) -> list[UserSummary]:
    """Return users that were active in a period. `typed`: words of their id, name, e-mail address or properties."""
    with store.connections.snapshot() as db:
        chosen = _find_users(db, typed) if typed.strip() else None
        where = "last_at >= ? AND last_at < ?"
        values: list[Any] = [-(2**62) if since is None else since, 2**62 if until is None else until]
        if chosen is not None:
            where += " AND user IN (SELECT value FROM json_each(?))"
            values.append(json.dumps(chosen))
        rows = db.execute(
            f"SELECT o.id, {_NAME} AS name, conversations, turns, errors, cost, unpriced, ratings, rating, first_at,"  # noqa: S608  # our own names
            f" last_at FROM (SELECT * FROM (SELECT user AS id, {_SUMS} FROM conversations INDEXED BY conversations_user"
            f" WHERE {where} GROUP BY 1) s ORDER BY {SORTS[sort]}, id LIMIT ? OFFSET ?) o",
            (*values, limit, offset),
        ).fetchall()
    return [UserSummary(*row) for row in rows]


def _find_users(db: sqlite3.Connection, typed: str) -> list[str]:
    """Return the users whose labels contain all words."""
    found = words.parse_words(typed)
    if not found or not labels.has_label_index(db):
        return []
    owners = [_labelled_users(db, labels.find_labels(db, [word], found[-1:], 5000)) for word in found]
    return sorted(set.intersection(*owners) | _labelled_users(db, labels.find_labels(db, found, found[-1:], 5000)))


def _labelled_users(db: sqlite3.Connection, row_ids: list[int]) -> set[str]:
    rows = db.execute(
        "SELECT owner FROM labels WHERE owner_kind = 'user' AND id IN (SELECT value FROM json_each(?))",
        (json.dumps(row_ids),),
    )
    return {row[0] for row in rows}


@dataclass(frozen=True)
class User:
    """One user: the sums, and what was reported (e-mail address, organization, properties)."""

    summary: UserSummary
    reported: dict[str, Any]


def find_user(store: Store, user: str, since: int | None = None, until: int | None = None) -> User | None:
    """Return a user; None if there is neither a conversation nor a record.

    The sums are those of a period. First and last activity are those of all time.
    """
    with store.connections.snapshot() as db:
        record = db.execute(
            "SELECT body, created_at, updated_at FROM actions WHERE endpoint = 'users' AND key = ?", (user,)
        ).fetchone()
        seen = db.execute("SELECT min(first_at), max(last_at) FROM conversations WHERE user = ?", (user,)).fetchone()
        row = db.execute(
            f"SELECT {_SUMS} FROM conversations INDEXED BY conversations_user WHERE user = ?"  # noqa: S608  # our own names
            " AND last_at >= ? AND last_at < ? GROUP BY user",
            (user, -(2**62) if since is None else since, 2**62 if until is None else until),
        ).fetchone()
    if record is None and seen[0] is None:
        return None
    reported = json.loads(record["body"]) if record else {}
    sums = tuple(row)[:-2] if row else (0, 0, 0, None, 0, 0, None)
    times = (record["created_at"], record["updated_at"]) if seen[0] is None else tuple(seen)
    return User(UserSummary(user, reported.get("name"), *sums, *times), reported)


def user_names(store: Store, users: set[str]) -> dict[str, str]:
    """Return the names of those users that have one."""
    with store.connections.reading() as db:
        rows = db.execute(
            "SELECT key, json_extract(body, '$.name') FROM actions WHERE endpoint = 'users'"
            " AND key IN (SELECT value FROM json_each(?))",
            (json.dumps(sorted(users)),),
        )
        return {row[0]: row[1] for row in rows if row[1]}


def ratings_of_user(store: Store, user: str, limit: int = 20) -> list[dict[str, Any]]:
    """Return the latest ratings in a user's conversations: their bodies plus `at` and `conversation` (uid and title)."""
    with store.connections.reading() as db:
        rows = db.execute(
            "SELECT a.body, r.at, r.share, c.uid, c.title FROM conversations c JOIN ratings r ON r.conversation = c.id"
            " JOIN actions a ON a.id = r.action WHERE c.user = ? ORDER BY r.at DESC LIMIT ?",
            (user, limit),
        ).fetchall()
    return [
        {**json.loads(row["body"]), "at": row["at"], "share": row["share"], "conversation": (row["uid"], row["title"])}
        for row in rows
    ]
