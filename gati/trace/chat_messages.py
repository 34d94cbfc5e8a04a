"""The forms in which programs pass chat messages."""

from __future__ import annotations

from typing import Any

from gati.trace.records import MESSAGE_TYPES, MESSAGES, PAIR_ROLES, Message

_MESSAGE_FIELDS = frozenset(
    {"role", "type", "content", "id", "name", "tool_calls", "tool_call_id", "status", "artifact", "invalid_tool_calls",
     "additional_kwargs", "response_metadata", "usage_metadata", "example"}
)  # fmt: skip
"""Fields of a message in a dict."""


def as_message(item: Any) -> Message | None:
    """Convert any form of message that LangChain accepts; return None for other values.

    Example: ``("user", "Hi")`` and ``{"role": "user", "content": "Hi"}`` → ``Message("user", "Hi")``.
    """
    if isinstance(item, Message):
        return item
    if isinstance(item, dict):
        role = item.get("role") or _role_of_type(item.get("type"))
        if isinstance(role, str) and "content" in item:
            calls = item.get("tool_calls")
            return Message(
                role, item["content"], item.get("id"), item.get("name"),
                tuple(calls) if isinstance(calls, list) else (), tool_call_id=item.get("tool_call_id"),
                additional=_additional_of(item),
            )  # fmt: skip
    if isinstance(item, (list, tuple)) and len(item) == 2 and isinstance(item[0], str) and item[0] in PAIR_ROLES:
        return Message(item[0], item[1])
    return None


def _role_of_type(kind: Any) -> str | None:
    return kind if isinstance(kind, str) and kind in MESSAGE_TYPES else None


def _additional_of(item: dict[str, Any]) -> dict[str, Any] | None:
    """Return what LangChain keeps in `additional_kwargs` when it converts the dict: that entry, and unknown keys."""
    unknown = {key: value for key, value in item.items() if key not in _MESSAGE_FIELDS}
    given = item.get("additional_kwargs")
    return {**unknown, **(given if isinstance(given, dict) else {})} or None


def as_messages(value: Any) -> list[Message] | None:
    """Convert a message or a list of messages to a list; return None for other values."""
    if isinstance(value, Message):
        return [value]
    if not isinstance(value, list) or not value:
        return None
    if as_message(value[-1]) is not None:
        messages = [m for item in value if (m := as_message(item)) is not None]
        return messages if len(messages) == len(value) else _flat(value)
    # Lists of messages alone are conversations side by side, such as examples.
    is_thread = isinstance(value[-1], list) and any(isinstance(item, Message) for item in value)
    return _flat(value) if is_thread and as_messages(value[-1]) is not None else None


def _flat(items: list[Any]) -> list[Message]:
    """Return the messages in a list, and in the lists of messages that a node appended to it as they are."""
    messages: list[Message] = []
    for item in items:
        if (message := as_message(item)) is not None:
            messages.append(message)
        elif isinstance(item, list):
            messages += as_messages(item) or ()
    return messages


def messages_under(key: Any, value: Any) -> list[Message] | None:
    """Return `as_messages` of an entry of a state. Under `messages`, LangGraph also accepts bare texts and a single pair.

    Example: ``"Hi"`` and ``["Hi"]`` → ``[Message("human", "Hi")]``; ``["user", "Hi"]``, which was a tuple →
    ``[Message("user", "Hi")]``.
    """
    if key != MESSAGES:
        return as_messages(value)
    if isinstance(value, str) and value:
        return [Message("human", value)]
    if (single := as_message(value)) is not None:
        return [single]
    if isinstance(value, list):
        return as_messages([Message("human", item) if isinstance(item, str) else item for item in value])
    return None
