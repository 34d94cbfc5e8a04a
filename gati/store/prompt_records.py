"""Managed prompts in the store, in the form of Greenflash's prompts API.

A version of a prompt is what the API calls a prompt: it has an id and never changes. A version that a program's messages
brought is recovered; one that was created through the API is managed. One version of a prompt may be active. Only a
person activates a version, in the studio.
"""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from typing import Any

from gati.store import prompt_versions
from gati.store.message_columns import format_timestamp
from gati.store.prompt_versions import component_texts, fill_placeholders_in, version_text
from gati.store.store import Store

_COLUMNS = (
    "v.id, v.uid, v.number, v.body, v.first_at, v.managed, v.active, v.archived_at, v.digest, p.id AS prompt,"
    " p.uid AS prompt_uid, p.name, p.product, p.title, p.description, p.role"
)
_FROM = "FROM prompt_versions v JOIN prompts p ON p.id = v.prompt"
_CURRENT_FIRST = "ORDER BY v.active DESC, v.managed DESC, v.number DESC"
"""The active version first, else the newest managed one, else the newest."""


class ActiveVersionError(ValueError):
    """An active version cannot be archived."""


def read_prompt(store: Store, prompt_id: str, variables: dict[str, str] | None = None) -> dict[str, Any] | None:
    """Return the response of ``GET /prompts/{id}``; None if it does not exist.

    Args:
        store: The store.
        prompt_id: Id of a version; or the external id of a prompt, for its active version, else its newest one.
        variables: Values for the placeholders in `composedPrompt`.
    """
    with store.connections.reading() as db:
        row = _find(db, prompt_id)
        if row is None:
            return None
        return {
            "prompt": _full_record(row),
            "composedPrompt": fill_placeholders_in(version_text(row["body"]), variables or {}),
        }


def list_records(
    store: Store,
    *,
    active_only: bool = False,
    include_archived: bool = False,
    product: str | None = None,
    version_id: str | None = None,
    limit: int = 50,
    offset: int = 0,
) -> list[dict[str, Any]]:
    """Return the response of ``GET /prompts``: every version with its component ids, newest first."""
    conditions = ["1 = 1"]
    values: list[Any] = []
    if active_only:
        conditions.append("v.active = 1")
    if not include_archived:
        conditions.append("v.archived_at IS NULL")
    if product is not None:
        conditions.append("p.product IN ('', ?)")
        values.append(product)
    if version_id is not None:
        conditions.append("v.uid = ?")
        values.append(version_id)
    query = f"SELECT {_COLUMNS} {_FROM} WHERE {' AND '.join(conditions)} ORDER BY v.id DESC LIMIT ? OFFSET ?"  # our own names
    with store.connections.reading() as db:
        rows = db.execute(query, (*values, limit, offset)).fetchall()
    return [_slim_record(row) for row in rows]


def create_prompt(store: Store, body: dict[str, Any]) -> dict[str, Any]:
    """Store a prompt with a version that is not active. Return the response of ``POST /prompts``."""

    def create(db: sqlite3.Connection) -> dict[str, Any]:
        product = body.get("productId") or ""
        name = body.get("externalPromptId") or body["name"]
        prompt = prompt_versions.find_or_create_prompt(db, product, name, named=True)
        details = {"title": body["name"], "description": body.get("description"), "role": body.get("role")}
        _update_details(db, prompt, details)
        version = _add_version(db, prompt, name, body["components"])
        return _creation_response(db, version)

    response: dict[str, Any] = store.transaction(create)
    return response


def update_prompt(store: Store, prompt_id: str, body: dict[str, Any]) -> dict[str, Any] | None:
    """Store a new version, if `body` has components, and change other properties in place; None if it does not exist.

    Returns the response of ``PUT /prompts/{id}``.
    """

    def update(db: sqlite3.Connection) -> dict[str, Any] | None:
        row = _find(db, prompt_id)
        if row is None:
            return None
        details = {"title": body.get("name"), "description": body.get("description"), "role": body.get("role")}
        _update_details(db, row["prompt"], details)
        if not body.get("components"):
            return {"promptId": row["uid"], "versionId": None, "externalPromptId": row["name"]}
        version = _add_version(db, row["prompt"], row["name"], body["components"])
        response = _creation_response(db, version)
        return {key: response[key] for key in ("promptId", "versionId", "externalPromptId")}

    response: dict[str, Any] | None = store.transaction(update)
    return response


def archive_prompt(store: Store, prompt_id: str) -> dict[str, Any] | None:
    """Archive a version. Return the response of ``DELETE /prompts/{id}``; None if it does not exist.

    Raises:
        ActiveVersionError: The version is active.
    """

    def archive(db: sqlite3.Connection) -> dict[str, Any] | None:
        row = _find(db, prompt_id)
        if row is None:
            return None
        if row["active"]:
            raise ActiveVersionError("an active prompt cannot be archived")
        now = time.time_ns() // 1000
        db.execute("UPDATE prompt_versions SET archived_at = ? WHERE id = ?", (now, row["id"]))
        return {"promptId": row["uid"], "archivedAt": format_timestamp(now), "externalPromptId": row["name"]}

    response: dict[str, Any] | None = store.transaction(archive)
    return response


def activate_version(store: Store, version_uid: str) -> bool:
    """Make a version the active one of its prompt; False if it does not exist or is archived."""

    def activate(db: sqlite3.Connection) -> bool:
        row = db.execute(
            "SELECT prompt FROM prompt_versions WHERE uid = ? AND archived_at IS NULL", (version_uid,)
        ).fetchone()
        if row is None:
            return False
        db.execute(
            "UPDATE prompt_versions SET active = CASE WHEN uid = ? THEN 1 ELSE 0 END WHERE prompt = ?",
            (version_uid, row["prompt"]),
        )
        return True

    return bool(store.transaction(activate))


def _find(db: sqlite3.Connection, prompt_id: str) -> sqlite3.Row | None:
    """Return the version with this id, else the current version of the prompt with this name or id."""
    query = f"SELECT {_COLUMNS} {_FROM} WHERE v.uid = ?"  # our own names
    if (row := db.execute(query, (prompt_id.lower(),)).fetchone()) is not None:
        return row  # type: ignore[no-any-return]  # sqlite3 is typed loosely
    query = f"SELECT {_COLUMNS} {_FROM} WHERE (p.name = ? OR p.uid = ?) AND v.archived_at IS NULL {_CURRENT_FIRST} LIMIT 1"  # our own names
    return db.execute(query, (prompt_id, prompt_id.lower())).fetchone()  # type: ignore[no-any-return]  # as above


def _add_version(db: sqlite3.Connection, prompt: int, name: str, components: list[dict[str, Any]]) -> int:
    now = time.time_ns() // 1000
    body = {"components": components, "externalPromptId": name}
    version = prompt_versions.find_version(db, prompt, body)
    if version is None:
        version = prompt_versions.add_version(db, prompt, prompt_versions.split_prompt(body)[0], now, now)
    db.execute("UPDATE prompt_versions SET managed = 1, archived_at = NULL WHERE id = ?", (version,))
    return version


def _update_details(db: sqlite3.Connection, prompt: int, details: dict[str, Any]) -> None:
    for column, value in details.items():
        if value is not None:
            db.execute(f"UPDATE prompts SET {column} = ? WHERE id = ?", (value, prompt))  # noqa: S608  # our own names


def _creation_response(db: sqlite3.Connection, version: int) -> dict[str, Any]:
    row = db.execute(f"SELECT {_COLUMNS} {_FROM} WHERE v.id = ?", (version,)).fetchone()  # our own names
    return {
        "promptId": row["uid"], "versionId": row["uid"], "componentIds": _component_ids(row),
        "externalPromptId": row["name"],
    }  # fmt: skip


def _component_ids(row: sqlite3.Row) -> list[str]:
    return [str(uuid.uuid5(uuid.UUID(row["uid"]), str(i))) for i, _ in enumerate(component_texts(row["body"]))]


def _full_record(row: sqlite3.Row) -> dict[str, Any]:
    at = format_timestamp(row["first_at"])
    body = json.loads(row["body"])
    parts = (
        [{"content": body}]
        if isinstance(body, str)
        else body.get("components") or [{"content": body.get("content", "")}]
    )
    components = [
        {
            "source": "customer", "type": "system", "isDynamic": False, **part, "id": uid, "createdAt": at,
            "updatedAt": at,
        }
        for part, uid in zip(parts, _component_ids(row), strict=True)
    ]  # fmt: skip
    return {**_common(row), "components": components, "description": row["description"], "source": "customer"}


def _slim_record(row: sqlite3.Row) -> dict[str, Any]:
    return {**_common(row), "components": [{"id": uid} for uid in _component_ids(row)], "versionId": row["uid"]}


def _common(row: sqlite3.Row) -> dict[str, Any]:
    at = format_timestamp(row["first_at"])
    archived = row["archived_at"]
    return {
        "id": row["uid"], "externalPromptId": row["name"], "name": row["title"] or row["name"],
        "productId": row["product"] or None, "createdAt": at, "updatedAt": at,
        "archivedAt": None if archived is None else format_timestamp(archived),
    }  # fmt: skip
