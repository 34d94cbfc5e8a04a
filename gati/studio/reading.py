"""Reading the embedded store: lists, conversations, prompts. Every list is paged and stands on an index."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from gati.studio import columns, prompts, search
from gati.studio.store import Store

_SEARCHED_MESSAGES = 5000
"""A search looks at so many of the newest messages that match; older ones need more words."""

_MOST_MESSAGES = 3000
"""Messages of a conversation that are shown at once."""


@dataclass(frozen=True)
class Filter:
    """Which conversations; what is None or empty leaves everything in. Times are microseconds since the epoch."""

    words: str = ""
    user: str | None = None
    agent: str | None = None
    model: str | None = None
    status: str | None = None
    product: str | None = None
    since: int | None = None
    until: int | None = None


@dataclass(frozen=True)
class Summary:
    """A conversation without its messages; None is unknown. `unpriced`: model calls without a known cost."""

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


@dataclass(frozen=True)
class Page:
    """A page of conversations, newest first. `more`: what `conversations` takes for the next one, None at the end.

    `found`: of a search, one message that matched, as (words of it, by conversation).
    """

    conversations: list[Summary]
    more: tuple[int, int] | None
    found: dict[int, str]


_COLUMNS = ", ".join(f"c.{field.name}" for field in fields(Summary))


def conversations(
    store: Store, wanted: Filter | None = None, after: tuple[int, int] | None = None, limit: int = 50
) -> Page:
    """A page of the conversations that fit; `after` is `Page.more` of the page before."""
    wanted = wanted or Filter()
    with store.connections.snapshot() as db:
        hits = _hits(db, wanted.words) if wanted.words.strip() else None
        where, values = _where(wanted, after, hits)
        rows = db.execute(
            f"SELECT {_COLUMNS} FROM conversations c {where} ORDER BY c.last_at DESC, c.id DESC LIMIT ?",  # noqa: S608  # our own names
            [*values, limit + 1],
        ).fetchall()
        found = [Summary(*row) for row in rows[:limit]]
        texts = {row.id: _words_of(db, hits[row.id]) for row in found} if hits else {}
    more = (found[-1].last_at, found[-1].id) if len(rows) > limit else None
    return Page(found, more, texts)


def _where(wanted: Filter, after: tuple[int, int] | None, hits: dict[int, int] | None) -> tuple[str, list[Any]]:
    parts: list[tuple[str, list[Any]]] = []
    for column in ("user", "status", "product"):
        if (value := getattr(wanted, column)) is not None:
            parts.append((f"c.{column} = ?", [value]))
    for kind in ("agent", "model"):
        if (value := getattr(wanted, kind)) is not None:
            parts.append(("c.id IN (SELECT conversation FROM facets WHERE kind = ? AND value = ?)", [kind, value]))
    if wanted.since is not None:
        parts.append(("c.last_at >= ?", [wanted.since]))
    if wanted.until is not None:
        parts.append(("c.last_at < ?", [wanted.until]))
    if after is not None:
        parts.append(("(c.last_at, c.id) < (?, ?)", list(after)))
    if hits is not None:
        parts.append(("c.id IN (SELECT value FROM json_each(?))", [json.dumps(list(hits))]))
    where = " AND ".join(text for text, _ in parts)
    return (f"WHERE {where}" if where else ""), [value for _, values in parts for value in values]


def _hits(db: sqlite3.Connection, words: str) -> dict[int, int]:
    """Conversations with a message that matches, each with the newest such message."""
    numbers = search.find(db, words, _SEARCHED_MESSAGES)
    rows = db.execute(
        "SELECT conversation, max(id) FROM messages WHERE id IN (SELECT value FROM json_each(?)) GROUP BY conversation",
        (json.dumps(list(numbers)),),
    )
    return {row[0]: row[1] for row in rows}


def _words_of(db: sqlite3.Connection, number: int) -> str:
    row = db.execute("SELECT body FROM messages WHERE id = ?", (number,)).fetchone()
    return columns.searchable(json.loads(row["body"]))


def choices(store: Store) -> dict[str, list[str]]:
    """Values that the filters can take: agents, models, statuses and (the latest few) users."""
    with store.connections.snapshot() as db:
        found = {kind: _distinct(db, kind) for kind in ("agent", "model")}
        found["status"] = [
            row[0] for row in db.execute(
                "WITH RECURSIVE t(v) AS (SELECT min(status) FROM conversations UNION ALL"
                " SELECT (SELECT min(status) FROM conversations WHERE status > v) FROM t WHERE v IS NOT NULL)"
                " SELECT v FROM t WHERE v IS NOT NULL"
            )
        ]  # fmt: skip
        latest = db.execute("SELECT user FROM conversations ORDER BY last_at DESC LIMIT 500")
        found["user"] = sorted({row[0] for row in latest})[:100]
    return found


def _distinct(db: sqlite3.Connection, kind: str) -> list[str]:
    """Distinct values by jumping from one to the next in the index, however many conversations there are."""
    rows = db.execute(
        "WITH RECURSIVE t(v) AS (SELECT min(value) FROM facets WHERE kind = :kind UNION ALL"
        " SELECT (SELECT min(value) FROM facets WHERE kind = :kind AND value > v) FROM t WHERE v IS NOT NULL)"
        " SELECT v FROM t WHERE v IS NOT NULL LIMIT 200",
        {"kind": kind},
    )
    return [row[0] for row in rows]


def clock(store: Store) -> int:
    """Grows whenever messages arrive; what shows that a page is out of date."""
    with store.connections.reading() as db:
        row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'messages'").fetchone()
    return int(row[0]) if row else 0


def summary(store: Store, uid: str) -> Summary | None:
    """One conversation by the id in its address, or by the id that the program gave it; None if there is none."""
    with store.connections.reading() as db:
        row = db.execute(f"SELECT {_COLUMNS} FROM conversations c WHERE c.uid = ?", (uid,)).fetchone()  # noqa: S608  # our own names
        if row is None:
            named = f"SELECT {_COLUMNS} FROM conversations c WHERE c.external_id = ? ORDER BY c.last_at DESC"  # noqa: S608  # our own names
            row = db.execute(named, (uid,)).fetchone()
    return Summary(*row) if row else None


@dataclass(frozen=True)
class Stored:
    """A message with its place. `body` is the wire message as it came, `call` the request's row."""

    id: int
    call: int
    at: int
    type: str
    model: str | None
    status: str | None
    body: dict[str, Any]
    version: int | None
    """Row of the version of the system prompt it stood under."""

    @property
    def key(self) -> str:
        """The id by which others name it as their parent."""
        return str(self.body.get("externalMessageId") or f"#{self.id}")


def conversation(
    store: Store, number: int, before: tuple[int, int] | None = None, turns: int = 30
) -> tuple[list[Stored], tuple[int, int] | None]:
    """The last messages of a conversation that end before `before`, and where the page before it ends.

    A page begins with the user's text of a turn, unless a single turn is larger than a page.
    """
    bound = before or (2**62, 0)
    with store.connections.snapshot() as db:
        start = db.execute(
            "SELECT at, id FROM messages WHERE conversation = ? AND type = 'user_message' AND (at, id) < (?, ?)"
            " ORDER BY at DESC, id DESC LIMIT 1 OFFSET ?",
            (number, *bound, turns - 1),
        ).fetchone()
        rows = db.execute(
            "SELECT m.id, m.call, m.at, m.type, m.model, m.status, m.body, k.version FROM messages m"
            " JOIN calls k ON k.id = m.call WHERE m.conversation = ? AND (m.at, m.id) >= (?, ?) AND (m.at, m.id) < (?, ?)"
            " ORDER BY m.at DESC, m.id DESC LIMIT ?",
            (number, *(start or (-(2**62), 0)), *bound, _MOST_MESSAGES),
        ).fetchall()
        rows.reverse()
        first = (rows[0]["at"], rows[0]["id"]) if rows else None
        earlier = (
            first
            and db.execute(
                "SELECT 1 FROM messages WHERE conversation = ? AND (at, id) < (?, ?) LIMIT 1", (number, *first)
            ).fetchone()
        )
    stored = [Stored(**{**row, "body": json.loads(row["body"])}) for row in map(dict, rows)]
    return stored, first if earlier else None


def told(store: Store, number: int) -> list[dict[str, Any]]:
    """Ratings and events of a conversation, oldest first: their bodies with `endpoint` and `at`."""
    with store.connections.reading() as db:
        rows = db.execute(
            "SELECT endpoint, created_at, body FROM actions WHERE conversation = ? ORDER BY id LIMIT 200", (number,)
        ).fetchall()
    return [{**json.loads(row["body"]), "endpoint": row["endpoint"], "at": row["created_at"]} for row in rows]


def message(store: Store, number: int) -> tuple[Stored, Summary] | None:
    """One message and its conversation."""
    with store.connections.snapshot() as db:
        row = db.execute(
            "SELECT m.id, m.call, m.at, m.type, m.model, m.status, m.body, k.version FROM messages m"
            " JOIN calls k ON k.id = m.call WHERE m.id = ?",
            (number,),
        ).fetchone()
        if row is None:
            return None
        whose = db.execute(
            f"SELECT {_COLUMNS} FROM conversations c JOIN messages m ON m.conversation = c.id WHERE m.id = ?",  # noqa: S608  # our own names
            (number,),
        ).fetchone()
    return Stored(**{**dict(row), "body": json.loads(row["body"])}), Summary(*whose)


def messages(store: Store, external_id: str | None = None, product: str | None = None) -> list[dict[str, Any]]:
    """Wire messages as they came, of one conversation or of all, in reading order.

    Each has, beside its own keys, `messageId`, `conversation` (the external id) and `prompt` (as it was sent).
    """
    with store.connections.snapshot() as db:
        return list(_messages(db, {"external": external_id, "product": product}))


def _messages(db: sqlite3.Connection, values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    rows = db.execute(
        "SELECT m.id, m.body, c.uid, c.external_id, k.envelope, v.body AS prompt FROM messages m"
        " JOIN conversations c ON c.id = m.conversation JOIN calls k ON k.id = m.call"
        " LEFT JOIN prompt_versions v ON v.id = k.version"
        " WHERE (:external IS NULL OR c.external_id = :external) AND (:product IS NULL OR c.product = :product)"
        " ORDER BY c.id, m.at, m.id",
        values,
    )
    for row in rows:
        own = json.loads(row["envelope"]).get("prompt", {})
        yield {
            **json.loads(row["body"]),
            "messageId": columns.message_uid(row["uid"], row["id"]),
            "conversation": row["external_id"],
            "prompt": prompts.put_together(row["prompt"], own) if row["prompt"] else None,
        }
