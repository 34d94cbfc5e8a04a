"""Responses without an end, over real HTTP: every attempt ends, and the next one succeeds."""

from __future__ import annotations

import gzip
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import greenflash as sdk
import httpx
import pytest

from gati.exporters import bounded_client, deadline_call
from gati.exporters.base import Verdict
from gati.exporters.bounded_client import MAX_RESPONSE_BYTES, BoundedClient, ResponseTooLargeError
from gati.exporters.deadline_call import DeadlineExceededError, call_with_deadline
from gati.exporters.events_api import EventsApiExporter
from gati.exporters.greenflash import _compat
from gati.exporters.greenflash.exporter import GreenflashExporter
from gati.testing.server import fault_injection as faults
from gati.testing.server.fault_injection import InjectedFault
from tests.exporters.turns import agent_turn, settings
from tests.servers import LocalServer


class Wrapped(httpx.BaseTransport):
    """A transport of a user's around one of httpx, as those for retries or caches are."""

    def __init__(self) -> None:
        self.inner = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self.inner.handle_request(request)

    def close(self) -> None:
        self.inner.close()


CLIENTS: dict[str, Callable[[LocalServer], Any]] = {
    "own": lambda server: None,
    "user's": lambda server: sdk.Greenflash(
        api_key=server.api_key, base_url=server.url, http_client=httpx.Client(timeout=600)
    ),
    "user's, async": lambda server: sdk.AsyncGreenflash(
        api_key=server.api_key, base_url=server.url, http_client=httpx.AsyncClient(timeout=None)
    ),
    "user's, with a transport": lambda server: sdk.Greenflash(
        api_key=server.api_key, base_url=server.url, http_client=httpx.Client(transport=Wrapped(), timeout=None)
    ),
}
ENDLESS: dict[str, Callable[[], InjectedFault]] = {
    "trickling headers": lambda: faults.trickling("headers", 0.02),
    "trickling body": lambda: faults.trickling("body", 0.02),
    "trickling chunks": lambda: faults.trickling("chunks", 0.02),
    "endless body": faults.endless_body,
    "endless 100": faults.endless_informational,
    "endless 103": lambda: faults.endless_informational(103),
    "gzip bomb": lambda: faults.gzip_bomb(64 * 1024**2),
    "no response": faults.black_hole,
}


@pytest.fixture(params=CLIENTS)
def exporter(request: pytest.FixtureRequest, greenflash: LocalServer) -> Iterator[GreenflashExporter]:
    client = CLIENTS[request.param](greenflash)
    access = {"client": client} if client else {"api_key": greenflash.api_key, "base_url": greenflash.url}
    made = GreenflashExporter(settings(**{"api_key": None, "timeout": 0.4, **access}))
    yield made
    made.close()
    if isinstance(client, sdk.Greenflash):
        client.close()


@pytest.mark.parametrize("fault", ENDLESS)
def test_a_response_without_an_end_is_a_failed_attempt(
    fault: str, exporter: GreenflashExporter, greenflash: LocalServer
) -> None:
    (sent,) = exporter.encode([agent_turn()])
    greenflash.faults.add(ENDLESS[fault]())
    assert exporter.send(sent).verdict is Verdict.RETRY
    outcome = exporter.send(sent)
    while "Timeout" in outcome.reason or "Deadline" in outcome.reason:  # a loaded machine may need longer
        outcome = exporter.send(sent)
    assert outcome.verdict is Verdict.OK


@pytest.mark.parametrize("fault", ENDLESS)
def test_a_backends_response_without_an_end_is_a_failed_attempt(fault: str, backend: LocalServer) -> None:
    exporter = EventsApiExporter(
        settings(api_key=None, backend_url=backend.url, backend_api_key=backend.api_key, timeout=0.4)
    )
    (sent,) = exporter.encode([agent_turn()])
    backend.faults.add(ENDLESS[fault]())
    assert exporter.send(sent).verdict is Verdict.RETRY
    exporter.close()


def client_with(answer: Callable[[], httpx.Response]) -> BoundedClient:
    return BoundedClient(total_timeout=5.0, transport=httpx.MockTransport(lambda request: answer()))


class Chunks(httpx.SyncByteStream):
    def __init__(self, *chunks: bytes) -> None:
        self.chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.chunks)


@pytest.mark.parametrize("encoding", ["", "identity", "gzip", "x-gzip", "GZIP", "deflate"])
def test_compressed_responses_are_decompressed(encoding: str) -> None:
    body = b'{"success": true}' * 100
    pack = {"": bytes, "identity": bytes, "deflate": zlib.compress}.get(encoding, gzip.compress)
    packed = pack(body)
    chunks = [packed[at : at + 7] for at in range(0, len(packed), 7)]
    client = client_with(lambda: httpx.Response(201, headers={"content-encoding": encoding}, stream=Chunks(*chunks)))
    response = client.post("http://x.test/", content=b"{}")
    assert (response.status_code, response.content) == (201, body)
    assert "content-encoding" not in response.headers


def test_a_response_in_an_encoding_that_was_not_accepted_fails() -> None:
    client = client_with(lambda: httpx.Response(200, headers={"content-encoding": "br"}, stream=Chunks(b"x")))
    with pytest.raises(bounded_client.UnsupportedEncodingError):
        client.get("http://x.test/")


@pytest.mark.parametrize("size", [MAX_RESPONSE_BYTES, MAX_RESPONSE_BYTES + 1])
def test_the_largest_response_has_a_megabyte(size: int) -> None:
    for answer in (
        lambda: httpx.Response(200, content=bytes(size)),
        lambda: httpx.Response(200, stream=Chunks(bytes(size))),
        lambda: httpx.Response(200, stream=Chunks(gzip.compress(bytes(size))), headers={"content-encoding": "gzip"}),
    ):
        if size > MAX_RESPONSE_BYTES:
            with pytest.raises(ResponseTooLargeError):
                client_with(answer).get("http://x.test/")
        else:
            assert len(client_with(answer).get("http://x.test/").content) == size


def test_only_transports_of_users_need_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not BoundedClient(total_timeout=1.0, proxy="http://proxy.test:1")._needs_thread
    assert not BoundedClient(total_timeout=1.0, auth=("u", "p"))._needs_thread
    assert BoundedClient(total_timeout=1.0, transport=Wrapped())._needs_thread
    assert BoundedClient(total_timeout=1.0, mounts={"all://": Wrapped()})._needs_thread
    assert BoundedClient(total_timeout=1.0, auth=lambda request: request)._needs_thread
    monkeypatch.setattr(_compat, "wrap_network_backend", lambda transport, wrap: False)
    assert BoundedClient(total_timeout=1.0)._needs_thread


def test_a_call_that_never_returns_is_abandoned_and_ends_when_it_runs_python_code() -> None:
    ended = threading.Event()

    def endless() -> None:
        try:
            while True:
                time.sleep(0.001)
        finally:
            ended.set()

    with pytest.raises(DeadlineExceededError):
        call_with_deadline(endless, time.monotonic() + 0.01)
    assert ended.wait(10)


def test_abandoned_calls_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline_call, "MAX_ABANDONED", 1)
    release = threading.Event()
    with pytest.raises(DeadlineExceededError):
        call_with_deadline(release.wait, time.monotonic() + 0.01)
    with pytest.raises(DeadlineExceededError):
        call_with_deadline(lambda: 1, time.monotonic() + 5)
    release.set()
    for thread in list(deadline_call._abandoned):
        thread.join()
    assert call_with_deadline(lambda: 1, time.monotonic() + 5) == 1


def test_exceptions_of_a_call_are_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TimeoutError, match="its own"):
        call_with_deadline(lambda: (_ for _ in ()).throw(TimeoutError("its own")), time.monotonic() + 5)


@pytest.mark.parametrize("jump", [1e9, -1e9])
def test_a_stopped_or_moved_clock_of_a_test_does_not_end_an_exchange(
    greenflash: LocalServer, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    real, calls = time.monotonic, iter(range(1_000_000))
    monkeypatch.setattr(time, "monotonic", lambda: real() + jump * next(calls))
    with BoundedClient(total_timeout=10.0) as client:
        assert client.get(f"{greenflash.address}/health").status_code < 500


def test_a_resolver_that_hangs_is_abandoned_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    hung = threading.Event()
    look_up = socket.getaddrinfo

    def resolve(host: str, port: int, *arguments: Any) -> Any:
        if host == "slow.test" and socket.AI_NUMERICHOST not in arguments:
            hung.wait()
            host = "127.0.0.1"
        return look_up(host, port, *arguments)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    client = BoundedClient(total_timeout=0.2)
    with pytest.raises(httpx.ConnectTimeout):
        client.get("http://slow.test:9/")
    hung.set()
    with pytest.raises((httpx.ConnectError, httpx.ConnectTimeout)):  # nothing listens there
        client.get("http://slow.test:9/")
    client.close()


def test_a_name_that_does_not_exist_is_a_failed_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*_: Any) -> Any:
        raise socket.gaierror("unknown")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with BoundedClient(total_timeout=20.0) as client, pytest.raises(httpx.ConnectError, match="unknown"):
        client.get("http://missing.test/")
