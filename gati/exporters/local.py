"""The embedded store as a destination: the same requests as Greenflash gets, kept on this machine."""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING, Protocol

from gati.exporters.base import DELIVERED, Outcome, Request, Verdict
from gati.exporters.greenflash.encoder import wire

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gati.events import Item
    from gati.store.store import Store


class Encoder(Protocol):
    """Makes Greenflash's requests; `exporters.greenflash.messages.Encoder`."""

    def encode(self, items: Sequence[Item]) -> list[Request]: ...

    def split(self, request: Request) -> tuple[Request, Request] | None: ...


class LocalExporter:
    """Keeps conversations in the embedded store, for the studio and for a later `gati push`.

    Args:
        store_path: the store's file; None for the user's data folder.
        max_bytes: bound of the file; the oldest conversations make room.
        encoder: makes the requests, as for Greenflash.
    """

    name = "local"
    durable = True

    def __init__(self, store_path: str | Path | None, max_bytes: int, encoder: Encoder) -> None:
        self.store_path, self.max_bytes = store_path, max_bytes
        self.account = hashlib.sha256(f"local\n{store_path or ''}".encode()).hexdigest()[:16]
        self._encoder = encoder
        self._store: Store | None = None
        self._opening = threading.Lock()

    def encode(self, items: Sequence[Item]) -> list[Request]:
        """The requests that Greenflash would get."""
        return self._encoder.encode(items)

    def send(self, request: Request) -> Outcome:
        """Write the request to the store. A store that is busy or cannot be written is tried again."""
        try:
            self._write(request)
        except Exception as error:  # noqa: BLE001  # the sender must hear of every fault as an outcome
            return _outcome(error)
        return DELIVERED

    def split(self, request: Request) -> tuple[Request, Request] | None:
        """Halves of a request that does not fit into the store."""
        return self._encoder.split(request)

    def after_fork(self) -> None:
        """The store opens its file anew in a child by itself."""
        self._opening = threading.Lock()

    def close(self) -> None:
        """Close the file."""
        if self._store is not None:
            self._store.close()

    def _write(self, request: Request) -> None:
        store = self._open()
        if request.endpoint == "messages":
            store.ingest(wire(request.body))
        else:
            store.record_action(request.endpoint, wire(request.body))

    def _open(self) -> Store:
        with self._opening:  # several threads send: a second store would be closed by nobody
            if self._store is None:
                from gati.store.store import Store  # sqlite3 is loaded when there is something to keep

                self._store = Store(self.store_path, self.max_bytes)
            return self._store


def _outcome(error: Exception) -> Outcome:
    import sqlite3  # the store has loaded it by now, unless its folder could not be made

    reason = f"{type(error).__name__}: {error}"[:200]
    if type(error).__name__ == "TooLargeError":
        return Outcome(Verdict.SPLIT, reason)
    if isinstance(error, (sqlite3.OperationalError, OSError)):
        return Outcome(Verdict.RETRY, reason)
    return Outcome(Verdict.REJECT, type(error).__name__)
