"""Maps HTTP responses to verdicts. Pure.

Only the API itself can refuse a message for good or refuse the key. A 4xx response without the API's JSON comes from a
proxy, a firewall or another server, so the request is kept and sent again.

| response | verdict |
|---|---|
| 2xx that passes the exporter's own check | OK |
| other 2xx, 3xx, 408, 409, 425, 429, ≥500, no response | RETRY |
| 404, 405 | RETRY: the address is wrong, or a referenced object does not exist yet |
| 413 with several items | SPLIT |
| any other 4xx without the API's JSON | RETRY |
| 401, 402, 403 | PAUSE |
| 400 and 422 with several items | SPLIT |
| 400 and 422 with one item, or with an error about an argument of the whole request; 413; other 4xx | REJECT |

`Retry-After` is part of the outcome, whatever the verdict.
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

_RETRY_STATUSES = frozenset({408, 409, 425, 429})
_AUTH_STATUSES = frozenset({401, 402, 403})
_INVALID_STATUSES = frozenset({400, 422})
_MAX_WAIT_SECONDS = 3600.0
"""Longest `Retry-After` that is respected."""

_ARGUMENT_NAME = re.compile(
    r"\b(productId|externalUserId|externalConversationId|externalOrganizationId|sampleRate|forceSample|systemPrompt)\b"
)
_SIZE_ERROR = re.compile(r"too (large|big|long)|\bsize\b|payload|exceed", re.IGNORECASE)
_ERROR_KEYS = ("message", "error", "detail")
_KEY_ERROR = re.compile(rb"\s*(Authentication required|Invalid authorization|Invalid API key)", re.IGNORECASE)
_PARENT_ERROR = re.compile(r"parent", re.IGNORECASE)
_PROMPT_ERROR = re.compile(r"prompt|variables", re.IGNORECASE)


def from_status(status: int, headers: Mapping[str, str], body: bytes, items: int) -> Outcome:
    """Return the outcome for a response that is not a success.

    Args:
        status: HTTP status.
        headers: Response headers.
        body: Response body.
        items: Number of items in the request; a single item cannot be split.
    """
    verdict, explanation = _verdict(status, body, items)
    reason = f"HTTP {status}: {explanation}" if explanation else f"HTTP {status}"
    return Outcome(verdict, reason, retry_after(headers), key_refused=verdict is Verdict.PAUSE and status == 401)


def _verdict(status: int, body: bytes, items: int) -> tuple[Verdict, str]:
    if status in _RETRY_STATUSES or status >= 500:
        return Verdict.RETRY, ""
    if status < 400:
        return Verdict.RETRY, "redirected, and redirects are not followed: is the address right?"
    if status in (404, 405):
        return Verdict.RETRY, "is the address right?"
    if status == 413 and items > 1:
        return Verdict.SPLIT, "too large"
    if not is_api_error(status, body):
        return Verdict.RETRY, "not an answer of the API"
    if status in _AUTH_STATUSES:
        return Verdict.PAUSE, "the key is refused"
    if status == 413:
        return Verdict.REJECT, "too large"
    if status in _INVALID_STATUSES:
        error = error_message(body)
        if "messages" not in error and (argument := _ARGUMENT_NAME.search(error)):
            return Verdict.REJECT, argument[1]
        return Verdict.SPLIT if items > 1 else Verdict.REJECT, "refused"
    return Verdict.REJECT, "refused"


def is_api_error(status: int, body: bytes) -> bool:
    """Return True if the body is an error of the API: a JSON object with an error message.

    For status 401, which refuses the key and no message, any JSON object and the API's texts without JSON suffice.
    """
    answer = json_object(body)
    if status == 401:
        return answer is not None or _KEY_ERROR.match(body) is not None
    return answer is not None and (answer.get("success") is False or any(answer.get(name) for name in _ERROR_KEYS))


def json_object(body: bytes) -> dict[str, Any] | None:
    """Parse a response body; None if it is not a JSON object."""
    try:
        value = orjson.loads(body)
    except ValueError:
        try:
            value = json.loads(body)  # accepts more than orjson: lone surrogates, NaN
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) else None


def error_message(body: bytes) -> str:
    """Return the error message in a response body. It may quote content, so it must never be logged."""
    answer = json_object(body) or {}
    for name in _ERROR_KEYS:
        if value := answer.get(name):
            return value if isinstance(value, str) else json.dumps(value)
    return body[:10_000].decode(errors="replace")


def rejects_parent_link(status: int, body: bytes) -> bool:
    """Return True if the server rejected a link to a parent message that it does not have."""
    return _is_error_about(_PARENT_ERROR, status, body)


def rejects_prompt(status: int, body: bytes) -> bool:
    """Return True if the server rejected the system prompt, for example a reference to one that it does not have."""
    return _is_error_about(_PROMPT_ERROR, status, body)


def _is_error_about(words: re.Pattern[str], status: int, body: bytes) -> bool:
    """Return True if the API refused the content of a request and its message contains the words."""
    if status not in (400, 404, 422) or not is_api_error(status, body):
        return False
    return words.search(error_message(body)) is not None


def rejects_size(status: int, body: bytes) -> bool:
    """Return True if the server rejected a request because of its size."""
    if status == 413:
        return True
    return (
        status in _INVALID_STATUSES
        and is_api_error(status, body)
        and _SIZE_ERROR.search(error_message(body)) is not None
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait, from `retry-after-ms` or from `Retry-After` in seconds or as a date."""
    milliseconds = _parse_seconds(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return _clamp_wait(milliseconds / 1000)
    header = headers.get("retry-after")
    seconds = _parse_seconds(header)
    if seconds is not None:
        return _clamp_wait(seconds)
    parsed = email.utils.parsedate_tz(header) if header else None
    if parsed is None:
        return None
    try:
        return _clamp_wait(email.utils.mktime_tz(parsed) - time.time())
    except (ValueError, OverflowError):
        return None


def _parse_seconds(header: str | None) -> float | None:
    try:
        value = float(header or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _clamp_wait(seconds: float) -> float:
    return min(max(seconds, 0.0), _MAX_WAIT_SECONDS)
