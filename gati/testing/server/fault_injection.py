"""Faults that a server, a proxy or a network can have, and the queue that injects them.

Pass a `FaultInjector` to `app.create_test_app`. To control a server in another process, post to ``/__faults__`` the
name in `KINDS` and the arguments of a fault: ``{"kind": "rate_limited", "retry_after": "2"}``.
"""

from __future__ import annotations

import itertools
import json
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, Literal


@dataclass
class InjectedFault:
    """A fault and the requests it applies to.

    Attributes:
        name: Key in `FaultInjector.hits`.
        status: HTTP status of the response; None for the usual response or for none at all.
        body: Body of the response.
        headers: Headers of the response.
        when: Before or after the request is processed.
        times: Number of requests it applies to; None for all.
        path: Prefix of the paths it applies to.
        methods: HTTP methods it applies to.
        applies: Called with the JSON body and its length; the fault applies if it returns True.
        delay: Seconds to wait first.
        hang: Never respond.
        reset: Reset the connection (RST).
        answer: Makes the body of the response from the request's JSON, instead of `body`.
        pieces: Returns the bytes to write to the connection instead of a response, piece by piece, until the client
            disconnects.
        pause: Seconds between two pieces.
    """

    name: str
    status: int | None = None
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    when: Literal["before", "after"] = "before"
    times: int | None = 1
    path: str = "/api/"
    methods: tuple[str, ...] = ("POST",)
    applies: Callable[[Any, int], bool] | None = None
    delay: float = 0.0
    hang: bool = False
    reset: bool = False
    answer: Callable[[dict[str, Any]], bytes] | None = None
    pieces: Callable[[], Iterator[bytes]] | None = None
    pause: float = 0.0


class FaultInjector:
    """Faults queued for the next requests. The first fault that applies to a request is injected. Thread-safe.

    Attributes:
        hits: Number of injected faults by name.
        known_ids: Returns the ids of the stored messages in the conversation of a request body. Set by
            `create_test_app`.
        generation: Increases with each `clear`, which ends hanging requests.
    """

    def __init__(self) -> None:
        self.hits: Counter[str] = Counter()
        self.known_ids: Callable[[dict[str, Any]], set[str]] = lambda body: set()
        self.generation = 0
        self._lock = threading.Lock()
        self._queue: list[InjectedFault] = []

    def add(self, *faults: InjectedFault) -> None:
        """Append faults to the queue."""
        with self._lock:
            self._queue.extend(faults)

    def clear(self) -> None:
        """Remove all faults and end hanging requests."""
        with self._lock:
            self._queue.clear()
            self.generation += 1

    def take(self, path: str, body: bytes, method: str = "POST") -> InjectedFault | None:
        """Return the fault to inject into this request, if any, and count it."""
        with self._lock:
            candidates = (
                fault
                for fault in self._queue
                if method in fault.methods and path.startswith(fault.path) and _applies_to(fault, body)
            )
            fault = next(candidates, None)
            if fault is None:
                return None
            self.hits[fault.name] += 1
            if fault.times is not None:
                fault.times -= 1
                if fault.times <= 0:
                    self._queue.remove(fault)
            return fault

    def create(self, kind: str, **options: Any) -> InjectedFault:
        """Create a fault by its name in `KINDS`, or "unknown_parent". Raises ValueError for an unknown name."""
        if kind == "unknown_parent":
            return unknown_parent(lambda body: self.known_ids(body), **options)
        if kind not in KINDS:
            raise ValueError(f"no fault {kind!r}; there are {', '.join([*KINDS, 'unknown_parent'])}")
        return KINDS[kind](**options)


def _applies_to(fault: InjectedFault, body: bytes) -> bool:
    if fault.applies is None:
        return True
    try:
        parsed = json.loads(body)
    except ValueError:
        return False
    return isinstance(parsed, dict) and fault.applies(parsed, len(body))


def _error_fault(name: str, status: int, error: str, **more: Any) -> InjectedFault:
    body = json.dumps({"success": False, "error": error, "message": error}).encode()
    headers = {"content-type": "application/json", **more.pop("headers", {})}
    return InjectedFault(name, status, body, headers, **more)


def failing(status: int = 500, **more: Any) -> InjectedFault:
    """An error response with any status: 500, 503, 408, 409, …"""
    error = "Internal server error" if status >= 500 else "Request failed"
    return _error_fault(f"failing {status}", status, error, **more)


def rate_limited(retry_after: str | None = "1", header: str = "Retry-After", **more: Any) -> InjectedFault:
    """A 429 response. `retry_after`: seconds, an HTTP date (see `http_date`), any text, or None for no header."""
    headers = {} if retry_after is None else {header: retry_after}
    return _error_fault("rate_limited", 429, "Rate limit exceeded", headers=headers, **more)


def http_date(seconds: float) -> str:
    """Return the HTTP date `seconds` from now, the other form of Retry-After."""
    import time

    return formatdate(time.time() + seconds, usegmt=True)


def unauthorized(status: int = 401, **more: Any) -> InjectedFault:
    """A 401 or 403 response, as for a revoked key."""
    return _error_fault("unauthorized", status, "Invalid API key" if status == 401 else "Forbidden", **more)


def too_large(items: int | None = None, size: int | None = None, status: int = 413, **more: Any) -> InjectedFault:
    """A 413 response (or a 400 that names the size) to any request with more messages or bytes than this."""

    def applies(body: dict[str, Any], length: int) -> bool:
        count = len(body.get("messages") or body.get("events") or ())
        return (items is not None and count > items) or (size is not None and length > size)

    more = {"times": None, "applies": applies, **more}
    return _error_fault("too_large", status, "Validation error: request body too large", **more)


def bad_message(external_id: str, status: int = 400, **more: Any) -> InjectedFault:
    """A 400 or 422 response to any request that contains this message."""

    def applies(body: dict[str, Any], _: int) -> bool:
        ids = [message.get("externalMessageId") or message.get("event_id") for message in _messages_or_events(body)]
        return external_id in ids

    more = {"times": None, "applies": applies, **more}
    return _error_fault("bad_message", status, "Validation error: messages: Invalid input", **more)


def unknown_parent(known_ids: Callable[[dict[str, Any]], set[str]], status: int = 400, **more: Any) -> InjectedFault:
    """A 400 response to messages whose parent is neither stored (see `known_ids`) nor earlier in the request."""

    def applies(body: dict[str, Any], _: int) -> bool:
        seen = set(known_ids(body))
        for message in _messages_or_events(body):
            parent = message.get("parentExternalMessageId")
            if parent is not None and parent not in seen:
                return True
            seen.add(message.get("externalMessageId") or "")
        return False

    more = {"times": None, "applies": applies, **more}
    return _error_fault("unknown_parent", status, "Parent message not found", **more)


def no_parents(status: int = 400, **more: Any) -> InjectedFault:
    """A 400 response to any message with a parent."""

    def applies(body: dict[str, Any], _: int) -> bool:
        return any("parentExternalMessageId" in message for message in _messages_or_events(body))

    more = {"times": None, "applies": applies, **more}
    return _error_fault("no_parents", status, "Parent message not found", **more)


def unknown_prompt(status: int = 400, **more: Any) -> InjectedFault:
    """A 400 response to any reference to a system prompt, as if the prompt did not exist."""
    more = {"times": None, "applies": lambda body, _: _refers_to_prompt(body), **more}
    return _error_fault("unknown_prompt", status, "systemPrompt: Prompt not found", **more)


def no_prompt_variables(status: int = 400, **more: Any) -> InjectedFault:
    """A 400 response to a reference to a system prompt that has variables."""

    def applies(body: dict[str, Any], _: int) -> bool:
        return _refers_to_prompt(body) and "variables" in body["systemPrompt"]

    more = {"times": None, "applies": applies, **more}
    return _error_fault("no_prompt_variables", status, "systemPrompt.variables: not allowed here", **more)


def _refers_to_prompt(body: dict[str, Any]) -> bool:
    prompt = body.get("systemPrompt")
    return isinstance(prompt, dict) and not {"content", "components"} & prompt.keys()


def _messages_or_events(body: dict[str, Any]) -> list[dict[str, Any]]:
    items = body.get("messages") or body.get("events") or []
    return [item for item in items if isinstance(item, dict)]


def slow(seconds: float, **more: Any) -> InjectedFault:
    """The usual response after a delay."""
    return InjectedFault("slow", delay=seconds, **more)


def black_hole(after_commit: bool = False, **more: Any) -> InjectedFault:
    """No response. With `after_commit` the request is processed nevertheless."""
    return InjectedFault("black_hole", hang=True, when="after" if after_commit else "before", **more)


def connection_reset(after_commit: bool = False, **more: Any) -> InjectedFault:
    """A connection reset. With `after_commit` the request is processed nevertheless."""
    return InjectedFault("reset", reset=True, when="after" if after_commit else "before", **more)


def html(status: int = 200, **more: Any) -> InjectedFault:
    """A web page with status 200, as a proxy or a captive portal responds."""
    body = b"<!doctype html><title>Welcome</title>"
    return InjectedFault("html", status, body, {"content-type": "text/html"}, **more)


def json_value(value: Any = None, status: int = 200, **more: Any) -> InjectedFault:
    """Status 200 with unexpected JSON: a list, null, ``{"success": false}``."""
    return InjectedFault("json_value", status, json.dumps(value).encode(), {"content-type": "application/json"}, **more)


def redirect(to: str = "/elsewhere", status: int = 302, **more: Any) -> InjectedFault:
    """A redirect, which clients must not follow with a POST."""
    return InjectedFault("redirect", status, b"", {"location": to}, **more)


def empty(status: int = 204, **more: Any) -> InjectedFault:
    """A successful response without a body."""
    return InjectedFault("empty", status, **more)


def partial_answer(listed: int | None = 1, ids: bool = True, status: str = "created", **more: Any) -> InjectedFault:
    """A success that lists only the first messages (None for all), without external ids, or with another status."""

    def answer(body: dict[str, Any]) -> bytes:
        entries = []
        for number, message in enumerate((body.get("messages") or [])[:listed]):
            entry = {"messageId": f"m{number}", "messageType": message.get("messageType", ""), "status": status}
            entries.append({**entry, "externalMessageId": message.get("externalMessageId")} if ids else entry)
        return json.dumps({"success": True, "conversationId": "c", "messages": entries}).encode()

    more = {"when": "after", "headers": {"content-type": "application/json"}, **more}
    return InjectedFault("partial_answer", 201, answer=answer, **more)


_OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


def trickling(part: Literal["headers", "body", "chunks"] = "body", pause: float = 0.1, **more: Any) -> InjectedFault:
    """A response without an end, a few bytes at a time, so that no single read times out."""

    def pieces() -> Iterator[bytes]:
        if part == "headers":
            yield _OK
            yield from (b"x-%d: 1\r\n" % number for number in itertools.count())
        elif part == "body":
            yield _OK + b"content-length: 100000\r\n\r\n"
            yield from itertools.repeat(b" ")
        else:
            yield _OK + b"transfer-encoding: chunked\r\n\r\n"
            yield from itertools.repeat(b"1\r\n \r\n")

    return InjectedFault(f"trickling {part}", pieces=pieces, pause=pause, **more)


def endless_body(**more: Any) -> InjectedFault:
    """A response whose body never ends, as fast as the client reads."""

    def pieces() -> Iterator[bytes]:
        yield _OK + b"transfer-encoding: chunked\r\n\r\n"
        yield from itertools.repeat(b"%x\r\n" % 2**16 + b" " * 2**16 + b"\r\n")

    return InjectedFault("endless_body", pieces=pieces, **more)


def endless_informational(status: int = 100, pause: float = 0.001, **more: Any) -> InjectedFault:
    """Informational (1xx) responses without an end."""
    return InjectedFault(
        "endless_informational",
        pieces=lambda: itertools.repeat(b"HTTP/1.1 %d Wait\r\n\r\n" % status),
        pause=pause,
        **more,
    )


def gzip_bomb(size: int = 256 * 1024**2, **more: Any) -> InjectedFault:
    """A small compressed response that decompresses to `size` zeros."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    zeros = bytes(2**20)
    body = b"".join([*(compressor.compress(zeros) for _ in range(size // 2**20)), compressor.flush()])
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    return InjectedFault("gzip_bomb", 200, body, headers, **more)


KINDS: dict[str, Callable[..., InjectedFault]] = {
    "failing": failing,
    "rate_limited": rate_limited,
    "unauthorized": unauthorized,
    "too_large": too_large,
    "bad_message": bad_message,
    "no_parents": no_parents,
    "unknown_prompt": unknown_prompt,
    "no_prompt_variables": no_prompt_variables,
    "slow": slow,
    "black_hole": black_hole,
    "reset": connection_reset,
    "html": html,
    "json_value": json_value,
    "redirect": redirect,
    "empty": empty,
    "partial_answer": partial_answer,
    "trickling": trickling,
    "endless_body": endless_body,
    "endless_informational": endless_informational,
    "gzip_bomb": gzip_bomb,
}
"""The faults that ``/__faults__`` accepts, by the name of their `kind`."""
