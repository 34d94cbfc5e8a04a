"""Middleware that limits access to this machine and bounds request bodies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 20 * 1024**2
"""Largest accepted request body in bytes."""

_LOCAL_HOSTS = {"localhost", "127.0.0.1", "[::1]"}


class LocalOnly:
    """Rejects requests that do not come from this machine's own pages or programs.

    A web page of another site can make a browser send requests to loopback, also through a DNS name that resolves to
    127.0.0.1 (DNS rebinding). Their `Host`, `Origin` or `Sec-Fetch-Site` headers reveal them.

    With `any_host`, the server is also reached under other names, and only pages of other sites are rejected. Then
    every request needs a token: DNS rebinding does not help a page that does not have it.
    """

    def __init__(self, app: ASGIApp, *, any_host: bool = False) -> None:
        self.app, self._any_host = app, any_host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        hostname = host if host.endswith("]") else host.rsplit(":", 1)[0]
        foreign = origin is not None and origin.lower() != f"{scope['scheme']}://{host}".lower()
        other_host = not self._any_host and hostname.lower() not in _LOCAL_HOSTS
        if other_host or foreign or headers.get("sec-fetch-site") == "cross-site":
            await _rejection(403, "This server answers requests from its own machine only")(scope, receive, send)
        else:
            await self.app(scope, receive, send)


class BoundedBody:
    """Reads the whole body first and rejects it above `limit` bytes. Stores it in the scope as ``gati.body``."""

    def __init__(self, app: ASGIApp, limit: int = MAX_BODY) -> None:
        self.app, self.limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        content_length = Headers(scope=scope).get("content-length", "0")
        if content_length.isdecimal() and int(content_length) > self.limit:
            await _rejection(413, "Request body too large")(scope, receive, send)
            return
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            if len(body) > self.limit:
                await _rejection(413, "Request body too large")(scope, receive, send)
                return
            if not message.get("more_body"):
                break
        scope["gati.body"] = bytes(body)
        await self.app(scope, _replay(bytes(body), receive), send)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that first returns the body that was already read."""
    replayed = False

    async def receive_again() -> Message:
        nonlocal replayed
        if replayed:
            return await receive()
        replayed = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


def _rejection(status: int, error: str) -> JSONResponse:
    return JSONResponse({"success": False, "error": error, "message": error}, status)
