"""Serializes requests as JSON lines: the bytes that are queued in memory and written to the spool."""

from __future__ import annotations

from typing import Any

import orjson

from gati.exporters.base import Request


def pack(request: Request) -> bytes:
    """Serialize to one JSON line, without the newline."""
    line = {
        "lane": request.ordering_key,
        "turn": request.turn_id,
        "items": request.items,
        "endpoint": request.endpoint,
        "body": request.body,
    }
    if request.omissions:
        line["omissions"] = request.omissions
    try:
        return orjson.dumps(line)
    except TypeError:
        # A lone surrogate, an integer beyond 64 bits, a key that is not a string: rare, but it must not lose the message.
        return orjson.dumps(_clean(line))


def unpack(line: bytes) -> Request:
    """Parse a line, which anybody may have written.

    Raises:
        ValueError: the line is not a request; also KeyError and TypeError.
    """
    value = orjson.loads(line)
    if not isinstance(value, dict):
        raise ValueError("not an object")
    request = Request(
        ordering_key=value["lane"],
        body=value["body"],
        items=value["items"],
        turn_id=value["turn"],
        endpoint=value["endpoint"],
        omissions=value.get("omissions", 0),
    )
    if not all(isinstance(text, str) for text in (request.ordering_key, request.turn_id, request.endpoint)):
        raise ValueError("not a text")
    if not isinstance(request.body, dict):
        raise ValueError("not a body")
    # Counters add this number up, so it must be one that a line of this length can hold.
    if type(request.omissions) is not int or type(request.items) is not int or not 0 <= request.items <= len(line):
        raise ValueError("not a number of messages")
    return request


def _clean(value: Any, depth: int = 0) -> Any:
    if value is None or isinstance(value, (bool, float)):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else str(value)
    if depth > 200:
        return "[too deep]"
    if isinstance(value, dict):
        return {_clean(str(k), depth): _clean(v, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_clean(v, depth + 1) for v in value]
    return f"[{type(value).__name__}]"
