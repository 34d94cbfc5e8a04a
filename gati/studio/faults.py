"""Faults on demand: what a server, a proxy or a network does on a bad day.

Tests give a `Faults` to `server.create_app`, or steer a server in another process through
``/__faults__`` (only with `serve(..., control=True)`), whose body names one of the
constructors below: ``{"kind": "rate_limited", "retry_after": "2"}``.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, Literal


@dataclass
class Fault:
    """One kind of trouble.

    Attributes:
        name: what it is called in `Faults.hits`.
        status: HTTP status of the answer, None when there is none or the usual one.
        when: before or after the request's work is done and kept.
        times: to how many requests it happens; None for all.
        path: beginning of the paths it happens to.
        hits: looks at the JSON body; False lets the request pass untouched.
        delay: seconds to wait first. `hang`: never answer. `reset`: break the connection (RST).
    """

    name: str
    status: int | None = None
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    when: Literal["before", "after"] = "before"
    times: int | None = 1
    path: str = "/api/"
    hits: Callable[[Any, int], bool] | None = None
    delay: float = 0.0
    hang: bool = False
    reset: bool = False


class Faults:
    """The faults in store for the next requests; the first that fits happens. Thread-safe."""

    def __init__(self) -> None:
        self.hits: Counter[str] = Counter()
        self.known: Callable[[dict[str, Any]], set[str]] = lambda body: set()
        """Ids of messages that the server has of a body's conversation; `server` sets it."""
        self._lock = threading.Lock()
        self._waiting: list[Fault] = []
        self.generation = 0
        """Grows with `clear`: requests that hang end when it does."""

    def add(self, *faults: Fault) -> None:
        """Put faults at the end of the row."""
        with self._lock:
            self._waiting.extend(faults)

    def clear(self) -> None:
        """A good day again; requests that hang are let go."""
        with self._lock:
            self._waiting.clear()
            self.generation += 1

    def take(self, path: str, body: bytes) -> Fault | None:
        """The fault that happens to this request, if any."""
        with self._lock:
            fits = (fault for fault in self._waiting if path.startswith(fault.path) and _hits(fault, body))
            fault = next(fits, None)
            if fault is None:
                return None
            self.hits[fault.name] += 1
            if fault.times is not None:
                fault.times -= 1
                if fault.times <= 0:
                    self._waiting.remove(fault)
            return fault

    def make(self, kind: str, **options: Any) -> Fault:
        """A fault by the name of its constructor; what `/__faults__` uses. Raises ValueError."""
        if kind == "unknown_parent":
            return unknown_parent(lambda body: self.known(body), **options)
        if kind not in KINDS:
            raise ValueError(f"no fault {kind!r}; there are {', '.join([*KINDS, 'unknown_parent'])}")
        return KINDS[kind](**options)


def _hits(fault: Fault, body: bytes) -> bool:
    if fault.hits is None:
        return True
    try:
        told = json.loads(body)
    except ValueError:
        return False
    return isinstance(told, dict) and fault.hits(told, len(body))


def _answer(name: str, status: int, error: str, **more: Any) -> Fault:
    body = json.dumps({"success": False, "error": error, "message": error}).encode()
    headers = {"content-type": "application/json", **more.pop("headers", {})}
    return Fault(name, status, body, headers, **more)


def failing(status: int = 500, **more: Any) -> Fault:
    """An answer with this status: 500, 503, 408, 409, …"""
    return _answer(f"failing {status}", status, "Internal server error" if status >= 500 else "Request failed", **more)


def rate_limited(retry_after: str | None = "1", header: str = "Retry-After", **more: Any) -> Fault:
    """429. `retry_after`: seconds, an HTTP date (see `http_date`), nonsense, or None for no header."""
    headers = {} if retry_after is None else {header: retry_after}
    return _answer("rate_limited", 429, "Rate limit exceeded", headers=headers, **more)


def http_date(seconds: float) -> str:
    """The HTTP date in so many seconds: the other form of Retry-After."""
    import time

    return formatdate(time.time() + seconds, usegmt=True)


def unauthorized(status: int = 401, **more: Any) -> Fault:
    """401 or 403, as for a key that was withdrawn."""
    return _answer("unauthorized", status, "Invalid API key" if status == 401 else "Forbidden", **more)


def too_large(items: int | None = None, size: int | None = None, status: int = 413, **more: Any) -> Fault:
    """413 (or a 400 that names the size) for more messages or bytes than this; by default for every request."""

    def hits(body: dict[str, Any], length: int) -> bool:
        count = len(body.get("messages") or body.get("events") or ())
        return (items is not None and count > items) or (size is not None and length > size)

    more = {"times": None, "hits": hits, **more}
    return _answer("too_large", status, "Validation error: request body too large", **more)


def bad_message(external_id: str, status: int = 400, **more: Any) -> Fault:
    """400 or 422 for each request that holds this message."""

    def hits(body: dict[str, Any], _: int) -> bool:
        ids = [message.get("externalMessageId") or message.get("event_id") for message in _items(body)]
        return external_id in ids

    more = {"times": None, "hits": hits, **more}
    return _answer("bad_message", status, "Validation error: messages: Invalid input", **more)


def unknown_parent(known: Callable[[dict[str, Any]], set[str]], status: int = 400, **more: Any) -> Fault:
    """400 for messages whose parent is neither here nor earlier in the request; `known` gives the ids here."""

    def hits(body: dict[str, Any], _: int) -> bool:
        seen = set(known(body))
        for message in _items(body):
            parent = message.get("parentExternalMessageId")
            if parent is not None and parent not in seen:
                return True
            seen.add(message.get("externalMessageId") or "")
        return False

    more = {"times": None, "hits": hits, **more}
    return _answer("unknown_parent", status, "Parent message not found", **more)


def no_parents(status: int = 400, **more: Any) -> Fault:
    """400 for every request with a link to a parent: a server that refuses them all."""
    more = {"times": None, "hits": lambda body, _: any("parentExternalMessageId" in m for m in _items(body)), **more}
    return _answer("no_parents", status, "Parent message not found", **more)


def _items(body: dict[str, Any]) -> list[dict[str, Any]]:
    items = body.get("messages") or body.get("events") or []
    return [item for item in items if isinstance(item, dict)]


def slow(seconds: float, **more: Any) -> Fault:
    """The usual answer, late."""
    return Fault("slow", delay=seconds, **more)


def black_hole(after_commit: bool = False, **more: Any) -> Fault:
    """No answer ever; with `after_commit` the request was kept all the same."""
    return Fault("black_hole", hang=True, when="after" if after_commit else "before", **more)


def reset(after_commit: bool = False, **more: Any) -> Fault:
    """The connection breaks; with `after_commit` the request was kept all the same."""
    return Fault("reset", reset=True, when="after" if after_commit else "before", **more)


def html(status: int = 200, **more: Any) -> Fault:
    """A web page with status 200, as a proxy or a captive portal answers."""
    return Fault("html", status, b"<!doctype html><title>Welcome</title>", {"content-type": "text/html"}, **more)


def json_value(value: Any = None, status: int = 200, **more: Any) -> Fault:
    """Status 200 with some JSON that is no answer: a list, null, ``{"success": false}``."""
    return Fault("json_value", status, json.dumps(value).encode(), {"content-type": "application/json"}, **more)


def redirect(to: str = "/elsewhere", status: int = 302, **more: Any) -> Fault:
    """A redirect, which a client must not follow with a POST."""
    return Fault("redirect", status, b"", {"location": to}, **more)


def empty(status: int = 204, **more: Any) -> Fault:
    """Success without a body."""
    return Fault("empty", status, **more)


KINDS: dict[str, Callable[..., Fault]] = {
    maker.__name__: maker
    for maker in (
        failing, rate_limited, unauthorized, too_large, bad_message, no_parents, slow, black_hole, reset, html,
        json_value, redirect, empty,
    )
}  # fmt: skip
