"""The names of the Greenflash SDK and of httpx that are not promised to stay, each read with a fallback.

All but the loggers serve one thing: what a client given to `init` holds is taken over by ours.
Without any one of them gati delivers all the same, and loses only what its line says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import ssl

LOGGERS = ("greenflash._base_client", "greenflash._response")
"""Loggers named after modules of the SDK. Lost without them: silence about our own requests, in
programs whose root logger is at DEBUG."""


class Wire(NamedTuple):
    """How a transport of httpx connects. Lost without it: certificates, Unix socket, proxy of the user's client."""

    ssl_context: ssl.SSLContext | None
    uds: str | None
    proxy_url: Any
    """Scheme, host and port, as httpcore keeps them."""
    proxy_headers: list[tuple[bytes, bytes]]
    proxy_auth: tuple[bytes, bytes] | None
    """Of SOCKS; that of HTTP proxies stands in the headers."""
    proxy_ssl_context: ssl.SSLContext | None


def default_headers(client: Any) -> dict[str, str]:
    """`default_headers` of an SDK client. Lost without it: just these headers."""
    given = dict(getattr(client, "_custom_headers", None) or {})
    return {name: value for name, value in given.items() if isinstance(value, str)}


def default_query(client: Any) -> dict[str, Any]:
    """`default_query` of an SDK client. Lost without it: just these parameters."""
    return dict(getattr(client, "_custom_query", None) or {})


def http_client(client: Any) -> Any:
    """The httpx client of an SDK client. Lost without it: all that the user set there."""
    return getattr(client, "_client", None)


def transport(http: Any) -> Any:
    """The transport of an httpx client. Lost without it: how it connects."""
    return getattr(http, "_transport", None)


def mounts(http: Any) -> dict[str, Any]:
    """Transports of an httpx client by URL pattern. Lost without it: those, proxies of the environment apart."""
    return {pattern.pattern: mounted for pattern, mounted in (getattr(http, "_mounts", None) or {}).items()}


def wire(transport: Any) -> Wire:
    """How a transport connects."""
    pool = getattr(transport, "_pool", None)
    return Wire(
        ssl_context=getattr(pool, "_ssl_context", None),
        uds=getattr(pool, "_uds", None),
        proxy_url=getattr(pool, "_proxy_url", None),
        proxy_headers=list(getattr(pool, "_proxy_headers", None) or []),
        proxy_auth=getattr(pool, "_proxy_auth", None),
        proxy_ssl_context=getattr(pool, "_proxy_ssl_context", None),
    )
