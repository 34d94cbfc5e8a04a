"""What is told of users and organizations, and ratings and events, in the store."""

from __future__ import annotations

import json
import sqlite3
import uuid
from typing import Any

from gati.studio import columns


class UnknownConversationError(LookupError):
    """A request names a `conversationId` that the store does not have."""


KEYS = {"users": "externalUserId", "organizations": "externalOrganizationId", "events": "insertId"}
"""What makes two tellings of an endpoint the same thing; a rating has none."""


def keep(db: sqlite3.Connection, endpoint: str, body: dict[str, Any], now: int) -> dict[str, Any]:
    """See `Store.act`."""
    key = body.get(KEYS[endpoint]) if endpoint in KEYS else None
    known = db.execute("SELECT * FROM actions WHERE endpoint = ? AND key = ?", (endpoint, key)).fetchone()
    if known is None:
        values = (endpoint, key, str(uuid.uuid4()), _named(db, body), now, now, columns.compact(body))
        db.execute(
            "INSERT INTO actions (endpoint, key, uid, conversation, created_at, updated_at, body)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            values,
        )
        return {"id": values[2], "body": body, "created_at": now, "updated_at": now}
    told = json.loads(known["body"])
    if endpoint in ("users", "organizations"):
        told |= body
        db.execute(
            "UPDATE actions SET body = ?, updated_at = ? WHERE id = ?", (columns.compact(told), now, known["id"])
        )
    return {"id": known["uid"], "body": told, "created_at": known["created_at"], "updated_at": now}


def _named(db: sqlite3.Connection, body: dict[str, Any]) -> int | None:
    """The conversation that a rating or an event is about; None when it is about none, or not here yet."""
    if uid := body.get("conversationId"):
        row = db.execute("SELECT id FROM conversations WHERE uid = ?", (uid,)).fetchone()
        if row is None:
            raise UnknownConversationError(uid)
    elif external := body.get("externalConversationId"):
        row = db.execute("SELECT id FROM conversations WHERE external_id = ?", (external,)).fetchone()
    elif uid := body.get("messageId"):
        row = db.execute("SELECT conversation FROM messages WHERE id = ?", (columns.message_number(uid),)).fetchone()
    elif external := body.get("externalMessageId"):
        row = db.execute("SELECT conversation FROM messages WHERE external_id = ?", (external,)).fetchone()
    else:
        return None
    return int(row[0]) if row else None
