"""The address at which people reach the studio through a reverse proxy: its origin, and the path below which it is.

The pages refer to each other by paths that begin at the root. Below another path, they are changed as they are sent.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]+)*")
_TAG = re.compile(rb"<[a-zA-Z][^>]*>")
"""An element. Texts contain no "<", and values of attributes no quotes, because pages escape them."""
_LINK = re.compile(rb'(\s(?:href|src|action|formaction|hx-get|hx-post)=")/(?!/)')


class PublicAddress(NamedTuple):
    """A parsed address: ``https://studio.example.org/gati`` → origin ``https://studio.example.org``, path ``/gati``."""

    origin: str
    path: str

    @property
    def host(self) -> str:
        """The host and the port, if there is one, as in a header `Host`."""
        return urlsplit(self.origin).netloc

    @property
    def is_encrypted(self) -> bool:
        """Return True for https."""
        return self.origin.startswith("https://")

    def __str__(self) -> str:
        return self.origin + self.path


def parse_public_address(text: str) -> PublicAddress:
    """Parse an address. A slash at its end is ignored.

    Raises:
        ValueError: It is not http or https, or has anything but a host, a port and a simple path.
    """
    parts = urlsplit(text)
    path = parts.path.rstrip("/")
    plain = not (parts.query or parts.fragment or parts.username or parts.password)
    if parts.scheme not in ("http", "https") or not parts.hostname or not plain or not _PATH.fullmatch(path):
        raise ValueError(f"{text!r} is no address such as https://studio.example.org/gati")
    port = {("http", 80): None, ("https", 443): None}.get((parts.scheme, parts.port or 0), parts.port)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return PublicAddress(f"{parts.scheme}://{host}{f':{port}' if port else ''}", path)


class BelowPath:
    """Serves an application below a path, whether or not the proxy removes the path from requests."""

    def __init__(self, app: ASGIApp, path: str) -> None:
        self.app, self._path = app, path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = scope["path"]
            if path == self._path or path.startswith(f"{self._path}/"):
                stripped = path[len(self._path) :] or "/"
                scope = {**scope, "path": stripped, "raw_path": stripped.encode()}
            send = _Rewriter(self._path, Headers(scope=scope).get("host", ""), send).send
        await self.app(scope, receive, send)


class _Rewriter:
    """Adds the path to the links and redirects of one response."""

    def __init__(self, path: str, host: str, send: Send) -> None:
        self._path, self._host, self._send = path, host, send
        self._start: Message | None = None
        self._body = bytearray()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=message.setdefault("headers", []))
            if location := headers.get("location"):
                headers["location"] = self._below(location)
            if headers.get("content-type", "").startswith("text/html"):
                self._start = message  # sent with the body, whose length changes
                return
        elif self._start is not None:
            self._body += message.get("body", b"")
            if message.get("more_body"):
                return
            message = await self._send_start(message)
        await self._send(message)

    async def _send_start(self, message: Message) -> Message:
        assert self._start is not None
        prefix = self._path.encode()
        body = _TAG.sub(lambda tag: _LINK.sub(rb"\g<1>" + prefix + b"/", tag[0]), bytes(self._body))
        headers = MutableHeaders(raw=self._start["headers"])
        if "content-length" in headers:
            headers["content-length"] = str(len(body))
        await self._send(self._start)
        self._start = None
        return {**message, "body": body}

    def _below(self, location: str) -> str:
        """``/users?q=a`` → ``/gati/users?q=a``. Redirects to the studio's own host lose it, as proxies may change it."""
        parts = urlsplit(location)
        if parts.netloc not in ("", self._host) or not parts.path.startswith("/"):
            return location
        return parts._replace(scheme="", netloc="", path=self._path + parts.path).geturl()
