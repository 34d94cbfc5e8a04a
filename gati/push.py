"""Sends the contents of a local store to Greenflash.

Messages are sent in order of arrival, so parents precede their children. Each has an id, so Greenflash skips the ones
that it already received before an interruption. The store keeps the progress per account.
"""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from gati.exporters.base import Exporter, Outcome, Request, Verdict
from gati.pipeline.retry import Policy
from gati.store import message_columns, prompt_versions
from gati.store.store import Store

_WINDOW = 2000
"""Messages that are read at once and grouped by conversation."""

_MOST_MESSAGES = 100
_MOST_BYTES = 900_000
_FIRST = ("users", "organizations")
_LAST = ("ratings", "events")
_CAPITAL = re.compile("([A-Z])")


@dataclass
class PushResult:
    """The outcome of a push. Pushing again continues where this push stopped.

    Attributes:
        delivered: Messages and actions that Greenflash accepted.
        rejected: Messages and actions that Greenflash rejected permanently, by reason.
        left: Messages and actions not sent yet.
        stopped: Why the push stopped early; empty if it completed.
    """

    delivered: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    left: int = 0
    stopped: str = ""


Progress = Callable[[int, int], None]
"""Called with the number of items done and the total."""


def pending(store: Store, exporter: Exporter) -> int:
    """Return the number of messages and actions that a push to this account would send."""
    with store.connections.snapshot() as db:
        return _left(db, exporter.account)


def push_store(
    store: Store,
    exporter: Exporter,
    *,
    product_id: str | None = None,
    on_progress: Progress | None = None,
    attempts: int = 8,
    policy: Policy | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> PushResult:
    """Send everything that was not pushed to the exporter's account before.

    Args:
        store: The local store.
        exporter: The destination, usually the Greenflash exporter. Progress is kept per `exporter.account`.
        product_id: Product of conversations without one.
        on_progress: Called after each request.
        attempts: Attempts per request while the server is unavailable, before the push stops.
        policy: Delays between attempts.
        sleep: Replaces `time.sleep` in tests.
    """
    run = _Push(store, exporter, product_id, on_progress, attempts, policy or Policy(), sleep)
    try:
        run.all()
    except _StopError as stop:
        run.result.stopped = str(stop)
    run.result.left = pending(store, exporter)
    return run.result


class _StopError(Exception):
    """The push cannot continue now."""


class _Push:
    def __init__(
        self,
        store: Store,
        exporter: Exporter,
        product_id: str | None,
        on_progress: Progress | None,
        attempts: int,
        policy: Policy,
        sleep: Callable[[float], None],
    ) -> None:
        self.store, self.exporter, self.product_id = store, exporter, product_id
        self.on_progress, self.attempts, self.policy, self.sleep = on_progress, attempts, policy, sleep
        self.result = PushResult()
        self.total = pending(store, exporter)
        self.done = 0

    def all(self) -> None:
        for endpoint in _FIRST:
            self._actions(endpoint)
        self._messages()
        for endpoint in _LAST:
            self._actions(endpoint)

    def _messages(self) -> None:
        while True:
            with self.store.connections.snapshot() as db:
                rows = db.execute(_MESSAGES, (_position(db, self.exporter.account, "messages"), _WINDOW)).fetchall()
            if not rows:
                return
            for request in _requests(rows, self.product_id):
                self._send(request)
            self._save("messages", rows[-1]["id"])

    def _actions(self, endpoint: str) -> None:
        # Users and organizations can change, so they are sent again after each update.
        order = "updated_at" if endpoint in _FIRST else "id"
        while True:
            with self.store.connections.snapshot() as db:
                rows = db.execute(
                    f"SELECT id, {order} AS place, uid, body FROM actions WHERE endpoint = ? AND {order} > ?"  # noqa: S608  # our own names
                    f" ORDER BY {order} LIMIT 500",
                    (endpoint, _position(db, self.exporter.account, endpoint)),
                ).fetchall()
            if not rows:
                return
            for row in rows:
                self._send(_action_request(endpoint, row, self.product_id))
                self._save(endpoint, row["place"])

    def _send(self, request: Request) -> None:
        """Send a request until it is accepted or rejected, split in halves if asked for. Raises _StopError."""
        waiting = [request]
        while waiting:
            part = waiting.pop(0)
            outcome = self._attempts(part)
            halves = self.exporter.split(part) if outcome.verdict is Verdict.SPLIT else None
            if halves is not None:
                waiting[:0] = halves
                continue
            if outcome.verdict is Verdict.OK:
                self.result.delivered += part.items
            else:
                self.result.rejected[outcome.reason] += part.items
            self.done += part.items
            if self.on_progress is not None:
                self.on_progress(self.done, max(self.total, self.done))

    def _attempts(self, request: Request) -> Outcome:
        for attempt in range(1, self.attempts + 1):
            outcome = self.exporter.send(request)
            if outcome.verdict is Verdict.PAUSE:
                raise _StopError(outcome.reason)
            if outcome.verdict is not Verdict.RETRY:
                return outcome
            if attempt < self.attempts:
                self.sleep(self.policy.delay(attempt, outcome.retry_after))
        raise _StopError(outcome.reason)

    def _save(self, kind: str, position: int) -> None:
        with self.store.connections.writing() as db:
            db.execute(
                "INSERT INTO pushes VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET position = excluded.position",
                (self.exporter.account, kind, position),
            )


_MESSAGES = """
SELECT m.id, m.at, m.body, m.call, c.uid, c.product, c.external_id, c.user, k.envelope, v.body AS prompt
FROM messages m JOIN conversations c ON c.id = m.conversation JOIN calls k ON k.id = m.call
LEFT JOIN prompt_versions v ON v.id = k.version
WHERE m.id > ? ORDER BY m.id LIMIT ?
"""


def _left(db: sqlite3.Connection, account: str) -> int:
    left = db.execute("SELECT count(*) FROM messages WHERE id > ?", (_position(db, account, "messages"),)).fetchone()[0]
    for endpoint in (*_FIRST, *_LAST):
        order = "updated_at" if endpoint in _FIRST else "id"
        left += db.execute(
            f"SELECT count(*) FROM actions WHERE endpoint = ? AND {order} > ?",  # noqa: S608  # our own names
            (endpoint, _position(db, account, endpoint)),
        ).fetchone()[0]
    return int(left)


def _position(db: sqlite3.Connection, account: str, kind: str) -> int:
    row = db.execute("SELECT position FROM pushes WHERE account = ? AND kind = ?", (account, kind)).fetchone()
    return int(row[0]) if row else 0


def _requests(rows: list[sqlite3.Row], product_id: str | None) -> Iterator[Request]:
    """Yield requests for messages in order of arrival. Messages of one call share a request up to the size limits."""
    groups: dict[str, list[sqlite3.Row]] = {}
    for row in rows:
        groups.setdefault(row["uid"], []).append(row)
    for uid, group in groups.items():
        start, size = 0, 0
        for index, row in enumerate(group):
            size += len(row["body"].encode())
            full = index - start >= _MOST_MESSAGES or size > _MOST_BYTES
            if index > start and (full or row["call"] != group[start]["call"]):
                yield _messages_request(uid, group[start:index], product_id)
                start, size = index, len(row["body"].encode())
        yield _messages_request(uid, group[start:], product_id)


def _messages_request(uid: str, rows: list[sqlite3.Row], product_id: str | None) -> Request:
    first = rows[0]
    envelope = json.loads(first["envelope"])
    call_values = envelope.pop("prompt", {})
    # The store already applied sampling; applying it again would drop conversations.
    envelope.pop("sampleRate", None)
    body = {_snake_case(key): value for key, value in envelope.items()}
    body["external_conversation_id"] = first["external_id"] or uid
    if product := first["product"] or product_id:
        body["product_id"] = product
    if first["prompt"]:
        body["system_prompt"] = prompt_versions.join_prompt(first["prompt"], call_values)
    body["messages"] = [_wire_message(row, uid) for row in rows]
    return Request(ordering_key=uid, body=body, items=len(rows), turn_id=uid)


def _wire_message(row: sqlite3.Row, uid: str) -> dict[str, Any]:
    """Return the message with an id and a time, so that sending it twice has no effect."""
    message: dict[str, Any] = json.loads(row["body"])
    message.setdefault("externalMessageId", message_columns.message_uid(uid, row["id"]))
    message["createdAt"] = message_columns.format_timestamp(row["at"])
    if parent := message.pop("parentMessageId", None):
        # Other servers do not know ids of this store, so refer to the parent by its external id.
        message.setdefault("parentExternalMessageId", parent)
    return message


def _action_request(endpoint: str, row: sqlite3.Row, product_id: str | None) -> Request:
    body = {_snake_case(key): value for key, value in json.loads(row["body"]).items()}
    if endpoint in _LAST and product_id:
        body.setdefault("product_id", product_id)
    if endpoint == "events":
        body.setdefault("insert_id", row["uid"])
    return Request(ordering_key=endpoint, body=body, items=1, turn_id=row["uid"], endpoint=endpoint)


def _snake_case(name: str) -> str:
    return _CAPITAL.sub(lambda match: "_" + match[1].lower(), name)
