"""Create records from the manual calls of `observe`: events, identities, ratings and business events."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID, uuid4

from gati._api.arguments import (
    InvalidArgumentError,
    to_choice,
    to_id,
    to_number,
    to_properties,
    to_text,
    to_time,
)
from gati._api.runtime import runtime
from gati._context import current_scope, is_own_thread
from gati.events import Action, Event
from gati.langchain.handover import recorder_of_enclosing_run
from gati.trace.records import ManualEvent, Record

__all__ = ["message_id_of", "record_action", "record_event", "record_product_event", "record_rating"]

VALUE_TYPES = ("currency", "numeric", "text", "boolean")
INFLUENCES = ("positive", "negative", "neutral")


def record_event(event: object) -> bool:
    """Record a copy of an event, so that later changes by the caller have no effect."""
    if runtime.pipeline is None:
        return False
    from gati.langchain.snapshot import take_snapshot

    if not isinstance(event, Event):
        raise InvalidArgumentError("event", "a gati event")
    changes: dict[str, Any] = {
        f.name: take_snapshot(value)
        for f in dataclasses.fields(event)
        if isinstance(value := getattr(event, f.name), (dict, list))
    }
    changes["started_ns"] = event.started_ns or time.time_ns()
    return _put(ManualEvent(dataclasses.replace(event, **changes), current_scope.get(), _enclosing_run()))


def record_action(
    endpoint: Literal["users", "organizations", "ratings", "events"], run_id: UUID | None = None, **body: Any
) -> bool:
    """Record a request that is not part of a turn. None values are left out.

    `run_id` is the enclosing run, if the conversation is the one that the run belongs to.
    """
    if runtime.pipeline is None:
        return False
    body = {key: _check(key, value) for key, value in body.items() if value is not None}
    recorder = recorder_of_enclosing_run()
    configurable = recorder.enclosing_values() if run_id is not None and recorder is not None else None
    return _put(ManualEvent(Action(endpoint, body), None, run_id, configurable))


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "external_user_id": to_id,
    "external_organization_id": to_id,
    "properties": lambda _, value: to_properties(value),
    "rating": to_number,
    "rating_min": to_number,
    "rating_max": to_number,
    "quality_impact_score": lambda name, value: to_number(name, value, -1, 1),
    "value_type": lambda name, value: to_choice(name, value, VALUE_TYPES),
    "influence": lambda name, value: to_choice(name, value, INFLUENCES),
}
"""How the values of a body are checked; the others are texts."""


def _check(key: str, value: Any) -> Any:
    check = _CHECKS.get(key)
    return to_text(key, value) if check is None else check(key, value)


def _put(record: Record) -> bool:
    """Pass a record to the pipeline of the enclosing run, or else to the current one."""
    if is_own_thread.get():  # a mask or `on_drop` must not feed itself
        return False
    recorder = recorder_of_enclosing_run()
    if recorder is not None:
        recorder.put(record)
        if recorder.saves is not None and not recorder.open_runs:  # else the end of the turn waits for the event, too
            recorder.saves.save()
    else:
        runtime.put(record)
    return True


MAX_RATING_IDS = 4096
"""Ids of ratings that are remembered, so that a repeated one is not sent again."""
MAX_STARS = 5
_recent_rating_ids: dict[str, None] = {}


def record_rating(
    *, run_id: object, conversation_id: object, rated_at: object, rating: Any, stars: Any, rating_min: Any,
    rating_max: Any, feedback: str | None, rating_id: object,
) -> bool:  # fmt: skip
    """Record a rating of an answer (`run_id`) or of a conversation; default: the enclosing conversation."""
    if runtime.pipeline is None:
        return False
    scope = current_scope.get()
    enclosing: UUID | None = None
    if run_id is None and conversation_id is None:
        conversation_id = scope.conversation_id if scope is not None else None
        enclosing = _enclosing_run() if conversation_id is None else None
        if conversation_id is None and enclosing is None:
            raise InvalidArgumentError("run_id", "given outside of a conversation, unless `conversation_id` is")
    value, low, high = _rating_and_range(rating, stars, rating_min, rating_max)
    key = to_id("rating_id", rating_id) if rating_id is not None else None
    body = {
        "product_id": scope.product_id if scope is not None else None,
        "external_message_id": message_id_of(run_id) if run_id is not None else None,
        "external_conversation_id": to_id("conversation_id", conversation_id)
        if run_id is None and conversation_id is not None
        else None,
        "rated_at": _format_utc(to_time("rated_at", rated_at)) if rated_at is not None else None,
        "rating": value,
        "rating_min": low,
        "rating_max": high,
        "feedback": feedback,
        "insert_id": key,
    }
    if key is not None and key in _recent_rating_ids:
        return True
    recorded = record_action("ratings", enclosing, **body)
    if recorded and key is not None:
        _recent_rating_ids[key] = None
        for old in list(_recent_rating_ids)[:-MAX_RATING_IDS]:
            _recent_rating_ids.pop(old, None)
    return recorded


def message_id_of(run_id: object) -> str:
    """Return the external id of the answer of a root run."""
    return f"{to_id('run_id', run_id)}:answer"


def _rating_and_range(rating: Any, stars: Any, rating_min: Any, rating_max: Any) -> tuple[float, float, float]:
    """Return value, minimum and maximum: of a thumb (a bool), of stars (from 1), or of a score with its range."""
    if (rating is None) == (stars is None):
        raise InvalidArgumentError("rating", "given, or `stars` instead")
    low, high = to_number("rating_min", rating_min), to_number("rating_max", rating_max)
    if stars is not None:
        low, high = 1, MAX_STARS if rating_max == 1 else high
    if math.isinf(low) or math.isinf(high) or low >= high:
        raise InvalidArgumentError("rating_max", "a finite number above `rating_min`")
    if isinstance(rating, bool):
        return (high if rating else low), low, high
    if isinstance(stars, bool):
        raise InvalidArgumentError("stars", "a number")
    name, value = ("rating", rating) if stars is None else ("stars", stars)
    return to_number(name, value, low, high), low, high


def record_product_event(
    event_type: object, *, value: object, conversation_id: object, user_id: object, insert_id: str | None,
    event_at: object, **body: Any,
) -> bool:  # fmt: skip
    """Record a business event; default: of the enclosing conversation and its user."""
    if runtime.pipeline is None:
        return False
    scope = current_scope.get()
    settings = runtime.settings
    if scope is not None:
        conversation_id = conversation_id or scope.conversation_id
        user_id = user_id or scope.user_id
    enclosing = _enclosing_run() if conversation_id is None else None
    if enclosing is None and settings is not None:
        user_id = user_id or settings.user_id
    return record_action(
        "events",
        enclosing,
        event_type=to_id("event_type", event_type),
        product_id=scope.product_id if scope is not None else None,
        value=str.__str__(value) if isinstance(value, str) else str(value),
        external_conversation_id=to_id("conversation_id", conversation_id) if conversation_id is not None else None,
        external_user_id=user_id,
        insert_id=insert_id or str(uuid4()),
        event_at=_format_utc(to_time("event_at", event_at) if event_at is not None else datetime.now(UTC)),
        **body,
    )


def _enclosing_run() -> UUID | None:
    """Return the id of the run that encloses the calling code."""
    recorder = recorder_of_enclosing_run()
    return recorder.current_run_id() if recorder is not None else None


def _format_utc(at: datetime) -> str:
    """Format a time in UTC: `2026-11-27T01:30:45.000Z`."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
