"""The API's routes: Greenflash's endpoints for any of its clients, and `POST /api/events` for SDKs of a GATI backend."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse
from starlette.routing import Route

from gati.store import actions, gati_events
from gati.store.actions import UnknownConversationError
from gati.store.store import Store, TooLargeError
from gati.studio.api import api_responses, events_api, openapi, validation

if TYPE_CHECKING:
    from starlette.requests import Request

RequestObserver = Callable[[str, str, "str | None", Any], None]
"""Called with each authorized request before it is validated: method, path, endpoint (None for some) and body."""

_MAX_DEPTH = 400
"""Nesting levels of a body. Deeper ones could exceed the recursion limit when they are serialized later."""


class ApiError(Exception):
    """A request gets an error response with this status and text."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status, self.error = status, error


class Api:
    """The API over a store.

    Args:
        store: Stores the data.
        api_keys: Accepted API keys; None accepts any request.
        on_request: Called with each authorized request.
        secured: A middleware requires a key; this is only described.
    """

    def __init__(
        self,
        store: Store,
        api_keys: Collection[str] | None = None,
        on_request: RequestObserver | None = None,
        *,
        secured: bool = False,
    ) -> None:
        self.store, self.api_keys, self.on_request = store, api_keys, on_request
        self._needs_key = secured or api_keys is not None

    def routes(self) -> list[Route]:
        """Return the routes of all endpoints."""
        base = "/api/v1"
        return [
            Route(f"{base}/messages", self._post_messages, methods=["POST"]),
            *[
                Route(f"{base}/{name}", self._post_action_or_list, methods=["GET", "POST"])
                for name in ("users", "organizations")
            ],
            *[Route(f"{base}/{name}", self._post_action, methods=["POST"]) for name in ("ratings", "events")],
            Route(f"{base}/users/{{uid}}", self._put_action, methods=["PUT"]),
            Route(f"{base}/organizations/{{uid}}", self._put_action, methods=["PUT"]),
            *[Route(f"{base}/{name}", self._list, methods=["GET"]) for name in ("products", "interactions")],
            Route(f"{base}/interactions/{{uid}}", self._get_interaction, methods=["GET"]),
            Route("/api/events", self._post_events, methods=["POST"]),
            Route("/openapi.json", self._get_openapi, methods=["GET"]),
        ]

    async def _post_messages(self, request: Request) -> JSONResponse:
        body = self._read_valid_body(request, "messages")
        try:
            return JSONResponse(await run_in_threadpool(self.store.ingest, body), 201)
        except UnknownConversationError as error:
            raise ApiError(404, "Conversation not found") from error
        except TooLargeError as error:
            raise ApiError(413, str(error)) from error

    async def _post_action_or_list(self, request: Request) -> JSONResponse:
        return await (self._post_action if request.method == "POST" else self._list)(request)

    async def _post_action(self, request: Request) -> JSONResponse:
        endpoint = request.url.path.rsplit("/", 1)[-1]
        body = self._read_valid_body(request, endpoint)
        try:
            return JSONResponse(await run_in_threadpool(api_responses.create_action, self.store, endpoint, body), 201)
        except UnknownConversationError as error:
            raise ApiError(404, "Conversation not found") from error

    async def _put_action(self, request: Request) -> JSONResponse:
        endpoint = request.url.path.split("/")[-2]
        body = self._read_body(request)
        # An update does not repeat the identity key, which the schema requires.
        complete = {**body, actions.IDENTITY_KEYS[endpoint]: "-"} if isinstance(body, dict) else body
        if error := validation.find_error(endpoint, complete):
            raise ApiError(400, f"Validation error: {error}")
        uid = request.path_params["uid"]
        response = await run_in_threadpool(api_responses.update_action, self.store, endpoint, uid, body)
        if response is None:
            raise ApiError(404, "Not found")
        return JSONResponse(response)

    async def _list(self, request: Request) -> JSONResponse:
        self._authorize(request)
        name = request.url.path.rsplit("/", 1)[-1]
        limit = _integer_parameter(request, "limit", 1) or 50
        page, offset = _integer_parameter(request, "page", 1) or 1, _integer_parameter(request, "offset", 0)
        limit = min(limit, 1000)
        offset = (page - 1) * limit if offset is None else offset
        product = request.query_params.get("productId")
        items = await run_in_threadpool(api_responses.LISTS[name], self.store, limit, min(offset, 2**40), product)
        return JSONResponse(items)

    async def _get_interaction(self, request: Request) -> JSONResponse:
        self._authorize(request)
        response = await run_in_threadpool(api_responses.read_interaction, self.store, request.path_params["uid"])
        if response is None:
            raise ApiError(404, "Interaction not found")
        return JSONResponse(response)

    async def _post_events(self, request: Request) -> JSONResponse:
        body = self._read_body(request)
        if errors := events_api.find_event_errors(body):
            return JSONResponse({"detail": errors[:100]}, 422)
        try:
            return JSONResponse(await run_in_threadpool(gati_events.ingest_events, self.store, body["events"]), 201)
        except gati_events.RunConflictError as error:
            return JSONResponse({"detail": str(error)}, 500)

    async def _get_openapi(self, _: Request) -> JSONResponse:
        return JSONResponse(openapi.build_openapi(keys=self._needs_key))

    def _read_valid_body(self, request: Request, endpoint: str) -> dict[str, Any]:
        body = self._read_body(request, endpoint)
        if error := validation.find_error(endpoint, body):
            raise ApiError(400, f"Validation error: {error}")
        valid: dict[str, Any] = body
        return valid

    def _read_body(self, request: Request, endpoint: str | None = None) -> Any:
        """Authorize the request, parse its JSON and pass it to `on_request`. Raises ApiError."""
        self._authorize(request)
        try:
            body = json.loads(request.scope["gati.body"], parse_constant=_reject_constant)
            # Reject what Python parses but JSON or UTF-8 cannot represent: 1e999, lone surrogates.
            json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, RecursionError) as error:
            raise ApiError(400, "Validation error: body: not valid JSON") from error
        if validation.nesting_depth(body, _MAX_DEPTH) > _MAX_DEPTH:
            raise ApiError(400, "Validation error: body: nested too deeply")
        if self.on_request is not None:
            self.on_request(request.method, request.url.path, endpoint, body)
        return body

    def _authorize(self, request: Request) -> None:
        if self.api_keys is None:
            return
        authorization = request.headers.get("authorization")
        if not authorization:
            raise ApiError(401, "Authentication required. Please provide a valid API key.")
        scheme, _, key = authorization.partition(" ")
        if scheme != "Bearer" or not key:
            raise ApiError(401, "Invalid authorization header format. Use: Bearer <api_key>")
        if key not in self.api_keys:
            raise ApiError(401, "Invalid API key")


def _integer_parameter(request: Request, name: str, minimum: int) -> int | None:
    """Parse a query parameter. Greenflash's SDK may send 50.0 for 50. Raises ApiError."""
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        value = float(text)
        if value != int(value) or value < minimum:
            raise ValueError(text)
    except (ValueError, OverflowError) as error:
        raise ApiError(400, f"Validation error: {name}: an integer of at least {minimum} is required") from error
    return int(value)


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is not valid JSON")


async def error_response(_: Request, error: Any) -> JSONResponse:
    """Convert an `ApiError` to a response."""
    return JSONResponse({"success": False, "error": error.error, "message": error.error}, error.status)
