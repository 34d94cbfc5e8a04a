"""How the sender reaches Greenflash: a key and address, or what a user's own client holds.

Our client is always one of our own: its requests are not followed through redirects, its
timeouts are ours, and closing theirs does not close it.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from gati.exporters.greenflash import _compat

if TYPE_CHECKING:
    import httpx

    from gati.settings import Settings

DEFAULT_URL = "https://www.greenflash.ai/api/v1"
"""The SDK's own; said here so that the account is known without loading it."""

_OWN_HEADERS = frozenset(
    {"accept", "accept-encoding", "connection", "user-agent", "content-type", "content-length", "host"}
)


class Access(NamedTuple):
    """Who we are and where the API is. `theirs` is the user's client, whose settings are taken over."""

    base_url: str
    api_key: str | None
    headers: dict[str, str]
    query: dict[str, Any]
    theirs: Any = None

    def __repr__(self) -> str:
        return f"Access({self.base_url!r})"  # the rest may hold secrets

    @property
    def account(self) -> str:
        """Fingerprint of address and key."""
        secret = self.api_key or next((v for k, v in self.headers.items() if k.lower() == "authorization"), "")
        return hashlib.sha256(f"greenflash\0{self.base_url}\0{secret}".encode(errors="replace")).hexdigest()[:16]

    @property
    def fault(self) -> str | None:
        """Why no request can be made, in words; None if nothing speaks against it."""
        if any(name.lower() == "authorization" for name in self.headers):
            return None
        if not self.api_key:
            return "there is no API key"
        if not self.api_key.isascii() or not self.api_key.isprintable() or " " in self.api_key:
            return "the API key holds characters that no key has"
        return None


def access(settings: Settings) -> Access:
    """From a client of the user's, else from the options."""
    client = settings.client
    if client is None:
        key = settings.api_key.get_secret_value() if settings.api_key else None
        url = settings.base_url or os.environ.get("GREENFLASH_BASE_URL") or DEFAULT_URL
        return Access(url.rstrip("/"), key, {}, {})
    key = getattr(client, "api_key", None)
    return Access(
        base_url=str(getattr(client, "base_url", DEFAULT_URL)).rstrip("/"),
        api_key=key.strip() if isinstance(key, str) else None,
        headers=_compat.default_headers(client),
        query=_compat.default_query(client),
        theirs=client,
    )


def http_client(access: Access, timeout: float, connections: int) -> httpx.Client:
    """An HTTP client that goes the way the user's goes: proxies, certificates, transport, headers, auth."""
    import httpx  # late: comes with the SDK

    options: dict[str, Any] = {
        "timeout": httpx.Timeout(timeout, connect=min(5.0, timeout)),
        "limits": httpx.Limits(max_connections=connections + 1, max_keepalive_connections=connections),
        "follow_redirects": False,
    }
    theirs = _compat.http_client(access.theirs)
    if isinstance(theirs, (httpx.Client, httpx.AsyncClient)):
        options |= _taken_over(theirs, options["limits"])
    return httpx.Client(**options)


def _taken_over(theirs: Any, limits: httpx.Limits) -> dict[str, Any]:
    """What can be had of an httpx client."""
    import httpx

    options: dict[str, Any] = {
        "headers": {k: v for k, v in theirs.headers.items() if k.lower() not in _OWN_HEADERS},
        "cookies": theirs.cookies,
        "trust_env": theirs.trust_env,
    }
    if isinstance(theirs, httpx.Client) or type(theirs.auth) is httpx.BasicAuth:
        options["auth"] = theirs.auth
    transport = _like(_compat.transport(theirs), limits)
    if transport is not None:
        options["transport"] = transport
    mounts = {pattern: _like(mounted, limits) for pattern, mounted in _compat.mounts(theirs).items()}
    options["mounts"] = {pattern: transport for pattern, transport in mounts.items() if transport is not None}
    return options


def _like(transport: Any, limits: httpx.Limits) -> httpx.BaseTransport | None:
    """A transport of our own that connects as the given one: a plain one is made anew (its sockets are not
    shared, not even by a fork), a synchronous one of the user's is borrowed, an asynchronous one cannot be had.
    """
    import httpx

    if type(transport) in (httpx.HTTPTransport, httpx.AsyncHTTPTransport):
        wire = _compat.wire(transport)
        return httpx.HTTPTransport(verify=wire.ssl_context or True, proxy=_proxy(wire), limits=limits, uds=wire.uds)
    if isinstance(transport, httpx.BaseTransport):
        return _borrowed(transport)
    return None


def _proxy(wire: _compat.Wire) -> httpx.Proxy | None:
    import httpx

    url = wire.proxy_url
    if url is None:
        return None
    text = f"{url.scheme.decode()}://{url.host.decode()}" + (f":{url.port}" if url.port else "")
    return httpx.Proxy(
        text,
        ssl_context=wire.proxy_ssl_context,
        auth=(wire.proxy_auth[0].decode(), wire.proxy_auth[1].decode()) if wire.proxy_auth else None,
        headers=wire.proxy_headers,
    )


def _borrowed(transport: httpx.BaseTransport) -> httpx.BaseTransport:
    """The user's transport, which is theirs to close."""
    import httpx

    class Borrowed(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            return transport.handle_request(request)

    return Borrowed()
