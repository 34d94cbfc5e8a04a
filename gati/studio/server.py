"""A local Greenflash, strict where the real one may be, over the embedded store.

`POST /api/v1/messages` and its sisters take what any Greenflash client sends; `POST /api/events`
takes what an SDK for a GATI backend sends. Needs the extra ``gati[studio]``.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from gati.studio import actions, answers, backend, openapi, validation
from gati.studio.actions import UnknownConversationError
from gati.studio.faults import Faults
from gati.studio.guards import BoundedBody, LocalOnly, ResettableProtocol, Trouble
from gati.studio.store import DEFAULT_MAX_BYTES, Store, TooLargeError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp

Received = Callable[[str, str, Any, list[str]], None]
"""Told of each authorised request: method, path, body, and the keys of it that the contract does not know."""


_DEEPEST = 400
"""Levels of objects and lists in a body: what can still be written as JSON anywhere in the server."""


class RefusedError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status, self.error = status, error


def create_app(
    store: Store,
    api_keys: Collection[str] | None = None,
    faults: Faults | None = None,
    *,
    on_request: Received | None = None,
    control: bool = False,
    pages: bool = True,
) -> Starlette:
    """The server as an ASGI application.

    Args:
        store: where everything is kept.
        api_keys: keys that are let in; None lets everybody in.
        faults: trouble to come, see `faults`.
        on_request: told of each request that was let in, before it is checked.
        control: take faults at ``/__faults__``; for tests only.
        pages: serve the studio's pages too.
    """
    faults = faults or Faults()
    faults.known = lambda body: answers.known_messages(store, body)
    api = _Api(store, api_keys, on_request)
    routes: list[BaseRoute] = [*api.routes()]
    if control:
        routes.append(Route("/__faults__", _control(faults), methods=["GET", "POST", "DELETE"]))
    if pages:
        from gati.studio import pages as studio_pages  # templates are not needed by the bare server

        routes += studio_pages.routes(store)
    guards = [Middleware(LocalOnly), Middleware(BoundedBody), Middleware(Trouble, faults=faults)]
    return Starlette(routes=routes, middleware=guards, exception_handlers={RefusedError: _refused})


def listen(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """A listening socket on loopback; port 0 takes a free one. Raises ValueError for another address."""
    if host not in ("127.0.0.1", "localhost", "::1"):
        raise ValueError(f"host {host!r}: the studio serves this machine only, use 127.0.0.1")
    family = socket.AF_INET6 if host == "::1" else socket.AF_INET
    # With proto 0 asyncio would not switch Nagle's algorithm off: 40 ms more for each request.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(256)
    return listener


def serve(
    host: str = "127.0.0.1",
    port: int = 4527,
    path: str | None = None,
    *,
    api_keys: Collection[str] | None = None,
    control: bool = False,
    pages: bool = True,
    max_bytes: int = DEFAULT_MAX_BYTES,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve the store at `path` until interrupted; `ready` is told the address once requests are taken."""
    listener = listen(host, port)
    store = Store(path, max_bytes)
    app = create_app(store, api_keys, control=control, pages=pages)
    if ready is not None:
        ready(f"http://{'[::1]' if host == '::1' else '127.0.0.1'}:{listener.getsockname()[1]}")
    try:
        uvicorn_server(app).run(sockets=[listener])
    finally:
        store.close()


def uvicorn_server(app: ASGIApp) -> Any:
    """The uvicorn server that runs the application, quiet and quick to end."""
    import uvicorn

    config = uvicorn.Config(
        app, http=ResettableProtocol, ws="none", lifespan="off", log_level="critical", access_log=False,
        timeout_graceful_shutdown=1, server_header=False,
    )  # fmt: skip
    return uvicorn.Server(config)


class _Api:
    def __init__(self, store: Store, api_keys: Collection[str] | None, on_request: Received | None) -> None:
        self.store, self.api_keys, self.on_request = store, api_keys, on_request

    def routes(self) -> list[Route]:
        base = "/api/v1"
        return [
            Route(f"{base}/messages", self.messages, methods=["POST"]),
            *[
                Route(f"{base}/{name}", self.act_or_list, methods=["GET", "POST"])
                for name in ("users", "organizations")
            ],
            *[Route(f"{base}/{name}", self.act, methods=["POST"]) for name in ("ratings", "events")],
            Route(f"{base}/users/{{uid}}", self.update, methods=["PUT"]),
            Route(f"{base}/organizations/{{uid}}", self.update, methods=["PUT"]),
            *[Route(f"{base}/{name}", self.listed, methods=["GET"]) for name in ("products", "interactions")],
            Route(f"{base}/interactions/{{uid}}", self.interaction, methods=["GET"]),
            Route("/api/events", self.events, methods=["POST"]),
            Route("/openapi.json", self.openapi, methods=["GET"]),
        ]

    async def messages(self, request: Request) -> JSONResponse:
        body = self._checked(request, "messages")
        try:
            return JSONResponse(await run_in_threadpool(self.store.ingest, body), 201)
        except UnknownConversationError as error:
            raise RefusedError(404, "Conversation not found") from error
        except TooLargeError as error:
            raise RefusedError(413, str(error)) from error

    async def act_or_list(self, request: Request) -> JSONResponse:
        return await (self.act if request.method == "POST" else self.listed)(request)

    async def act(self, request: Request) -> JSONResponse:
        endpoint = request.url.path.rsplit("/", 1)[-1]
        body = self._checked(request, endpoint)
        try:
            return JSONResponse(await run_in_threadpool(answers.act, self.store, endpoint, body), 201)
        except UnknownConversationError as error:
            raise RefusedError(404, "Conversation not found") from error

    async def update(self, request: Request) -> JSONResponse:
        endpoint = request.url.path.split("/")[-2]
        body = self._body(request)
        named = {**body, actions.KEYS[endpoint]: "-"} if isinstance(body, dict) else body
        if wrong := validation.fault(endpoint, named):
            raise RefusedError(400, f"Validation error: {wrong}")
        answer = await run_in_threadpool(answers.update, self.store, endpoint, request.path_params["uid"], body)
        if answer is None:
            raise RefusedError(404, "Not found")
        return JSONResponse(answer)

    async def listed(self, request: Request) -> JSONResponse:
        self._let_in(request)
        name = request.url.path.rsplit("/", 1)[-1]
        limit = _whole(request, "limit", 1) or 50
        page, offset = _whole(request, "page", 1) or 1, _whole(request, "offset", 0)
        limit = min(limit, 1000)
        offset = (page - 1) * limit if offset is None else offset
        product = request.query_params.get("productId")
        found = await run_in_threadpool(answers.LISTS[name], self.store, limit, min(offset, 2**40), product)
        return JSONResponse(found)

    async def interaction(self, request: Request) -> JSONResponse:
        self._let_in(request)
        found = await run_in_threadpool(answers.interaction, self.store, request.path_params["uid"])
        if found is None:
            raise RefusedError(404, "Interaction not found")
        return JSONResponse(found)

    async def events(self, request: Request) -> JSONResponse:
        body = self._body(request)
        if errors := backend.faults(body):
            return JSONResponse({"detail": errors[:100]}, 422)
        try:
            return JSONResponse(await run_in_threadpool(backend.ingest, self.store, body["events"]), 201)
        except backend.ConflictError as error:
            return JSONResponse({"detail": str(error)}, 500)

    async def openapi(self, _: Request) -> JSONResponse:
        return JSONResponse(openapi.document(keys=self.api_keys is not None))

    def _checked(self, request: Request, endpoint: str) -> dict[str, Any]:
        body = self._body(request, endpoint)
        if wrong := validation.fault(endpoint, body):
            raise RefusedError(400, f"Validation error: {wrong}")
        checked: dict[str, Any] = body
        return checked

    def _body(self, request: Request, endpoint: str | None = None) -> Any:
        """The request's JSON, told to `on_request`; raises RefusedError."""
        self._let_in(request)
        try:
            body = json.loads(request.scope["gati.body"], parse_constant=_no_constant)
            json.dumps(
                body, ensure_ascii=False, allow_nan=False
            ).encode()  # 1e999 is no number, a lone surrogate no text
        except (ValueError, RecursionError) as error:
            raise RefusedError(400, "Validation error: body: not valid JSON") from error
        if validation.depth(body, _DEEPEST) > _DEEPEST:
            raise RefusedError(400, "Validation error: body: nested too deeply")
        if self.on_request is not None:
            unknown = validation.unknown_keys(endpoint, body) if endpoint else []
            self.on_request(request.method, request.url.path, body, unknown)
        return body

    def _let_in(self, request: Request) -> None:
        if self.api_keys is None:
            return
        given = request.headers.get("authorization")
        if not given:
            raise RefusedError(401, "Authentication required. Please provide a valid API key.")
        scheme, _, key = given.partition(" ")
        if scheme != "Bearer" or not key:
            raise RefusedError(401, "Invalid authorization header format. Use: Bearer <api_key>")
        if key not in self.api_keys:
            raise RefusedError(401, "Invalid API key")


def _whole(request: Request, name: str, least: int) -> int | None:
    """A number of the address; the SDK writes whole ones as 50.0. Raises RefusedError."""
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        value = float(text)
        if value != int(value) or value < least:
            raise ValueError(text)
    except (ValueError, OverflowError) as error:
        raise RefusedError(400, f"Validation error: {name}: a whole number from {least} on is required") from error
    return int(value)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


async def _refused(_: Request, error: Any) -> JSONResponse:
    return JSONResponse({"success": False, "error": error.error, "message": error.error}, error.status)


def _control(faults: Faults) -> Any:
    async def control(request: Request) -> JSONResponse:
        if request.method == "DELETE":
            faults.clear()
        elif request.method == "POST":
            told = json.loads(request.scope["gati.body"])
            try:
                faults.add(faults.make(told.pop("kind"), **told))
            except (KeyError, TypeError, ValueError) as error:
                raise RefusedError(400, str(error)) from error
        return JSONResponse({"hits": dict(faults.hits)})

    return control
