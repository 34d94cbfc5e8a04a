"""Checks requests against the JSON Schema of the contract, as strictly as a server may.

`messages.schema.json` is the contract of `POST /messages`, `actions.schema.json` those of
users, organizations, ratings and events. Needs ``jsonschema`` (extra ``studio``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import jsonschema
from jsonschema import Draft202012Validator

from gati.studio import columns

_HERE = Path(__file__).parent


@lru_cache(maxsize=1)
def schemas() -> dict[str, dict[str, Any]]:
    """The schema of each endpoint's body, by the endpoint's name."""
    messages = json.loads((_HERE / "messages.schema.json").read_text("utf-8"))
    actions: dict[str, dict[str, Any]] = json.loads((_HERE / "actions.schema.json").read_text("utf-8"))
    return {"messages": messages["request"], **actions}


def response() -> dict[str, Any]:
    """The schema of the answer to `POST /messages`."""
    messages: dict[str, dict[str, Any]] = json.loads((_HERE / "messages.schema.json").read_text("utf-8"))
    return messages["response"]


@lru_cache(maxsize=8)
def _validator(endpoint: str) -> Draft202012Validator:
    return Draft202012Validator(schemas()[endpoint], format_checker=_formats())


def _formats() -> jsonschema.FormatChecker:
    formats = jsonschema.FormatChecker(formats=["uuid"])
    formats.checks("date-time", raises=ValueError)(_is_time)
    return formats


def _is_time(value: object) -> bool:
    return not isinstance(value, str) or bool(columns.microseconds(value)) or True


def fault(endpoint: str, body: object) -> str | None:
    """What is wrong with the body, beginning with the path of the fault; None when it is right."""
    errors = list(_validator(endpoint).iter_errors(body))
    if errors:
        worst = jsonschema.exceptions.best_match(errors)
        return f"{_path(worst.absolute_path)}: {_said(worst)}"
    if endpoint == "messages" and isinstance(body, dict):
        return _times(body["messages"])
    return None


def _times(messages: list[dict[str, Any]]) -> str | None:
    for index, message in enumerate(messages):
        if created := message.get("createdAt"):
            try:
                columns.microseconds(created)
            except (ValueError, OverflowError):
                return f"messages.{index}.createdAt: Invalid date"
    return None


def _path(parts: Any) -> str:
    return ".".join(str(part) for part in parts) or "body"


def _said(error: Any) -> str:
    """The validator's words without the value: a refused text must not come back in an error."""
    if error.validator == "required":
        return str(error.message)
    return f"fails {error.validator} {json.dumps(error.validator_value)[:120]}"


def depth(body: object, most: int) -> int:
    """How deep objects and lists stand in each other; counts no further than beyond `most`."""
    level, inside = 0, [body]
    while level <= most:
        inside = [
            item
            for value in inside
            if isinstance(value, (dict, list))
            for item in (value.values() if isinstance(value, dict) else value)
        ]
        if not inside:
            break
        level += 1
    return level


def unknown_keys(endpoint: str, body: object) -> list[str]:
    """Paths of keys that the contract does not know. They are accepted, and most likely a mistake."""
    return list(_unknown(body, schemas()[endpoint], ""))


def _unknown(value: Any, schema: dict[str, Any], path: str) -> Iterator[str]:
    known = schema.get("properties")
    if known is None and "anyOf" in schema:
        known = next((s["properties"] for s in schema["anyOf"] if "properties" in s), None)
    if isinstance(value, dict) and known is not None:
        for key, item in value.items():
            if key not in known:
                yield f"{path}{key}"
            else:
                yield from _unknown(item, known[key], f"{path}{key}.")
    elif isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            yield from _unknown(item, schema["items"], f"{path}{index}.")
