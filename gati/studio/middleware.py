"""Middleware that limits access to this machine and bounds request bodies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from gati.studio.public_address import PublicAddress

MAX_BODY = 20 * 1024**2
"""Largest accepted request body in bytes."""

_LOCAL_HOSTS = {"localhost", "127.0.0.1", "[::1]"}


class LocalOnly:
    """Rejects requests that do not come from this machine's own pages or programs.

    A web page of another site can make a browser send requests to loopback, also through a DNS name that resolves to
    127.0.0.1 (DNS rebinding). Their `Host`, `Origin` or `Sec-Fetch-Site` headers reveal them.

    With `any_host`, the server is also reached under other names, and only pages of other sites are rejected. Then
    every request needs a token: DNS rebinding does not help a page that does not have it.

    With `public`, pages of that address are the server's own, and links in pages of other sites may open its pages.
    """

    def __init__(self, app: ASGIApp, *, any_host: bool = False, public: PublicAddress | None = None) -> None:
        self.app, self._any_host, self._public = app, any_host, public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        if self._is_foreign(scope, headers):
            await _rejection(403, "This server answers requests from its own machine only")(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _is_foreign(self, scope: Scope, headers: Headers) -> bool:
        host, origin = headers.get("host", "").lower(), headers.get("origin")
        hostname = host if host.endswith("]") else host.rsplit(":", 1)[0]
        if not self._any_host and hostname not in _LOCAL_HOSTS and (self._public is None or host != self._public.host):
            return True
        if origin is not None:
            own = {f"{scope['scheme']}://{host}"} | ({self._public.origin} if self._public else set())
            if origin.lower() not in own:
                return True
        return headers.get("sec-fetch-site") == "cross-site" and not self._is_link(scope, headers)

    def _is_link(self, scope: Scope, headers: Headers) -> bool:
        """Return True if a reader follows a link to a page. It writes nothing, and the other site does not see it."""
        opened = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        return self._public is not None and scope["method"] == "GET" and opened


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
