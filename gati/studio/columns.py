"""What the store reads out of a message so that it can be listed, searched and counted. Pure."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

ROLES = {"user": "user_message", "assistant": "assistant_message", "system": "system_message"}
ANSWERS = ("final_response", "assistant_message")
SPOKEN = ("user_message", "assistant_message", "system_message", "final_response")

_SEARCHED = 20_000
"""Characters of one message that are searched; more would let one dump dominate the index."""

_LARGEST = 2**53
"""Larger numbers are mistakes, and SQLite and browsers would not keep them exactly."""

_FRACTION = re.compile(r"\.(\d+)")


class Numbers(NamedTuple):
    """Columns of a message; None is unknown."""

    model: str | None
    status: str | None
    latency_ms: float | None
    first_token_ms: float | None
    tokens_in: int | None
    tokens_out: int | None
    cost: float | None


def message_type(message: dict[str, Any]) -> str:
    """The `messageType`, or the one that a `role` stands for."""
    return str(message.get("messageType") or ROLES.get(str(message.get("role")), "user_message"))


def numbers(message: dict[str, Any], model: str | None) -> Numbers:
    """What the message says of its cost and outcome. `model` is that of the whole request."""
    known = message.get("properties") or {}
    output = message.get("output")
    kind = message_type(message)
    return Numbers(
        model=message.get("model") or (model if kind == "llm" or kind in ANSWERS else None),
        status=_status(kind, known, output if isinstance(output, dict) else {}),
        latency_ms=_number(known.get("latency_ms")),
        first_token_ms=_number(known.get("time_to_first_token_ms")),
        tokens_in=_whole(known.get("tokens_in")),
        tokens_out=_whole(known.get("tokens_out")),
        cost=_number(known.get("cost_usd")),
    )


def _status(kind: str, known: dict[str, Any], output: dict[str, Any]) -> str | None:
    if kind == "tool_error":
        return "error"
    status = known.get("status") or (output.get("status") if kind in ("chain_end", "callback") else None)
    return status if isinstance(status, str) else None


def _number(value: Any) -> float | None:
    """A finite number that makes sense as a time or an amount; anything else is unknown."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if 0 <= value < _LARGEST else None


def _whole(value: Any) -> int | None:
    known = _number(value)
    return None if known is None else int(known)


def searchable(message: dict[str, Any]) -> str:
    """The words of a message by which it is found: what was said, and what steps were given and gave.

    The full-text index keeps no copy, so taking a message out needs the same words again: a
    change here needs a migration that builds the index anew.
    """
    parts = [message.get("toolName") or "", message.get("content") or ""]
    parts += [text for key in ("input", "output") for text in _texts(message.get(key))]
    return "\n".join(part for part in parts if part)[:_SEARCHED]


def _texts(value: Any) -> Iterator[str]:
    stack = [value]
    while stack:
        value = stack.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            stack.extend(reversed(list(value.values())))
        elif isinstance(value, list):
            stack.extend(reversed(value))


def microseconds(text: str) -> int:
    """An ISO 8601 time as microseconds since the epoch; without a zone it is UTC. Raises ValueError."""
    text = text.strip()
    if text[-1:] in "zZ":
        text = text[:-1] + "+00:00"
    # Python 3.10 takes fractions of three and six digits only.
    text = _FRACTION.sub(lambda found: "." + found[1][:6].ljust(6, "0"), text)
    when = datetime.fromisoformat(text)
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    seconds = when - datetime(1970, 1, 1, tzinfo=UTC)
    return (seconds.days * 86_400 + seconds.seconds) * 1_000_000 + seconds.microseconds


def iso(at: int) -> str:
    """Microseconds since the epoch as ``YYYY-MM-DDTHH:MM:SS.mmmZ``."""
    seconds, rest = divmod(at, 1_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest // 1000:03d}Z"


def agent(told: dict[str, Any]) -> str | None:
    """The agent that a message, or a whole request, names as its own."""
    known = told.get("properties") or {}
    name = known.get("agent_name")
    return name if isinstance(name, str) else None


def compact(value: Any) -> str:
    """JSON without blanks, in the text's own characters."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def message_uid(conversation: str, number: int) -> str:
    """The id of a message on the wire: a UUID that holds the row's number, so it needs no column."""
    return str(uuid.UUID(int=(uuid.UUID(conversation).int >> 64 << 64) | (1 << 63) | number))


def message_number(uid: str) -> int:
    """The row's number in an id made by `message_uid`."""
    return uuid.UUID(uid).int & ((1 << 62) - 1)
