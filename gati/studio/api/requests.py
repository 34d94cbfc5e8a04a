"""Reads requests of the API: authorization, JSON bodies and parameters. A bad request raises `ApiError`."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

from gati.studio.api import validation

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


class RequestReader:
    """Reads requests.

    Args:
        api_keys: Accepted API keys; None accepts any request.
        on_request: Called with each authorized request.
    """

    def __init__(self, api_keys: Collection[str] | None, on_request: RequestObserver | None) -> None:
        self.api_keys, self.on_request = api_keys, on_request

    def read_valid_body(self, request: Request, endpoint: str) -> dict[str, Any]:
        """Read a body and validate it against the schema of an endpoint."""
        body = self.read_body(request, endpoint)
        if error := validation.find_error(endpoint, body):
            raise ApiError(400, f"Validation error: {error}")
        valid: dict[str, Any] = body
        return valid

    def read_body(self, request: Request, endpoint: str | None = None) -> Any:
        """Authorize the request, parse its JSON and pass it to `on_request`. Raises ApiError."""
        self.authorize(request)
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

    def authorize(self, request: Request) -> None:
        """Raise ApiError 401 unless the request has an accepted key."""
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


def integer_parameter(request: Request, name: str, minimum: int) -> int | None:
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
