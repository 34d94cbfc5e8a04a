"""Functions that derive a message's columns from its body: type, metrics, search text, ids and times. Pure."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from gati import contract

_PROPERTY = contract.columns()
"""Column of the store → the property that it holds."""

_STATUS, _LATENCY, _FIRST_TOKEN = _PROPERTY["status"], _PROPERTY["latency_ms"], _PROPERTY["first_token_ms"]
_TOKENS_IN, _TOKENS_OUT, _COST = _PROPERTY["tokens_in"], _PROPERTY["tokens_out"], _PROPERTY["cost"]

_MODEL_TYPES = frozenset({"llm", *contract.ANSWER_TYPES})
"""Types of messages that have the model of their request, unless they name one."""

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


class MessageColumns(NamedTuple):
    """The columns of a message, apart from its body. `at` is in microseconds since the epoch."""

    external_id: str | None
    type: str
    at: int
    agent: str | None
    metrics: MessageMetrics


def read_columns(message: dict[str, Any], at: int, request: dict[str, Any]) -> MessageColumns:
    """Derive the columns of a message of a request."""
    return MessageColumns(
        message.get("externalMessageId"),
        message_type(message),
        at,
        agent_name_of(message) or agent_name_of(request),
        extract_metrics(message, request.get("model")),
    )


def message_type(message: dict[str, Any]) -> str:
    """Return the `messageType`, or the type that corresponds to the message's `role`."""
    return str(message.get("messageType") or contract.ROLES.get(str(message.get("role")), "user_message"))


def extract_metrics(message: dict[str, Any], model: str | None) -> MessageMetrics:
    """Read status, latency, tokens and cost from a message. `model` is the default from the request."""
    kind = message_type(message)
    properties = message.get("properties") or {}
    model = message.get("model") or (model if kind in _MODEL_TYPES else None)
    status = _message_status(kind, properties, message)
    if not properties:
        return NO_METRICS if model is None and status is None else NO_METRICS._replace(model=model, status=status)
    return MessageMetrics(
        model,
        status,
        _parse_amount(properties.get(_LATENCY)),
        _parse_amount(properties.get(_FIRST_TOKEN)),
        _parse_count(properties.get(_TOKENS_IN)),
        _parse_count(properties.get(_TOKENS_OUT)),
        _parse_amount(properties.get(_COST)),
    )


def _message_status(kind: str, properties: dict[str, Any], message: dict[str, Any]) -> str | None:
    if kind == "tool_error":
        return "error"
    status = properties.get(_STATUS)
    if not status and kind in ("chain_end", "callback"):
        output = message.get("output")
        status = output.get("status") if isinstance(output, dict) else None
    return status if isinstance(status, str) else None


def _parse_amount(value: Any) -> float | None:
    """Return a plausible duration or amount as a float, anything else as None: ``"12"`` → None, -1 → None."""
    if value is None or isinstance(value, bool) or not isinstance(value, (int, float)):
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
    parts = [message.get("toolName"), message.get("content")]
    stack = [message.get("output"), message.get("input")]
    while stack:  # without recursion; the last one is the next in reading order
        value = stack.pop()
        if isinstance(value, str):
            parts.append(value)
        elif isinstance(value, dict):
            stack += reversed(value.values())
        elif isinstance(value, list):
            stack += reversed(value)
    return "\n".join(filter(None, parts))[:_SEARCHED_CHARACTERS]


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
    properties = body.get("properties")
    name = properties.get("agent_name") if properties else None
    return name if isinstance(name, str) else None


_encode_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def compact_json(value: Any) -> str:
    """Serialize to JSON without whitespace and without escaping non-ASCII characters."""
    return _encode_json(value)


def message_uid(conversation: str, row_id: int) -> str:
    """Return a message's id on the wire: a UUID that contains the row id, so it needs no column.

    It is the first half of the conversation's UUID, a bit that is set, and the row id.
    """
    number = f"{1 << 63 | row_id:016x}"
    return f"{conversation[:19]}{number[:4]}-{number[4:]}"


def message_row_id(uid: str) -> int:
    """Return the row id contained in an id made by `message_uid`."""
    return uuid.UUID(uid).int & ((1 << 62) - 1)
