"""Queries of the embedded store: lists of conversations, their messages, ratings. Every list is paged and indexed."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from gati.store import filters, hits, labels, message_columns, prompt_versions, schema
from gati.store.engine import engine_of
from gati.store.filters import Filter
from gati.store.hits import Hit
from gati.store.store import Store

_MAX_MESSAGES = 3000
"""Messages of a conversation that are returned at once."""


@dataclass(frozen=True)
class ConversationSummary:
    """A conversation without its messages. None means unknown.

    Attributes:
        errors: Failures, each counted once; see `failures`.
        unpriced: Completed model calls without a known cost.
        slowest_ms: Duration of the slowest turn.
        ratings: Number of ratings.
        rating: Their mean on a scale from 0 to 1.
    """

    id: int
    uid: str
    product: str
    external_id: str | None
    user: str
    organization: str | None
    agent: str | None
    status: str | None
    title: str | None
    preview: str | None
    properties: str | None
    first_at: int
    last_at: int
    last_message: int
    turns: int
    messages: int
    errors: int
    model_calls: int
    tokens_in: int | None
    tokens_out: int | None
    cost: float | None
    unpriced: int
    slowest_ms: float | None = None
    ratings: int = 0
    rating: float | None = None


class Match(NamedTuple):
    """A match of a search in a conversation.

    Attributes:
        text: Text of the newest matching message, or of the matching label.
        message: Row id of that message; None for a label.
        label: What the label is, such as "tag"; empty for a message.
        messages: Number of matching messages.
    """

    text: str
    message: int | None
    label: str
    messages: int


@dataclass(frozen=True)
class ConversationPage:
    """A page of conversations.

    Attributes:
        conversations: The conversations of this page.
        more: The `after` argument for the next page; None on the last page.
        matches: After a search, what it found, by conversation id.
        without_id: The conversations that the program gave no id, so that the id is that of their first run.
    """

    conversations: list[ConversationSummary]
    more: tuple[float, int] | None
    matches: dict[int, Match]
    without_id: frozenset[int] = frozenset()


_COLUMNS = ", ".join(f"c.{field.name}" for field in fields(ConversationSummary))
_EARLIER_COLUMNS = _COLUMNS.partition(", c.slowest_ms")[0]


def _columns(db: sqlite3.Connection) -> str:
    """Return the columns of `ConversationSummary` that this store has."""
    return _COLUMNS if schema.can_find_and_sum(db) else _EARLIER_COLUMNS


def list_conversations(
    store: Store,
    conditions: Filter | None = None,
    after: tuple[float, int] | None = None,
    limit: int = 50,
    sort: str | None = None,
) -> ConversationPage:
    """Return a page of matching conversations.

    Args:
        store: The store.
        conditions: What they must match; None for all.
        after: `ConversationPage.more` of the previous page.
        limit: Conversations on a page.
        sort: One of `filters.SORTS`; by default the newest first.
    """
    conditions, order = conditions or Filter(), filters.order_of(sort)
    with store.connections.snapshot() as db:
        found = hits.find_hits(db, conditions.words) if conditions.words.strip() else None
        chosen = None if found is None else list(found)
        where, values = filters.where_clause(conditions, chosen, *order.after(after), *filters.has_value(order))
        rows = db.execute(
            f"SELECT {_columns(db)} FROM conversations c {where} {order.clause} LIMIT ?",  # noqa: S608  # our own names
            [*values, limit + 1],
        ).fetchall()
        summaries = [ConversationSummary(*row) for row in rows[:limit]]
        matches = _read_matches(db, {summary.id: found[summary.id] for summary in summaries}) if found else {}
        without_id = _without_id(db, [summary.id for summary in summaries])
    more = (getattr(summaries[-1], order.column), summaries[-1].id) if len(rows) > limit else None
    return ConversationPage(summaries, more, matches, without_id)


def _read_matches(db: sqlite3.Connection, found: dict[int, Hit]) -> dict[int, Match]:
    """Read the texts of hits."""
    label_ids = [hit.label for hit in found.values() if hit.label is not None]
    read = labels.read(db, label_ids) if label_ids else {}
    matches: dict[int, Match] = {}
    for conversation, hit in found.items():
        if hit.message is not None:
            matches[conversation] = Match(_message_text(db, hit.message), hit.message, "", hit.messages)
        elif hit.label in read:
            label = read[hit.label]
            kind = label.name if label.kind == "property" else label.kind
            matches[conversation] = Match(label.value, None, kind, 0)
    return matches


def _without_id(db: sqlite3.Connection, conversations: list[int]) -> frozenset[int]:
    """Return those of the conversations that are named after their first run."""
    rows = db.execute(
        "SELECT c.id FROM conversations c WHERE c.id IN (SELECT value FROM json_each(?)) AND EXISTS (SELECT 1 FROM"
        " messages m WHERE m.conversation = c.id AND m.external_id IN (c.external_id, c.external_id || ':user'))",
        (json.dumps(conversations),),
    )
    return frozenset(row[0] for row in rows)


def _message_text(db: sqlite3.Connection, row_id: int) -> str:
    row = db.execute("SELECT body FROM messages WHERE id = ?", (row_id,)).fetchone()
    return message_columns.search_text(json.loads(row["body"]))


def last_message_id(store: Store) -> int:
    """Return the highest row id given to a message so far. It changes whenever messages arrive."""
    with store.connections.reading() as db:
        if (engine := engine_of(db)) is not None:
            return engine.last_message_id()
        row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'messages'").fetchone()
    return int(row[0]) if row else 0


def find_conversation(store: Store, uid: str) -> ConversationSummary | None:
    """Return a conversation by its uid, else the newest one with this external id; None if there is none."""
    with store.connections.reading() as db:
        columns = _columns(db)
        row = db.execute(f"SELECT {columns} FROM conversations c WHERE c.uid = ?", (uid,)).fetchone()  # noqa: S608  # our own names
        if row is None:
            query = f"SELECT {columns} FROM conversations c WHERE c.external_id = ? ORDER BY c.last_at DESC"  # noqa: S608  # our own names
            row = db.execute(query, (uid,)).fetchone()
    return ConversationSummary(*row) if row else None


@dataclass(frozen=True)
class StoredMessage:
    """A message with its row. `body` is the message as received, `call` the row of its request."""

    id: int
    call: int
    at: int
    type: str
    model: str | None
    status: str | None
    body: dict[str, Any]
    version: int | None
    """Row of the system prompt's version that was in use."""

    @property
    def has_time(self) -> bool:
        """The message came with a time. For others, `at` is when they arrived."""
        return bool(self.body.get("createdAt"))

    @property
    def key(self) -> str:
        """The id by which child messages refer to this one."""
        return str(self.body.get("externalMessageId") or f"#{self.id}")


_MESSAGE_COLUMNS = "m.id, m.call, m.at, m.type, m.model, m.status, m.body, k.version"


def end_of_page(store: Store, conversation: int, row_id: int, turns: int = 30) -> tuple[int, int] | None:
    """Return a `before` for `conversation_messages` so that its page contains a message; None for the last page.

    The page ends some turns after the message.
    """
    with store.connections.reading() as db:
        message = db.execute(
            "SELECT at, id FROM messages WHERE id = ? AND conversation = ?", (row_id, conversation)
        ).fetchone()
        if message is None:
            return None
        end = db.execute(
            "SELECT at, id FROM messages WHERE conversation = ? AND type = 'user_message' AND (at, id) > (?, ?)"
            " ORDER BY at, id LIMIT 1 OFFSET ?",
            (conversation, message["at"], message["id"], turns // 3),
        ).fetchone()
    return end and (end["at"], end["id"])


def conversation_messages(
    store: Store, conversation: int, before: tuple[int, int] | None = None, turns: int = 30
) -> tuple[list[StoredMessage], tuple[int, int] | None]:
    """Return the last messages of a conversation before `before`, and the `before` of the preceding page.

    A page starts with the user message of a turn, unless a single turn exceeds the page.
    """
    end = before or (2**62, 0)
    with store.connections.snapshot() as db:
        start = db.execute(
            "SELECT at, id FROM messages WHERE conversation = ? AND type = 'user_message' AND (at, id) < (?, ?)"
            " ORDER BY at DESC, id DESC LIMIT 1 OFFSET ?",
            (conversation, *end, turns - 1),
        ).fetchone()
        rows = db.execute(
            f"SELECT {_MESSAGE_COLUMNS} FROM messages m JOIN calls k ON k.id = m.call"  # noqa: S608  # our own names
            " WHERE m.conversation = ? AND (m.at, m.id) >= (?, ?) AND (m.at, m.id) < (?, ?)"
            " ORDER BY m.at DESC, m.id DESC LIMIT ?",
            (conversation, *(start or (-(2**62), 0)), *end, _MAX_MESSAGES),
        ).fetchall()
        rows.reverse()
        first = (rows[0]["at"], rows[0]["id"]) if rows else None
        has_earlier = (
            first
            and db.execute(
                "SELECT 1 FROM messages WHERE conversation = ? AND (at, id) < (?, ?) LIMIT 1", (conversation, *first)
            ).fetchone()
        )
    return [_stored_message(row) for row in rows], first if has_earlier else None


def messages_around(
    store: Store, conversation: int, message: StoredMessage, before: int, after: int
) -> list[StoredMessage]:
    """Return messages of a conversation in reading order: the last ones up to `message`, and the next ones after it.

    Args:
        store: The store.
        conversation: Row of the conversation.
        message: A message of it.
        before: Most messages up to and including `message`.
        after: Most messages after it.
    """
    select = f"SELECT {_MESSAGE_COLUMNS} FROM messages m JOIN calls k ON k.id = m.call WHERE m.conversation = ?"  # noqa: S608  # our own names
    position = (conversation, message.at, message.id)
    with store.connections.snapshot() as db:
        earlier = db.execute(
            f"{select} AND (m.at, m.id) <= (?, ?) ORDER BY m.at DESC, m.id DESC LIMIT ?", (*position, before)
        ).fetchall()
        later = db.execute(
            f"{select} AND (m.at, m.id) > (?, ?) ORDER BY m.at, m.id LIMIT ?", (*position, after)
        ).fetchall()
    return [_stored_message(row) for row in (*reversed(earlier), *later)]


def _stored_message(row: sqlite3.Row) -> StoredMessage:
    return StoredMessage(**{**dict(row), "body": json.loads(row["body"])})


def ratings_and_events(store: Store, conversation: int) -> list[dict[str, Any]]:
    """Return a conversation's first 200 ratings and events, oldest first.

    Each is the body as received, plus `endpoint`, `at` and `action` (its row).
    """
    with store.connections.reading() as db:
        rows = db.execute(
            "SELECT id, endpoint, created_at, body FROM actions WHERE conversation = ? ORDER BY id LIMIT 200",
            (conversation,),
        ).fetchall()
    return [
        {**json.loads(row["body"]), "endpoint": row["endpoint"], "at": row["created_at"], "action": row["id"]}
        for row in rows
    ]


def find_message(store: Store, row_id: int) -> tuple[StoredMessage, ConversationSummary] | None:
    """Return a message and its conversation; None if it does not exist."""
    with store.connections.snapshot() as db:
        row = db.execute(
            f"SELECT {_MESSAGE_COLUMNS} FROM messages m JOIN calls k ON k.id = m.call WHERE m.id = ?",  # noqa: S608  # our own names
            (row_id,),
        ).fetchone()
        if row is None:
            return None
        summary = db.execute(
            f"SELECT {_columns(db)} FROM conversations c JOIN messages m ON m.conversation = c.id WHERE m.id = ?",  # noqa: S608  # our own names
            (row_id,),
        ).fetchone()
    return _stored_message(row), ConversationSummary(*summary)


def wire_messages(store: Store, external_id: str | None = None, product: str | None = None) -> list[dict[str, Any]]:
    """Return messages as received, of one conversation or of all, in reading order.

    Each also has `messageId`, `conversation` (the external id) and `prompt` (as it was sent).
    """
    with store.connections.snapshot() as db:
        return list(_iter_wire_messages(db, {"external": external_id, "product": product}))


def _iter_wire_messages(db: sqlite3.Connection, values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    rows = db.execute(
        "SELECT m.id, m.body, c.uid, c.external_id, k.envelope, v.body AS prompt FROM messages m"
        " JOIN conversations c ON c.id = m.conversation JOIN calls k ON k.id = m.call"
        " LEFT JOIN prompt_versions v ON v.id = k.version"
        " WHERE (:external IS NULL OR c.external_id = :external) AND (:product IS NULL OR c.product = :product)"
        " ORDER BY c.id, m.at, m.id",
        values,
    )
    for row in rows:
        call_values = json.loads(row["envelope"]).get("prompt", {})
        yield {
            **json.loads(row["body"]),
            "messageId": message_columns.message_uid(row["uid"], row["id"]),
            "conversation": row["external_id"],
            "prompt": prompt_versions.join_prompt(row["prompt"], call_values) if row["prompt"] else None,
        }


def external_message_ids(store: Store, body: dict[str, Any]) -> set[str]:
    """Return the external ids of the messages in the conversation that a `POST /messages` body names."""
    with store.connections.reading() as db:
        rows = db.execute(
            "SELECT m.external_id FROM messages m JOIN conversations c ON c.id = m.conversation"
            " WHERE (c.product = ? AND c.external_id = ?) OR c.uid = ?",
            (body.get("productId") or "", body.get("externalConversationId"), body.get("conversationId")),
        ).fetchall()
    return {row[0] for row in rows if row[0] is not None}


def first_own_message_at(store: Store, external_id: str) -> int | None:
    """Return when the first message of a conversation was reported that was not imported, in nanoseconds; None if none was."""
    with store.connections.reading() as db:
        row = db.execute(
            "SELECT min(m.at) FROM conversations c JOIN messages m ON m.conversation = c.id JOIN calls k ON k.id = m.call"
            " WHERE c.external_id = ? AND json_extract(k.envelope, '$.properties.imported_from') IS NULL",
            (external_id,),
        ).fetchone()
    return None if row[0] is None else int(row[0]) * 1_000
