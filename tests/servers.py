"""Servers for tests: a local Greenflash, GATI backend or studio over real HTTP, in a thread of the test process."""

from __future__ import annotations

import socket
import tempfile
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from starlette.testclient import TestClient

from gati import contract
from gati.store import gati_events, queries
from gati.store.store import Store
from gati.studio.public_address import PublicAddress
from gati.studio.server import create_studio_app, listen, uvicorn_server
from gati.testing.server.app import create_test_app
from gati.testing.server.fault_injection import FaultInjector
from gati.testing.server.fault_middleware import ResettableProtocol
from gati.testing.server.recording import RecordedRequest, RequestLog

API_KEY = "gf_test_key"


@dataclass
class LocalServer:
    """A running server. `url` is the `base_url` (or `backend_url`) for a client."""

    url: str
    address: str
    api_key: str
    store: Store
    faults: FaultInjector = field(default_factory=FaultInjector)
    log: RequestLog = field(default_factory=RequestLog)

    @property
    def requests(self) -> list[RecordedRequest]:
        """The authorized requests, without those hit by a fault before they were processed."""
        return self.log.requests

    @property
    def unknown_keys(self) -> list[str]:
        """Paths of keys that the schemas do not define, most likely mistakes."""
        return self.log.unknown_keys

    @property
    def outside_contract(self) -> list[str]:
        """Paths of keys in received messages that `gati.contract` does not list."""
        messages = [message for body in self.bodies() for message in body["messages"]]
        return sorted({path for message in messages for path in contract.unknown_keys(message)})

    @property
    def headers(self) -> dict[str, str]:
        """The headers of an authorized request."""
        return {"authorization": f"Bearer {self.api_key}"}

    def post(self, body: Any, path: str = "/messages", **more: Any) -> httpx.Response:
        """Send an authorized request. `body`: JSON value, or the raw body as bytes or str."""
        headers = {**self.headers, **more.pop("headers", {})}
        form = "content" if isinstance(body, (bytes, str)) else "json"
        return httpx.post(self.url + path, headers=headers, **{form: body}, **more)

    def messages(self, conversation: str | None = None, product: str | None = None) -> list[dict[str, Any]]:
        """Return the stored messages as received, in reading order, plus `conversation` and `prompt`."""
        return queries.wire_messages(self.store, conversation, product)

    def events(self) -> list[dict[str, Any]]:
        """Return the stored events of `POST /api/events`, in order of arrival."""
        return gati_events.stored_events(self.store)

    def bodies(self, path: str = "/api/v1/messages") -> list[Any]:
        """Return the bodies of the requests to a path, in order."""
        return [request.body for request in self.requests if request.path == path]


@contextmanager
def greenflash_server(
    api_keys: Collection[str] | None = (API_KEY,), path: Path | None = None, port: int = 0
) -> Iterator[LocalServer]:
    """Run a strict local Greenflash. With the same `path` and `port` it continues after an outage."""
    with _test_server(api_keys, path, port, "/api/v1") as server:
        yield server


@contextmanager
def gati_backend(
    api_keys: Collection[str] | None = (API_KEY,), path: Path | None = None, port: int = 0
) -> Iterator[LocalServer]:
    """Run a GATI backend (`POST {url}/api/events`)."""
    with _test_server(api_keys, path, port, "") as server:
        yield server


STUDIO_TOKEN = "studio-token-of-the-tests-0123456789"


@contextmanager
def studio_server(public: PublicAddress | None = None, store: Store | None = None) -> Iterator[LocalServer]:
    """Run the studio. Its token is the API key.

    Args:
        public: The address of a proxy in front of it.
        store: Its store; by default a new one.
    """
    with _store_and_socket(None, 0) as (own_store, listener, address):
        store = store or own_store
        server = LocalServer(address + "/api/v1", address, STUDIO_TOKEN, store)
        with _running(uvicorn_server(create_studio_app(store, STUDIO_TOKEN, public=public)), listener):
            yield server


def studio_client(store: Store) -> TestClient:
    """Return a client of the studio that has its token."""
    headers = {"authorization": f"Bearer {STUDIO_TOKEN}"}
    return TestClient(create_studio_app(store, STUDIO_TOKEN), base_url="http://127.0.0.1", headers=headers)


@contextmanager
def _test_server(api_keys: Collection[str] | None, path: Path | None, port: int, base: str) -> Iterator[LocalServer]:
    with _store_and_socket(path, port) as (store, listener, address):
        server = LocalServer(address + base, address, next(iter(api_keys or ("any",))), store)
        app = create_test_app(store, api_keys, server.faults, on_request=server.log)
        with _running(uvicorn_server(app, ResettableProtocol), listener):
            try:
                yield server
            finally:
                server.faults.clear()


@contextmanager
def _store_and_socket(path: Path | None, port: int) -> Iterator[tuple[Store, socket.socket, str]]:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(path or Path(folder) / "store.db")
        # The socket listens before the server runs, so early requests wait instead of failing.
        listener = listen(port=port)
        try:
            yield store, listener, f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.close()
            store.close()


@contextmanager
def _running(server: Any, listener: socket.socket) -> Iterator[None]:
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="test-server", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(10)
