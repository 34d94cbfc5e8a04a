"""The other way in: `POST /api/events`, as an SDK for a GATI backend sends them.

Events are kept as they came, and shown in the pages as the messages that they stand for.
"""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING, Any

from gati.studio import columns, projection

if TYPE_CHECKING:
    from gati.studio.store import Store

_LONGEST = {"event_type": 50, "run_id": 36, "run_name": 255, "agent_name": 255, "timestamp": 64}
_MOST_EVENTS = 10_000


class ConflictError(Exception):
    """Two runs of one agent under one fixed name, or one run under two agents: the backend's 500."""


def schema() -> dict[str, Any]:
    """What `faults` asks of a body, as JSON Schema."""
    event = {key: {"type": "string", "minLength": 1, "maxLength": longest} for key, longest in _LONGEST.items()}
    event["timestamp"]["format"] = "date-time"
    event["event_id"] = {"type": "string", "minLength": 1, "maxLength": 36}
    parent = {"type": ["string", "null"], "minLength": 1, "maxLength": 36}
    known = {**event, "parent_event_id": parent, "data": {"type": "object"}}
    items = {"type": "object", "required": [*event, "data"], "properties": known}
    events = {"type": "array", "minItems": 1, "maxItems": _MOST_EVENTS, "items": items}
    return {"type": "object", "required": ["events"], "properties": {"events": events}}


def faults(body: Any) -> list[dict[str, Any]]:
    """What is wrong with the body; each entry has the place (`loc`) and the reason (`msg`)."""
    if not isinstance(body, dict) or not isinstance(body.get("events"), list):
        return [_fault(["body", "events"], "a list of events is required")]
    events = body["events"]
    if not 1 <= len(events) <= _MOST_EVENTS:
        return [_fault(["body", "events"], f"1 to {_MOST_EVENTS} events are taken")]
    return [fault for index, event in enumerate(events) for fault in _event_faults(event, ["body", "events", index])]


def _event_faults(event: Any, place: list[Any]) -> list[dict[str, Any]]:
    if not isinstance(event, dict):
        return [_fault(place, "an object is required")]
    found = []
    for key, longest in _LONGEST.items():
        value = event.get(key)
        if not isinstance(value, str) or not 1 <= len(value) <= longest:
            found.append(_fault([*place, key], f"a text of 1 to {longest} characters is required"))
    if isinstance(event.get("timestamp"), str) and not _is_time(event["timestamp"]):
        found.append(_fault([*place, "timestamp"], "an ISO 8601 time is required"))
    for key in ("event_id", "parent_event_id"):
        value = event.get(key)
        if value is None and key == "parent_event_id":
            continue
        if not isinstance(value, str) or not 1 <= len(value) <= 36:
            found.append(_fault([*place, key], "a text of 1 to 36 characters is required"))
    if not isinstance(event.get("data"), dict):
        found.append(_fault([*place, "data"], "an object is required"))
    return found


def _is_time(text: str) -> bool:
    try:
        columns.microseconds(text)
    except (ValueError, OverflowError):
        return False
    return True


def _fault(place: list[Any], reason: str) -> dict[str, Any]:
    return {"loc": place, "msg": reason, "type": "value_error"}


def ingest(store: Store, events: list[dict[str, Any]]) -> dict[str, Any]:
    """Keep events; a repeated `event_id` is ignored. Raises ConflictError, and keeps none of the batch then."""

    def work(db: sqlite3.Connection) -> int:
        return sum(_keep(store, db, event) for event in events)

    return {"success": True, "received": len(events), "stored": store.transaction(work)}


def _keep(store: Store, db: sqlite3.Connection, event: dict[str, Any]) -> bool:
    _keep_run(db, event)
    if db.execute("SELECT 1 FROM gati_events WHERE event_id = ?", (event["event_id"],)).fetchone():
        return False
    body = projection.body(event)
    answer = store.take(db, body)
    db.execute(
        "INSERT INTO gati_events (event_id, run_id, conversation, body)"
        " SELECT ?, ?, id, ? FROM conversations WHERE uid = ?",
        (event["event_id"], event["run_id"], columns.compact(event), answer["conversationId"]),
    )
    return True


def _keep_run(db: sqlite3.Connection, event: dict[str, Any]) -> None:
    run, agent, name = event["run_id"], event["agent_name"], event["run_name"]
    known = db.execute("SELECT agent FROM gati_runs WHERE run_id = ?", (run,)).fetchone()
    if known is not None:
        if known["agent"] != agent:
            raise ConflictError("one run_id under two agent names")
        return
    if name.startswith("temp_"):
        count = db.execute("SELECT count(*) FROM gati_runs WHERE agent = ?", (agent,)).fetchone()[0]
        name = f"run {count + 1}"
    try:
        db.execute("INSERT INTO gati_runs (agent, name, run_id) VALUES (?, ?, ?)", (agent, name, run))
    except sqlite3.IntegrityError as error:
        raise ConflictError("a fixed run_name used by two run_ids of one agent") from error


def events(store: Store) -> list[dict[str, Any]]:
    """Every event that was kept, in order of arrival."""
    with store.connections.reading() as db:
        return [json.loads(row[0]) for row in db.execute("SELECT body FROM gati_events ORDER BY id")]
