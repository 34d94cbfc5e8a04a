"""Validation of `POST /api/events` requests, as SDKs for a GATI backend send them."""

from __future__ import annotations

from typing import Any

from gati.store import message_columns

_MAX_LENGTHS = {"event_type": 50, "run_id": 36, "run_name": 255, "agent_name": 255, "timestamp": 64}
_MAX_EVENTS = 10_000


def events_schema() -> dict[str, Any]:
    """Return the rules of `find_event_errors` as a JSON Schema."""
    event = {key: {"type": "string", "minLength": 1, "maxLength": length} for key, length in _MAX_LENGTHS.items()}
    event["timestamp"]["format"] = "date-time"
    event["event_id"] = {"type": "string", "minLength": 1, "maxLength": 36}
    parent = {"type": ["string", "null"], "minLength": 1, "maxLength": 36}
    properties = {**event, "parent_event_id": parent, "data": {"type": "object"}}
    items = {"type": "object", "required": [*event, "data"], "properties": properties}
    events = {"type": "array", "minItems": 1, "maxItems": _MAX_EVENTS, "items": items}
    return {"type": "object", "required": ["events"], "properties": {"events": events}}


def find_event_errors(body: Any) -> list[dict[str, Any]]:
    """Return the errors of a request body, each with its location (`loc`) and reason (`msg`)."""
    if not isinstance(body, dict) or not isinstance(body.get("events"), list):
        return [_error_entry(["body", "events"], "a list of events is required")]
    events = body["events"]
    if not 1 <= len(events) <= _MAX_EVENTS:
        return [_error_entry(["body", "events"], f"between 1 and {_MAX_EVENTS} events are required")]
    return [error for index, event in enumerate(events) for error in _errors_in_event(event, ["body", "events", index])]


def _errors_in_event(event: Any, location: list[Any]) -> list[dict[str, Any]]:
    if not isinstance(event, dict):
        return [_error_entry(location, "an object is required")]
    errors = []
    for key, max_length in _MAX_LENGTHS.items():
        value = event.get(key)
        if not isinstance(value, str) or not 1 <= len(value) <= max_length:
            errors.append(_error_entry([*location, key], f"a string of 1 to {max_length} characters is required"))
    if isinstance(event.get("timestamp"), str) and not _is_iso_timestamp(event["timestamp"]):
        errors.append(_error_entry([*location, "timestamp"], "an ISO 8601 time is required"))
    for key in ("event_id", "parent_event_id"):
        value = event.get(key)
        if value is None and key == "parent_event_id":
            continue
        if not isinstance(value, str) or not 1 <= len(value) <= 36:
            errors.append(_error_entry([*location, key], "a string of 1 to 36 characters is required"))
    if not isinstance(event.get("data"), dict):
        errors.append(_error_entry([*location, "data"], "an object is required"))
    return errors


def _is_iso_timestamp(text: str) -> bool:
    try:
        message_columns.parse_timestamp(text)
    except (ValueError, OverflowError):
        return False
    return True


def _error_entry(location: list[Any], reason: str) -> dict[str, Any]:
    return {"loc": location, "msg": reason, "type": "value_error"}
