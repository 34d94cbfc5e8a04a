"""What is told beside conversations, as requests: users, organizations, ratings, events. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gati import contract
from gati.exporters import sanitize
from gati.exporters.base import Request
from gati.exporters.greenflash.turn_encoder import numbers

if TYPE_CHECKING:
    from gati.events import Action
    from gati.settings import Settings

_TEXTS = frozenset(
    name for fields in contract.ACTIONS.values() for name, known in fields.items() if known.kind is contract.Kind.TEXT
) - {"properties", "value"}
"""Arguments that are left out with ``capture_content=False``. Of properties the numbers stay, and of values those that
are no texts.
"""

_WITH_PRODUCT = ("ratings", "events")


def action_request(action: Action, settings: Settings, limit: int, conversations: Mapping[str, str]) -> Request:
    """The action as one request. It follows what it speaks of: the conversation's lane, where that is known."""
    body: dict[str, Any] = {}
    for name, value in action.body.items():
        if value is None or (not settings.capture_content and name in _TEXTS):
            continue
        if name == "properties" and not settings.capture_content:
            value = numbers(value)
        body[name] = sanitize.identifier(value) if name.endswith("_id") else sanitize.plain(value, limit)[0]
    if action.endpoint in _WITH_PRODUCT and settings.product_id:
        body.setdefault("product_id", settings.product_id)
    if action.endpoint == "events":
        _complete_event(body, action, settings)
    lane = _lane(action, body, conversations)
    return Request(ordering_key=lane, body=body, items=1, turn_id=action.id, endpoint=action.endpoint)


def _complete_event(body: dict[str, Any], action: Action, settings: Settings) -> None:
    body.setdefault("insert_id", action.id)  # so that a resend makes no second event
    value = body.get("value", "")
    if isinstance(value, bool):
        value = str(value).lower()
    body["value"] = value if isinstance(value, str) else str(value)
    if not settings.capture_content and body.get("value_type", "text") == "text":
        body["value"] = "(not captured)"


def _lane(action: Action, body: dict[str, Any], conversations: Mapping[str, str]) -> str:
    conversation = body.get("external_conversation_id")
    if conversation is None and "external_message_id" in body:
        conversation = conversations.get(body["external_message_id"].partition(":")[0])
    if conversation or action.endpoint in _WITH_PRODUCT:
        # Whose conversation is not known here: another process may deliver it, and only this must wait for that.
        return conversation or f"{action.endpoint}/{action.id}"
    return str(body.get("external_user_id") or body.get("external_organization_id") or action.endpoint)
