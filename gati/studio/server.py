"""The studio's application, and functions that serve an application on loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.middleware import Middleware

from gati.store.store import DEFAULT_MAX_BYTES, Store
from gati.studio import pages
from gati.studio.api.routes import Api, ApiError, error_response
from gati.studio.middleware import BoundedBody, LocalOnly

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.types import ASGIApp


def create_studio_app(store: Store) -> Starlette:
    """Return the studio as an ASGI application: the pages and the API, without API keys."""
    return Starlette(
        routes=[*Api(store).routes(), *pages.page_routes(store)],
        middleware=[Middleware(LocalOnly), Middleware(BoundedBody)],
        exception_handlers={ApiError: error_response},
    )


def listen(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """Open a listening socket on loopback; port 0 picks a free one. Raises ValueError for other addresses."""
    if host not in ("127.0.0.1", "localhost", "::1"):
        raise ValueError(f"host {host!r}: only this machine can be served, use 127.0.0.1")
    family = socket.AF_INET6 if host == "::1" else socket.AF_INET
    # With proto 0 asyncio does not set TCP_NODELAY, which costs 40 ms per request.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(256)
    return listener


def serve_store(
    make_app: Callable[[Store], ASGIApp],
    host: str = "127.0.0.1",
    port: int = 4527,
    path: str | Path | None = None,
    *,
    max_bytes: int = DEFAULT_MAX_BYTES,
    ready: Callable[[str], None] | None = None,
    http_protocol: str | type[asyncio.Protocol] = "h11",
) -> None:
    """Serve an application over a store until interrupted.

    Args:
        make_app: Creates the application.
        host: A loopback address.
        port: 0 picks a free port.
        path: The store's file; None for the default location.
        max_bytes: Size limit of the store.
        ready: Called with the server's address once it accepts connections.
        http_protocol: uvicorn's HTTP protocol, by name or class.
    """
    listener = listen(host, port)
    store = Store(path, max_bytes)
    app = make_app(store)
    if ready is not None:
        ready(f"http://{'[::1]' if host == '::1' else '127.0.0.1'}:{listener.getsockname()[1]}")
    try:
        uvicorn_server(app, http_protocol).run(sockets=[listener])
    finally:
        store.close()


def uvicorn_server(app: ASGIApp, http_protocol: str | type[asyncio.Protocol] = "h11") -> Any:
    """Return a uvicorn server for the application. It does not log, and stops within a second."""
    import uvicorn

    config = uvicorn.Config(
        app, http=http_protocol, ws="none", lifespan="off", log_level="critical", access_log=False,
        timeout_graceful_shutdown=1, server_header=False,
    )  # fmt: skip
    return uvicorn.Server(config)
