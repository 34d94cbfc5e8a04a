"""Address, credentials and HTTP client for Greenflash, from options or copied from a user's client.

gati always creates its own HTTP client: it follows no redirects, bounds time and size of each response (see
`bounded_client`), and keeps working when the user closes theirs.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from gati.exporters.base import SpoolIdentity
from gati.exporters.greenflash import _compat
from gati.settings import hide_credentials

if TYPE_CHECKING:
    import httpx

    from gati.settings import Settings

DEFAULT_URL = "https://www.greenflash.ai/api/v1"
"""The SDK's default, repeated here so that the account is known without importing the SDK."""

_SDK_HEADERS = frozenset(
    {"accept", "accept-encoding", "connection", "user-agent", "content-type", "content-length", "host"}
)


def _fingerprint(*parts: str) -> str:
    return hashlib.sha256("\0".join(("greenflash", *parts)).encode(errors="replace")).hexdigest()[:16]


class Access(NamedTuple):
    """The API's address and credentials. `user_client` is the SDK client that was passed to `init`, if any."""

    base_url: str
    api_key: str | None
    headers: dict[str, str]
    query: dict[str, Any]
    user_client: Any = None

    def __repr__(self) -> str:
        return f"Access({hide_credentials(self.base_url)!r})"  # the other fields may contain secrets

    @property
    def account(self) -> str:
        """Fingerprint of address and key; see `Exporter.account`."""
        secret = self.api_key or next((v for k, v in self.headers.items() if k.lower() == "authorization"), "")
        return _fingerprint(self.base_url, secret)

    def spool_identity(self, product: str | None) -> SpoolIdentity:
        """Return to whom spooled requests belong: to address and product, without a product to address and key.

        Earlier versions always used address and key, so what they left is delivered too.
        """
        address, label = _fingerprint(self.base_url), hide_credentials(self.base_url)
        if product is None:
            return SpoolIdentity(self.account, address, label)
        account = _fingerprint(self.base_url, "product", product)
        return SpoolIdentity(account, address, label, product, former=(self.account,))

    @property
    def problem(self) -> str | None:
        """The reason why no request can succeed; None if there is none."""
        if any(name.lower() == "authorization" for name in self.headers):
            return None
        if not self.api_key:
            return "there is no API key"
        if not self.api_key.isascii() or not self.api_key.isprintable() or " " in self.api_key:
            return "the API key contains invalid characters"
        return None


def resolve_access(settings: Settings) -> Access:
    """Return the access given by a user's SDK client, else by the options."""
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
        user_client=client,
    )


def make_http_client(access: Access, timeout: float, connections: int) -> httpx.Client:
    """Create an HTTP client with the proxies, certificates, transport, headers and auth of the user's client."""
    import httpx  # late: a dependency of the SDK

    from gati.exporters.bounded_client import BoundedClient

    options: dict[str, Any] = {
        "timeout": httpx.Timeout(timeout, connect=min(5.0, timeout)),
        "limits": httpx.Limits(max_connections=connections + 1, max_keepalive_connections=connections),
        "follow_redirects": False,
    }
    user_http = _compat.inner_http_client(access.user_client)
    if isinstance(user_http, (httpx.Client, httpx.AsyncClient)):
        options |= _inherited_options(user_http, options["limits"])
    return BoundedClient(total_timeout=timeout, **options)


def _inherited_options(user_http: Any, limits: httpx.Limits) -> dict[str, Any]:
    """Return arguments for `httpx.Client` that copy a user's httpx client as far as possible."""
    import httpx

    options: dict[str, Any] = {
        "headers": {k: v for k, v in user_http.headers.items() if k.lower() not in _SDK_HEADERS},
        "cookies": user_http.cookies,
        "trust_env": user_http.trust_env,
    }
    if isinstance(user_http, httpx.Client) or type(user_http.auth) is httpx.BasicAuth:
        options["auth"] = user_http.auth
    transport = _matching_transport(_compat.transport(user_http), limits)
    if transport is not None:
        options["transport"] = transport
    mounts = {pattern: _matching_transport(mounted, limits) for pattern, mounted in _compat.mounts(user_http).items()}
    options["mounts"] = {pattern: transport for pattern, transport in mounts.items() if transport is not None}
    return options


def _matching_transport(transport: Any, limits: httpx.Limits) -> httpx.BaseTransport | None:
    """Return a transport that connects like the given one; None if that is not possible.

    A transport of httpx itself is recreated, so that no sockets are shared. A user-defined synchronous one is used
    without closing it. A user-defined asynchronous one cannot be used.
    """
    import httpx

    if type(transport) in (httpx.HTTPTransport, httpx.AsyncHTTPTransport):
        settings = _compat.transport_settings(transport)
        return httpx.HTTPTransport(
            verify=settings.ssl_context or True, proxy=_proxy_of(settings), limits=limits, uds=settings.uds
        )
    if isinstance(transport, httpx.BaseTransport):
        return _borrow_transport(transport)
    return None


def _proxy_of(settings: _compat.TransportSettings) -> httpx.Proxy | None:
    import httpx

    url = settings.proxy_url
    if url is None:
        return None
    text = f"{url.scheme.decode()}://{url.host.decode()}" + (f":{url.port}" if url.port else "")
    return httpx.Proxy(
        text,
        ssl_context=settings.proxy_ssl_context,
        auth=(settings.proxy_auth[0].decode(), settings.proxy_auth[1].decode()) if settings.proxy_auth else None,
        headers=settings.proxy_headers,
    )


def _borrow_transport(transport: httpx.BaseTransport) -> httpx.BaseTransport:
    """Wrap a user's transport so that closing the client does not close it."""
    import httpx

    class BorrowedTransport(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            return transport.handle_request(request)

    return BorrowedTransport()
