"""Stores the bodies of `POST /messages` requests inside a transaction on SQLite."""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Sequence
from typing import Any

from gati.store import actions, message_columns, message_requests, prompt_versions, rollups, search, sums, tombstones
from gati.store.message_columns import MessageColumns


def ingest_many(
    db: sqlite3.Connection, bodies: Sequence[dict[str, Any]], partition_characters: int
) -> list[dict[str, Any] | Exception]:
    """Store requests in order. Return the response of each, or `UnknownConversationError`.

    Sums are added up first, and texts are indexed at the end.

    Args:
        db: A connection inside a transaction.
        bodies: The bodies.
        partition_characters: See `search.index_messages`.
    """
    batch, texts = sums.SumsBatch(), list[tuple[int, str]]()
    results = [_ingest(db, body, batch, texts) for body in bodies]
    batch.write(db)
    if texts:
        search.index_messages(db, texts, partition_characters)
    return results


def _ingest(
    db: sqlite3.Connection, body: dict[str, Any], batch: sums.SumsBatch, texts: list[tuple[int, str]]
) -> dict[str, Any] | Exception:
    now = time.time_ns() // 1000
    timed = [(message, message_requests.created_at(message, now)) for message in body["messages"]]
    timed, deleted, subjects = tombstones.split_deleted(tombstones.Tombstones.of_store(db), body, timed)
    tombstones.add_subjects(db, subjects)
    # Without an id: they are not in the store, but the client must not send them again.
    results = [message_requests.message_result(str(uuid.uuid4()), 0, message, "deduplicated") for message in deleted]
    try:
        conversation = _find_or_create_conversation(db, body, now) if timed else None
    except actions.UnknownConversationError as error:
        return error
    if conversation is None:  # all deleted, or sampled out
        return message_requests.ingest_response(str(uuid.uuid4()), results, "", [])
    conversation_id, uid = conversation["id"], conversation["uid"]
    first_at = min(at for _, at in timed)
    version = prompt_versions.record_version(db, body, conversation["product"], conversation["agent"], first_at)
    call: int | None = None
    inserted: list[rollups.InsertedMessage] = []
    for message, at in timed:
        existing = _find_message(db, conversation_id, message.get("externalMessageId"))
        if existing is not None:
            results.append(message_requests.message_result(uid, existing, message, "deduplicated"))
            continue
        if call is None:
            call = prompt_versions.record_call(db, conversation_id, version, body, first_at)
        columns = message_columns.read_columns(message, at, body)
        row_id = _insert_message(db, (conversation_id, call), message, columns)
        inserted.append(rollups.InsertedMessage(row_id, message, columns))
        results.append(message_requests.message_result(uid, row_id, message, "created"))
    if inserted:
        rollups.update_conversation(db, conversation, body, inserted, version, batch=batch)
        texts += [(row_id, message_columns.search_text(message)) for row_id, message, _ in inserted]
    prompt_uid, components = prompt_versions.greenflash_ids(db, version)
    return message_requests.ingest_response(uid, results, prompt_uid, components)


def _find_or_create_conversation(db: sqlite3.Connection, body: dict[str, Any], now: int) -> Any:
    """Return the conversation's row; None if the conversation is new and sampled out."""
    product, external = body.get("productId") or "", body.get("externalConversationId")
    if uid := body.get("conversationId"):
        row = db.execute("SELECT * FROM conversations WHERE uid = ?", (uid.lower(),)).fetchone()
        if row is None:
            raise actions.UnknownConversationError(uid)
        return row
    if external is not None:
        query = "SELECT * FROM conversations WHERE product = ? AND external_id = ?"
        if row := db.execute(query, (product, external)).fetchone():
            return row
    if not message_requests.is_sampled(body, product, external):
        return None
    db.execute(
        "INSERT INTO conversations (uid, product, external_id, user, organization, first_at, last_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (str(uuid.uuid4()), product, external, body["externalUserId"], body.get("externalOrganizationId"), now, 0),
    )
    return db.execute("SELECT * FROM conversations WHERE id = last_insert_rowid()").fetchone()


def _insert_message(
    db: sqlite3.Connection, parents: tuple[int, int], message: dict[str, Any], columns: MessageColumns
) -> int:
    """Insert a message of a conversation and call; return its row id."""
    external_id, kind, at, agent, metrics = columns
    cursor = db.execute(
        "INSERT INTO messages (conversation, call, external_id, type, at, agent, model, status, latency_ms,"
        " first_token_ms, tokens_in, tokens_out, cost, body) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        (*parents, external_id, kind, at, agent, *metrics, message_columns.compact_json(message)),
    )
    return int(cursor.lastrowid or 0)


def _find_message(db: sqlite3.Connection, conversation: int, external_id: str | None) -> int | None:
    """Return the row id of a message by its external id."""
    if external_id is None:
        return None
    row = db.execute(
        "SELECT id FROM messages WHERE conversation = ? AND external_id = ?", (conversation, external_id)
    ).fetchone()
    return row and int(row["id"])
