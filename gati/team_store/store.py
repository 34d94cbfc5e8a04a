"""The team's store: a `Store` in PostgreSQL."""

from __future__ import annotations

import secrets
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from gati.store.store import Store, TooLargeError
from gati.team_store import ingestion
from gati.team_store.connection import SCHEMA, PostgresConnection, StoreUnavailableError, too_large_error
from gati.team_store.pool import CommitUnknownError, PostgresConnections, display_address
from gati.team_store.prepared_requests import PreparedRequest, prepare

T = TypeVar("T")

MAX_BATCH = 50
"""Requests that are stored in one transaction."""

_MAX_BATCH_MESSAGES = 2000

_ATTEMPTS = 3


class _Waiting:
    """A request that waits to be stored, and its response or error."""

    def __init__(self, request: PreparedRequest) -> None:
        self.request = request
        self.result: dict[str, Any] | Exception | None = None


class PostgresStore(Store):
    """Conversations, users, ratings and events in a PostgreSQL database that several programs and studios share.

    Creates its tables in the schema `gati`, and applies the migrations of later versions. Nothing is evicted.

    Args:
        address: A `postgresql://` address.
        read_only: Create and change nothing.

    Raises:
        StoreUnavailableError: The database cannot be reached.
        NotAStoreError: With `read_only`, the database has no store of gati.
    """

    def __init__(self, address: str, *, read_only: bool = False) -> None:
        self.address = address
        self.path = Path(display_address(address))  # for messages
        self._read_only = read_only
        self._pool = PostgresConnections(address, read_only=read_only)
        self.connections = cast(Any, self._pool)
        self.has_search = True
        self._queue: deque[_Waiting] = deque()
        self._writer = threading.Lock()
        with self._pool.reading():  # creates the tables
            pass

    @property
    def name(self) -> str:
        """See `Store.name`."""
        return display_address(self.address)

    def ingest(self, body: dict[str, Any]) -> dict[str, Any]:
        """See `Store.ingest`. Requests of several threads are stored in one transaction."""
        waiting = _Waiting(prepare(body))
        self._queue.append(waiting)
        with self._writer:
            while waiting.result is None:  # else another thread has stored it
                self._store_waiting()
        if isinstance(waiting.result, Exception):
            raise waiting.result
        return waiting.result

    def ingest_many(self, bodies: Sequence[dict[str, Any]]) -> list[dict[str, Any] | Exception]:
        """Store several requests in one transaction, in order. Return the response of each, or why it was not stored.

        Raises:
            StoreUnavailableError: The database cannot be reached. Storing the requests again stores nothing twice.
        """
        return self._ingest_prepared([prepare(body) for body in bodies])

    def _store_waiting(self) -> None:
        """Store the requests that have waited longest."""
        batch: list[_Waiting] = []
        messages = 0
        while self._queue and len(batch) < MAX_BATCH and messages < _MAX_BATCH_MESSAGES:
            batch.append(self._queue.popleft())
            messages += len(batch[-1].request.messages)
        try:
            results = self._ingest_prepared([waiting.request for waiting in batch])
        except Exception as error:  # noqa: BLE001 - each waiting thread raises it
            results = [error] * len(batch)
        for waiting, result in zip(batch, results, strict=True):
            waiting.result = result

    def _ingest_prepared(self, requests: list[PreparedRequest]) -> list[dict[str, Any] | Exception]:
        """Store requests; one by one if together they fail for a reason that one of them has."""
        bodies = [request.body for request in requests]

        def store(some: list[PreparedRequest]) -> list[dict[str, Any] | Exception]:
            fresh = [PreparedRequest(request.body, request.messages) for request in some]  # for another attempt
            result: list[dict[str, Any] | Exception] = self.transaction(
                lambda db: ingestion.ingest(cast("PostgresConnection", db), fresh)
            )
            return result

        try:
            return store(requests)
        except StoreUnavailableError:
            raise
        except Exception as error:  # noqa: BLE001 - belongs to one of the requests
            if len(bodies) == 1:
                return [error]
        return [result for request in requests for result in self._ingest_prepared([request])]

    def deleting(self, work: Callable[[Any], T]) -> T:
        """Run `work`, which deletes, in a transaction."""
        result: T = self.transaction(work)
        return result

    def ingest_within(self, db: Any, body: dict[str, Any]) -> dict[str, Any]:
        """See `Store.ingest_within`."""
        (result,) = ingestion.ingest(db, [prepare(body)])
        if isinstance(result, Exception):
            raise result
        return result

    def transaction(self, work: Callable[[Any], Any], size: Callable[[], int] = lambda: 0) -> Any:
        """Run `work` in a transaction; again if the connection was lost before the commit. `size` is not used.

        Raises:
            CommitUnknownError: The connection was lost during the commit.
            StoreUnavailableError: The database cannot be reached, or other writers take too long.
            TooLargeError: A value is longer than an index of the database allows.
        """
        for attempt in range(_ATTEMPTS):
            try:
                with self._pool.writing() as db:
                    return work(db)
            except CommitUnknownError:
                raise
            except StoreUnavailableError:
                if attempt == _ATTEMPTS - 1:
                    raise
            except Exception as error:  # psycopg's errors; the package is imported late
                if too_large_error(error):
                    raise TooLargeError("an id or a name is longer than the database can index") from error
                raise
        raise AssertionError("unreachable")

    def size_bytes(self) -> int:
        """Return the size of the tables and indexes."""
        query = (
            "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0) FROM pg_class c"
            " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relkind = 'r'"
        )
        with self._pool.reading() as db:
            return int(db.run(query, (SCHEMA,)).fetchone()[0])

    def shared_token(self) -> str:
        """Return the token of all studios of this store, created on first use. It is in the database."""

        def read_or_create(db: PostgresConnection) -> str:
            db.run(
                "INSERT INTO secrets VALUES ('studio_token', %s) ON CONFLICT DO NOTHING", (secrets.token_urlsafe(32),)
            )
            return str(db.run("SELECT value FROM secrets WHERE name = 'studio_token'").fetchone()[0])

        return str(self.transaction(read_or_create))
