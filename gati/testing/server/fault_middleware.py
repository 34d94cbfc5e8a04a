"""Middleware that injects faults, and the HTTP protocol that lets it reset connections."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from typing import TYPE_CHECKING, Any, ClassVar

from starlette.responses import Response
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from gati.testing.server.fault_injection import FaultInjector, InjectedFault

_WRITE_BUFFER_BYTES = 1024**2


class FaultMiddleware:
    """Injects the queued faults into requests, before or after the request is processed.

    Needs the body that `gati.studio.middleware.BoundedBody` stores in the scope.
    """

    def __init__(self, app: ASGIApp, faults: FaultInjector) -> None:
        self.app, self.faults = app, faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        fault = self.faults.take(scope["path"], scope["gati.body"], scope["method"])
        if fault is None:
            await self.app(scope, receive, send)
            return
        if fault.when == "after":
            await self.app(scope, receive, _discard)
        await asyncio.sleep(fault.delay)
        if fault.hang:
            await self._hang()
        if fault.pieces is not None:
            await self._write_pieces(scope, fault)
        if fault.reset or fault.hang or fault.pieces is not None:
            _reset_connection(scope)
        elif fault.status is None:
            await self.app(scope, receive, send)
        else:
            body = fault.answer(json.loads(scope["gati.body"])) if fault.answer is not None else fault.body
            await Response(body, fault.status, fault.headers)(scope, receive, send)

    async def _hang(self) -> None:
        generation = self.faults.generation
        while self.faults.generation == generation:  # noqa: ASYNC110  # cleared from another thread
            await asyncio.sleep(0.02)

    async def _write_pieces(self, scope: Scope, fault: InjectedFault) -> None:
        transport = ResettableProtocol.transports.get(tuple(scope["client"]))
        generation = self.faults.generation
        for piece in fault.pieces() if fault.pieces is not None else ():
            if transport is None or transport.is_closing() or self.faults.generation != generation:
                return
            transport.write(piece)
            await asyncio.sleep(fault.pause)
            while transport.get_write_buffer_size() > _WRITE_BUFFER_BYTES and not transport.is_closing():  # noqa: ASYNC110  # uvicorn owns the flow control
                await asyncio.sleep(0.01)


async def _discard(message: Message) -> None:
    """Discard a response, so that the client never receives it."""


class ResettableProtocol(H11Protocol):
    """uvicorn's HTTP protocol, extended so that `FaultMiddleware` can reset a connection as a crash would."""

    transports: ClassVar[dict[Any, asyncio.Transport]] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn declares the same type
        super().connection_made(transport)
        self.transports[tuple(transport.get_extra_info("peername")[:2])] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.transports.pop(tuple(self.transport.get_extra_info("peername")[:2]), None)
        super().connection_lost(exc)


def _reset_connection(scope: Scope) -> None:
    transport = ResettableProtocol.transports.get(tuple(scope["client"]))
    if transport is not None:
        # With a linger time of zero, closing sends RST instead of FIN.
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
