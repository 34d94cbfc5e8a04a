"""Tombstones: what was deleted must not come back by a delivery that was late, `gati drain`, `gati import` or a push.

A tombstone has a time. Messages and records that were created up to this time stay out. Later ones are accepted, so a
deleted user can use the program again. Ids are stored as keyed hashes, so that a store does not name whom it forgot.

Kinds: "conversation", "user", "subject" (the external id of a message or conversation, to which ratings and events refer),
"before" (everything before a time) and "key", the key of the hashes, which the first deletion creates.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import sqlite3
from collections.abc import Iterable
from typing import Any

from gati import contract
from gati.store import message_columns

CONVERSATION, USER, SUBJECT = "conversation", "user", "subject"
_BEFORE, _KEY = "before", "key"
ANY_PRODUCT = "*"
"""Stands for all products in the id of a conversation that is not in the store."""

RATED_TYPES = (*contract.ANSWER_TYPES, "user_message")
"""Types of messages that ratings refer to."""


def conversation_id(product: str, external_id: str) -> str:
    """Return the id of a conversation in tombstones. External ids are unique within a product."""
    return f"{product}\n{external_id}"


def add_tombstones(db: sqlite3.Connection, kind: str, ids: Iterable[str], at: int) -> None:
    """Add tombstones for ids. A later time replaces an earlier one."""
    key = _read_key(db) or _create_key(db)
    _insert_rows(db, [(kind, _keyed_hash(key, kind, text), at) for text in ids])


def add_before(db: sqlite3.Connection, at: int) -> None:
    """Add the tombstone for everything before a time."""
    if _read_key(db) is None:
        _create_key(db)
    _insert_rows(db, [(_BEFORE, "", at)])


def _insert_rows(db: sqlite3.Connection, rows: list[tuple[str, str, int]]) -> None:
    db.executemany(
        "INSERT INTO tombstones VALUES (?, ?, ?) ON CONFLICT (kind, digest) DO UPDATE SET at = excluded.at"
        " WHERE excluded.at > tombstones.at",
        rows,
    )


def _read_key(db: sqlite3.Connection) -> str | None:
    row = db.execute("SELECT digest FROM tombstones WHERE kind = ?", (_KEY,)).fetchone()
    return row and str(row[0])


def _create_key(db: sqlite3.Connection) -> str:
    key = secrets.token_hex(16)
    db.execute("INSERT INTO tombstones VALUES (?, ?, 0)", (_KEY, key))
    return key


def _keyed_hash(key: str, kind: str, text: str) -> str:
    return hmac.new(key.encode(), f"{kind}\n{text}".encode(errors="replace"), hashlib.sha256).hexdigest()[:32]


class Tombstones:
    """The tombstones that concern one request."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._key = _read_key(db)
        self.exist = self._key is not None
        """False if nothing was ever deleted."""
        self.before = self._time(_BEFORE, "") if self.exist else 0
        """What was created earlier was deleted, whatever it is. In microseconds since the epoch."""

    def until(self, kind: str, *ids: str | None) -> int:
        """Return the time up to which something with one of these ids was deleted."""
        if self._key is None:
            return 0
        return max((self._time(kind, _keyed_hash(self._key, kind, text)) for text in ids if text), default=0)

    def _time(self, kind: str, digest: str) -> int:
        row = self._db.execute("SELECT at FROM tombstones WHERE kind = ? AND digest = ?", (kind, digest)).fetchone()
        return int(row[0]) if row else 0

    def of_conversation(self, product: str, external_id: str | None) -> int:
        """Return the time up to which a conversation was deleted."""
        if external_id is None:
            return 0
        ids = (conversation_id(name, external_id) for name in (product, ANY_PRODUCT))
        return self.until(CONVERSATION, *ids)


def split_deleted(
    db: sqlite3.Connection, body: dict[str, Any], timed: list[tuple[dict[str, Any], int]]
) -> tuple[list[tuple[dict[str, Any], int]], list[dict[str, Any]]]:
    """Divide the messages of a `POST /messages` request into those to store, with their times, and deleted ones.

    A turn that began before the deletion stays out as a whole, as far as its steps name their parents.
    """
    tombstones = Tombstones(db)
    if not tombstones.exist:
        return timed, []
    until = max(
        tombstones.of_conversation(body.get("productId") or "", body.get("externalConversationId")),
        tombstones.until(USER, body.get("externalUserId")),
    )
    out = out_of_time(timed, max(until + 1 if until else 0, tombstones.before))
    if not out:
        return timed, []
    deleted = [timed[index][0] for index in sorted(out)]
    rated = [m["externalMessageId"] for m in deleted if m.get("externalMessageId") and _is_rated(m)]
    add_tombstones(db, SUBJECT, rated, until or tombstones.before)
    return [pair for index, pair in enumerate(timed) if index not in out], deleted


def _is_rated(message: dict[str, Any]) -> bool:
    return message_columns.message_type(message) in RATED_TYPES


def out_of_time(timed: list[tuple[dict[str, Any], int]], before: int) -> set[int]:
    """Return the indexes of messages that were created before a time, and of the steps of turns that began before it.

    Parents precede their children.
    """
    out: set[int] = set()
    keys: set[str] = set()
    for index, (message, at) in enumerate(timed):
        belongs = message.get("parentExternalMessageId") in keys
        if at < before or (belongs and message_columns.message_type(message) != "user_message"):
            out.add(index)
            if external := message.get("externalMessageId"):
                keys.add(external)
    return out


def is_deleted_action(db: sqlite3.Connection, endpoint: str, body: dict[str, Any], recorded_at: int) -> bool:
    """Return True if a user, a rating or an event was created before what it refers to was deleted."""
    tombstones = Tombstones(db)
    if not tombstones.exist or endpoint == "organizations":
        return False
    at = action_time(body, recorded_at)
    until = max(
        tombstones.until(USER, body.get("externalUserId")),
        tombstones.until(SUBJECT, body.get("externalConversationId"), body.get("externalMessageId")),
    )
    return at <= until or at < tombstones.before


def action_time(body: dict[str, Any], recorded_at: int) -> int:
    """Return when a record was created: its own time, or the one at which it was recorded."""
    own = body.get("ratedAt") or body.get("eventAt")
    return message_columns.parse_timestamp(own) if own else recorded_at
