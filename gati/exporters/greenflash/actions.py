"""Encodes actions as requests: users, organizations, ratings and product events. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gati import contract
from gati.exporters import sanitize
from gati.exporters.base import Request
from gati.exporters.greenflash.turn_encoder import numeric_values

if TYPE_CHECKING:
    from gati.events import Action
    from gati.settings import Settings

_TEXTS = frozenset(
    name for fields in contract.ACTIONS.values() for name, known in fields.items() if known.kind is contract.Kind.TEXT
) - {"properties", "value"}
"""Arguments that `capture_content=False` omits. Of properties the numbers stay, and of values those that are not texts."""

_WITH_PRODUCT = ("ratings", "events")


def action_request(action: Action, settings: Settings, limit: int, conversations: Mapping[str, str]) -> Request:
    """Return the action as one request, ordered after requests of the conversation it refers to, if that is known.

    Args:
        action: The action.
        settings: The options.
        limit: Bytes per field.
        conversations: Run id → conversation id, for ratings that refer to a message.
    """
    body: dict[str, Any] = {}
    for name, value in action.body.items():
        if value is None or (not settings.capture_content and name in _TEXTS):
            continue
        if name == "properties" and not settings.capture_content:
            value = numeric_values(value)
        body[name] = sanitize.identifier(value) if name.endswith("_id") else sanitize.bounded_json(value, limit)[0]
    if action.endpoint in _WITH_PRODUCT and settings.product_id:
        body.setdefault("product_id", settings.product_id)
    if action.endpoint == "events":
        _complete_event(body, action, settings)
    ordering_key = _ordering_key(action, body, conversations)
    return Request(ordering_key=ordering_key, body=body, items=1, turn_id=action.id, endpoint=action.endpoint)


def _complete_event(body: dict[str, Any], action: Action, settings: Settings) -> None:
    body.setdefault("insert_id", action.id)  # the server ignores a second event with the same id
    value = body.get("value", "")
    if isinstance(value, bool):
        value = str(value).lower()
    body["value"] = value if isinstance(value, str) else str(value)
    if not settings.capture_content and body.get("value_type", "text") == "text":
        body["value"] = "(not captured)"


def _ordering_key(action: Action, body: dict[str, Any], conversations: Mapping[str, str]) -> str:
    conversation = body.get("external_conversation_id")
    if conversation is None and "external_message_id" in body:
        conversation = conversations.get(body["external_message_id"].partition(":")[0])
    if conversation or action.endpoint in _WITH_PRODUCT:
        # Another process may deliver the conversation, and ratings of other answers must not have to wait for that one.
        # Ratings of one answer stay in order, because the last one counts.
        return conversation or f"{action.endpoint}/{body.get('external_message_id') or action.id}"
    return str(body.get("external_user_id") or body.get("external_organization_id") or action.endpoint)
