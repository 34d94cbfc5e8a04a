"""Functions that derive a message's columns from its body: type, metrics, search text, ids and times. Pure."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from gati import contract

_PROPERTY = contract.columns()
"""Column of the store → the property that it holds."""

_SEARCHED_CHARACTERS = 20_000
"""Characters of one message that are indexed, so that one large payload cannot dominate the index."""

_MAX_NUMBER = 2**53
"""Larger numbers are mistakes, and neither SQLite nor browsers would keep them exactly."""


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FIRST = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
_LAST = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
"""The first and the last time that a `datetime` can hold, in microseconds since the epoch."""


class MessageMetrics(NamedTuple):
    """The numeric and status columns of a message. None means unknown."""

    model: str | None
    status: str | None
    latency_ms: float | None
    first_token_ms: float | None
    tokens_in: int | None
    tokens_out: int | None
    cost: float | None


NO_METRICS = MessageMetrics(*[None] * 7)
"""The metrics of a message that is missing."""


def message_type(message: dict[str, Any]) -> str:
    """Return the `messageType`, or the type that corresponds to the message's `role`."""
    return str(message.get("messageType") or contract.ROLES.get(str(message.get("role")), "user_message"))


def extract_metrics(message: dict[str, Any], model: str | None) -> MessageMetrics:
    """Read status, latency, tokens and cost from a message. `model` is the default from the request."""
    properties = message.get("properties") or {}
    output = message.get("output")
    kind = message_type(message)
    return MessageMetrics(
        model=message.get("model") or (model if kind == "llm" or kind in contract.ANSWER_TYPES else None),
        status=_message_status(kind, properties, output if isinstance(output, dict) else {}),
        latency_ms=_parse_amount(properties.get(_PROPERTY["latency_ms"])),
        first_token_ms=_parse_amount(properties.get(_PROPERTY["first_token_ms"])),
        tokens_in=_parse_count(properties.get(_PROPERTY["tokens_in"])),
        tokens_out=_parse_count(properties.get(_PROPERTY["tokens_out"])),
        cost=_parse_amount(properties.get(_PROPERTY["cost"])),
    )


def _message_status(kind: str, properties: dict[str, Any], output: dict[str, Any]) -> str | None:
    if kind == "tool_error":
        return "error"
    status = properties.get(_PROPERTY["status"]) or (
        output.get("status") if kind in ("chain_end", "callback") else None
    )
    return status if isinstance(status, str) else None


def _parse_amount(value: Any) -> float | None:
    """Return a plausible duration or amount as a float, anything else as None: ``"12"`` → None, -1 → None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if 0 <= value < _MAX_NUMBER else None


def _parse_count(value: Any) -> int | None:
    amount = _parse_amount(value)
    return None if amount is None else int(amount)


def sum_known(values: Iterable[Any]) -> Any:
    """Return the sum of the values that are not None; None if there are none."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def search_text(message: dict[str, Any]) -> str:
    """Return the text by which a message is found: tool name, content, and all strings of its input and output.

    The full-text index is contentless, so a change here needs a migration that rebuilds the index.
    """
    parts = [message.get("toolName") or "", message.get("content") or ""]
    parts += [text for key in ("input", "output") for text in _iter_strings(message.get(key))]
    return "\n".join(part for part in parts if part)[:_SEARCHED_CHARACTERS]


def _iter_strings(value: Any) -> Iterator[str]:
    """Yield all strings of a JSON value in reading order, without recursion."""
    stack = [value]
    while stack:
        value = stack.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            stack.extend(reversed(list(value.values())))
        elif isinstance(value, list):
            stack.extend(reversed(value))


def parse_timestamp(text: str) -> int:
    """Convert an ISO 8601 time to microseconds since the epoch; a time without a zone is UTC.

    Times outside the years 1 to 9999 in UTC, which only an offset makes possible, are moved to that range.

    Raises:
        ValueError: The text is no such time.
    """
    text = text.strip()
    if text[-1:] == "z":  # `fromisoformat` accepts only the capital letter
        text = text[:-1] + "Z"
    when = datetime.fromisoformat(text)
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return min(max((when - _EPOCH) // _MICROSECOND, _FIRST), _LAST)


def utc_datetime(at: int) -> datetime:
    """Convert microseconds since the epoch. Times outside the years 1 to 9999 are moved to that range."""
    return _EPOCH + timedelta(microseconds=min(max(at, _FIRST), _LAST))


def format_timestamp(at: int) -> str:
    """Format microseconds since the epoch as ``YYYY-MM-DDTHH:MM:SS.mmmZ``."""
    return utc_datetime(at).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def agent_name_of(body: dict[str, Any]) -> str | None:
    """Return the `agent_name` property of a message or a request."""
    properties = body.get("properties") or {}
    name = properties.get("agent_name")
    return name if isinstance(name, str) else None


_encode_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def compact_json(value: Any) -> str:
    """Serialize to JSON without whitespace and without escaping non-ASCII characters."""
    return _encode_json(value)


def message_uid(conversation: str, row_id: int) -> str:
    """Return a message's id on the wire: a UUID that contains the row id, so it needs no column."""
    return str(uuid.UUID(int=(uuid.UUID(conversation).int >> 64 << 64) | (1 << 63) | row_id))


def message_row_id(uid: str) -> int:
    """Return the row id contained in an id made by `message_uid`."""
    return uuid.UUID(uid).int & ((1 << 62) - 1)
