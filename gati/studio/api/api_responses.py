"""Responses of the API endpoints other than `POST /messages`, in the shapes that Greenflash's SDK expects."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

from gati.store import actions
from gati.store.message_columns import format_timestamp

if TYPE_CHECKING:
    from gati.store.store import Store

_ROLES = {"user_message": "user", "assistant_message": "assistant", "system_message": "system"}
_READABLE_TYPES = (*_ROLES, "tool_call", "observation", "final_response")


def create_action(store: Store, endpoint: str, body: dict[str, Any]) -> dict[str, Any]:
    """Store a user, organization, rating or event and return the response to its create or log call."""
    return _action_response(endpoint, store.record_action(endpoint, body))


def update_action(store: Store, endpoint: str, uid: str, body: dict[str, Any]) -> dict[str, Any] | None:
    """Update a user or an organization by its Greenflash id; return None if it does not exist."""
    with store.connections.reading() as db:
        row = db.execute("SELECT key FROM actions WHERE uid = ? AND endpoint = ?", (uid, endpoint)).fetchone()
    if row is None:
        return None
    return _action_response(
        endpoint, store.record_action(endpoint, {**body, actions.IDENTITY_KEYS[endpoint]: row["key"]})
    )


def _action_response(endpoint: str, record: dict[str, Any]) -> dict[str, Any]:
    if endpoint == "users":
        return {"success": True, "participant": _participant(record)}
    if endpoint == "organizations":
        return {"success": True, "organization": _organization(record)}
    return {"success": True} if endpoint == "ratings" else {"success": True, "eventId": record["id"]}


def _participant(record: dict[str, Any]) -> dict[str, Any]:
    body = record["body"]
    optional = {key: body[key] for key in ("email", "name", "phone", "externalOrganizationId") if key in body}
    return {
        "id": record["id"], "externalId": body["externalUserId"], "anonymized": body.get("anonymized", False),
        "properties": body.get("properties", {}), "createdAt": format_timestamp(record["created_at"]),
        "updatedAt": format_timestamp(record["updated_at"]), **optional,
    }  # fmt: skip


def _organization(record: dict[str, Any]) -> dict[str, Any]:
    body = record["body"]
    optional = {"name": body["name"]} if "name" in body else {}
    return {
        "id": record["id"], "externalId": body["externalOrganizationId"], "properties": body.get("properties", {}),
        "createdAt": format_timestamp(record["created_at"]), "updatedAt": format_timestamp(record["updated_at"]),
        **optional,
    }  # fmt: skip


def _list_actions(store: Store, endpoint: str, limit: int, offset: int) -> list[dict[str, Any]]:
    with store.connections.reading() as db:
        rows = db.execute(
            "SELECT * FROM actions WHERE endpoint = ? ORDER BY id DESC LIMIT ? OFFSET ?", (endpoint, limit, offset)
        ).fetchall()
    return [{**row, "id": row["uid"], "body": json.loads(row["body"])} for row in map(dict, rows)]


def list_users(store: Store, limit: int, offset: int, _: str | None) -> list[dict[str, Any]]:
    """Return the response of `GET /users`."""
    return [_participant(record) for record in _list_actions(store, "users", limit, offset)]


def list_organizations(store: Store, limit: int, offset: int, _: str | None) -> list[dict[str, Any]]:
    """Return the response of `GET /organizations`."""
    return [_organization(record) for record in _list_actions(store, "organizations", limit, offset)]


def list_products(store: Store, limit: int, offset: int, _: str | None) -> list[dict[str, Any]]:
    """Return the response of `GET /products`: the products of all conversations, or a default one if there are none."""
    with store.connections.reading() as db:
        used = [row[0] for row in db.execute("SELECT DISTINCT product FROM conversations WHERE product != ''")]
    uids = used or [str(uuid.uuid5(uuid.NAMESPACE_URL, "gati/studio"))]
    epoch = format_timestamp(0)
    return [{"id": uid, "name": f"local {uid[:8]}", "createdAt": epoch, "updatedAt": epoch} for uid in uids][
        offset : offset + limit
    ]


def list_interactions(store: Store, limit: int, offset: int, product: str | None) -> list[dict[str, Any]]:
    """Return the response of `GET /interactions`: conversations, newest first."""
    with store.connections.reading() as db:
        rows = db.execute(
            "SELECT * FROM conversations WHERE ? IS NULL OR product = ? ORDER BY last_at DESC, id DESC LIMIT ? OFFSET ?",
            (product, product, limit, offset),
        ).fetchall()
    return [_interaction(dict(row)) for row in rows]


def read_interaction(store: Store, uid: str) -> dict[str, Any] | None:
    """Return the response of `GET /interactions/{id}`: a conversation with its messages; None if there is none."""
    with store.connections.snapshot() as db:
        row = db.execute("SELECT * FROM conversations WHERE uid = ?", (uid,)).fetchone()
        if row is None:
            return None
        rows = db.execute(
            "SELECT type, at, body FROM messages WHERE conversation = ? ORDER BY at, id", (row["id"],)
        ).fetchall()
    messages = [
        {
            "role": _ROLES.get(kind, kind),
            "content": json.loads(body).get("content") or "",
            "timestamp": format_timestamp(at),
        }
        for kind, at, body in rows
        if kind in _READABLE_TYPES
    ]
    participant = {"id": _participant_id(row["user"]), "externalId": row["user"]}
    return {**_interaction(dict(row)), "messages": messages, "participant": participant}


def _interaction(row: dict[str, Any]) -> dict[str, Any]:
    optional = {
        "externalId": row["external_id"],
        "organizationExternalId": row["organization"],
        "properties": json.loads(row["properties"]) if row["properties"] else None,
    }
    return {
        "id": row["uid"], "createdAt": format_timestamp(row["first_at"]), "updatedAt": format_timestamp(row["last_at"]),
        "externalParticipantId": row["user"], "participantId": _participant_id(row["user"]),
        "productId": row["product"], "versionId": str(uuid.uuid5(uuid.NAMESPACE_URL, row["product"])),
        **{key: value for key, value in optional.items() if value is not None},
    }  # fmt: skip


def _participant_id(user: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"gati/users/{user}"))


LISTS = {
    "products": list_products,
    "interactions": list_interactions,
    "users": list_users,
    "organizations": list_organizations,
}
"""The function behind each `GET` endpoint that returns a list."""
