"""The API's routes: Greenflash's endpoints for any of its clients, and `POST /api/events` for SDKs of a GATI backend."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse
from starlette.routing import Route

from gati.store import actions, gati_events
from gati.store.actions import UnknownConversationError
from gati.store.store import Store, TooLargeError
from gati.studio.api import api_responses, events_api, openapi, validation
from gati.studio.api.prompt_routes import PromptApi
from gati.studio.api.requests import ApiError, RequestObserver, RequestReader, integer_parameter

if TYPE_CHECKING:
    from starlette.requests import Request


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
        self.store = store
        self._reader = RequestReader(api_keys, on_request)
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
            *PromptApi(self.store, self._reader).routes(base),
            Route("/api/events", self._post_events, methods=["POST"]),
            Route("/openapi.json", self._get_openapi, methods=["GET"]),
        ]

    async def _post_messages(self, request: Request) -> JSONResponse:
        body = self._reader.read_valid_body(request, "messages")
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
        body = self._reader.read_valid_body(request, endpoint)
        try:
            return JSONResponse(await run_in_threadpool(api_responses.create_action, self.store, endpoint, body), 201)
        except UnknownConversationError as error:
            raise ApiError(404, "Conversation not found") from error

    async def _put_action(self, request: Request) -> JSONResponse:
        endpoint = request.url.path.split("/")[-2]
        body = self._reader.read_body(request)
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
        self._reader.authorize(request)
        name = request.url.path.rsplit("/", 1)[-1]
        limit = integer_parameter(request, "limit", 1) or 50
        page, offset = integer_parameter(request, "page", 1) or 1, integer_parameter(request, "offset", 0)
        limit = min(limit, 1000)
        offset = (page - 1) * limit if offset is None else offset
        product = request.query_params.get("productId")
        items = await run_in_threadpool(api_responses.LISTS[name], self.store, limit, min(offset, 2**40), product)
        return JSONResponse(items)

    async def _get_interaction(self, request: Request) -> JSONResponse:
        self._reader.authorize(request)
        response = await run_in_threadpool(api_responses.read_interaction, self.store, request.path_params["uid"])
        if response is None:
            raise ApiError(404, "Interaction not found")
        return JSONResponse(response)

    async def _post_events(self, request: Request) -> JSONResponse:
        body = self._reader.read_body(request)
        if errors := events_api.find_event_errors(body):
            return JSONResponse({"detail": errors[:100]}, 422)
        try:
            return JSONResponse(await run_in_threadpool(gati_events.ingest_events, self.store, body["events"]), 201)
        except gati_events.RunConflictError as error:
            return JSONResponse({"detail": str(error)}, 500)

    async def _get_openapi(self, _: Request) -> JSONResponse:
        return JSONResponse(openapi.build_openapi(keys=self._needs_key))
