"""Storage of events of a GATI backend (`POST /api/events`).

Events are kept as received, and also stored as the messages they correspond to, so that the pages show them.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from gati.store import event_projection, message_columns
from gati.store.store import Store


class RunConflictError(Exception):
    """Two runs of one agent have the same fixed name, or one run has two agents. A GATI backend responds with 500."""


def ingest_events(store: Store, events: list[dict[str, Any]]) -> dict[str, Any]:
    """Store events and return the response body. A repeated `event_id` is ignored.

    Raises:
        RunConflictError: An event conflicts with a known run. No event of the batch is stored.
    """

    def work(db: sqlite3.Connection) -> int:
        return sum(_insert_event(store, db, event) for event in events)

    def size() -> int:
        return sum(2 * len(message_columns.compact_json(event)) for event in events)  # kept as events and as messages

    return {"success": True, "received": len(events), "stored": store.transaction(work, size)}


def _insert_event(store: Store, db: sqlite3.Connection, event: dict[str, Any]) -> bool:
    _register_run(db, event)
    if db.execute("SELECT 1 FROM gati_events WHERE event_id = ?", (event["event_id"],)).fetchone():
        return False
    body = event_projection.project_event(event)
    if body["externalUserId"] == event_projection.ANONYMOUS:
        body["externalUserId"] = _known_user(db, body["externalConversationId"]) or event_projection.ANONYMOUS
    response = store.ingest_within(db, body)
    db.execute(
        "INSERT INTO gati_events (event_id, run_id, conversation, body)"
        " SELECT ?, ?, id, ? FROM conversations WHERE uid = ?",
        (event["event_id"], event["run_id"], message_columns.compact_json(event), response["conversationId"]),
    )
    return True


def _known_user(db: sqlite3.Connection, conversation: str) -> str | None:
    """Return the user that earlier events of a conversation have named."""
    row = db.execute(
        "SELECT c.user FROM conversations c WHERE c.product = '' AND c.external_id = ?", (conversation,)
    ).fetchone()
    return row and str(row[0])


def _register_run(db: sqlite3.Connection, event: dict[str, Any]) -> None:
    run_id, agent, name = event["run_id"], event["agent_name"], event["run_name"]
    known = db.execute("SELECT agent FROM gati_runs WHERE run_id = ?", (run_id,)).fetchone()
    if known is not None:
        if known["agent"] != agent:
            raise RunConflictError("one run_id under two agent names")
        return
    if name.startswith("temp_"):
        count = db.execute("SELECT count(*) FROM gati_runs WHERE agent = ?", (agent,)).fetchone()[0]
        name = f"run {count + 1}"
    added = db.execute(
        "INSERT INTO gati_runs (agent, name, run_id) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (agent, name, run_id)
    )
    if not added.rowcount:
        raise RunConflictError("a fixed run_name used by two run_ids of one agent")


def stored_events(store: Store) -> list[dict[str, Any]]:
    """Return all stored events in order of arrival."""
    with store.connections.reading() as db:
        return [json.loads(row[0]) for row in db.execute("SELECT body FROM gati_events ORDER BY id")]
