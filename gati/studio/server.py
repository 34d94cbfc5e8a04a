"""The studio's application, and functions that serve an application."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.middleware import Middleware

from gati.store.store import DEFAULT_MAX_BYTES, Store
from gati.studio import pages
from gati.studio.access import TokenRequired, load_token
from gati.studio.api.requests import ApiError, error_response
from gati.studio.api.routes import Api
from gati.studio.middleware import BoundedBody, LocalOnly

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.types import ASGIApp


LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def create_studio_app(store: Store, token: str, *, any_host: bool = False) -> Starlette:
    """Return the studio as an ASGI application: the pages and the API.

    Args:
        store: The store that it shows and writes to.
        token: Required with every request; see `gati.studio.access`.
        any_host: Accept requests to other host names than this machine's own.
    """
    return Starlette(
        routes=[*Api(store, secured=True).routes(), *pages.page_routes(store)],
        middleware=[
            Middleware(LocalOnly, any_host=any_host), Middleware(TokenRequired, token=token), Middleware(BoundedBody),
        ],
        exception_handlers={ApiError: error_response, 404: pages.not_found_handler(store)},
    )  # fmt: skip


def listen(host: str = "127.0.0.1", port: int = 0, *, any_host: bool = False) -> socket.socket:
    """Open a listening socket; port 0 picks a free one. Raises ValueError for addresses that are not loopback.

    With `any_host`, other addresses of this machine are allowed.
    """
    if host not in LOOPBACK and not any_host:
        raise ValueError(f"host {host!r}: only this machine can be served without a key, use 127.0.0.1")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
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
    any_host: bool = False,
) -> None:
    """Serve an application over a store until interrupted.

    Args:
        make_app: Creates the application.
        host: A loopback address or, with `any_host`, any address of this machine.
        port: 0 picks a free port.
        path: The store's file; None for the default location.
        max_bytes: Size limit of the store.
        ready: Called with the server's address once it accepts connections.
        http_protocol: uvicorn's HTTP protocol, by name or class.
        any_host: Allow addresses that are not loopback.
    """
    listener = listen(host, port, any_host=any_host)
    store = Store(path, max_bytes)
    app = make_app(store)
    if ready is not None:
        ready(f"http://{_reachable_host(host)}:{listener.getsockname()[1]}")
    try:
        uvicorn_server(app, http_protocol).run(sockets=[listener])
    finally:
        store.close()


def _reachable_host(host: str) -> str:
    """Return the host for an address that this machine's browser can open: ``0.0.0.0`` → ``127.0.0.1``."""
    host = {"localhost": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # compared, not bound
    return f"[{host}]" if ":" in host else host


def serve_studio(
    host: str = "127.0.0.1",
    port: int = 4527,
    path: str | Path | None = None,
    *,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve the studio until interrupted. `ready` is called with an address that contains the token."""
    token = ""
    any_host = host not in LOOPBACK

    def make_app(store: Store) -> Starlette:
        nonlocal token
        token = load_token(store.path)
        return create_studio_app(store, token, any_host=any_host)

    def ready_with_token(address: str) -> None:
        if ready is not None:
            ready(f"{address}/?token={token}")

    serve_store(make_app, host, port, path, ready=ready_with_token, any_host=any_host)


def uvicorn_server(app: ASGIApp, http_protocol: str | type[asyncio.Protocol] = "h11") -> Any:
    """Return a uvicorn server for the application. It does not log, and stops within a second."""
    import uvicorn

    config = uvicorn.Config(
        app, http=http_protocol, ws="none", lifespan="off", log_level="critical", access_log=False,
        timeout_graceful_shutdown=1, server_header=False,
    )  # fmt: skip
    return uvicorn.Server(config)
