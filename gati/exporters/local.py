"""Exports to the embedded store, with the same requests that Greenflash receives."""

from __future__ import annotations

import errno
import hashlib
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from gati.events import Action
from gati.exporters.base import DELIVERED, Outcome, Request, Verdict
from gati.exporters.greenflash.encoder import to_wire_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gati.events import Item
    from gati.exporters.base import RequestEncoder
    from gati.store.retention import Retention
    from gati.store.store import Store


_RECORDED_AT = "recorded_at"
"""Key of a request's body: when an action was recorded, in microseconds since the epoch."""

_OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EINTR})
"""Errors that pass by themselves."""


class LocalExporter:
    """Write conversations to the embedded store, for the studio and for `gati push`.

    Requests wait in the spool while the store is locked or cannot be written. `eager`: writing costs no round trip, so
    it begins as soon as a turn is finished, whatever `flush_interval` is.

    Args:
        store_path: The store's file; a relative path belongs to the current folder. None if there is no folder for it:
            then requests wait in memory.
        max_bytes: Size limit of the file; the oldest conversations are deleted to stay below it.
        encoder: Encodes items as Greenflash requests.
        retention: Days after which turns are deleted; None to keep them.
    """

    name = "local"
    durable = False
    eager = True

    def __init__(
        self, store_path: str | Path | None, max_bytes: int, encoder: RequestEncoder, retention: float | None = None
    ) -> None:
        self.store_path = Path(store_path).absolute() if store_path is not None else None
        self.max_bytes = max_bytes
        self.account = hashlib.sha256(f"local\n{self.store_path}".encode(errors="surrogateescape")).hexdigest()[:16]
        self._encoder = encoder
        self._store: Store | None = None
        self._retention_days = retention
        self._retention: Retention | None = None
        self._deleting = threading.Lock()
        self._opening = threading.Lock()

    def encode(self, items: Sequence[Item]) -> list[Request]:
        """Return the requests that Greenflash would receive. Those of actions also say when these were recorded.

        By this time, the store recognizes what is older than a deletion.
        """
        requests = self._encoder.encode(items)
        recorded = {item.id: item.created_ns for item in items if isinstance(item, Action)}
        for request in requests:
            if request.endpoint != "messages" and request.turn_id in recorded:
                request.body[_RECORDED_AT] = recorded[request.turn_id] // 1000
        return requests

    def send(self, request: Request) -> Outcome:
        """Write the request to the store. The verdict is RETRY if the store is locked, damaged or not writable."""
        try:
            self._write(request)
        except Exception as error:  # noqa: BLE001 - whatever happened, send must not raise
            return _outcome_of_error(error)
        self._delete_old()
        return DELIVERED

    def send_many(self, requests: Sequence[Request]) -> list[Outcome]:
        """Write several requests, those of messages in one transaction. Return their outcomes in the same order."""
        messages = [request for request in requests if request.endpoint == "messages"]
        try:
            stored = self._open().ingest_many([to_wire_names(request.body) for request in messages])
        except Exception as error:  # noqa: BLE001 - as in `send`
            return [_outcome_of_error(error)] * len(requests)
        results = iter(stored)
        outcomes = []
        for request in requests:
            if request.endpoint != "messages":
                outcomes.append(self.send(request))
            else:
                result = next(results)
                outcomes.append(_outcome_of_error(result) if isinstance(result, Exception) else DELIVERED)
        self._delete_old()
        return outcomes

    def split(self, request: Request) -> tuple[Request, Request] | None:
        """Return both halves of a request that is too large for the store; None if it cannot be split."""
        return self._encoder.split(request)

    def after_fork(self) -> None:
        """Replace the locks in a forked child. The store reopens its file itself."""
        self._opening, self._deleting = threading.Lock(), threading.Lock()

    def close(self) -> None:
        """Close the store."""
        if self._store is not None:
            self._store.close()

    def _write(self, request: Request) -> None:
        store = self._open()
        if request.endpoint == "messages":
            store.ingest(to_wire_names(request.body))
        else:
            body = dict(request.body)
            recorded_at = body.pop(_RECORDED_AT, None)
            recorded_at = recorded_at if isinstance(recorded_at, int) else None
            store.record_action(request.endpoint, to_wire_names(body), recorded_at)

    def _delete_old(self) -> None:
        """Do a part of the deletion by age that is due. One thread at a time does so, others deliver meanwhile."""
        if self._retention_days is None or self._store is None or not self._deleting.acquire(blocking=False):
            return
        try:
            if self._retention is None:
                from gati.store.retention import Retention

                self._retention = Retention(self._store, self._retention_days)
            self._retention.step()
        except Exception:  # noqa: BLE001 - the request was delivered, and the next one tries again
            pass
        finally:
            self._deleting.release()

    def _open(self) -> Store:
        with self._opening:  # several threads may get here first, and a second store would never be closed
            if self._store is None:
                from gati.store.store import Store  # late: avoids loading sqlite3 before something is written

                if self.store_path is None:
                    raise FileNotFoundError("there is no home folder")
                self._store = Store(self.store_path, self.max_bytes)
            return self._store


def _outcome_of_error(error: Exception) -> Outcome:
    import sqlite3  # late: usually loaded by the store already

    name = type(error).__name__
    if name == "TooLargeError":
        return Outcome(Verdict.SPLIT, f"{name}: {error}"[:200])
    # SQLite raises the base class itself for a damaged file, and other subclasses for values it cannot store.
    damaged = type(error) is sqlite3.DatabaseError
    if damaged or isinstance(error, (sqlite3.OperationalError, OSError)) or name == "NotAStoreError":
        return Outcome(Verdict.RETRY, f"{name}: {error}"[:200], local_fault=_is_local_fault(error))
    return Outcome(Verdict.REJECT, name)


def _is_local_fault(error: Exception) -> bool:
    """Return True if the store cannot be written until somebody changes something, unlike a locked or damaged one."""
    import sqlite3

    if isinstance(error, sqlite3.Error):
        code = (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF
        return code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM)
    return not (isinstance(error, OSError) and error.errno in _OUT_OF_RESOURCES)
