"""An HTTP client whose requests are bounded in total time and in the size of the response.

Timeouts of httpx apply to single reads, so a server that sends a byte now and then can hold a request for ever. Here
the timeout applies to the whole exchange: connecting, sending, all headers (also endless 1xx responses), the body.
"""

from __future__ import annotations

import socket
import threading
import zlib
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import httpcore
import httpx

from gati.clock import Clock
from gati.exporters.deadline_call import DeadlineExceededError, call_with_deadline
from gati.exporters.greenflash import _compat

MAX_RESPONSE_BYTES = 1024**2
"""Most bytes read of a response, before and after decompression."""

_WRITE_BYTES = 16 * 1024
_ACCEPTED_ENCODINGS = "gzip, deflate"
"""Encodings whose decoders can stop at a size. A response in another encoding is a failed attempt."""


class ResponseTooLargeError(Exception):
    """A response, or what it decompresses to, exceeds `MAX_RESPONSE_BYTES`."""


class UnsupportedEncodingError(Exception):
    """A response has a content encoding that the request did not accept."""


class _Exchange(threading.local):
    until: float | None = None


_exchange = _Exchange()
"""Deadline of the exchange that this thread is in the middle of, as monotonic time."""


class BoundedClient(httpx.Client):
    """An `httpx.Client` whose `send` returns or raises within `total_timeout` seconds.

    `send` reads the whole body and raises `ResponseTooLargeError` if it exceeds `MAX_RESPONSE_BYTES`. Transports of httpx
    get a network backend with a deadline. A transport or an auth class of the user's runs in a thread of its own,
    which is abandoned at the deadline.
    """

    def __init__(self, *, total_timeout: float, **options: Any) -> None:
        super().__init__(**options)
        self._total_timeout = total_timeout
        transports = [_compat.transport(self), *_compat.mounts(self).values()]
        bounded = [_set_deadlines(transport) for transport in transports if transport is not None]
        self._needs_thread = not all(bounded) or type(self.auth) not in _HTTPX_AUTH

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """Send a request and return its response, with the body read."""
        request.headers["accept-encoding"] = _ACCEPTED_ENCODINGS
        until = Clock.monotonic() + self._total_timeout
        options["stream"] = True
        if not self._needs_thread:
            return self._send_bounded(request, options, until)
        return call_with_deadline(lambda: self._send_bounded(request, options, until), until)

    def _send_bounded(self, request: httpx.Request, options: dict[str, Any], until: float) -> httpx.Response:
        _exchange.until = until
        try:
            response = super().send(request, **options)
            try:
                body = _read_body(response, until)
            finally:
                response.close()
        finally:
            _exchange.until = None
        headers = [(k, v) for k, v in response.headers.multi_items() if k.lower() not in _BODY_HEADERS]
        read = httpx.Response(response.status_code, headers=headers, content=body, request=response.request)
        read.elapsed = timedelta(seconds=self._total_timeout - (until - Clock.monotonic()))
        return read


_HTTPX_AUTH = frozenset({type(None), httpx.BasicAuth, httpx.DigestAuth})
_BODY_HEADERS = frozenset({"content-encoding", "content-length", "transfer-encoding"})


def _set_deadlines(transport: httpx.BaseTransport) -> bool:
    """Make a transport end its network operations at the deadline; return False if that is not possible."""
    return type(transport) is httpx.HTTPTransport and _compat.wrap_network_backend(transport, _DeadlineBackend)


def _read_body(response: httpx.Response, until: float) -> bytes:
    try:
        whole = response.content  # a user's transport may return a response that was read
    except httpx.ResponseNotRead:
        return _stream_body(response, until)
    if len(whole) > MAX_RESPONSE_BYTES:
        raise ResponseTooLargeError
    return whole


def _stream_body(response: httpx.Response, until: float) -> bytes:
    decoder = _decoder_for(response.headers.get("content-encoding", ""))
    body, received = bytearray(), 0
    for raw in response.iter_raw():
        received += len(raw)
        while raw:
            if decoder is None:
                body += raw
                raw = b""
            else:
                body += decoder.decompress(raw, MAX_RESPONSE_BYTES + 1 - len(body))
                raw = decoder.unconsumed_tail
            if max(received, len(body)) > MAX_RESPONSE_BYTES:
                raise ResponseTooLargeError
        if Clock.monotonic() > until:
            raise httpx.ReadTimeout("the response took too long")
    return bytes(body)


def _decoder_for(encoding: str) -> Any:
    """Return a decompressor; None if the body is not compressed."""
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return None
    if name in ("gzip", "x-gzip", "deflate"):
        return zlib.decompressobj(zlib.MAX_WBITS | 32)  # detects gzip and zlib by their headers
    raise UnsupportedEncodingError


def _seconds_left(timeout: float | None, error: type[httpcore.TimeoutException]) -> float | None:
    """Return the timeout of one network operation, so that it ends at the exchange's deadline."""
    if _exchange.until is None:
        return timeout
    left = _exchange.until - Clock.monotonic()
    if left <= 0:
        raise error("the exchange took too long")
    return left if timeout is None else min(left, timeout)


def _resolve(host: str, port: int, timeout: float | None) -> list[str]:
    """Return the addresses of a host.

    The system's resolver takes as long as it likes, so it runs in a thread that is abandoned at the deadline.
    """

    def look_up(flags: int = 0) -> list[str]:
        found = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM, 0, flags)
        return [str(entry[4][0]) for entry in found]

    try:
        return look_up(socket.AI_NUMERICHOST)  # asks nobody
    except OSError:
        pass
    left = _seconds_left(timeout, httpcore.ConnectTimeout)
    try:
        return look_up() if left is None else call_with_deadline(look_up, Clock.monotonic() + left)
    except DeadlineExceededError:
        raise httpcore.ConnectTimeout("the name was not resolved in time") from None
    except OSError as error:
        raise httpcore.ConnectError(str(error)) from error


class _DeadlineStream(httpcore.NetworkStream):
    """A connection whose operations end at the deadline of the exchange that uses it."""

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, _seconds_left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        # In pieces, because the timeout of `write` applies to each call of `socket.send` in it.
        for at in range(0, len(buffer), _WRITE_BYTES):
            self._inner.write(buffer[at : at + _WRITE_BYTES], _seconds_left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = _seconds_left(timeout, httpcore.ConnectTimeout)
        return _DeadlineStream(self._inner.start_tls(ssl_context, server_hostname, left))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _DeadlineBackend(httpcore.NetworkBackend):
    """Opens connections within the deadline of the exchange."""

    def __init__(self, inner: httpcore.NetworkBackend) -> None:
        self._inner = inner

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        failure: Exception = httpcore.ConnectError("the name has no address")
        for address in _resolve(
            host, port, timeout
        ):  # one at a time: `socket.create_connection` would give each the whole timeout
            left = _seconds_left(timeout, httpcore.ConnectTimeout)
            try:
                return _DeadlineStream(self._inner.connect_tcp(str(address), port, left, local_address, socket_options))
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.NetworkStream:
        left = _seconds_left(timeout, httpcore.ConnectTimeout)
        return _DeadlineStream(self._inner.connect_unix_socket(path, left, socket_options))

    def sleep(self, seconds: float) -> None:
        Clock.sleep(min(seconds, _seconds_left(seconds, httpcore.ConnectTimeout) or 0.0))
