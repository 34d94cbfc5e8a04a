"""Create records from the manual calls of `observe`: events, identities, ratings and business events."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID, uuid4

from gati._api.runtime import runtime
from gati._api.scopes import id_to_str
from gati._context import current_scope
from gati.events import Action, Event
from gati.langchain.current import current
from gati.pipeline import internal_errors
from gati.trace.records import ManualEvent

__all__ = ["id_to_str", "record_action", "record_event", "record_product_event", "record_rating"]


def record_event(event: object) -> None:
    """Record a copy of an event, so that later changes by the caller have no effect."""
    if runtime.pipeline is None:
        return
    from gati.langchain.snapshot import take_snapshot

    with internal_errors.guard("track_event"):
        if not isinstance(event, Event):
            internal_errors.log.emit("track_event", "track_event takes a gati event, got %s", type(event).__name__)
            return
        changes: dict[str, Any] = {
            f.name: take_snapshot(value)
            for f in dataclasses.fields(event)
            if isinstance(value := getattr(event, f.name), (dict, list))
        }
        changes["started_ns"] = event.started_ns or time.time_ns()
        runtime.put(ManualEvent(dataclasses.replace(event, **changes), current_scope.get(), _enclosing_run()))


def record_action(
    endpoint: Literal["users", "organizations", "ratings", "events"], run_id: UUID | None = None, **body: Any
) -> None:
    """Record a request that is not part of a turn. None values are left out.

    `run_id` is the enclosing run, if the conversation is the one that the run belongs to.
    """
    if runtime.pipeline is None:
        return
    from gati.langchain.snapshot import take_snapshot

    with internal_errors.guard(endpoint):
        body = {
            key: take_snapshot(dict(value)) if isinstance(value, Mapping) else value
            for key, value in body.items()
            if value is not None
        }
        recorder = current.recorder
        configurable = recorder.enclosing_values() if run_id is not None and recorder is not None else None
        runtime.put(ManualEvent(Action(endpoint, body), None, run_id, configurable))


def record_rating(*, run_id: str | None, conversation_id: str | None, rated_at: datetime | None, **body: Any) -> None:
    """Record a rating of an answer (`run_id`) or of a conversation; default: the enclosing conversation."""
    scope = current_scope.get()
    enclosing: UUID | None = None
    if run_id is None and conversation_id is None:
        conversation_id = scope.conversation_id if scope is not None else None
        enclosing = _enclosing_run() if conversation_id is None else None
        if conversation_id is None and enclosing is None:
            internal_errors.log.emit(
                "log_rating", "log_rating got neither run_id nor conversation_id; the rating is dropped"
            )
            return
    record_action(
        "ratings",
        enclosing,
        product_id=scope.product_id if scope is not None else None,
        external_message_id=f"{run_id}:answer" if run_id is not None else None,
        external_conversation_id=conversation_id if run_id is None else None,
        rated_at=_format_utc(rated_at),
        **body,
    )


def record_product_event(
    event_type: str, *, value: object, conversation_id: str | None, user_id: str | None, insert_id: str | None,
    event_at: datetime | None, **body: Any,
) -> None:  # fmt: skip
    """Record a business event; default: of the enclosing conversation and its user."""
    scope = current_scope.get()
    settings = runtime.settings
    if scope is not None:
        conversation_id = conversation_id or scope.conversation_id
        user_id = user_id or scope.user_id
    enclosing = _enclosing_run() if conversation_id is None else None
    if enclosing is None and settings is not None:
        user_id = user_id or settings.user_id
    record_action(
        "events",
        enclosing,
        event_type=event_type,
        product_id=scope.product_id if scope is not None else None,
        value=str(value),
        external_conversation_id=conversation_id,
        external_user_id=user_id,
        insert_id=insert_id or str(uuid4()),
        event_at=_format_utc(event_at or datetime.now(UTC)),
        **body,
    )


def _enclosing_run() -> UUID | None:
    """Return the id of the run that encloses the calling code."""
    recorder = current.recorder
    return recorder.current_run_id() if recorder is not None else None


def _format_utc(at: datetime | None) -> str | None:
    """Format a time in UTC: `2026-11-27T01:30:45.000Z`."""
    if at is None:
        return None
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
