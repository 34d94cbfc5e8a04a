"""Marks: what people say about a conversation in the studio. Good or bad, a rating, tags and notes.

Each has its time and, if known, the name of its author. Marks belong to the conversation, not to its messages, so
messages that arrive again do not change them. Tags and notes are labels, too, by which a conversation is found. A rating
is recorded as other ratings are, so it counts in the sums and `gati push` sends it.
"""

from __future__ import annotations

import json
import re
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from gati.store import actions, labels, ratings, schema
from gati.store.labels import Label
from gati.store.message_columns import format_timestamp
from gati.store.store import Store

VERDICT, RATING, TAG, NOTE = "verdict", "rating", "tag", "note"
"""Kinds of marks. A verdict says that a conversation is good or bad."""

VERDICTS = ("good", "bad")
LOWEST, HIGHEST = 1, 5
"""The scale of ratings."""

MAX_NAME, MAX_TAG, MAX_NOTE = 60, 60, 10_000
"""Characters of an author's name, a tag and a note."""

_MAX_TAGS, _MAX_NOTES = 100, 500
"""Tags and notes of one conversation."""

_LABEL_NAME = "·"
"""Name of the labels made here. It sets them apart from the tags of the program, and search does not find it."""

_KEY = re.compile(r"[0-9a-f]{32}")


class InvalidMarkError(ValueError):
    """A mark is empty, too long, or one too many. The message is for the person who made it."""


class Mark(NamedTuple):
    """One mark of a conversation.

    Attributes:
        kind: One of the kinds above.
        key: What tells it from others of its kind: the tag itself, the id of a note, the author of a rating. Empty for
            a verdict: a conversation has one, the latest.
        value: "good" or "bad", the rating as a digit, the tag, or the text of the note.
        author: The name that its author gave; None if unknown.
        at: When it was made or changed, in microseconds since the epoch.
        action: The rating's row in `actions`.
    """

    kind: str
    key: str
    value: str
    author: str | None
    at: int
    action: int | None = None


class Marks(NamedTuple):
    """The marks of one conversation, each kind in the order of time."""

    verdict: Mark | None = None
    ratings: tuple[Mark, ...] = ()
    tags: tuple[Mark, ...] = ()
    notes: tuple[Mark, ...] = ()

    def rating_by(self, author: str | None) -> Mark | None:
        """Return the rating that this author gave."""
        return next((mark for mark in self.ratings if mark.author == author), None)


def new_key() -> str:
    """Return the key of a new note. Writing a note twice with the same key writes one."""
    return uuid.uuid4().hex


def clean_name(text: str) -> str | None:
    """Return an author's name as one line; None if there is none. Longer names are cut."""
    return _one_line(text)[:MAX_NAME].strip() or None


def _one_line(text: str) -> str:
    return " ".join(text.replace("\x00", "").split())


def set_verdict(store: Store, conversation: int, value: str | None, author: str | None) -> None:
    """Mark a conversation as "good" or "bad", instead of what it was marked as; None removes the mark."""
    if value is not None and value not in VERDICTS:
        raise InvalidMarkError("A conversation can be marked as good or bad.")
    if value is None:
        _change(store, conversation, lambda db, _: _delete(db, conversation, VERDICT, ""))
    else:
        _change(store, conversation, lambda db, now: _upsert(db, conversation, Mark(VERDICT, "", value, author, now)))


def rate(store: Store, conversation: int, rating: int | None, author: str | None) -> None:
    """Rate a conversation from `LOWEST` to `HIGHEST`, instead of this author's earlier rating; None removes that.

    A rating that was pushed already cannot be changed at Greenflash. The new one is another rating there.
    """
    if rating is not None and not LOWEST <= rating <= HIGHEST:
        raise InvalidMarkError(f"A rating is a number from {LOWEST} to {HIGHEST}.")

    def change(db: sqlite3.Connection, now: int) -> None:
        key = author or ""
        if earlier := _read_one(db, conversation, RATING, key):
            if rating is not None and earlier["value"] == str(rating):
                return
            _delete(db, conversation, RATING, key)
            db.execute("DELETE FROM ratings WHERE action = ?", (earlier["action"],))
            db.execute("DELETE FROM actions WHERE id = ?", (earlier["action"],))
            ratings.recount(db, conversation)
        if rating is not None:
            body = _rating_body(db, conversation, rating, now)
            _, action = actions.insert_action(db, "ratings", None, conversation, body, now)
            _upsert(db, conversation, Mark(RATING, key, str(rating), author, now, action))

    _change(store, conversation, change)


def _rating_body(db: sqlite3.Connection, conversation: int, rating: int, now: int) -> dict[str, Any]:
    """Return the rating as `POST /ratings` takes it. A push names conversations without an id after their uid."""
    row = db.execute("SELECT uid, product, external_id FROM conversations WHERE id = ?", (conversation,)).fetchone()
    product = {"productId": row["product"]} if row["product"] else {}
    return {
        **product,
        "rating": rating,
        "ratingMin": LOWEST,
        "ratingMax": HIGHEST,
        "externalConversationId": row["external_id"] or row["uid"],
        "ratedAt": format_timestamp(now),
    }


def add_tag(store: Store, conversation: int, text: str, author: str | None) -> None:
    """Tag a conversation. A tag that it has keeps its author.

    Raises:
        InvalidMarkError: The tag is empty or too long, or there are too many.
    """
    tag = _one_line(text)
    if not tag or len(tag) > MAX_TAG:
        raise InvalidMarkError(f"A tag has from 1 to {MAX_TAG} characters.")

    def change(db: sqlite3.Connection, now: int) -> None:
        if _read_one(db, conversation, TAG, tag) is None:
            _refuse_above(db, conversation, TAG, _MAX_TAGS)
            _upsert(db, conversation, Mark(TAG, tag, tag, author, now))

    _change(store, conversation, change)


def write_note(store: Store, conversation: int, text: str, author: str | None, key: str) -> None:
    """Write the note with this key (`new_key`), or replace its text and author.

    Raises:
        InvalidMarkError: The note is empty or too long, or there are too many.
    """
    note = text.replace("\x00", "").replace("\r\n", "\n").strip()
    if not note or len(note) > MAX_NOTE:
        raise InvalidMarkError(f"A note has from 1 to {MAX_NOTE:,} characters.")
    if not _KEY.fullmatch(key):
        raise InvalidMarkError("The note has no valid key.")

    def change(db: sqlite3.Connection, now: int) -> None:
        if _read_one(db, conversation, NOTE, key) is None:
            _refuse_above(db, conversation, NOTE, _MAX_NOTES)
        _upsert(db, conversation, Mark(NOTE, key, note, author, now))

    _change(store, conversation, change)


def remove_mark(store: Store, conversation: int, kind: str, key: str) -> None:
    """Remove a tag or a note, if it is there."""
    _change(store, conversation, lambda db, _: _delete(db, conversation, kind, key))


def _change(store: Store, conversation: int, change: Callable[[sqlite3.Connection, int], None]) -> None:
    """Change the marks of a conversation, unless it was deleted meanwhile, and update the labels made from them."""

    def work(db: sqlite3.Connection) -> None:
        if db.execute("SELECT 1 FROM conversations WHERE id = ?", (conversation,)).fetchone() is None:
            return
        change(db, time.time_ns() // 1000)
        update_labels(db, conversation)
        count_change(db)

    store.transaction(work, lambda: MAX_NOTE)


def update_labels(db: sqlite3.Connection, conversation: int) -> None:
    """Make the labels of a conversation's tags and notes."""
    rows = db.execute(
        "SELECT kind, value FROM marks WHERE conversation = ? AND kind IN (?, ?)", (conversation, TAG, NOTE)
    ).fetchall()
    made = [Label(row["kind"], row["value"], _LABEL_NAME) for row in rows]
    labels.replace_named(db, labels.CONVERSATION, conversation, _LABEL_NAME, made)


def count_change(db: sqlite3.Connection) -> None:
    """Let pages that are open read the list of conversations again."""
    db.execute(
        "INSERT INTO counters (name, value) VALUES ('marks', 1)"
        " ON CONFLICT (name) DO UPDATE SET value = counters.value + 1"
    )


def _upsert(db: sqlite3.Connection, conversation: int, mark: Mark) -> None:
    db.execute(
        "INSERT INTO marks (conversation, kind, key, value, author, at, action) VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (conversation, kind, key) DO UPDATE SET value = excluded.value, author = excluded.author,"
        " at = excluded.at, action = excluded.action",
        (conversation, *mark),
    )


def _delete(db: sqlite3.Connection, conversation: int, kind: str, key: str) -> None:
    db.execute("DELETE FROM marks WHERE conversation = ? AND kind = ? AND key = ?", (conversation, kind, key))


def _read_one(db: sqlite3.Connection, conversation: int, kind: str, key: str) -> Any:
    return db.execute(
        "SELECT value, action FROM marks WHERE conversation = ? AND kind = ? AND key = ?", (conversation, kind, key)
    ).fetchone()


def _refuse_above(db: sqlite3.Connection, conversation: int, kind: str, limit: int) -> None:
    query = "SELECT count(*) FROM marks WHERE conversation = ? AND kind = ?"
    if db.execute(query, (conversation, kind)).fetchone()[0] >= limit:
        raise InvalidMarkError(f"A conversation has at most {limit} {kind}s.")


def read_marks(store: Store, conversations: Iterable[int]) -> dict[int, Marks]:
    """Return the marks of those conversations that have some."""
    with store.connections.reading() as db:
        if not schema.has_marks(db):
            return {}
        rows = db.execute(
            "SELECT conversation, kind, key, value, author, at, action FROM marks"
            " WHERE conversation IN (SELECT value FROM json_each(?)) ORDER BY at, key",
            (json.dumps(list(conversations)),),
        ).fetchall()
    found: dict[int, list[Mark]] = {}
    for row in rows:
        found.setdefault(row["conversation"], []).append(Mark(*tuple(row)[1:]))
    return {conversation: _sort(made) for conversation, made in found.items()}


def _sort(made: list[Mark]) -> Marks:
    of = {kind: tuple(mark for mark in made if mark.kind == kind) for kind in (VERDICT, RATING, TAG, NOTE)}
    return Marks(next(iter(of[VERDICT]), None), of[RATING], of[TAG], of[NOTE])


def marks_of(store: Store, conversation: int) -> Marks:
    """Return the marks of a conversation."""
    return read_marks(store, [conversation]).get(conversation, Marks())


def change_count(store: Store) -> int:
    """Return how often marks were changed since the store was created."""
    with store.connections.reading() as db:
        row = db.execute("SELECT value FROM counters WHERE name = 'marks'").fetchone()
    return int(row[0]) if row else 0
