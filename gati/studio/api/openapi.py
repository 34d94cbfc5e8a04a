"""The API's OpenAPI document (`/openapi.json`), generated from the schemas that validate requests. Pure."""

from __future__ import annotations

import copy
from typing import Any

from gati.studio.api import events_api, validation

_ERROR = {
    "type": "object",
    "required": ["success", "error", "message"],
    "properties": {"success": {"const": False}, "error": {"type": "string"}, "message": {"type": "string"}},
}
_DETAIL = {"type": "object", "required": ["detail"]}
_SUMMARIES = {
    "messages": "Store messages of a conversation",
    "users": "Create or update a user",
    "organizations": "Create or update an organization",
    "ratings": "Log a rating of a conversation or a message",
    "events": "Log an event",
    "prompts": "Create a prompt, whose version is not activated",
}
_PAGING = [
    {"name": name, "in": "query", "schema": {"type": "integer", "minimum": 0 if name == "offset" else 1}}
    for name in ("limit", "page", "offset")
]


def build_openapi(*, keys: bool) -> dict[str, Any]:
    """Return the OpenAPI document. `keys`: requests need an API key."""
    paths: dict[str, Any] = {}
    created = ("promptId", "versionId", "componentIds")
    response_schemas = {
        "messages": validation.response_schema(),
        "prompts": {"type": "object", "required": list(created)},
    }
    schemas = dict(validation.request_schemas())
    update_schema = schemas.pop("prompts/{id}")
    for name, schema in schemas.items():
        success = response_schemas.get(name, {"type": "object", "required": ["success"]})
        paths[f"/api/v1/{name}"] = {"post": _post_operation(_SUMMARIES[name], schema, success, keys)}
    for name in ("products", "interactions", "users", "organizations"):
        items = {"type": "array", "items": {"type": "object", "required": ["id"]}}
        operation = {
            "summary": f"List {name}",
            "parameters": _PAGING,
            "responses": _responses(200, items, keys, (400,)),
        }
        paths.setdefault(f"/api/v1/{name}", {})["get"] = operation
    uid = {"name": "uid", "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}}
    paths["/api/v1/interactions/{uid}"] = {
        "get": {
            "summary": "Get a conversation with its messages",
            "parameters": [uid],
            "responses": _responses(200, {"type": "object", "required": ["id", "messages"]}, keys, (404,)),
        }
    }
    paths["/api/v1/prompts"]["get"] = _prompt_list_operation(keys)
    paths["/api/v1/prompts/{uid}"] = _prompt_operations(update_schema, keys)
    events = _post_operation("Store events of a GATI SDK", events_api.events_schema(), {"type": "object"}, keys)
    events["responses"] |= {
        "422": _json_response("Invalid events", _DETAIL),
        "500": _json_response("Conflicting run names", _DETAIL),
    }
    paths["/api/events"] = {"post": events}
    return {
        "openapi": "3.1.0",
        "info": {"title": "gati studio: a local Greenflash", "version": "1"},
        "paths": paths,
        "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}} if keys else {},
    }


def _prompt_list_operation(keys: bool) -> dict[str, Any]:
    texts = [{"name": name, "in": "query", "schema": {"type": "string"}} for name in ("productId", "versionId")]
    flags = [{"name": name, "in": "query", "schema": {"type": "boolean"}} for name in ("activeOnly", "includeArchived")]
    sizes = [
        {"name": name, "in": "query", "schema": {"type": "integer", "minimum": 1}}
        for name in ("limit", "page", "pageSize")
    ]
    items = {"type": "array", "items": {"type": "object", "required": ["id", "components", "versionId"]}}
    return {
        "summary": "List the versions of all prompts, without their texts",
        "parameters": [*sizes, *texts, *flags],
        "responses": _responses(200, items, keys, (400,)),
    }


def _prompt_operations(update_schema: dict[str, Any], keys: bool) -> dict[str, Any]:
    prompt = {"type": "object", "required": ["prompt", "composedPrompt"]}
    update = _post_operation("Create a version of a prompt", update_schema, {"type": "object"}, keys)
    update["responses"] = _responses(200, {"type": "object", "required": ["promptId"]}, keys, (400, 404, 413))
    archived = {"type": "object", "required": ["promptId", "archivedAt"]}
    return {
        "parameters": [{"name": "uid", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}],
        "get": {
            "summary": "Get a prompt by its id or external id; query parameters fill its placeholders",
            "responses": _responses(200, prompt, keys, (404,)),
        },
        "put": update,
        "delete": {"summary": "Archive a version", "responses": _responses(200, archived, keys, (400, 404))},
    }


def _post_operation(summary: str, schema: dict[str, Any], success: dict[str, Any], keys: bool) -> dict[str, Any]:
    # An OpenAPI 3.1 document defines the schema dialect, so `$schema` does not belong here.
    request = copy.deepcopy(schema)
    request.pop("$schema", None)
    if messages := request["properties"].get("messages"):
        messages["items"]["properties"]["createdAt"]["format"] = "date-time"
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": request}}},
        "responses": _responses(201, success, keys, (400, 404, 413)),
    }


def _responses(status: int, success: dict[str, Any], keys: bool, errors: tuple[int, ...]) -> dict[str, Any]:
    responses = {str(status): _json_response("Success", success)}
    for error in (*errors, *((401,) if keys else ()), 403):
        responses[str(error)] = _json_response("Error", _ERROR)
    return responses


def _json_response(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
