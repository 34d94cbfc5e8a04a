"""Deletion on request: a conversation, a user, or everything before a time.

Each transaction deletes some conversations, so that programs can write in between. The tombstones come first (see
`tombstones`), the unused parts of the file last (see `file_erasing`).
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple
from urllib.parse import parse_qs

from gati.store import file_erasing, tombstones
from gati.store.conversation_removal import Removal
from gati.store.message_columns import compact_json
from gati.store.store import Store

_BATCH = 50
"""Conversations that one transaction deletes."""


class Target(NamedTuple):
    """What to delete: `Target("conversation", id)`, `Target("user", id)` or `Target("before", at=time)`.

    The id of a conversation is its uid or its external id; `at` is in microseconds since the epoch.
    """

    kind: Literal["conversation", "user", "before"]
    id: str = ""
    at: int = 0


@dataclass
class Contents:
    """What a target matches in a store, or what was deleted.

    Attributes:
        conversations: Conversations as a whole.
        shortened: Other conversations, which keep some messages.
        messages: Messages of both.
        records: Ratings, events and records of users and organizations beside these conversations.
        erased: After a deletion: False if the file could not be rewritten, so that its unused parts may contain text.
        subjects: External ids of the conversations and their messages, to which waiting ratings may refer.
    """

    conversations: int = 0
    shortened: int = 0
    messages: int = 0
    records: int = 0
    erased: bool = True
    subjects: set[str] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.messages or self.conversations or self.records)


def count_matches(store: Store, target: Target) -> Contents:
    """Return what `delete_matches` would delete."""
    found = Contents()
    with store.connections.snapshot() as db:
        for conversation, row_ids in _matches(db, target):
            if row_ids is None:
                found.conversations += 1
                found.messages += conversation["messages"]
            else:
                found.shortened += 1
                found.messages += len(row_ids)
            if external := conversation["external_id"] if row_ids is None else None:
                found.subjects.add(external)
        found.records = len(_matching_actions(db, target, found.subjects))
    return found


def delete_matches(store: Store, target: Target, now: int | None = None) -> Contents:
    """Delete what a target matches, and keep out what belongs to it and arrives later.

    A message that was created after the deletion is accepted, also of the same conversation or user.

    Raises:
        sqlite3.OperationalError: The store cannot be written. Deleting again continues.
    """
    now = time.time_ns() // 1000 if now is None else now
    store.deleting(lambda db: _add_tombstones(db, target, now))
    result = _delete_rows(store, target, None if target.kind == "before" else now)
    result.erased = file_erasing.erase(store)
    return result


def _delete_rows(store: Store, target: Target, deleted_at: int | None) -> Contents:
    result = Contents()
    while delete_some(store, target, result, deleted_at):
        pass
    return result


def delete_some(store: Store, target: Target, result: Contents, deleted_at: int | None = None) -> bool:
    """Delete some conversations that match, or else the records. Return False if nothing is left.

    Args:
        store: The store.
        target: What to delete.
        result: What was deleted is added to it.
        deleted_at: The time of the tombstones; None for none.
    """
    return store.deleting(lambda db: _delete_batch(db, target, deleted_at, result))


def _add_tombstones(db: sqlite3.Connection, target: Target, now: int) -> None:
    if target.kind == "before":
        tombstones.add_before(db, target.at)
    elif target.kind == "user":
        tombstones.add_tombstones(db, tombstones.USER, [target.id], now)
        _forget_filters(db, target.id)
    elif _named_conversations(db, target.id) == []:
        # It may still be on its way.
        name = tombstones.conversation_id(tombstones.ANY_PRODUCT, target.id)
        tombstones.add_tombstones(db, tombstones.CONVERSATION, [name], now)
        tombstones.add_tombstones(db, tombstones.SUBJECT, [target.id], now)


def _forget_filters(db: sqlite3.Connection, user: str) -> None:
    """Delete the saved filters that name a user."""
    for row in db.execute("SELECT name, query FROM saved_filters").fetchall():
        if user in parse_qs(row["query"]).get("user", []):
            db.execute("DELETE FROM saved_filters WHERE name = ?", (row["name"],))


def _delete_batch(db: sqlite3.Connection, target: Target, deleted_at: int | None, result: Contents) -> bool:
    """Delete some conversations; after the last ones, the records. Return False if nothing is left."""
    removal, done = Removal(db, deleted_at), Contents()
    for conversation, row_ids in _matches(db, target, _BATCH):
        if row_ids is None:
            removal.remove_conversation(conversation)
            done.conversations += 1
        else:
            if target.kind == "before":
                removal.remove_marks(conversation["id"], target.at)
            removal.remove_messages(conversation, row_ids)
            done.shortened += 1
    more = bool(done.conversations or done.shortened)
    if not more:
        removal.remove_actions(_matching_actions(db, target, result.subjects))
    removal.finish()
    result.conversations += done.conversations
    result.shortened += done.shortened
    result.messages += removal.messages
    result.records += removal.records
    result.subjects |= removal.subjects
    return more


Match = tuple[sqlite3.Row, "set[int] | None"]
"""A conversation, and the rows of the messages that match, None if all do."""


def _matches(db: sqlite3.Connection, target: Target, limit: int = 2**31) -> Iterator[Match]:
    """Yield the conversations that match, at most about `limit`."""
    if target.kind == "conversation":
        yield from ((row, None) for row in _named_conversations(db, target.id))
        return
    column, value = ("c.user = ?", target.id) if target.kind == "user" else ("c.last_at < ?", target.at)
    whole = db.execute(f"SELECT c.* FROM conversations c WHERE {column} LIMIT ?", (value, limit)).fetchall()  # noqa: S608  # our own names
    yield from ((row, None) for row in whole)
    if len(whole) >= limit:
        return
    if target.kind == "user":
        yield from _with_calls_of(db, target.id)
    else:
        yield from _begun_before(db, target.at, limit)


def _named_conversations(db: sqlite3.Connection, uid: str) -> list[sqlite3.Row]:
    """Return the conversation with this uid, else those with this external id, one for each product."""
    found = db.execute("SELECT * FROM conversations WHERE uid = ?", (uid,)).fetchall()
    return found or db.execute("SELECT * FROM conversations WHERE external_id = ?", (uid,)).fetchall()


def _with_calls_of(db: sqlite3.Connection, user: str) -> Iterator[Match]:
    """Yield the conversations that have another user now, with the messages that were sent for this one."""
    calls: dict[int, set[int]] = {}
    for row in db.execute(
        "SELECT id, conversation, envelope FROM calls WHERE envelope LIKE ? ESCAPE '!'",
        (_like(f'"externalUserId":{compact_json(user)}'),),
    ):
        if json.loads(row["envelope"]).get("externalUserId") == user:
            calls.setdefault(row["conversation"], set()).add(row["id"])
    for conversation, ids in calls.items():
        owner = db.execute("SELECT * FROM conversations WHERE id = ?", (conversation,)).fetchone()
        if owner["user"] != user:
            messages = db.execute("SELECT id, call FROM messages WHERE conversation = ?", (conversation,))
            yield owner, {row["id"] for row in messages if row["call"] in ids}


def _begun_before(db: sqlite3.Connection, at: int, limit: int) -> Iterator[Match]:
    """Yield the conversations that continue after a time, with the messages of turns that began before it."""
    query = "SELECT * FROM conversations WHERE first_at < ? AND last_at >= ? LIMIT ?"
    for conversation in db.execute(query, (at, at, limit)).fetchall():
        rows = db.execute(
            "SELECT id, at, body FROM messages WHERE conversation = ? ORDER BY id", (conversation["id"],)
        ).fetchall()
        out = tombstones.out_of_time([(json.loads(row["body"]), row["at"]) for row in rows], at)
        yield conversation, None if len(out) == len(rows) else {rows[index]["id"] for index in out}


def _matching_actions(db: sqlite3.Connection, target: Target, subjects: set[str]) -> list[int]:
    """Return the rows of ratings, events and records that match and are not part of a conversation to be deleted."""
    if target.kind == "user":
        pattern = _like(f'"externalUserId":{compact_json(target.id)}')
        rows = db.execute("SELECT * FROM actions WHERE body LIKE ? ESCAPE '!'", (pattern,))
        return [row["id"] for row in rows if json.loads(row["body"]).get("externalUserId") == target.id] + (
            _unattached_actions(db, subjects)
        )
    if target.kind == "conversation":
        return _unattached_actions(db, subjects | {target.id})
    return _earlier_actions(db, target.at)


def _unattached_actions(db: sqlite3.Connection, subjects: set[str]) -> list[int]:
    """Return ratings and events that refer to one of these ids, but arrived before what they refer to."""
    rows = db.execute(
        "SELECT id, body FROM actions WHERE conversation IS NULL AND endpoint IN ('ratings', 'events')"
        " AND body LIKE '%\"external%'"
    )
    names = ("externalConversationId", "externalMessageId")
    bodies = ((row["id"], json.loads(row["body"])) for row in rows)
    return [row_id for row_id, body in bodies if any(body.get(name) in subjects for name in names)]


def _earlier_actions(db: sqlite3.Connection, at: int) -> list[int]:
    """Return the ratings and events from before a time, and the records of users that have no conversation any more."""
    rows = db.execute(
        "SELECT * FROM actions a WHERE endpoint IN ('ratings', 'events') AND (created_at < ? OR body LIKE '%\"ratedAt\"%'"
        " OR body LIKE '%\"eventAt\"%')",
        (at,),
    )
    found = [
        row["id"] for row in rows if tombstones.action_time(json.loads(row["body"]), row["created_at"]) < at
    ]  # fmt: skip
    for kind in ("user", "organization"):
        rows = db.execute(
            f"SELECT id FROM actions a WHERE endpoint = ? AND updated_at < ? AND NOT EXISTS"  # noqa: S608  # our own names
            f" (SELECT 1 FROM conversations c WHERE c.{kind} = a.key AND c.last_at >= ?)",
            (f"{kind}s", at, at),
        )
        found += [row["id"] for row in rows]
    return found


def _like(text: str) -> str:
    """Return a LIKE pattern, with `!` as escape, for values that contain a text."""
    for character in "!%_":
        text = text.replace(character, f"!{character}")
    return f"%{text}%"
