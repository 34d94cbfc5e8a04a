"""What an answer over HTTP means for what was sent. Pure.

| answer | verdict |
|---|---|
| 2xx that the destination's own check accepts | OK |
| 2xx otherwise, 3xx, 408, 409, 425, 429, ≥500, no answer | RETRY, after `Retry-After` if given |
| 401, 402, 403 | PAUSE |
| 404, 405 | RETRY: the address is wrong, or what it speaks of is still to come |
| 413, 400 and 422 with several items | SPLIT |
| 400 and 422 with one item, or that name an argument of the request | REJECT |
"""

from __future__ import annotations

import email.utils
import json
import math
import re
import time
from collections.abc import Mapping
from typing import Any

import orjson

from gati.exporters.base import Outcome, Verdict

_AGAIN = frozenset({408, 409, 425, 429})
_CLOSED = frozenset({401, 402, 403})
_BAD_ITEM = frozenset({400, 422})
_LONGEST_WAIT = 3600.0
"""Seconds; a server that asks for more is asked again after this."""

_ARGUMENT = re.compile(
    r"\b(productId|externalUserId|externalConversationId|externalOrganizationId|sampleRate|forceSample|systemPrompt)\b"
)
_SIZE = re.compile(r"too (large|big|long)|\bsize\b|payload|exceed", re.IGNORECASE)
_PARENT = re.compile(r"parent", re.IGNORECASE)


def of_status(status: int, headers: Mapping[str, str], body: bytes, items: int) -> Outcome:
    """The verdict on an answer that is not a success."""
    reason = f"HTTP {status}"
    if status in _AGAIN or status >= 500:
        return Outcome(Verdict.RETRY, reason, retry_after(headers))
    if status in _CLOSED:
        return Outcome(Verdict.PAUSE, f"{reason}: the key is refused", retry_after(headers))
    if status == 413:
        return Outcome(Verdict.SPLIT if items > 1 else Verdict.REJECT, f"{reason}: too large")
    if status in _BAD_ITEM:
        said = message(body)
        if "messages" not in said and (named := _ARGUMENT.search(said)):
            return Outcome(Verdict.REJECT, f"{reason}: {named[1]}")
        return Outcome(Verdict.SPLIT if items > 1 else Verdict.REJECT, f"{reason}: refused")
    if status in (404, 405):
        return Outcome(Verdict.RETRY, f"{reason}: is the address right?")
    if status < 400:
        return Outcome(Verdict.RETRY, f"{reason}: redirected, and redirects are not followed: is the address right?")
    return Outcome(Verdict.REJECT, f"{reason}: refused")


def fields(body: bytes) -> dict[str, Any] | None:
    """The answer as a JSON object; None if it is none."""
    try:
        value = orjson.loads(body)
    except ValueError:
        try:
            value = json.loads(body)  # takes more: half a surrogate pair, numbers that are none
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) else None


def message(body: bytes) -> str:
    """What the server says went wrong. It may quote content: for decisions, never for logs."""
    found = fields(body) or {}
    for name in ("message", "error", "detail"):
        if value := found.get(name):
            return value if isinstance(value, str) else json.dumps(value)
    return body[:10_000].decode(errors="replace")


def names_a_parent(status: int, body: bytes) -> bool:
    """Whether the server refuses a link to a message that it does not have."""
    return status in (400, 404, 422) and _PARENT.search(message(body)) is not None


def names_size(status: int, body: bytes) -> bool:
    """Whether the server refuses a request for its size."""
    return status == 413 or (status in _BAD_ITEM and _SIZE.search(message(body)) is not None)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait: `retry-after-ms`, `Retry-After` in seconds or as a date."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return _bounded(milliseconds / 1000)
    header = headers.get("retry-after")
    seconds = _number(header)
    if seconds is not None:
        return _bounded(seconds)
    parsed = email.utils.parsedate_tz(header) if header else None
    if parsed is None:
        return None
    try:
        return _bounded(email.utils.mktime_tz(parsed) - time.time())
    except (ValueError, OverflowError):
        return None


def _number(header: str | None) -> float | None:
    try:
        value = float(header or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), _LONGEST_WAIT)
