"""A client shared by all sending threads of a process: created lazily, replaced after a fork."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar


class Closable(Protocol):
    """A client with a `close` method."""

    def close(self) -> None: ...


Client = TypeVar("Client", bound=Closable)


class SharedClient(Generic[Client]):
    """Create a client on first use and share it between threads.

    Args:
        make: Creates the client; called in the thread that needs it first.
    """

    def __init__(self, make: Callable[[], Client]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._inherited: list[Any] = []
        self._closed = False

    def get(self) -> Client | None:
        """Return the client, or None after `close`. Raises whatever `make` raises; the next call tries again."""
        with self._lock:
            if self._client is None and not self._closed:
                self._client = self._make()
            return self._client

    def after_fork(self) -> None:
        """Use a new client in a forked child.

        The lock is replaced because a thread of the parent may have held it. The inherited client stays referenced:
        garbage collection would close connections that the parent still uses.
        """
        self._lock = threading.Lock()
        self._inherited.append(self._client)
        self._client = None

    def close(self) -> None:
        """Close the client permanently."""
        with self._lock:
            client, self._client, self._closed = self._client, None, True
        if client is not None:
            try:
                client.close()
            except Exception:  # noqa: BLE001 - the client is discarded in any case
                pass
