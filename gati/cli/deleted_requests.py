"""Selects the requests in the spool that are to be deleted."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from typing import Any

from gati.exporters.base import Request
from gati.store import message_columns, tombstones
from gati.store.deletion import Target

_REFERENCES = ("external_conversation_id", "external_message_id")


class DeletedRequests:
    """Selects the requests of a target. See `gati.pipeline.spool_deletion.RequestSelection`.

    Args:
        target: What is deleted.
        subjects: External ids of its conversations and messages in the store.
    """

    def __init__(self, target: Target, subjects: Iterable[str] = ()) -> None:
        self._target = target
        self._subjects = {*subjects, target.id} if target.kind == "conversation" else set(subjects)
        self._ids = [
            json.dumps(text, ensure_ascii=False)[1:-1].encode(errors="replace") for text in (target.id,) if text
        ]

    def keep(self, request: Request) -> Request | None:
        """Return the request, one with only the items that stay, or None to remove it."""
        if isinstance(items := request.body.get("messages"), list):
            return self._keep_items(request, "messages", items, _message_time)
        if isinstance(items := request.body.get("events"), list):
            return self._keep_items(request, "events", items, _event_time)
        return None if self._is_selected(request, [request.body]) or self._is_earlier(request.body) else request

    def mentions(self, data: bytes) -> bool:
        """Return True if what is not a request contains the id."""
        return any(text in data for text in self._ids)

    def selects(self, texts: set[str], at_us: int) -> bool:
        """Return True if a turn that waits as records names the id, or began before the time."""
        if self._target.kind == "before":
            return at_us < self._target.at
        return not texts.isdisjoint({*self._subjects, self._target.id})

    def _keep_items(self, request: Request, name: str, items: list[Any], time_of: Any) -> Request | None:
        if self._target.kind != "before":
            events = [item.get("data") for item in items if isinstance(item, dict)]
            if not self._is_selected(request, [request.body, *(event for event in events if isinstance(event, dict))]):
                return request
            self._subjects |= {item["externalMessageId"] for item in items if "externalMessageId" in item}
            return None
        out = tombstones.out_of_time([(item, time_of(item)) for item in items], self._target.at)
        if not out:
            return request
        left = [item for index, item in enumerate(items) if index not in out]
        body = {**request.body, name: left}
        return dataclasses.replace(request, body=body, items=len(left)) if left else None

    def _is_selected(self, request: Request, bodies: list[dict[str, Any]]) -> bool:
        if request.ordering_key in self._subjects:
            return True
        if self._target.kind == "user":
            users = {body.get(name) for body in bodies for name in ("external_user_id", "user_id")}
            if self._target.id in users:
                return True
        return any(request.body.get(name) in self._subjects for name in _REFERENCES)

    def _is_earlier(self, body: dict[str, Any]) -> bool:
        """Return True for a record from before the time. One without a time of its own stays."""
        if self._target.kind != "before":
            return False
        own = body.get("rated_at") or body.get("event_at")
        at = message_columns.parse_timestamp(own) if own else body.get("recorded_at")
        return isinstance(at, int) and at < self._target.at


def _message_time(message: dict[str, Any]) -> int:
    """Return when a message was created. One without a time is kept."""
    created = message.get("createdAt")
    return message_columns.parse_timestamp(created) if created else 2**62


def _event_time(event: dict[str, Any]) -> int:
    return message_columns.parse_timestamp(event["timestamp"]) if event.get("timestamp") else 2**62
