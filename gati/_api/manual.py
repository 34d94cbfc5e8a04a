"""What users tell by hand → records: events, who is who, ratings, product events."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import uuid4

from gati._api.runtime import runtime
from gati._context import current_scope
from gati.events import Action, Event
from gati.langchain.current import current
from gati.pipeline import internal_errors
from gati.trace.records import ManualEvent


def event(given: object) -> None:
    """Take an event as it is now; later edits of the caller's are not seen."""
    if runtime.pipeline is None:
        return
    from gati.langchain.snapshot import freeze

    with internal_errors.guard("track_event"):
        if not isinstance(given, Event):
            internal_errors.log.emit("track_event", "track_event takes an event of gati, got %s", type(given).__name__)
            return
        taken: dict[str, Any] = {
            f.name: freeze(v)
            for f in dataclasses.fields(given)
            if isinstance(v := getattr(given, f.name), (dict, list))
        }
        taken["started_ns"] = given.started_ns or time.time_ns()
        recorder = current.recorder
        around = recorder.around() if recorder is not None else None
        runtime.put(ManualEvent(dataclasses.replace(given, **taken), current_scope.get(), around))


def action(endpoint: Literal["users", "organizations", "ratings", "events"], **body: Any) -> None:
    """Take something to tell the destination beside conversations; None values are left out."""
    if runtime.pipeline is None:
        return
    from gati.langchain.snapshot import freeze

    with internal_errors.guard(endpoint):
        kept = {
            key: freeze(dict(value)) if isinstance(value, Mapping) else value
            for key, value in body.items()
            if value is not None
        }
        runtime.put(ManualEvent(Action(endpoint, kept), None))


def rating(*, run_id: str | None, conversation_id: str | None, rated_at: datetime | None, **body: Any) -> None:
    """A rating of an answer, a conversation, or the conversation around."""
    scope = current_scope.get()
    if run_id is None and conversation_id is None:
        conversation_id = scope.conversation_id if scope is not None else None
    if run_id is None and conversation_id is None:
        internal_errors.log.emit(
            "log_rating", "log_rating was told neither a run nor a conversation; the rating is not kept"
        )
        return
    action(
        "ratings",
        product_id=_product(),
        external_message_id=f"{run_id}:answer" if run_id is not None else None,
        external_conversation_id=conversation_id if run_id is None else None,
        rated_at=_iso(rated_at),
        **body,
    )


def product_event(
    event_type: str, *, value: object, conversation_id: str | None, user_id: str | None, insert_id: str | None,
    event_at: datetime | None, **body: Any,
) -> None:  # fmt: skip
    """Something that happened in the business, of the user and conversation around."""
    scope = current_scope.get()
    settings = runtime.settings
    action(
        "events",
        event_type=event_type,
        product_id=_product(),
        value=str(value),
        external_conversation_id=conversation_id or (scope.conversation_id if scope is not None else None),
        external_user_id=user_id
        or (scope.user_id if scope is not None else None)
        or (settings.user_id if settings is not None else None),
        insert_id=insert_id or str(uuid4()),
        event_at=_iso(event_at or datetime.now(UTC)),
        **body,
    )


def _product() -> str | None:
    return runtime.settings.product_id if runtime.settings is not None else None


def _iso(at: datetime | None) -> str | None:
    if at is None:
        return None
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
