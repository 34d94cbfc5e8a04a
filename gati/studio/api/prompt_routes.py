"""The endpoints of prompts: `GET` and `POST /prompts`, `GET`, `PUT` and `DELETE /prompts/{id}`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse
from starlette.routing import Route

from gati.store import prompt_records
from gati.studio.api.requests import ApiError, RequestReader, integer_parameter

if TYPE_CHECKING:
    from starlette.requests import Request

    from gati.store.store import Store

_MAX_LIMIT = 1000


class PromptApi:
    """The prompts API over a store.

    Args:
        store: Stores the prompts.
        reader: Authorizes requests and reads their bodies.
    """

    def __init__(self, store: Store, reader: RequestReader) -> None:
        self._store, self._reader = store, reader

    def routes(self, base: str) -> list[Route]:
        """Return the routes. External ids may contain slashes."""
        return [
            Route(f"{base}/prompts", self._all, methods=["GET", "POST"]),
            Route(f"{base}/prompts/{{uid:path}}", self._one, methods=["GET", "PUT", "DELETE"]),
        ]

    async def _all(self, request: Request) -> JSONResponse:
        return await (self._post if request.method == "POST" else self._get_list)(request)

    async def _one(self, request: Request) -> JSONResponse:
        methods = {"PUT": self._put, "DELETE": self._delete}
        return await methods.get(request.method, self._get)(request)

    async def _get_list(self, request: Request) -> JSONResponse:
        self._reader.authorize(request)
        query = request.query_params
        page = integer_parameter(request, "page", 1) or 1
        size = integer_parameter(request, "pageSize", 1) or integer_parameter(request, "limit", 1) or 50
        size = min(size, _MAX_LIMIT)
        items = await run_in_threadpool(
            prompt_records.list_records,
            self._store,
            active_only=_flag(request, "activeOnly"),
            include_archived=_flag(request, "includeArchived"),
            product=query.get("productId"),
            version_id=query.get("versionId"),
            limit=size,
            offset=min((page - 1) * size, 2**40),
        )
        return JSONResponse(items)

    async def _post(self, request: Request) -> JSONResponse:
        body = self._reader.read_valid_body(request, "prompts")
        return JSONResponse(await run_in_threadpool(prompt_records.create_prompt, self._store, body), 201)

    async def _get(self, request: Request) -> JSONResponse:
        self._reader.authorize(request)
        variables = dict(request.query_params)
        found = await run_in_threadpool(prompt_records.read_prompt, self._store, _uid(request), variables)
        return JSONResponse(_or_not_found(found))

    async def _put(self, request: Request) -> JSONResponse:
        body = self._reader.read_valid_body(request, "prompts/{id}")
        found = await run_in_threadpool(prompt_records.update_prompt, self._store, _uid(request), body)
        return JSONResponse(_or_not_found(found))

    async def _delete(self, request: Request) -> JSONResponse:
        self._reader.authorize(request)
        try:
            found = await run_in_threadpool(prompt_records.archive_prompt, self._store, _uid(request))
        except prompt_records.ActiveVersionError as error:
            raise ApiError(400, f"Validation error: {error}") from error
        return JSONResponse(_or_not_found(found))


def _flag(request: Request, name: str) -> bool:
    value = request.query_params.get(name, "false")
    if value not in ("true", "false"):
        raise ApiError(400, f"Validation error: {name}: true or false is required")
    return value == "true"


def _uid(request: Request) -> str:
    return str(request.path_params["uid"])


def _or_not_found(found: dict[str, Any] | None) -> dict[str, Any]:
    if found is None:
        raise ApiError(404, "Prompt not found")
    return found
