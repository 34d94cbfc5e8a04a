"""Sends a local store to Greenflash later: resumable, each message once.

Messages go in the order of their arrival, so that parents come before children; every one has
an id, so that what was sent when a push was interrupted is recognised and skipped. How far a
push got is kept in the store, for each account.
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
from gati.studio import columns, prompts
from gati.studio.store import Store

_WINDOW = 2000
"""Messages that are read at once and grouped by conversation."""

_MOST_MESSAGES = 100
_MOST_BYTES = 900_000
_FIRST = ("users", "organizations")
_LAST = ("ratings", "events")
_CAPITAL = re.compile("([A-Z])")


@dataclass
class Result:
    """What became of a push. It can be run again at any time and goes on where it stopped.

    Attributes:
        delivered: messages and actions that Greenflash has taken.
        rejected: refused for good, by reason.
        left: not sent yet.
        stopped: why it ended early; empty when it came to the end.
    """

    delivered: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    left: int = 0
    stopped: str = ""


Progress = Callable[[int, int], None]
"""Told how many of how many are done."""


def pending(store: Store, exporter: Exporter) -> int:
    """How many messages and actions a push to this account would send."""
    with store.connections.snapshot() as db:
        return _left(db, exporter.account)


def push(
    store: Store,
    exporter: Exporter,
    *,
    product_id: str | None = None,
    on_progress: Progress | None = None,
    attempts: int = 8,
    policy: Policy | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Result:
    """Send what the account does not have yet.

    Args:
        store: the local store.
        exporter: the destination, in use the Greenflash exporter; its `account` says whose progress this is.
        product_id: product of conversations that name none.
        on_progress: told after each request.
        attempts: how often a request is tried while the server is away, before the push stops.
        policy: waits between attempts.
        sleep: waits; for tests.
    """
    run = _Push(store, exporter, product_id, on_progress, attempts, policy or Policy(), sleep)
    try:
        run.all()
    except _StopError as stop:
        run.result.stopped = str(stop)
    run.result.left = pending(store, exporter)
    return run.result


class _StopError(Exception):
    """The push cannot go on now."""


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
        self.result = Result()
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
        # Users and organizations change: what was told of them again goes again.
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
                self._send(_action(endpoint, row, self.product_id))
                self._save(endpoint, row["place"])

    def _send(self, request: Request) -> None:
        """Send a request until it is taken or refused; one with a bad message in halves. Raises _StopError."""
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
    """Requests for messages in order of arrival; those of one call share one as far as it goes."""
    groups: dict[str, list[sqlite3.Row]] = {}
    for row in rows:
        groups.setdefault(row["uid"], []).append(row)
    for uid, group in groups.items():
        start, size = 0, 0
        for index, row in enumerate(group):
            size += len(row["body"].encode())
            full = index - start >= _MOST_MESSAGES or size > _MOST_BYTES
            if index > start and (full or row["call"] != group[start]["call"]):
                yield _request(uid, group[start:index], product_id)
                start, size = index, len(row["body"].encode())
        yield _request(uid, group[start:], product_id)


def _request(uid: str, rows: list[sqlite3.Row], product_id: str | None) -> Request:
    first = rows[0]
    envelope = json.loads(first["envelope"])
    own = envelope.pop("prompt", {})
    # The store decided on sampling when the conversation came; to decide again would lose some.
    envelope.pop("sampleRate", None)
    body = {_snake(key): value for key, value in envelope.items()}
    body["external_conversation_id"] = first["external_id"] or uid
    if product := first["product"] or product_id:
        body["product_id"] = product
    if first["prompt"]:
        body["system_prompt"] = prompts.put_together(first["prompt"], own)
    body["messages"] = [_message(row, uid) for row in rows]
    return Request(ordering_key=uid, body=body, items=len(rows), turn_id=uid)


def _message(row: sqlite3.Row, uid: str) -> dict[str, Any]:
    """The message with what makes a resend harmless: an id and a time of its own."""
    message: dict[str, Any] = json.loads(row["body"])
    message.setdefault("externalMessageId", columns.message_uid(uid, row["id"]))
    message["createdAt"] = columns.iso(row["at"])
    if parent := message.pop("parentMessageId", None):
        # An id of this store's means nothing elsewhere; as an external one it does, if that message had no other.
        message.setdefault("parentExternalMessageId", parent)
    return message


def _action(endpoint: str, row: sqlite3.Row, product_id: str | None) -> Request:
    body = {_snake(key): value for key, value in json.loads(row["body"]).items()}
    if endpoint in _LAST and product_id:
        body.setdefault("product_id", product_id)
    if endpoint == "events":
        body.setdefault("insert_id", row["uid"])
    return Request(ordering_key=endpoint, body=body, items=1, turn_id=row["uid"], endpoint=endpoint)


def _snake(name: str) -> str:
    return _CAPITAL.sub(lambda found: "_" + found[1].lower(), name)
