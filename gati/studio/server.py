"""The studio's application, and functions that serve an application."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, Response

from gati.store.retention import RetentionThread
from gati.store.store import DEFAULT_MAX_BYTES, Store
from gati.studio import pages
from gati.studio.access import TokenRequired, load_token
from gati.studio.api.requests import ApiError, error_response
from gati.studio.api.routes import Api
from gati.studio.middleware import BoundedBody, LocalOnly
from gati.studio.public_address import BelowPath, PublicAddress

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request
    from starlette.types import ASGIApp

    from gati.studio.deletion import RemoveWaiting

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def create_studio_app(
    store: Store,
    token: str,
    *,
    any_host: bool = False,
    public: PublicAddress | None = None,
    remove_waiting: RemoveWaiting | None = None,
) -> Starlette:
    """Return the studio as an ASGI application: the pages and the API.

    Args:
        store: The store that it shows and writes to.
        token: Required with every request; see `gati.studio.access`.
        any_host: Accept requests to other host names than this machine's own.
        public: The address of a reverse proxy in front of the studio.
        remove_waiting: Deletes from the spool what is deleted from the store; None if there is no spool.
    """
    below = [Middleware(BelowPath, path=public.path)] if public and public.path else []
    return Starlette(
        routes=[*Api(store, secured=True).routes(), *pages.page_routes(store, remove_waiting)],
        middleware=[
            *below, Middleware(LocalOnly, any_host=any_host, public=public),
            Middleware(TokenRequired, token=token, public=public), Middleware(BoundedBody),
        ],
        exception_handlers={
            ApiError: error_response, ConnectionError: _unavailable, 404: pages.not_found_handler(store),
        },
    )  # fmt: skip


def _unavailable(_: Request, __: Exception) -> Response:
    """Answer while the database of a team's store cannot be reached; clients try again."""
    text = "The database of the store cannot be reached. Try again later."
    return JSONResponse({"success": False, "error": text, "message": text}, 503, {"retry-after": "2"})


def listen(host: str = "127.0.0.1", port: int = 0, *, any_host: bool = False) -> socket.socket:
    """Open a listening socket; port 0 picks a free one. Raises ValueError for addresses that are not loopback.

    With `any_host`, other addresses of this machine are allowed.
    """
    if host not in LOOPBACK and not any_host:
        raise ValueError(f"host {host!r}: only this machine can be served, use 127.0.0.1")
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
    path: str | Path | Store | None = None,
    *,
    max_bytes: int = DEFAULT_MAX_BYTES,
    ready: Callable[[str], None] | None = None,
    http_protocol: str | type[asyncio.Protocol] = "h11",
    any_host: bool = False,
    retention: float | None = None,
) -> None:
    """Serve an application over a store until interrupted.

    Args:
        make_app: Creates the application.
        host: A loopback address or, with `any_host`, any address of this machine.
        port: 0 picks a free port.
        path: The store's file, or an open store; None for the default location.
        max_bytes: Size limit of the store.
        ready: Called with the server's address once it accepts connections.
        http_protocol: uvicorn's HTTP protocol, by name or class.
        any_host: Allow addresses that are not loopback.
        retention: Days after which turns are deleted; None to keep them.
    """
    listener = listen(host, port, any_host=any_host)
    store = path if isinstance(path, Store) else Store(path, max_bytes)
    app = make_app(store)
    if ready is not None:
        ready(f"http://{_reachable_host(host)}:{listener.getsockname()[1]}")
    thread = RetentionThread(store, retention) if retention is not None else None
    try:
        uvicorn_server(app, http_protocol).run(sockets=[listener])
    finally:
        if thread is not None:
            thread.stop()
        store.close()


def _reachable_host(host: str) -> str:
    """Return the host for an address that this machine's browser can open: ``0.0.0.0`` → ``127.0.0.1``."""
    host = {"localhost": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # compared, not bound
    return f"[{host}]" if ":" in host else host


def serve_studio(
    host: str = "127.0.0.1",
    port: int = 4527,
    path: str | Path | Store | None = None,
    *,
    public: PublicAddress | None = None,
    ready: Callable[[str], None] | None = None,
    remove_waiting: RemoveWaiting | None = None,
    retention: float | None = None,
) -> None:
    """Serve the studio until interrupted.

    Args:
        host: The address to listen on.
        port: 0 picks a free port.
        path: The store's file; None for the default location.
        public: The address of a reverse proxy in front of the studio.
        ready: Called with an address that contains the token.
        remove_waiting: Deletes from the spool what is deleted from the store.
        retention: Days after which turns are deleted; None to keep them.
    """
    token = ""
    any_host = host not in LOOPBACK

    def make_app(store: Store) -> Starlette:
        nonlocal token
        token = store.shared_token() or load_token(store.path)
        return create_studio_app(store, token, any_host=any_host, public=public, remove_waiting=remove_waiting)

    def ready_with_token(address: str) -> None:
        if ready is not None:
            ready(f"{public or address}/?token={token}")

    serve_store(make_app, host, port, path, ready=ready_with_token, any_host=any_host, retention=retention)


def uvicorn_server(app: ASGIApp, http_protocol: str | type[asyncio.Protocol] = "h11") -> Any:
    """Return a uvicorn server for the application. It does not log, and stops within a second."""
    import uvicorn

    config = uvicorn.Config(
        app, http=http_protocol, ws="none", lifespan="off", log_level="critical", access_log=False,
        timeout_graceful_shutdown=1, server_header=False,
    )  # fmt: skip
    return uvicorn.Server(config)
