"""What stands before every request: who may ask, how much may be sent, and faults on demand."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, Any, ClassVar

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from gati.studio.faults import Fault, Faults

MAX_BODY = 20 * 1024**2
"""Largest request body in bytes."""

_LOCAL = {"localhost", "127.0.0.1", "[::1]"}


class LocalOnly:
    """Answers only to names of this machine, and only to its own pages.

    Another site's page can make a browser send requests here (also through a name of its own
    that resolves to 127.0.0.1): `Host` and `Origin` tell them apart.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        name = host if host.endswith("]") else host.rsplit(":", 1)[0]
        foreign = origin is not None and origin.lower() != f"{scope['scheme']}://{host}".lower()
        if name.lower() not in _LOCAL or foreign or headers.get("sec-fetch-site") == "cross-site":
            await _refusal(403, "This server answers to its own machine only")(scope, receive, send)
        else:
            await self.app(scope, receive, send)


class BoundedBody:
    """Reads the body before anything else sees it, so that no more than `limit` bytes are ever held."""

    def __init__(self, app: ASGIApp, limit: int = MAX_BODY) -> None:
        self.app, self.limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        declared = Headers(scope=scope).get("content-length", "0")
        if declared.isdecimal() and int(declared) > self.limit:
            await _refusal(413, "Request body too large")(scope, receive, send)
            return
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            if len(body) > self.limit:
                await _refusal(413, "Request body too large")(scope, receive, send)
                return
            if not message.get("more_body"):
                break
        scope["gati.body"] = bytes(body)
        await self.app(scope, _replay(bytes(body), receive), send)


def _replay(body: bytes, receive: Receive) -> Receive:
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _refusal(status: int, error: str) -> JSONResponse:
    return JSONResponse({"success": False, "error": error, "message": error}, status)


class Trouble:
    """Lets the faults happen, before or after the work is done."""

    def __init__(self, app: ASGIApp, faults: Faults) -> None:
        self.app, self.faults = app, faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        fault = self.faults.take(scope["path"], scope["gati.body"]) if scope["method"] == "POST" else None
        if fault is None:
            await self.app(scope, receive, send)
            return
        if fault.when == "after":
            await self.app(scope, receive, _nowhere)
        await asyncio.sleep(fault.delay)
        if fault.hang:
            await self._hang()
        if fault.reset or fault.hang:
            _reset(scope)
        elif fault.status is None:
            await self.app(scope, receive, send)
        else:
            await _response(fault)(scope, receive, send)

    async def _hang(self) -> None:
        generation = self.faults.generation
        while self.faults.generation == generation:  # noqa: ASYNC110  # cleared from another thread
            await asyncio.sleep(0.02)


async def _nowhere(message: Message) -> None:
    """The answer that the client never gets."""


def _response(fault: Fault) -> Response:
    return Response(fault.body, fault.status or 200, fault.headers)


class ResettableProtocol(H11Protocol):
    """uvicorn's HTTP protocol, which lets `Trouble` break a connection as a crash would."""

    open: ClassVar[dict[Any, asyncio.Transport]] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own protocol has it
        super().connection_made(transport)
        self.open[tuple(transport.get_extra_info("peername")[:2])] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.open.pop(tuple(self.transport.get_extra_info("peername")[:2]), None)
        super().connection_lost(exc)


def _reset(scope: Scope) -> None:
    transport = ResettableProtocol.open.get(tuple(scope["client"]))
    if transport is not None:
        # Lingering for zero seconds makes the close an RST instead of an orderly end.
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
