"""The test server: a strict local Greenflash over the embedded store, with API keys and fault injection."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.routing import Route

from gati.store.queries import external_message_ids
from gati.store.store import DEFAULT_MAX_BYTES, Store
from gati.studio.api.requests import ApiError, RequestObserver, error_response
from gati.studio.api.routes import Api
from gati.studio.middleware import BoundedBody, LocalOnly
from gati.studio.server import LOOPBACK, serve_store
from gati.testing.server.fault_injection import FaultInjector
from gati.testing.server.fault_middleware import FaultMiddleware, ResettableProtocol

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request


def create_test_app(
    store: Store,
    api_keys: Collection[str] | None = None,
    faults: FaultInjector | None = None,
    *,
    on_request: RequestObserver | None = None,
    control: bool = False,
    any_host: bool = False,
) -> Starlette:
    """Return the test server as an ASGI application.

    Args:
        store: Stores the data.
        api_keys: Accepted API keys; None accepts any request.
        faults: Faults to inject.
        on_request: Called with each authorized request before it is validated, for example a `RequestLog`.
        control: Let clients inject faults through ``/__faults__``.
        any_host: Accept requests from other machines.
    """
    faults = faults or FaultInjector()
    faults.known_ids = partial(external_message_ids, store)
    routes = Api(store, api_keys, on_request).routes()
    if control:
        routes.append(Route("/__faults__", _control_endpoint(faults), methods=["GET", "POST", "DELETE"]))
    middleware = [
        Middleware(LocalOnly, any_host=any_host), Middleware(BoundedBody), Middleware(FaultMiddleware, faults=faults),
    ]  # fmt: skip
    return Starlette(routes=routes, middleware=middleware, exception_handlers={ApiError: error_response})


def serve_test_server(
    host: str = "127.0.0.1",
    port: int = 4527,
    path: str | Path | Store | None = None,
    *,
    api_keys: Collection[str] | None = None,
    control: bool = False,
    max_bytes: int = DEFAULT_MAX_BYTES,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve the test server until interrupted. See `create_test_app` and `gati.studio.server.serve_store`.

    Other machines may connect only if `api_keys` are given.
    """
    any_host = bool(api_keys)

    def make_app(store: Store) -> Starlette:
        return create_test_app(store, api_keys, control=control, any_host=any_host and host not in LOOPBACK)

    serve_store(
        make_app, host, port, path,
        max_bytes=max_bytes, ready=ready, http_protocol=ResettableProtocol, any_host=any_host,
    )  # fmt: skip


def _control_endpoint(faults: FaultInjector) -> Any:
    """Return the endpoint for faults: GET counts the injected ones, POST queues one, DELETE removes all."""

    async def control(request: Request) -> JSONResponse:
        if request.method == "DELETE":
            faults.clear()
        elif request.method == "POST":
            options = json.loads(request.scope["gati.body"])
            try:
                faults.add(faults.create(options.pop("kind"), **options))
            except (KeyError, TypeError, ValueError) as error:
                raise ApiError(400, str(error)) from error
        return JSONResponse({"hits": dict(faults.hits)})

    return control
