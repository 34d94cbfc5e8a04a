"""Pooled connections to PostgreSQL, with the interface of `gati.store.connections.Connections`.

One transaction writes at a time, as in the embedded store: it holds an advisory lock. So what reads a value and then
writes it cannot be overtaken, and row ids are assigned in the order in which rows become visible: a reader that asks for
the rows after the last one that it has seen misses none.
"""

from __future__ import annotations

import os
import selectors
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from gati.queues.bounded_connection import reason_of
from gati.store.store_file import NotAStoreError
from gati.team_store import schema
from gati.team_store.connection import PostgresConnection, StoreUnavailableError

MAX_CONNECTIONS = 12
"""Connections of one process. PostgreSQL allows 100 by default."""

_WAIT_SECONDS = 30.0

_inherited: list[PostgresConnection] = []
"""Connections inherited from the parent of a fork. Closing them would end those of the parent."""


class CommitUnknownError(StoreUnavailableError):
    """The connection was lost during a commit, so the transaction may have been stored."""


class PostgresConnections:
    """A pool of connections to one database. A connection serves one caller at a time.

    Args:
        address: A `postgresql://` address, or another connection string of libpq.
        read_only: Create and change nothing.
    """

    def __init__(self, address: str, *, read_only: bool = False) -> None:
        self.address = address
        self.read_only = read_only
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._idle: list[PostgresConnection] = []
        self._generation = 0
        self._is_prepared = False
        self._pid = os.getpid()

    @contextmanager
    def reading(self) -> Iterator[PostgresConnection]:
        """Provide a connection outside a transaction."""
        if self._pid != os.getpid():
            _inherited.extend(self._idle)
            self._reset()
        free, generation = self._free, self._generation
        if not free.acquire(timeout=_WAIT_SECONDS):
            raise StoreUnavailableError(f"all {MAX_CONNECTIONS} connections are in use")
        db: PostgresConnection | None = None
        try:
            db = self._take()
            yield db
            if db.is_usable and generation == self._generation:
                with self._lock:
                    self._idle.append(db)
                db = None
        finally:
            if db is not None:
                db.close()
            free.release()

    @contextmanager
    def snapshot(self) -> Iterator[PostgresConnection]:
        """Provide a connection whose reads all see the same state of the store."""
        with self.reading() as db:
            db.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield db
            db.run("COMMIT")

    @contextmanager
    def writing(self) -> Iterator[PostgresConnection]:
        """Provide a connection inside a transaction, the only one that writes. Commit it when the block succeeds.

        Raises:
            CommitUnknownError: The connection was lost during the commit.
        """
        with self.reading() as db:
            db.run(f"BEGIN; SELECT pg_advisory_xact_lock({schema.LOCK})")
            try:
                yield db
            except BaseException:  # also if interrupted: the transaction does not stay open
                with suppress(StoreUnavailableError):
                    db.run("ROLLBACK")
                raise
            try:
                db.run("COMMIT")
            except StoreUnavailableError as error:
                raise CommitUnknownError(str(error)) from error

    def close(self) -> None:
        """Close the idle connections. Later use opens new ones."""
        with self._lock:
            idle, self._idle = self._idle, []
            self._generation += 1
        for db in idle:
            db.close()

    def _take(self) -> PostgresConnection:
        while True:
            with self._lock:
                db = self._idle.pop() if self._idle else None
            if db is None:
                return self._open()
            if not _has_news(db):
                return db
            db.close()  # the server has ended it

    def _open(self) -> PostgresConnection:
        db = PostgresConnection(self.address, read_only=self.read_only)
        try:
            with self._lock:
                if not self._is_prepared:
                    self._prepare(db)
                    self._is_prepared = True
        except BaseException:  # also if interrupted: the connection would leak
            db.close()
            raise
        return db

    def _prepare(self, db: PostgresConnection) -> None:
        if not self.read_only:
            schema.migrate(db)
        elif not schema.version_of(db):
            raise NotAStoreError(f"{display_address(self.address)} has no store of gati")


def _has_news(db: PostgresConnection) -> bool:
    """Return True if an idle connection has something to read: that the server has ended it."""
    if db.session.closed:
        return True
    with selectors.DefaultSelector() as selector:
        selector.register(db.session.fileno(), selectors.EVENT_READ)
        return bool(selector.select(0))


def display_address(address: str) -> str:
    """Return an address without its password, for messages.

    Raises:
        StoreUnavailableError: The address is invalid. The error does not quote it, as libpq's would.
    """
    from psycopg import ProgrammingError, conninfo

    try:
        given = conninfo.conninfo_to_dict(address)
    except ProgrammingError as error:
        raise StoreUnavailableError(reason_of(error)) from None
    host, port, name = (given.get(key) or "" for key in ("host", "port", "dbname"))
    if "@" in f"{port}{name}":
        raise StoreUnavailableError("the address is invalid: in user and password, write %2F for /, and %40 for @")
    return f"postgresql://{host or 'localhost'}{f':{port}' if port else ''}/{name}"
