"""What the local Greenflash answers beside `POST /messages`: bodies in the shapes of its SDK."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

from gati.studio import actions, columns

if TYPE_CHECKING:
    from gati.studio.store import Store

_ROLES = {"user_message": "user", "assistant_message": "assistant", "system_message": "system"}
_READ_BACK = (*_ROLES, "tool_call", "observation", "final_response")


def act(store: Store, endpoint: str, body: dict[str, Any]) -> dict[str, Any]:
    """Keep a user, organization, rating or event; the answer is that of the SDK's create or log call."""
    return _told(endpoint, store.act(endpoint, body))


def update(store: Store, endpoint: str, uid: str, body: dict[str, Any]) -> dict[str, Any] | None:
    """Change a user or an organization by Greenflash's id; None when there is no such one."""
    with store.connections.reading() as db:
        row = db.execute("SELECT key FROM actions WHERE uid = ? AND endpoint = ?", (uid, endpoint)).fetchone()
    if row is None:
        return None
    return _told(endpoint, store.act(endpoint, {**body, actions.KEYS[endpoint]: row["key"]}))


def _told(endpoint: str, known: dict[str, Any]) -> dict[str, Any]:
    if endpoint == "users":
        return {"success": True, "participant": _participant(known)}
    if endpoint == "organizations":
        return {"success": True, "organization": _organization(known)}
    return {"success": True} if endpoint == "ratings" else {"success": True, "eventId": known["id"]}


def _participant(known: dict[str, Any]) -> dict[str, Any]:
    body = known["body"]
    shown = {key: body[key] for key in ("email", "name", "phone", "externalOrganizationId") if key in body}
    return {
        "id": known["id"], "externalId": body["externalUserId"], "anonymized": body.get("anonymized", False),
        "properties": body.get("properties", {}), "createdAt": columns.iso(known["created_at"]),
        "updatedAt": columns.iso(known["updated_at"]), **shown,
    }  # fmt: skip


def _organization(known: dict[str, Any]) -> dict[str, Any]:
    body = known["body"]
    shown = {"name": body["name"]} if "name" in body else {}
    return {
        "id": known["id"], "externalId": body["externalOrganizationId"], "properties": body.get("properties", {}),
        "createdAt": columns.iso(known["created_at"]), "updatedAt": columns.iso(known["updated_at"]), **shown,
    }  # fmt: skip


def _actions(store: Store, endpoint: str, limit: int, offset: int) -> list[dict[str, Any]]:
    with store.connections.reading() as db:
        rows = db.execute(
            "SELECT * FROM actions WHERE endpoint = ? ORDER BY id DESC LIMIT ? OFFSET ?", (endpoint, limit, offset)
        ).fetchall()
    return [{**row, "id": row["uid"], "body": json.loads(row["body"])} for row in map(dict, rows)]


def users(store: Store, limit: int, offset: int, _: str | None) -> list[dict[str, Any]]:
    """`GET /users`."""
    return [_participant(known) for known in _actions(store, "users", limit, offset)]


def organizations(store: Store, limit: int, offset: int, _: str | None) -> list[dict[str, Any]]:
    """`GET /organizations`."""
    return [_organization(known) for known in _actions(store, "organizations", limit, offset)]


def products(store: Store, limit: int, offset: int, _: str | None) -> list[dict[str, Any]]:
    """`GET /products`: those that conversations named, and a default one so that the list is never empty."""
    with store.connections.reading() as db:
        named = [row[0] for row in db.execute("SELECT DISTINCT product FROM conversations WHERE product != ''")]
    ids = named or [str(uuid.uuid5(uuid.NAMESPACE_URL, "gati/studio"))]
    since = columns.iso(0)
    return [{"id": uid, "name": f"local {uid[:8]}", "createdAt": since, "updatedAt": since} for uid in ids][
        offset : offset + limit
    ]


def interactions(store: Store, limit: int, offset: int, product: str | None) -> list[dict[str, Any]]:
    """`GET /interactions`: conversations, newest first."""
    with store.connections.reading() as db:
        rows = db.execute(
            "SELECT * FROM conversations WHERE ? IS NULL OR product = ? ORDER BY last_at DESC, id DESC LIMIT ? OFFSET ?",
            (product, product, limit, offset),
        ).fetchall()
    return [_interaction(dict(row)) for row in rows]


def interaction(store: Store, uid: str) -> dict[str, Any] | None:
    """`GET /interactions/{id}`: one conversation with what was said and done; None when there is none."""
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
            "timestamp": columns.iso(at),
        }
        for kind, at, body in rows
        if kind in _READ_BACK
    ]
    who = {"id": _participant_id(row["user"]), "externalId": row["user"]}
    return {**_interaction(dict(row)), "messages": messages, "participant": who}


def _interaction(row: dict[str, Any]) -> dict[str, Any]:
    shown = {
        "externalId": row["external_id"],
        "organizationExternalId": row["organization"],
        "properties": json.loads(row["properties"]) if row["properties"] else None,
    }
    return {
        "id": row["uid"], "createdAt": columns.iso(row["first_at"]), "updatedAt": columns.iso(row["last_at"]),
        "externalParticipantId": row["user"], "participantId": _participant_id(row["user"]),
        "productId": row["product"], "versionId": str(uuid.uuid5(uuid.NAMESPACE_URL, row["product"])),
        **{key: value for key, value in shown.items() if value is not None},
    }  # fmt: skip


def _participant_id(user: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"gati/users/{user}"))


def known_messages(store: Store, body: dict[str, Any]) -> set[str]:
    """External ids of the messages that the conversation of a request has already."""
    with store.connections.reading() as db:
        rows = db.execute(
            "SELECT m.external_id FROM messages m JOIN conversations c ON c.id = m.conversation"
            " WHERE (c.product = ? AND c.external_id = ?) OR c.uid = ?",
            (body.get("productId") or "", body.get("externalConversationId"), body.get("conversationId")),
        ).fetchall()
    return {row[0] for row in rows if row[0] is not None}


LISTS = {"products": products, "interactions": interactions, "users": users, "organizations": organizations}
