"""Private names of the Greenflash SDK and of httpx, each read with a fallback.

Most serve to copy the settings of a client passed to `init`. If one is missing, gati keeps delivering
and loses only the feature named in its docstring.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

LOGGERS = ("greenflash._base_client", "greenflash._response")
"""Loggers of the SDK. Lost without them: the suppression of records about gati's own requests at DEBUG."""


class TransportSettings(NamedTuple):
    """Connection settings of an httpx transport. Lost without them: the user's certificates, Unix socket and proxy."""

    ssl_context: ssl.SSLContext | None
    uds: str | None
    proxy_url: Any
    """Scheme, host and port, as bytes."""
    proxy_headers: list[tuple[bytes, bytes]]
    proxy_auth: tuple[bytes, bytes] | None
    """Credentials for a SOCKS proxy. Those for an HTTP proxy are in `proxy_headers`."""
    proxy_ssl_context: ssl.SSLContext | None


def default_headers(client: Any) -> dict[str, str]:
    """Return the `default_headers` of an SDK client. Lost without it: these headers."""
    given = dict(getattr(client, "_custom_headers", None) or {})
    return {name: value for name, value in given.items() if isinstance(value, str)}


def default_query(client: Any) -> dict[str, Any]:
    """Return the `default_query` of an SDK client. Lost without it: these parameters."""
    return dict(getattr(client, "_custom_query", None) or {})


def inner_http_client(client: Any) -> Any:
    """Return the httpx client of an SDK client. Lost without it: all settings of that client."""
    return getattr(client, "_client", None)


def transport(http: Any) -> Any:
    """Return the transport of an httpx client. Lost without it: its connection settings."""
    return getattr(http, "_transport", None)


def mounts(http: Any) -> dict[str, Any]:
    """Return the transports of an httpx client by URL pattern. Lost without it: all but proxies set by environment."""
    return {pattern.pattern: mounted for pattern, mounted in (getattr(http, "_mounts", None) or {}).items()}


def wrap_network_backend(transport: Any, wrap: Callable[[Any], Any]) -> bool:
    """Replace the network backend of an httpx transport by `wrap(backend)`, before its first request.

    Returns False if it has none. Lost without it: nothing, but each request then needs a thread of its own.
    """
    pool: Any = getattr(transport, "_pool", None)
    backend = getattr(pool, "_network_backend", None)
    if backend is None:
        return False
    pool._network_backend = wrap(backend)
    return True


def transport_settings(transport: Any) -> TransportSettings:
    """Return the connection settings of a transport."""
    pool = getattr(transport, "_pool", None)
    return TransportSettings(
        ssl_context=getattr(pool, "_ssl_context", None),
        uds=getattr(pool, "_uds", None),
        proxy_url=getattr(pool, "_proxy_url", None),
        proxy_headers=list(getattr(pool, "_proxy_headers", None) or []),
        proxy_auth=getattr(pool, "_proxy_auth", None),
        proxy_ssl_context=getattr(pool, "_proxy_ssl_context", None),
    )
