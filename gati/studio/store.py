"""The embedded store: conversations as Greenflash would take them, in one SQLite file.

The standard library only, so that a program may keep its conversations without any extra.
Reading is in `reading`, the tables in `schema`.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
import uuid
from pathlib import Path
from typing import Any

from gati.studio import columns, prompts
from gati.studio.connections import Connections

DEFAULT_MAX_BYTES = 512 * 1024**2
_ROOM = 0.9
"""After making room this share of the file may be in use, so that room is not made at every request."""


def default_path() -> Path:
    """Where the store lies unless told otherwise: `gati/studio.db` in the user's data folder."""
    import platformdirs  # only when no path is given

    return Path(platformdirs.user_data_dir("gati", appauthor=False)) / "studio.db"


class UnknownConversation(LookupError):
    """A request names a `conversationId` that the store does not have."""


class TooLarge(ValueError):
    """A single request that does not fit into an empty store of this size."""


class Store:
    """Conversations, users, ratings and events in one file. Safe from several threads and processes.

    Args:
        path: the file; None for `default_path()`. Made, with its folder, when missing.
        max_bytes: bound of the file and its log; the oldest conversations make room for new ones.
    """

    def __init__(self, path: str | Path | None = None, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self.path = Path(path) if path is not None else default_path()
        self.connections = Connections(self.path, max_bytes)
        with self.connections.reading() as db:
            from gati.studio.schema import has_search

            self.has_search = has_search(db)

    def close(self) -> None:
        """Close the file. A closed store opens it again when it is used."""
        self.connections.close()

    def ingest(self, body: dict[str, Any]) -> dict[str, Any]:
        """Take the body of `POST /messages` and return the body of its answer.

        Messages whose `externalMessageId` the conversation has are skipped. The body must be
        valid (see `validation`). Raises UnknownConversation, TooLarge.
        """
        return self._with_room(lambda db: self._ingest(db, body))

    def _with_room(self, work: Any) -> Any:
        """Do `work` in a transaction; when the file is at its bound, drop the oldest and try again."""
        while True:
            try:
                with self.connections.writing() as db:
                    result = work(db)
                self._shrink()
                return result
            except sqlite3.OperationalError as error:
                if "full" not in str(error):
                    raise
                if not self._make_room():
                    raise TooLarge("the request is larger than the store may be") from error

    def _ingest(self, db: sqlite3.Connection, body: dict[str, Any]) -> dict[str, Any]:
        now = time.time_ns() // 1000
        row = self._conversation(db, body, now)
        if row is None:  # sampled out
            return _answer(str(uuid.uuid4()), [], "", [])
        conversation, uid = row["id"], row["uid"]
        told = [(message, _time(message, now)) for message in body["messages"]]
        version = prompts.keep(db, body, row["product"], row["agent"], min(at for _, at in told))
        call: int | None = None
        answers, kept = [], []
        for message, at in told:
            external = message.get("externalMessageId")
            known = (
                external is not None
                and db.execute(
                    "SELECT id FROM messages WHERE conversation = ? AND external_id = ?", (conversation, external)
                ).fetchone()
            )
            if known:
                answers.append(_message_answer(uid, known["id"], message, "deduplicated"))
                continue
            if call is None:
                call = prompts.keep_call(db, conversation, version, body)
            number = self._insert(db, conversation, call, message, at, body.get("model"))
            kept.append((number, message, at))
            answers.append(_message_answer(uid, number, message, "created"))
        if kept:
            _roll_up(db, row, body, kept)
        lineage, components = prompts.ids(db, version)
        return _answer(uid, answers, lineage, components)

    def _insert(
        self, db: sqlite3.Connection, conversation: int, call: int, message: dict[str, Any], at: int, model: str | None
    ) -> int:
        facts = columns.numbers(message, model)
        values = (
            conversation, call, message.get("externalMessageId"), columns.message_type(message), at,
            _agent(message), *facts, _json(message),
        )  # fmt: skip
        number = db.execute(
            "INSERT INTO messages (conversation, call, external_id, type, at, agent, model, status, latency_ms,"
            " first_token_ms, tokens_in, tokens_out, cost, body) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            values,
        ).lastrowid
        assert number is not None
        if self.has_search:
            db.execute("INSERT INTO search (rowid, text) VALUES (?, ?)", (number, columns.searchable(message)))
        return number

    def _conversation(self, db: sqlite3.Connection, body: dict[str, Any], now: int) -> sqlite3.Row | None:
        """The conversation's row, made when it is new; None when sampling leaves it out."""
        product, external = body.get("productId") or "", body.get("externalConversationId")
        if uid := body.get("conversationId"):
            row = db.execute("SELECT * FROM conversations WHERE uid = ?", (uid.lower(),)).fetchone()
            if row is None:
                raise UnknownConversation(uid)
            return _row(row)
        if external is not None:
            found = "SELECT * FROM conversations WHERE product = ? AND external_id = ?"
            if row := db.execute(found, (product, external)).fetchone():
                return _row(row)
        if not _sampled(body, product, external):
            return None
        db.execute(
            "INSERT INTO conversations (uid, product, external_id, user, organization, first_at, last_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (str(uuid.uuid4()), product, external, body["externalUserId"], body.get("externalOrganizationId"), now, 0),
        )
        return _row(db.execute("SELECT * FROM conversations WHERE id = last_insert_rowid()").fetchone())

    def act(self, endpoint: str, body: dict[str, Any], key: str | None = None) -> dict[str, Any]:
        """Keep what was told of a user, an organization, a rating or an event.

        The same `key` again adds to what is known (users, organizations) or is ignored (events).
        Returns ``{id, body, created_at, updated_at}``. Raises UnknownConversation for a rating
        or event that names what the store does not have by Greenflash's own id.
        """
        now = time.time_ns() // 1000
        result: dict[str, Any] = self._with_room(lambda db: _act(db, endpoint, body, key, now))
        return result

    def dropped(self) -> int:
        """How many conversations went to make room for newer ones, since the store was made."""
        with self.connections.reading() as db:
            row = db.execute("SELECT value FROM counters WHERE name = 'dropped'").fetchone()
        return int(row[0]) if row else 0

    def _make_room(self) -> bool:
        """Drop the oldest conversations until a tenth of the file is free; False when nothing is left."""
        with self.connections.making_room() as (db, total):
            count = 0
            while _used_pages(db) > total * _ROOM or not count:
                oldest = db.execute("SELECT id FROM conversations ORDER BY last_at, id LIMIT 1").fetchone()
                if oldest is None:
                    break
                self._drop(db, oldest["id"])
                count += 1
            db.execute(
                "INSERT INTO counters VALUES ('dropped', ?) ON CONFLICT DO UPDATE SET value = value + excluded.value",
                (count,),
            )
        return count > 0

    def _drop(self, db: sqlite3.Connection, conversation: int) -> None:
        if self.has_search:
            for number, body in db.execute("SELECT id, body FROM messages WHERE conversation = ?", (conversation,)):
                words = columns.searchable(json.loads(body))
                db.execute("INSERT INTO search (search, rowid, text) VALUES ('delete', ?, ?)", (number, words))
        for table in ("messages", "calls", "facets", "actions", "gati_events"):
            db.execute(f"DELETE FROM {table} WHERE conversation = ?", (conversation,))
        db.execute("DELETE FROM conversations WHERE id = ?", (conversation,))

    def _shrink(self) -> None:
        """Give freed pages back to the disk when they are many; a few are kept for what comes next."""
        with self.connections.reading() as db:
            free = db.execute("PRAGMA freelist_count").fetchone()[0]
            if free > 64 and free > _used_pages(db) // 4:
                db.execute(f"PRAGMA incremental_vacuum({free // 2})").fetchall()


def _used_pages(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA page_count").fetchone()[0] - db.execute("PRAGMA freelist_count").fetchone()[0])


def _row(row: Any) -> sqlite3.Row:
    assert isinstance(row, sqlite3.Row)
    return row


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _time(message: dict[str, Any], now: int) -> int:
    created = message.get("createdAt")
    return columns.microseconds(created) if created else now


def _agent(message: dict[str, Any]) -> str | None:
    known = message.get("properties") or {}
    name = known.get("agent_name") or known.get("agent")
    return name if isinstance(name, str) else None


def _sampled(body: dict[str, Any], product: str, external: str | None) -> bool:
    """One decision for a whole conversation, made of its id: at every request the same."""
    rate = body.get("sampleRate")
    if rate is None or body.get("forceSample"):
        return True
    digest = hashlib.sha256(f"{product}\n{external or uuid.uuid4()}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < rate


def _roll_up(db: sqlite3.Connection, row: sqlite3.Row, body: dict[str, Any], kept: list[Any]) -> None:
    """Bring the conversation's row up to date with its new messages (number, message, time)."""
    facts = [columns.numbers(message, body.get("model")) for _, message, _ in kept]
    kinds = [columns.message_type(message) for _, message, _ in kept]
    calls = [fact for fact, kind in zip(facts, kinds) if kind == "llm"]
    said = [message.get("content") or "" for (_, message, _), kind in zip(kept, kinds) if kind in columns.SPOKEN]
    asked = [message.get("content") or "" for (_, message, _), kind in zip(kept, kinds) if kind == "user_message"]
    ends = [fact.status for fact, kind in zip(facts, kinds) if kind in ("chain_end", *columns.ANSWERS) and fact.status]
    known = {**(json.loads(row["properties"]) if row["properties"] else {}), **(body.get("properties") or {})}
    agents = {name for _, message, _ in kept if (name := _agent(message))} | (
        {known["agent_name"]} if isinstance(known.get("agent_name"), str) else set()
    )
    db.execute(
        "UPDATE conversations SET agent = coalesce(agent, :agent), status = coalesce(:status, status),"
        " title = coalesce(title, :title), preview = coalesce(:preview, preview), properties = :properties,"
        " user = :user, organization = coalesce(:organization, organization),"
        " first_at = CASE messages WHEN 0 THEN :first ELSE min(first_at, :first) END, last_at = max(last_at, :last),"
        " last_message = :newest, turns = turns + :turns, messages = messages + :messages, errors = errors + :errors,"
        " model_calls = model_calls + :calls, unpriced = unpriced + :unpriced,"
        " tokens_in = CASE WHEN :tokens_in IS NULL THEN tokens_in ELSE coalesce(tokens_in, 0) + :tokens_in END,"
        " tokens_out = CASE WHEN :tokens_out IS NULL THEN tokens_out ELSE coalesce(tokens_out, 0) + :tokens_out END,"
        " cost = CASE WHEN :cost IS NULL THEN cost ELSE coalesce(cost, 0) + :cost END WHERE id = :id",
        {
            "id": row["id"], "agent": min(agents, default=None), "status": ends[-1] if ends else None,
            "title": asked[0][:200] if asked else None, "preview": said[-1][:300] if said else None,
            "properties": _json(known) if known else None, "user": body["externalUserId"],
            "organization": body.get("externalOrganizationId"), "first": min(at for *_, at in kept),
            "last": max(at for *_, at in kept), "newest": kept[-1][0], "turns": len(asked), "messages": len(kept),
            "errors": sum(fact.status == "error" for fact, kind in zip(facts, kinds) if kind in ("tool_error", "llm")),
            "calls": len(calls), "unpriced": sum(fact.cost is None for fact in calls),
            "tokens_in": _sum(fact.tokens_in for fact in calls), "tokens_out": _sum(fact.tokens_out for fact in calls),
            "cost": _sum(fact.cost for fact in calls),
        },
    )  # fmt: skip
    pairs = {("model", fact.model) for fact in calls if fact.model} | {("agent", name) for name in agents}
    db.executemany("INSERT OR IGNORE INTO facets VALUES (?, ?, ?)", [(*pair, row["id"]) for pair in pairs])


def _sum(values: Any) -> Any:
    """The sum of what is known; None when nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def message_uid(conversation: str, number: int) -> str:
    """The id of a message on the wire: a UUID that holds the row's number, so it needs no column."""
    return str(uuid.UUID(int=(uuid.UUID(conversation).int >> 64 << 64) | (1 << 63) | number))


def message_number(uid: str) -> int:
    """The row's number in an id made by `message_uid`."""
    return uuid.UUID(uid).int & ((1 << 62) - 1)


def _message_answer(conversation: str, number: int, message: dict[str, Any], status: str) -> dict[str, Any]:
    answer = {
        "messageId": message_uid(conversation, number),
        "messageType": columns.message_type(message),
        "status": status,
    }
    if external := message.get("externalMessageId"):
        answer["externalMessageId"] = external
    return answer


def _answer(uid: str, messages: list[dict[str, Any]], lineage: str, components: list[str]) -> dict[str, Any]:
    return {
        "success": True,
        "conversationId": uid,
        "messages": messages,
        "systemPromptPromptId": lineage,
        "systemPromptComponentIds": components,
    }


def _act(db: sqlite3.Connection, endpoint: str, body: dict[str, Any], key: str | None, now: int) -> dict[str, Any]:
    known = db.execute("SELECT * FROM actions WHERE endpoint = ? AND key = ?", (endpoint, key)).fetchone()
    if known is None:
        values = (endpoint, key, str(uuid.uuid4()), _named(db, body), now, now, _json(body))
        db.execute(
            "INSERT INTO actions (endpoint, key, uid, conversation, created_at, updated_at, body)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            values,
        )
        return {"id": values[2], "body": body, "created_at": now, "updated_at": now}
    told = json.loads(known["body"])
    if endpoint in ("users", "organizations"):
        told |= body
        db.execute("UPDATE actions SET body = ?, updated_at = ? WHERE id = ?", (_json(told), now, known["id"]))
    return {"id": known["uid"], "body": told, "created_at": known["created_at"], "updated_at": now}


def _named(db: sqlite3.Connection, body: dict[str, Any]) -> int | None:
    """The conversation that a rating or an event is about; None when it is about none, or not here yet."""
    if uid := body.get("conversationId"):
        row = db.execute("SELECT id FROM conversations WHERE uid = ?", (uid,)).fetchone()
        if row is None:
            raise UnknownConversation(uid)
    elif external := body.get("externalConversationId"):
        row = db.execute("SELECT id FROM conversations WHERE external_id = ?", (external,)).fetchone()
    elif uid := body.get("messageId"):
        row = db.execute("SELECT conversation FROM messages WHERE id = ?", (message_number(uid),)).fetchone()
    elif external := body.get("externalMessageId"):
        row = db.execute("SELECT conversation FROM messages WHERE external_id = ?", (external,)).fetchone()
    else:
        return None
    return int(row[0]) if row else None
