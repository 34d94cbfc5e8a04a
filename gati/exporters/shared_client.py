"""One client for all sending threads of a process: made on first use, remade in a forked child."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar


class Closable(Protocol):
    """What can be held."""

    def close(self) -> None: ...


Client = TypeVar("Client", bound=Closable)


class Held(Generic[Client]):
    """Thread-safe. `make` is called by the thread that needs the client first."""

    def __init__(self, make: Callable[[], Client]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._inherited: list[Any] = []
        self._closed = False

    def get(self) -> Client | None:
        """The client; None once closed. Raises what `make` raises."""
        with self._lock:
            if self._client is None and not self._closed:
                self._client = self._make()
            return self._client

    def after_fork(self) -> None:
        """In a child: a new client, a new lock (the parent's may have been held). The inherited client stays
        referenced: to close it would end connections that are the parent's.
        """
        self._lock = threading.Lock()
        self._inherited.append(self._client)
        self._client = None

    def close(self) -> None:
        """Close the client for good."""
        with self._lock:
            client, self._client, self._closed = self._client, None, True
        if client is not None:
            try:
                client.close()
            except Exception:  # noqa: BLE001 - a connection that cannot be closed is of no use to anybody
                pass
