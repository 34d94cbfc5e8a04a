"""Reading the embedded store."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING, Any

from gati.studio import prompts
from gati.studio.columns import message_uid

if TYPE_CHECKING:
    from gati.studio.store import Store


def messages(store: Store, external_id: str | None = None, product: str | None = None) -> list[dict[str, Any]]:
    """Wire messages as they came, of one conversation or of all, in reading order.

    Each has, beside its own keys, `messageId`, `conversation` (the external id) and `prompt` (as it was sent).
    """
    with store.connections.snapshot() as db:
        rows = db.execute(
            "SELECT m.id, m.body, c.uid, c.external_id, k.envelope, v.body AS prompt FROM messages m"
            " JOIN conversations c ON c.id = m.conversation JOIN calls k ON k.id = m.call"
            " LEFT JOIN prompt_versions v ON v.id = k.version"
            " WHERE (:external IS NULL OR c.external_id = :external) AND (:product IS NULL OR c.product = :product)"
            " ORDER BY c.id, m.at, m.id",
            {"external": external_id, "product": product},
        ).fetchall()
    return [_message(row) for row in rows]


def _message(row: sqlite3.Row) -> dict[str, Any]:
    own = json.loads(row["envelope"]).get("prompt", {})
    return {
        **json.loads(row["body"]),
        "messageId": message_uid(row["uid"], row["id"]),
        "conversation": row["external_id"],
        "prompt": prompts.put_together(row["prompt"], own) if row["prompt"] else None,
    }
