"""Routes for Starlette and FastAPI that take ratings and serve the script of the thumbs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

if TYPE_CHECKING:
    from starlette.requests import Request

MAX_BODY_BYTES = 20_000
_SCRIPT = Path(__file__).parent / "static" / "widget.js"


class RatingReceiver(Protocol):
    """The part of `Feedback` that the routes use."""

    def verify(self, token: object) -> object | None: ...

    def rate(self, token: object, *, rating: object, stars: object, feedback: object) -> bool: ...


def feedback_routes(feedback: RatingReceiver, path: str) -> list[BaseRoute]:
    """Return the routes. See `Feedback.routes`."""

    async def rate(request: Request) -> Response:
        body = await _read_json(request)
        if body is None:
            return _refusal(400, "a JSON object of at most 20 kB is required")
        if feedback.verify(body.get("token")) is None:
            return _refusal(403, "the token is not valid, or has expired")
        rating, stars, comment = (body.get(name) for name in ("rating", "stars", "feedback"))
        if not feedback.rate(body["token"], rating=rating, stars=stars, feedback=comment):
            return _refusal(422, "rating must be true or false, or stars a number in the range")
        return Response(status_code=204)

    async def script(request: Request) -> Response:
        headers = {"cache-control": "public, max-age=3600", "x-content-type-options": "nosniff"}
        return Response(_SCRIPT.read_bytes(), media_type="text/javascript", headers=headers)

    return [Route(path, rate, methods=["POST"]), Route(f"{path.rstrip('/')}/widget.js", script, methods=["GET"])]


async def _read_json(request: Request) -> dict[str, Any] | None:
    """Return the JSON object of a request; None if it is none, or too large."""
    data = b""
    async for piece in request.stream():
        data += piece
        if len(data) > MAX_BODY_BYTES:
            return None
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _refusal(status: int, error: str) -> JSONResponse:
    return JSONResponse({"error": error}, status)
