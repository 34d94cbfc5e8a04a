"""Real servers for tests: the studio's server over real HTTP, in a thread of the test process."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gati.studio import backend, reading
from gati.studio.faults import Faults
from gati.studio.server import create_app, listen, uvicorn_server
from gati.studio.store import Store

API_KEY = "gf_test_key"


@dataclass
class Received:
    """One request that was let in (a fault before the work keeps it from being seen here)."""

    method: str
    path: str
    body: Any


@dataclass
class LocalServer:
    """A running server. `url` is what a client's `base_url` (or `backend_url`) takes."""

    url: str
    address: str
    api_key: str
    store: Store
    faults: Faults
    requests: list[Received] = field(default_factory=list)
    unknown_keys: list[str] = field(default_factory=list)
    """Keys that the contract does not know, with their paths; most likely a mistake."""

    def messages(self, conversation: str | None = None, product: str | None = None) -> list[dict[str, Any]]:
        """What the server holds, in reading order: wire messages with `conversation` and `prompt` beside."""
        return reading.messages(self.store, conversation, product)

    def events(self) -> list[dict[str, Any]]:
        """Events of `POST /api/events` that the server holds, in order of arrival."""
        return backend.events(self.store)

    def bodies(self, path: str = "/api/v1/messages") -> list[Any]:
        """Bodies of the requests to a path, in order."""
        return [request.body for request in self.requests if request.path == path]


@contextmanager
def greenflash_server(
    api_keys: Collection[str] | None = (API_KEY,), path: Path | None = None, port: int = 0, pages: bool = False
) -> Iterator[LocalServer]:
    """A strict local Greenflash; `path` and `port` let a server come back after an outage with what it had."""
    with _running(api_keys, path, port, "/api/v1", pages) as server:
        yield server


@contextmanager
def gati_backend(
    api_keys: Collection[str] | None = (API_KEY,), path: Path | None = None, port: int = 0
) -> Iterator[LocalServer]:
    """A GATI backend (`POST {url}/api/events`)."""
    with _running(api_keys, path, port, "", False) as server:
        yield server


@contextmanager
def _running(
    api_keys: Collection[str] | None, path: Path | None, port: int, base: str, pages: bool
) -> Iterator[LocalServer]:
    with tempfile.TemporaryDirectory() as folder:
        store, faults = Store(path or Path(folder) / "store.db"), Faults()
        # The socket listens before the server runs, so requests wait for it instead of failing.
        listener = listen(port=port)
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = LocalServer(address + base, address, next(iter(api_keys or ("any",))), store, faults)

        def note(method: str, path: str, body: Any, unknown: list[str]) -> None:
            server.requests.append(Received(method, path, body))
            server.unknown_keys.extend(unknown)

        runner = uvicorn_server(create_app(store, api_keys, faults, on_request=note, pages=pages))
        thread = threading.Thread(target=runner.run, kwargs={"sockets": [listener]}, name="test-server", daemon=True)
        thread.start()
        try:
            yield server
        finally:
            faults.clear()
            runner.should_exit = True
            thread.join(10)
            listener.close()
            store.close()
