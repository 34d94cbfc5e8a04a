"""The server's own description (`/openapi.json`), made from the schemas by which it judges requests. Pure."""

from __future__ import annotations

import copy
from typing import Any

from gati.studio import backend, validation

_ERROR = {
    "type": "object",
    "required": ["success", "error", "message"],
    "properties": {"success": {"const": False}, "error": {"type": "string"}, "message": {"type": "string"}},
}
_DETAIL = {"type": "object", "required": ["detail"]}
_SUMMARIES = {
    "messages": "Keep messages of a conversation",
    "users": "Create or update a user",
    "organizations": "Create or update an organization",
    "ratings": "Log a rating of a conversation or a message",
    "events": "Log an event",
}
_PAGING = [
    {"name": name, "in": "query", "schema": {"type": "integer", "minimum": 0 if name == "offset" else 1}}
    for name in ("limit", "page", "offset")
]


def document(*, keys: bool) -> dict[str, Any]:
    """The OpenAPI document. `keys`: requests need an API key."""
    paths: dict[str, Any] = {}
    answers = {"messages": validation.response()}
    for name, schema in validation.schemas().items():
        success = answers.get(name, {"type": "object", "required": ["success"]})
        paths[f"/api/v1/{name}"] = {"post": _post(_SUMMARIES[name], schema, success, keys)}
    for name in ("products", "interactions", "users", "organizations"):
        shown = {"type": "array", "items": {"type": "object", "required": ["id"]}}
        listed = {"summary": f"List {name}", "parameters": _PAGING, "responses": _responses(200, shown, keys, (400,))}
        paths.setdefault(f"/api/v1/{name}", {})["get"] = listed
    uid = {"name": "uid", "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}}
    paths["/api/v1/interactions/{uid}"] = {
        "get": {
            "summary": "Read a conversation back",
            "parameters": [uid],
            "responses": _responses(200, {"type": "object", "required": ["id", "messages"]}, keys, (404,)),
        }
    }
    events = _post("Keep events of a GATI SDK", backend.schema(), {"type": "object"}, keys)
    events["responses"] |= {"422": _json("Bad events", _DETAIL), "500": _json("Names in conflict", _DETAIL)}
    paths["/api/events"] = {"post": events}
    return {
        "openapi": "3.1.0",
        "info": {"title": "gati studio: a local Greenflash", "version": "1"},
        "paths": paths,
        "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}} if keys else {},
    }


def _post(summary: str, schema: dict[str, Any], answer: dict[str, Any], keys: bool) -> dict[str, Any]:
    # Inside an OpenAPI 3.1 document the dialect is given by the document.
    plain = copy.deepcopy(schema)
    plain.pop("$schema", None)
    if messages := plain["properties"].get("messages"):
        messages["items"]["properties"]["createdAt"]["format"] = "date-time"
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": plain}}},
        "responses": _responses(201, answer, keys, (400, 404, 413)),
    }


def _responses(success: int, answer: dict[str, Any], keys: bool, errors: tuple[int, ...]) -> dict[str, Any]:
    told = {str(success): _json("Done", answer)}
    for status in (*errors, *((401,) if keys else ()), 403):
        told[str(status)] = _json("Refused", _ERROR)
    return told


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
