"""Reads the items of a push from the store and encodes them as requests.

The table `pushes` has a position for each account and kind of item: "messages" or an actions' endpoint. Everything
up to the position was delivered or rejected.
"""

from __future__ import annotations

import itertools
import json
import re
import sqlite3
from operator import itemgetter
from typing import Any

from gati.exporters.base import Request
from gati.exporters.packing import pack_items
from gati.store import message_columns, prompt_versions

UPSERTED = ("users", "organizations")
"""Endpoints of actions that update an object. Their position is a time, the others' an id."""

APPENDED = ("ratings", "events")

_WINDOW_MESSAGES = 2000
_WINDOW_ACTIONS = 500
_MAX_MESSAGES = 100
_MAX_BYTES = 900_000
_CAPITAL = re.compile("([A-Z])")

_MESSAGES = """
SELECT m.id, m.at, m.body, m.call, c.uid, c.product, c.external_id, c.user, k.envelope, v.body AS prompt
FROM messages m JOIN conversations c ON c.id = m.conversation JOIN calls k ON k.id = m.call
LEFT JOIN prompt_versions v ON v.id = k.version
WHERE m.id > ? ORDER BY m.id LIMIT ?
"""


def count_pending(db: sqlite3.Connection, account: str) -> int:
    """Return the number of messages and actions after the account's positions."""
    left = db.execute("SELECT count(*) FROM messages WHERE id > ?", (position(db, account, "messages"),)).fetchone()[0]
    for endpoint in (*UPSERTED, *APPENDED):
        order = _order_of(endpoint)
        left += db.execute(
            f"SELECT count(*) FROM actions WHERE endpoint = ? AND {order} > ?",  # noqa: S608  # our own names
            (endpoint, position(db, account, endpoint)),
        ).fetchone()[0]
    return int(left)


def position(db: sqlite3.Connection, account: str, kind: str) -> int:
    """Return the position up to which items of a kind were pushed."""
    row = db.execute("SELECT position FROM pushes WHERE account = ? AND kind = ?", (account, kind)).fetchone()
    return int(row[0]) if row else 0


def _order_of(endpoint: str) -> str:
    # Users and organizations can change, so they are sent again after each update.
    return "updated_at" if endpoint in UPSERTED else "id"


def next_messages(db: sqlite3.Connection, account: str) -> list[sqlite3.Row]:
    """Return the messages of the next window, in order of arrival."""
    return db.execute(_MESSAGES, (position(db, account, "messages"), _WINDOW_MESSAGES)).fetchall()


def next_actions(db: sqlite3.Connection, account: str, endpoint: str) -> list[sqlite3.Row]:
    """Return the actions of the next window, with their positions as `place`. A shared position is never divided."""
    order = _order_of(endpoint)
    where = f"FROM actions WHERE endpoint = :endpoint AND {order} > :position"
    return db.execute(
        f"SELECT id, {order} AS place, uid, body {where}"  # noqa: S608  # our own names
        f" AND {order} <= (SELECT max(place) FROM (SELECT {order} AS place {where} ORDER BY {order} LIMIT :limit) w)"
        f" ORDER BY {order}",
        {"endpoint": endpoint, "position": position(db, account, endpoint), "limit": _WINDOW_ACTIONS},
    ).fetchall()


def save_position(db: sqlite3.Connection, account: str, kind: str, reached: int) -> None:
    """Save a position, unless a later one was saved before."""
    db.execute(
        "INSERT INTO pushes VALUES (?, ?, ?) ON CONFLICT (account, kind)"
        " DO UPDATE SET position = max(pushes.position, excluded.position)",
        (account, kind, reached),
    )


def group_messages(rows: list[sqlite3.Row]) -> list[list[sqlite3.Row]]:
    """Group messages, in order of arrival, as requests: by conversation, then by call, up to the size limits."""
    conversations: dict[str, list[sqlite3.Row]] = {}
    for row in rows:
        conversations.setdefault(row["uid"], []).append(row)
    groups: list[list[sqlite3.Row]] = []
    for conversation in conversations.values():
        for _, call in itertools.groupby(conversation, itemgetter("call")):
            sized = [(row, len(row["body"].encode())) for row in call]
            groups += [group for group, _ in pack_items(sized, _MAX_MESSAGES, _MAX_BYTES)]
    return groups


def request_id(group: list[sqlite3.Row]) -> str:
    """Return a unique id for a group's request, which the halves of the request keep."""
    return str(group[0]["id"])


def stored_messages_request(rows: list[sqlite3.Row], product_id: str | None) -> Request:
    """Return the request for messages of one call."""
    first = rows[0]
    uid = first["uid"]
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
    return Request(ordering_key=uid, body=body, items=len(rows), turn_id=request_id(rows))


def _wire_message(row: sqlite3.Row, uid: str) -> dict[str, Any]:
    """Return the message with an id and a time, so that sending it twice has no effect."""
    message: dict[str, Any] = json.loads(row["body"])
    message.setdefault("externalMessageId", message_columns.message_uid(uid, row["id"]))
    message["createdAt"] = message_columns.format_timestamp(row["at"])
    if parent := message.pop("parentMessageId", None):
        # Other servers do not know ids of this store, so refer to the parent by its external id.
        message.setdefault("parentExternalMessageId", parent)
    return message


def stored_action_request(endpoint: str, row: sqlite3.Row, product_id: str | None) -> Request:
    """Return the request for a user, an organization, a rating or a product event."""
    body = {_snake_case(key): value for key, value in json.loads(row["body"]).items()}
    if endpoint in APPENDED and product_id:
        body.setdefault("product_id", product_id)
    if endpoint == "events":
        body.setdefault("insert_id", row["uid"])
    return Request(ordering_key=endpoint, body=body, items=1, turn_id=request_id([row]), endpoint=endpoint)


def _snake_case(name: str) -> str:
    return _CAPITAL.sub(lambda match: "_" + match[1].lower(), name)
