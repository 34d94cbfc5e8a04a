"""Validates request bodies against JSON Schemas, as strictly as a server may.

`messages.schema.json` describes `POST /messages`; `actions.schema.json` describes users, organizations, ratings and
events. `prompts.schema.json` describes `POST /prompts`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import jsonschema
from jsonschema import Draft202012Validator

from gati.store import message_columns

_FOLDER = Path(__file__).parent


@lru_cache(maxsize=1)
def request_schemas() -> dict[str, dict[str, Any]]:
    """Return the schema of each endpoint's request body by the endpoint's name."""
    messages = json.loads((_FOLDER / "messages.schema.json").read_text("utf-8"))
    actions: dict[str, dict[str, Any]] = json.loads((_FOLDER / "actions.schema.json").read_text("utf-8"))
    create = json.loads((_FOLDER / "prompts.schema.json").read_text("utf-8"))["create"]
    update = {**create, "required": []}
    return {"messages": messages["request"], **actions, "prompts": create, "prompts/{id}": update}


def response_schema() -> dict[str, Any]:
    """Return the schema of the response to `POST /messages`."""
    messages: dict[str, dict[str, Any]] = json.loads((_FOLDER / "messages.schema.json").read_text("utf-8"))
    return messages["response"]


@lru_cache(maxsize=8)
def _validator(endpoint: str) -> Draft202012Validator:
    return Draft202012Validator(request_schemas()[endpoint], format_checker=_format_checker())


def _format_checker() -> jsonschema.FormatChecker:
    checker = jsonschema.FormatChecker(formats=["uuid"])
    checker.checks("date-time", raises=ValueError)(_check_date_time)
    return checker


def _check_date_time(value: object) -> bool:
    """Raise ValueError for a string that is not a time; formats do not apply to other types."""
    return not isinstance(value, str) or bool(message_columns.parse_timestamp(value)) or True


def find_error(endpoint: str, body: object) -> str | None:
    """Return the most relevant error as ``<path>: <reason>``; None if the body is valid."""
    errors = list(_validator(endpoint).iter_errors(body))
    if errors:
        error = jsonschema.exceptions.best_match(errors)
        return f"{_dotted_path(error.absolute_path)}: {_describe_error(error)}"
    if endpoint == "messages" and isinstance(body, dict):
        return _find_invalid_date(body["messages"])
    return None


def _find_invalid_date(messages: list[dict[str, Any]]) -> str | None:
    for index, message in enumerate(messages):
        if created := message.get("createdAt"):
            try:
                message_columns.parse_timestamp(created)
            except (ValueError, OverflowError):
                return f"messages.{index}.createdAt: Invalid date"
    return None


def _dotted_path(parts: Any) -> str:
    """Join the parts of a path: ``["messages", 0, "role"]`` → ``messages.0.role``, ``[]`` → ``body``."""
    return ".".join(str(part) for part in parts) or "body"


def _describe_error(error: Any) -> str:
    """Describe a validation error without the invalid value, which may be private."""
    if error.validator == "required":
        return str(error.message)
    return f"fails {error.validator} {json.dumps(error.validator_value)[:120]}"


def nesting_depth(body: object, limit: int) -> int:
    """Return how deeply objects and lists are nested. Stops counting just above `limit`."""
    depth, values = 0, [body]
    while depth <= limit:
        values = [
            item
            for value in values
            if isinstance(value, (dict, list))
            for item in (value.values() if isinstance(value, dict) else value)
        ]
        if not values:
            break
        depth += 1
    return depth


def unknown_keys(endpoint: str, body: object) -> list[str]:
    """Return the paths of keys that the schema does not define. The API accepts them, but they are likely mistakes."""
    return list(_iter_unknown_keys(body, request_schemas()[endpoint], ""))


def _iter_unknown_keys(value: Any, schema: dict[str, Any], path: str) -> Iterator[str]:
    known = schema.get("properties")
    if known is None and "anyOf" in schema:
        known = next((s["properties"] for s in schema["anyOf"] if "properties" in s), None)
    if isinstance(value, dict) and known is not None:
        for key, item in value.items():
            if key not in known:
                yield f"{path}{key}"
            else:
                yield from _iter_unknown_keys(item, known[key], f"{path}{key}.")
    elif isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            yield from _iter_unknown_keys(item, schema["items"], f"{path}{index}.")
