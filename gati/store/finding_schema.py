"""The migration that adds what finding and summing need: labels, sums, ratings, saved filters, and indexes for sorting."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator

from gati.store import failures, labels, message_columns, ratings, search, sums, words

_COLUMNS = """
ALTER TABLE conversations ADD COLUMN slowest_ms REAL;
ALTER TABLE conversations ADD COLUMN ratings INTEGER NOT NULL DEFAULT 0;
ALTER TABLE conversations ADD COLUMN rating REAL
"""

_SAVED_FILTERS = """
CREATE TABLE saved_filters (name TEXT PRIMARY KEY, query TEXT NOT NULL, saved_at INTEGER NOT NULL) WITHOUT ROWID
"""

_INDEXES = """
DROP INDEX conversations_user;
DROP INDEX messages_numbers;
CREATE INDEX conversations_user ON conversations
  (user, last_at, id, cost, unpriced, turns, errors, ratings, rating, first_at, organization);
CREATE INDEX conversations_organization ON conversations
  (organization, last_at, id, cost, unpriced, turns, errors, ratings, rating, user) WHERE organization IS NOT NULL;
CREATE INDEX conversations_cost ON conversations (cost, id);
CREATE INDEX conversations_slowest ON conversations (slowest_ms, id);
CREATE INDEX conversations_errors ON conversations (errors, id);
CREATE INDEX conversations_rating ON conversations (rating, id);
CREATE INDEX messages_failed ON messages (conversation) WHERE status = 'error'
"""


SCRIPTS = (_COLUMNS, labels.SCHEMA, sums.SCHEMA, ratings.SCHEMA, _SAVED_FILTERS, _INDEXES)


def add_finding(db: sqlite3.Connection) -> None:
    """Create tables, columns and indexes, and fill them from what the store holds."""
    for script in SCRIPTS:
        for statement in script.split(";\n"):
            db.execute(statement)
    labels.create_label_index(db)
    sums.add_all(db, sums.stored_facts(db))
    _summarize_conversations(db)
    _label_conversations(db)
    _label_actions(db)
    if search.has_index(db):
        search.index_unspaced(db, _unspaced_texts(db))


def _summarize_conversations(db: sqlite3.Connection) -> None:
    """Fill the new columns, and correct numbers that earlier versions counted differently."""
    db.execute(
        "UPDATE conversations SET slowest_ms = (SELECT max(latency_ms) FROM messages m WHERE m.conversation ="
        " conversations.id AND m.type IN ('llm', 'chain_end', 'final_response', 'assistant_message'))"
    )
    db.execute(
        "UPDATE conversations SET unpriced = (SELECT count(*) FROM messages m WHERE m.conversation = conversations.id"
        " AND m.type = 'llm' AND m.cost IS NULL AND coalesce(m.status, 'completed') = 'completed') WHERE unpriced > 0"
    )
    failed = db.execute("SELECT DISTINCT conversation FROM messages WHERE status = 'error'").fetchall()
    for (conversation,) in failed:
        count = failures.count_stored(db, conversation)
        db.execute("UPDATE conversations SET errors = ? WHERE id = ?", (count, conversation))
    db.execute(
        "INSERT OR IGNORE INTO facets SELECT DISTINCT 'tool', json_extract(body, '$.toolName'), conversation"
        " FROM messages WHERE type = 'tool_call' AND json_extract(body, '$.toolName') IS NOT NULL"
    )


def _label_conversations(db: sqlite3.Connection) -> None:
    for row in db.execute("SELECT * FROM conversations").fetchall():
        known = {"properties": json.loads(row["properties"] or "{}"), "messages": []}
        labels.add_for_conversation(db, row, known, row["user"], row["organization"])
    rows = db.execute(
        "SELECT conversation, body FROM messages WHERE instr(body, '\"tags\":') OR instr(body, '\"metadata\":')"
    )
    for row in rows:
        properties = json.loads(row["body"]).get("properties") or {}
        labels.add(db, labels.CONVERSATION, row["conversation"], labels.labels_of_properties(properties))


def _label_actions(db: sqlite3.Connection) -> None:
    for row in db.execute("SELECT * FROM actions ORDER BY id").fetchall():
        body = json.loads(row["body"])
        labels.add_for_action(db, row["endpoint"], body, row["conversation"])
        if row["endpoint"] == "ratings":
            ratings.record(db, row["id"], row["conversation"], body, row["created_at"])


def _unspaced_texts(db: sqlite3.Connection) -> Iterator[tuple[int, str]]:
    """Yield the texts that earlier versions could not index: those in scripts without spaces."""
    # No character of these scripts is shorter than three bytes in UTF-8.
    for row in db.execute("SELECT id, body FROM messages WHERE length(CAST(body AS BLOB)) > length(body)"):
        if words.is_unspaced(row["body"]):
            yield row["id"], message_columns.search_text(json.loads(row["body"]))
