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
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

from gati import contract
from gati.store import message_columns

CONVERSATION, USER, SUBJECT = "conversation", "user", "subject"
_BEFORE, _KEY = "before", "key"
SELECT_KEY = f"SELECT digest FROM tombstones WHERE kind = '{_KEY}'"  # noqa: S608  # our own name
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


def add_subjects(db: sqlite3.Connection, times: Mapping[str, int]) -> None:
    """Add tombstones for messages that were deleted before they arrived, as `SplitMessages.subjects` names them."""
    if times and (key := _read_key(db)):
        _insert_rows(db, [(SUBJECT, _keyed_hash(key, SUBJECT, text), at) for text, at in times.items()])


def _insert_rows(db: sqlite3.Connection, rows: list[tuple[str, str, int]]) -> None:
    db.executemany(
        "INSERT INTO tombstones VALUES (?, ?, ?) ON CONFLICT (kind, digest) DO UPDATE SET at = excluded.at"
        " WHERE excluded.at > tombstones.at",
        rows,
    )


def _read_key(db: sqlite3.Connection) -> str | None:
    row = db.execute(SELECT_KEY).fetchone()
    return row and str(row[0])


def _create_key(db: sqlite3.Connection) -> str:
    key = secrets.token_hex(16)
    db.execute("INSERT INTO tombstones VALUES (?, ?, 0)", (_KEY, key))
    return key


def _keyed_hash(key: str, kind: str, text: str) -> str:
    return hmac.new(key.encode(), f"{kind}\n{text}".encode(errors="replace"), hashlib.sha256).hexdigest()[:32]


class Tombstones:
    """The tombstones of a store, as far as they are asked for.

    Args:
        key: The key of the hashes; None if nothing was ever deleted.
        read: Returns the time of a tombstone by kind and hash, 0 if there is none.
    """

    def __init__(self, key: str | None, read: Callable[[str, str], int]) -> None:
        self._key, self._read = key, read
        self.exist = key is not None
        self.before = read(_BEFORE, "") if self.exist else 0
        """What was created earlier was deleted, whatever it is. In microseconds since the epoch."""

    @classmethod
    def of_store(cls, db: sqlite3.Connection) -> Tombstones:
        """Return those of a store, which is asked for each of them."""
        return cls(_read_key(db), partial(_read_time, db))

    def until(self, kind: str, *ids: str | None) -> int:
        """Return the time up to which something with one of these ids was deleted."""
        if self._key is None:
            return 0
        return max((self._read(kind, _keyed_hash(self._key, kind, text)) for text in ids if text), default=0)


def _read_time(db: sqlite3.Connection, kind: str, digest: str) -> int:
    row = db.execute("SELECT at FROM tombstones WHERE kind = ? AND digest = ?", (kind, digest)).fetchone()
    return int(row[0]) if row else 0


def _names(body: dict[str, Any]) -> list[tuple[str, str]]:
    """Return kind and id of everything whose deletion concerns the messages of a request."""
    external, user, product = (body.get(name) for name in ("externalConversationId", "externalUserId", "productId"))
    names = [] if external is None else [conversation_id(name, external) for name in (product or "", ANY_PRODUCT)]
    return [(CONVERSATION, name) for name in names] + ([(USER, user)] if user else [])


def rows_of(key: str, bodies: Iterable[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return kind and hash of the tombstones that `split_deleted` asks for with these requests."""
    named = {name for body in bodies for name in _names(body)}
    return [(_BEFORE, ""), *((kind, _keyed_hash(key, kind, text)) for kind, text in named)]


class SplitMessages(NamedTuple):
    """Messages to store, with their times, and deleted ones; tombstones to add: the time of the deletion by external id."""

    kept: list[tuple[dict[str, Any], int]]
    deleted: list[dict[str, Any]]
    subjects: dict[str, int]


def split_deleted(
    tombstones: Tombstones, body: dict[str, Any], timed: list[tuple[dict[str, Any], int]]
) -> SplitMessages:
    """Divide the messages of a `POST /messages` request into those to store and those that were deleted before.

    A turn that began before the deletion stays out as a whole, as far as its steps name their parents.
    """
    if not tombstones.exist:
        return SplitMessages(timed, [], {})
    until = max((tombstones.until(kind, text) for kind, text in _names(body)), default=0)
    out = out_of_time(timed, max(until + 1 if until else 0, tombstones.before))
    if not out:
        return SplitMessages(timed, [], {})
    deleted = [timed[index][0] for index in sorted(out)]
    rated = [m["externalMessageId"] for m in deleted if m.get("externalMessageId") and _is_rated(m)]
    kept = [pair for index, pair in enumerate(timed) if index not in out]
    return SplitMessages(kept, deleted, dict.fromkeys(rated, until or tombstones.before))


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
    tombstones = Tombstones.of_store(db)
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
