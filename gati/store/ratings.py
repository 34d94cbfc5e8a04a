"""Ratings as rows that can be summed up: on a scale from 0 to 1, with the conversation and prompt version they rate."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from gati.store import message_columns

SCHEMA = """
CREATE TABLE ratings (
  action INTEGER PRIMARY KEY,
  conversation INTEGER,
  version INTEGER,
  at INTEGER NOT NULL,
  share REAL NOT NULL
);
CREATE INDEX ratings_time ON ratings (at, share, version, conversation);
CREATE INDEX ratings_conversation ON ratings (conversation)
"""


def rating_share(body: dict[str, Any]) -> float | None:
    """Return a rating on a scale from 0 to 1: 4 of 1 to 5 → 0.75; None if its scale has no length."""
    lowest, highest = body["ratingMin"], body["ratingMax"]
    if not highest > lowest:
        return None
    return float(min(max((body["rating"] - lowest) / (highest - lowest), 0), 1))


def record(db: sqlite3.Connection, action: int, conversation: int | None, body: dict[str, Any], now: int) -> None:
    """Store a rating and add it to its conversation."""
    share = rating_share(body)
    if share is None:
        return
    at = message_columns.parse_timestamp(body["ratedAt"]) if body.get("ratedAt") else now
    version = _rated_version(db, conversation, body, at)
    db.execute(
        "INSERT INTO ratings VALUES (?, ?, ?, ?, ?) ON CONFLICT (action) DO UPDATE SET"
        " conversation = excluded.conversation, version = excluded.version, at = excluded.at, share = excluded.share",
        (action, conversation, version, at, share),
    )
    if conversation is not None:
        recount(db, conversation)


def recount(db: sqlite3.Connection, conversation: int) -> None:
    """Count the ratings of a conversation again."""
    db.execute(
        "UPDATE conversations SET (ratings, rating) = (SELECT count(*), avg(share) FROM ratings"
        " WHERE conversation = ?) WHERE id = ?",
        (conversation, conversation),
    )


def refresh_versions(db: sqlite3.Connection, conversation: int) -> None:
    """Find the prompt versions of a conversation's ratings again, after messages were deleted."""
    query = (
        "SELECT r.action, r.at, a.body FROM ratings r JOIN actions a ON a.id = r.action"
        " WHERE r.conversation = ? AND r.version IS NOT NULL"
    )
    for action, at, body in db.execute(query, (conversation,)).fetchall():
        version = _rated_version(db, conversation, json.loads(body), at)
        db.execute("UPDATE ratings SET version = ? WHERE action = ?", (version, action))


def _rated_version(db: sqlite3.Connection, conversation: int | None, body: dict[str, Any], at: int) -> int | None:
    """Return the prompt version of the rated message, else the one in use at that time.

    A rating may be older than the conversation's first message, because clocks differ. Then it is the first version.
    """
    if conversation is None:
        return None
    row_id, external = None, body.get("externalMessageId")
    if uid := body.get("messageId"):
        row_id = message_columns.message_row_id(uid)
    row = db.execute(
        "SELECT k.version FROM messages m JOIN calls k ON k.id = m.call WHERE m.conversation = ?"
        " AND (m.id = ? OR m.external_id = ?)",
        (conversation, row_id, external),
    ).fetchone()
    if row is None or row["version"] is None:
        row = db.execute(
            "SELECT k.version FROM messages m JOIN calls k ON k.id = m.call WHERE m.conversation = ?"
            " AND k.version IS NOT NULL ORDER BY m.at > ?, abs(m.at - ?), m.id DESC LIMIT 1",
            (conversation, at, at),
        ).fetchone()
    return int(row["version"]) if row and row["version"] is not None else None
