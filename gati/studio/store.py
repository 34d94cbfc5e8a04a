"""The embedded store: conversations as Greenflash would take them, in one SQLite file.

The standard library only, so that a program may keep its conversations without any extra.
Reading is in `reading`, the tables in `schema`.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gati.studio import actions, columns, prompts, search, totals
from gati.studio.connections import Connections

DEFAULT_MAX_BYTES = 512 * 1024**2
_ROOM = 0.9
"""After making room this share of the file may be in use, so that room is not made at every request."""


_PARTS = 20
"""A part of the search index covers this fraction of the file in characters; see `search`."""


def default_path() -> Path:
    """Where the store lies unless told otherwise: `gati/studio.db` in the user's data folder."""
    import platformdirs  # only when no path is given

    return Path(platformdirs.user_data_dir("gati", appauthor=False)) / "studio.db"


class TooLargeError(ValueError):
    """A single request that does not fit into an empty store of this size."""


class Store:
    """Conversations, users, ratings and events in one file. Safe from several threads and processes.

    Args:
        path: the file; None for `default_path()`. Made, with its folder, when missing.
        max_bytes: bound of the file and its log; the oldest conversations make room for new ones.
    """

    def __init__(self, path: str | Path | None = None, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self.path = Path(path) if path is not None else default_path()
        self.connections = _open(self.path, max_bytes)
        with self.connections.reading() as db:
            self.has_search = search.exists(db)

    def close(self) -> None:
        """Close the file. A closed store opens it again when it is used."""
        self.connections.close()

    def ingest(self, body: dict[str, Any]) -> dict[str, Any]:
        """Take the body of `POST /messages` and return the body of its answer.

        Messages whose `externalMessageId` the conversation has are skipped. The body must be
        valid (see `validation`). Raises UnknownConversationError, TooLargeError.
        """
        answer: dict[str, Any] = self.transaction(lambda db: self.take(db, body))
        return answer

    def transaction(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        """Do `work` in a transaction; when the file is at its bound, drop the oldest and try again."""
        while True:
            try:
                with self.connections.writing() as db:
                    return work(db)
            except sqlite3.OperationalError as error:  # the loop is about the error
                if "full" not in str(error):
                    raise
                if not self._make_room():
                    raise TooLargeError("the request is larger than the store may be") from error
                self._shrink()

    def take(self, db: sqlite3.Connection, body: dict[str, Any]) -> dict[str, Any]:
        """As `ingest`, inside a `transaction`."""
        now = time.time_ns() // 1000
        row = self._conversation(db, body, now)
        if row is None:  # sampled out
            return _answer(str(uuid.uuid4()), [], "", [])
        conversation, uid = row["id"], row["uid"]
        told = [(message, _time(message, now)) for message in body["messages"]]
        version = prompts.keep(db, body, row["product"], row["agent"], min(at for _, at in told))
        call: int | None = None
        answers: list[dict[str, Any]] = []
        kept: list[totals.Kept] = []
        for message, at in told:
            external = message.get("externalMessageId")
            known = _find(db, conversation, external)
            if known is not None:
                answers.append(_message_answer(uid, known, message, "deduplicated"))
                continue
            if call is None:
                call = prompts.keep_call(db, conversation, version, body)
            number = self._insert(db, (conversation, call), message, at, body)
            kept.append(totals.Kept(number, message, at))
            answers.append(_message_answer(uid, number, message, "created"))
        if kept:
            totals.add(db, row, body, kept)
            search.add(db, [(n, columns.searchable(m)) for n, m, _ in kept], self.connections.file_bytes // _PARTS)
        lineage, components = prompts.ids(db, version)
        return _answer(uid, answers, lineage, components)

    def _insert(
        self, db: sqlite3.Connection, place: tuple[int, int], message: dict[str, Any], at: int, body: dict[str, Any]
    ) -> int:
        facts = columns.numbers(message, body.get("model"))
        values = (
            *place, message.get("externalMessageId"), columns.message_type(message), at,
            columns.agent(message) or columns.agent(body), *facts, columns.compact(message),
        )  # fmt: skip
        cursor = db.execute(
            "INSERT INTO messages (conversation, call, external_id, type, at, agent, model, status, latency_ms,"
            " first_token_ms, tokens_in, tokens_out, cost, body) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            values,
        )
        return int(cursor.lastrowid or 0)

    def _conversation(self, db: sqlite3.Connection, body: dict[str, Any], now: int) -> Any:
        """The conversation's row, made when it is new; None when sampling leaves it out."""
        product, external = body.get("productId") or "", body.get("externalConversationId")
        if uid := body.get("conversationId"):
            row = db.execute("SELECT * FROM conversations WHERE uid = ?", (uid.lower(),)).fetchone()
            if row is None:
                raise actions.UnknownConversationError(uid)
            return row
        if external is not None:
            found = "SELECT * FROM conversations WHERE product = ? AND external_id = ?"
            if row := db.execute(found, (product, external)).fetchone():
                return row
        if not _sampled(body, product, external):
            return None
        db.execute(
            "INSERT INTO conversations (uid, product, external_id, user, organization, first_at, last_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (str(uuid.uuid4()), product, external, body["externalUserId"], body.get("externalOrganizationId"), now, 0),
        )
        return db.execute("SELECT * FROM conversations WHERE id = last_insert_rowid()").fetchone()

    def act(self, endpoint: str, body: dict[str, Any]) -> dict[str, Any]:
        """Keep what was told of a user, an organization, a rating or an event.

        The same user or organization again adds to what is known; an event's `insertId` again is ignored.
        Returns ``{id, body, created_at, updated_at}``. Raises UnknownConversationError for a rating
        or event that names what the store does not have by Greenflash's own id.
        """
        now = time.time_ns() // 1000
        result: dict[str, Any] = self.transaction(lambda db: actions.keep(db, endpoint, body, now))
        return result

    def dropped(self) -> int:
        """How many conversations went to make room for newer ones, since the store was made."""
        with self.connections.reading() as db:
            row = db.execute("SELECT value FROM counters WHERE name = 'dropped'").fetchone()
        return int(row[0]) if row else 0

    def _make_room(self) -> bool:
        """Drop the oldest conversations until a tenth of the file is free; False when nothing is left."""
        freed = False
        while self._drop_some(freed):
            freed = True
        return freed

    def _drop_some(self, freed: bool) -> bool:
        """Drop about a twentieth of the file; False when enough is free already, or nothing is left."""
        with self.connections.making_room() as (db, total):
            if freed and _used_pages(db) <= total * _ROOM:
                return False
            enough = total * db.execute("PRAGMA page_size").fetchone()[0] // 20
            bytes_gone = count = 0
            oldest = db.execute("SELECT id FROM conversations ORDER BY last_at, id LIMIT 10000").fetchall()
            for row in oldest:
                bytes_gone += self._drop(db, row["id"])
                count += 1
                if bytes_gone > enough:
                    break
            _count(db, "dropped", count)
            # Versions that no call uses any more.
            db.execute("DELETE FROM prompt_versions WHERE id NOT IN (SELECT version FROM calls WHERE version NOT NULL)")
            search.tidy(db)
            return count > 0 or _drop_loose(db)

    @staticmethod
    def _drop(db: sqlite3.Connection, conversation: int) -> int:
        """Drop a conversation; returns how many characters it held."""
        held = "SELECT sum(length(body)) FROM messages WHERE conversation = ?"
        length = db.execute(held, (conversation,)).fetchone()[0] or 0
        for table in ("messages", "calls", "facets", "actions", "gati_events"):
            db.execute(f"DELETE FROM {table} WHERE conversation = ?", (conversation,))  # noqa: S608  # our own names
        db.execute("DELETE FROM conversations WHERE id = ?", (conversation,))
        return int(length)

    def _shrink(self) -> None:
        """Give freed pages back to the disk when they are many; a few are kept for what comes next."""
        with self.connections.reading() as db:
            free = db.execute("PRAGMA freelist_count").fetchone()[0]
            if free > 64 and free > _used_pages(db) // 4:
                db.execute(f"PRAGMA incremental_vacuum({free // 2})").fetchall()


def _count(db: sqlite3.Connection, name: str, more: int) -> None:
    db.execute(
        "INSERT INTO counters VALUES (?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value", (name, more)
    )


def _drop_loose(db: sqlite3.Connection) -> bool:
    """Drop the oldest of what belongs to no conversation; False when there is none."""
    oldest = "(SELECT id FROM {0} ORDER BY id LIMIT 1 + (SELECT count(*) FROM {0}) / 10)"
    gone = 0
    for table in ("actions", "gati_events"):
        gone += db.execute(f"DELETE FROM {table} WHERE id IN " + oldest.format(table)).rowcount  # noqa: S608  # our names
    gone += db.execute("DELETE FROM gati_runs WHERE run_id NOT IN (SELECT run_id FROM gati_events)").rowcount
    return gone > 0


def _used_pages(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA page_count").fetchone()[0] - db.execute("PRAGMA freelist_count").fetchone()[0])


def _open(path: Path, max_bytes: int) -> Connections:
    """The store's connections. A file that is damaged, or none of ours, is put aside and a new one begun."""
    try:
        return Connections(path, max_bytes)
    except sqlite3.OperationalError:  # busy, full or not to be written: not damaged
        raise
    except sqlite3.DatabaseError:
        for part in ("", "-wal", "-shm"):
            file = path.with_name(path.name + part)
            if file.exists():
                file.replace(file.with_name(f"{file.name}.damaged-{time.time_ns()}"))
        return Connections(path, max_bytes)


def _find(db: sqlite3.Connection, conversation: int, external: str | None) -> int | None:
    if external is None:
        return None
    row = db.execute(
        "SELECT id FROM messages WHERE conversation = ? AND external_id = ?", (conversation, external)
    ).fetchone()
    return row and int(row["id"])


def _time(message: dict[str, Any], now: int) -> int:
    created = message.get("createdAt")
    return columns.microseconds(created) if created else now


def _sampled(body: dict[str, Any], product: str, external: str | None) -> bool:
    """One decision for a whole conversation, made of its id: at every request the same."""
    rate = body.get("sampleRate")
    if rate is None or body.get("forceSample"):
        return True
    digest = hashlib.sha256(f"{product}\n{external or uuid.uuid4()}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < float(rate)


def _message_answer(conversation: str, number: int, message: dict[str, Any], status: str) -> dict[str, Any]:
    answer = {
        "messageId": columns.message_uid(conversation, number),
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
