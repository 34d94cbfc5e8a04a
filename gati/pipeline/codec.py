"""Serializes requests as JSON lines: the bytes that are queued in memory and written to the spool."""

from __future__ import annotations

from typing import Any

import orjson

from gati.exporters.base import PackedRequest, Request

_BODY = b'"body":{'
"""The beginning of the body. JSON escapes quotes, so no text before it contains these bytes."""


def pack(request: Request) -> bytes:
    """Serialize to one JSON line, without the newline."""
    if isinstance(request, PackedRequest) and request.line is not None:
        return request.line
    line: dict[str, Any] = {
        "lane": request.ordering_key,
        "turn": request.turn_id,
        "items": request.items,
        "endpoint": request.endpoint,
    }
    if request.omissions:
        line["omissions"] = request.omissions
    if isinstance(request, PackedRequest) and request.content is not None:
        # Where the list of items is, so that `unpack_lazily` need not parse the rest.
        line |= {"list": request.name, "at": len(request.fields)}
        head = _dumps(line)[:-1]
        return b"%b,%b%b}}" % (head, _BODY, request.body_json(request.fields))
    line["body"] = request.body
    return _dumps(line)


def _dumps(line: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(line)
    except TypeError:
        # A lone surrogate, an integer beyond 64 bits, a key that is not a string: rare, but it must not lose the message.
        return orjson.dumps(_clean(line))


def unpack_lazily(line: bytes) -> Request:
    """Return the request of a line that `pack` made or `unpack` has checked, with a body that is parsed when it is read."""
    begin = line.find(_BODY)
    head = orjson.loads(line[: begin - 1] + b"}") if begin > 0 and line.endswith(b"]}}") else {}
    name, at = head.get("list"), head.get("at")
    if not isinstance(name, str) or type(at) is not int or at < 0:
        return unpack(line)
    begin += len(_BODY)
    start = b'%b"%b":[' % (b"," if at else b"", name.encode())
    if line[begin + at : begin + at + len(start)] != start:
        return unpack(line)
    request = PackedRequest.of(head["lane"], head["turn"], head["endpoint"], name, line[begin : begin + at], ())
    request.content = line[begin + at + len(start) : -3]
    request.items, request.omissions, request.line = head["items"], head.get("omissions", 0), line
    return request


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
