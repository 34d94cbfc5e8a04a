"""Records of users, organizations, ratings and events."""

from __future__ import annotations

import json
import sqlite3
import uuid
from typing import Any

from gati.store import labels, message_columns, ratings, tombstones


class UnknownConversationError(LookupError):
    """A request names a `conversationId` that is not in the store."""


IDENTITY_KEYS = {
    "users": "externalUserId", "organizations": "externalOrganizationId", "events": "insertId", "ratings": "insertId",
}  # fmt: skip
"""The key that identifies a record of each endpoint. A rating without one is a new rating."""


def upsert_action(
    db: sqlite3.Connection, endpoint: str, body: dict[str, Any], now: int, recorded_at: int | None = None
) -> dict[str, Any]:
    """Insert or update a record. See `Store.record_action`."""
    if tombstones.is_deleted_action(db, endpoint, body, now if recorded_at is None else recorded_at):
        return {"id": str(uuid.uuid4()), "body": body, "created_at": now, "updated_at": now}
    key = body.get(IDENTITY_KEYS[endpoint]) if endpoint in IDENTITY_KEYS else None
    existing = db.execute("SELECT * FROM actions WHERE endpoint = ? AND key = ?", (endpoint, key)).fetchone()
    if existing is None:
        uid, _ = insert_action(db, endpoint, key, _find_subject(db, body), body, now)
        return {"id": uid, "body": body, "created_at": now, "updated_at": now}
    merged = json.loads(existing["body"])
    if endpoint in ("users", "organizations"):
        merged |= body
        db.execute(
            "UPDATE actions SET body = ?, updated_at = ? WHERE id = ?",
            (message_columns.compact_json(merged), now, existing["id"]),
        )
        labels.add_for_action(db, endpoint, merged, None)
    return {"id": existing["uid"], "body": merged, "created_at": existing["created_at"], "updated_at": now}


def insert_action(
    db: sqlite3.Connection, endpoint: str, key: str | None, conversation: int | None, body: dict[str, Any], now: int
) -> tuple[str, int]:
    """Insert a record of a conversation, or of none; return its uid and its row id."""
    uid = str(uuid.uuid4())
    inserted = db.execute(
        "INSERT INTO actions (endpoint, key, uid, conversation, created_at, updated_at, body)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (endpoint, key, uid, conversation, now, now, message_columns.compact_json(body)),
    )
    row_id = int(inserted.lastrowid or 0)
    labels.add_for_action(db, endpoint, body, conversation)
    if endpoint == "ratings":
        ratings.record(db, row_id, conversation, body, now)
    return uid, row_id


def _find_subject(db: sqlite3.Connection, body: dict[str, Any]) -> int | None:
    """Return the conversation that a rating or event refers to; None if it names none or an unknown external id."""
    if uid := body.get("conversationId"):
        row = db.execute("SELECT id FROM conversations WHERE uid = ?", (uid,)).fetchone()
        if row is None:
            raise UnknownConversationError(uid)
    elif external := body.get("externalConversationId"):
        row = db.execute("SELECT id FROM conversations WHERE external_id = ?", (external,)).fetchone()
    elif uid := body.get("messageId"):
        row_id = message_columns.message_row_id(uid)
        row = db.execute("SELECT conversation FROM messages WHERE id = ?", (row_id,)).fetchone()
    elif external := body.get("externalMessageId"):
        row = db.execute("SELECT conversation FROM messages WHERE external_id = ?", (external,)).fetchone()
    else:
        return None
    return int(row[0]) if row else None
