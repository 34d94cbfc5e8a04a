"""Pooled SQLite connections, safe to use across threads, processes and forks."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gati.store import schema, store_file
from gati.store.store_file import FileIds, NotAStoreError

_BUSY_SECONDS = 10.0
"""How long a writer waits for another process's transaction to end."""

_TURN_SECONDS = 60.0
"""How long a writer waits for other threads' transactions to end."""

_CHECKED_BYTES = 8 * 1024**2
"""A file up to this size is checked completely after another program has changed it, which takes some 25 ms."""

_CREATION_SECONDS = 2.0
"""How long a reader waits for the tables of a file that another process has just created."""

_WITHOUT_LOCKS = f"&vfs={'win32' if os.name == 'nt' else 'unix'}-none"
"""Parameter of an address whose database SQLite reads without locks, but with its write-ahead log."""

_inherited: list[sqlite3.Connection] = []
"""Connections inherited from the parent of a fork. SQLite forbids using or closing them in the child."""


class StoreReplacedError(sqlite3.OperationalError):
    """The file was deleted or replaced during a transaction, so what was written is gone. Write it again."""


class Connections:
    """A pool of connections to one file. A connection serves one caller at a time.

    Threads of this process write in turn, in about the order in which they came: SQLite lets waiting writers
    try now and then, so among many, one may never succeed.

    The file is opened on first use, and created if it is missing. If it was deleted or replaced since, its path is
    opened again.

    `max_bytes` limits the file plus its write-ahead log: SQLite refuses to grow the file beyond its share, and
    truncates the log after each checkpoint.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self.log_bytes = min(4 * 1024**2, max_bytes // 4)
        self.file_bytes = max_bytes - self.log_bytes
        self._lock = threading.Lock()
        self._writer = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._generation = 0
        self._pid = os.getpid()
        self._ids: FileIds | None = None
        self._opened: tuple[int, int] | None = None
        """Id of the database that was opened last, successfully or not."""
        self._signature: tuple[int, int] | None = None

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Provide a connection outside a transaction. Rows are `sqlite3.Row`."""
        db, generation = self._take()
        try:
            yield db
        except BaseException:  # also if interrupted: its state is unknown
            db.close()
            raise
        with self._lock:
            if generation == self._generation:
                self._idle.append(db)
                return
        db.close()  # the pool was closed in the meantime

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Provide a connection whose reads all see the same state of the store."""
        with self.reading() as db:
            db.execute("BEGIN")
            yield db
            db.execute("COMMIT")

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Provide a connection inside a transaction. Commit it when the block succeeds, else roll back.

        Raises:
            StoreReplacedError: The file at the path is not the one that was written.
        """
        with self._turn():
            self._check_changed_content()  # in its turn, because transactions of other threads change the content, too
            with self.reading() as db:
                ids = self._ids
                with _transaction(db):
                    yield db
                if ids is None or store_file.file_ids(self.path) != ids:
                    raise StoreReplacedError("the file was replaced")
                if ids.log is not None and not store_file.log_is_valid(self.path):
                    raise StoreReplacedError("the write-ahead log was truncated")
                self._signature = store_file.content_signature(self.path)

    @contextmanager
    def evicting(self) -> Iterator[tuple[sqlite3.Connection, int]]:
        """Like `writing`, but may also use the reserved pages. Yields the connection and the page limit without them."""
        with self._turn(), self.reading() as db:
            page_limit = self.file_bytes // db.execute("PRAGMA page_size").fetchone()[0] * 9 // 10
            db.execute(f"PRAGMA max_page_count = {page_limit * 10 // 9}")
            with _transaction(db):
                yield db, page_limit
            db.execute(f"PRAGMA max_page_count = {page_limit}")
            self._signature = store_file.content_signature(self.path)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait until no other thread writes. Raises `sqlite3.OperationalError` if one does not end."""
        self._notice_fork()
        writer = self._writer
        if not writer.acquire(timeout=_TURN_SECONDS):
            raise sqlite3.OperationalError("database is locked by another thread")
        try:
            yield
        finally:
            writer.release()

    def _notice_fork(self) -> None:
        if self._pid != os.getpid():
            _inherited.extend(self._idle)
            self._idle, self._lock, self._writer, self._pid = [], threading.Lock(), threading.Lock(), os.getpid()

    def close(self) -> None:
        """Close the idle connections. Later use opens new ones."""
        with self._lock:
            idle = self._discard()
        for db in idle:
            db.close()

    def set_aside(self) -> None:
        """Rename a damaged file to ``<name>.damaged-<time>``. The next use creates a new one."""
        with self._lock:
            # Before closing: SQLite would write the log of a file into whatever has its name now.
            store_file.set_aside(self.path, self._opened)
            idle = self._discard()
        for db in idle:
            db.close()

    def _discard(self) -> list[sqlite3.Connection]:
        """Empty the pool and return its connections. Those in use are closed when they are returned."""
        idle, self._idle = self._idle, []
        self._generation += 1
        return idle

    def _take(self) -> tuple[sqlite3.Connection, int]:
        self._notice_fork()
        with self._lock:
            outdated = [] if self._is_current() else self._discard_replaced()
            generation = self._generation
            if self._idle:
                return self._idle.pop(), generation
        for db in outdated:
            db.close()
        return self._open(generation), generation

    def _discard_replaced(self) -> list[sqlite3.Connection]:
        """Like `_discard`, for connections to a file that is not at the path any more."""
        if self._ids is not None:
            store_file.set_aside_log(self.path, self._ids)
        return self._discard()

    def _is_current(self) -> bool:
        """Return True if the idle connections belong to the file that is now at the path."""
        return self._ids is None or store_file.file_ids(self.path) == self._ids

    def _open(self, generation: int) -> sqlite3.Connection:
        store_file.create(self.path)
        store_file.check_can_be_store(self.path)
        self._opened = before = store_file.file_ids(self.path).database
        db = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            self._prepare(db)
            ids = store_file.file_ids(self.path)
            if ids.database != before:
                raise StoreReplacedError("the file was replaced while it was opened")
        except BaseException:  # also if interrupted: the connection would leak
            db.close()
            raise
        with self._lock:
            if generation == self._generation:
                self._ids = ids
        return db

    def _prepare(self, db: sqlite3.Connection) -> None:
        db.row_factory = sqlite3.Row
        if store_file.recognize(db) == "foreign":
            raise NotAStoreError(f"{self.path} is the database of another program")
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # before the first table, or it is ignored
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA secure_delete = FAST")  # overwrites what is deleted from a page in use; costs no write
        schema.migrate(db)  # before the limit, which an old store may have reached
        page = db.execute("PRAGMA page_size").fetchone()[0]
        # Deleting writes too (tombstones of the search index). A tenth is reserved for that, see `evicting`.
        db.execute(f"PRAGMA max_page_count = {self.file_bytes // page * 9 // 10}")
        db.execute(f"PRAGMA wal_autocheckpoint = {max(16, self.log_bytes // page // 4)}")
        db.execute(f"PRAGMA journal_size_limit = {self.log_bytes}")
        db.execute("SELECT 1 FROM counters").fetchone()  # creates the log, so that its id is known

    def _check_changed_content(self) -> None:
        """Look for damage if another program has changed the file. Other processes of gati do so, too.

        Raises:
            sqlite3.DatabaseError: The file is damaged.
        """
        signature = store_file.content_signature(self.path)
        if signature is None or signature == self._signature or self._ids is None or not self._is_current():
            return
        if not signature[0]:
            raise store_file.damage_error()
        db = self._open(self._generation)  # a new connection, because pages in memory hide what happened to the file
        try:
            if signature[0] <= _CHECKED_BYTES:
                store_file.raise_if_damaged(db)
            self.close()
        finally:
            db.close()
        self._signature = signature


class ReadOnlyConnections(Connections):
    """One connection that creates and changes nothing, for commands that read. For one thread.

    While no process has the store open, it is read as immutable, because SQLite would create a write-ahead log
    otherwise. A copy of a store may have a log without an index: then SQLite reads the log, too, but without locks and
    with the index in memory, because it would create the index otherwise.
    """

    def __init__(self, path: Path, *, any_version: bool = False) -> None:
        super().__init__(path, 0)
        self._any_version = any_version
        self._parameters = ""
        """Of the database's address, if it is read without locks; else empty."""
        self._log_signature: tuple[int, int] | None = None

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Provide a connection. Raises `sqlite3.OperationalError` if a process began to write meanwhile."""
        with super().reading() as db:
            yield db
            if self._parameters and not self._is_current():
                raise sqlite3.OperationalError("the store was changed while it was read; try again")

    def _is_current(self) -> bool:
        if not self._parameters:
            return super()._is_current()
        found = store_file.content_signature(self.path), store_file.log_signature(self.path)
        return found == (self._signature, self._log_signature) and self._choose_parameters() == self._parameters

    def _choose_parameters(self) -> str:
        if not store_file.has_log(self.path):
            return "&immutable=1"
        has_log_only = store_file.log_signature(self.path) is not None and not store_file.has_index(self.path)
        return _WITHOUT_LOCKS if has_log_only else ""

    def _discard_replaced(self) -> list[sqlite3.Connection]:
        return self._discard()

    def _open(self, generation: int) -> sqlite3.Connection:
        until = time.monotonic() + _CREATION_SECONDS
        while True:
            store_file.check_can_be_store(self.path)
            self._parameters = self._choose_parameters()
            self._signature = store_file.content_signature(self.path)
            self._log_signature = store_file.log_signature(self.path)
            address = f"{self.path.absolute().as_uri()}?mode=ro{self._parameters}"
            db = sqlite3.connect(address, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)
            try:
                if self._parameters == _WITHOUT_LOCKS:
                    db.execute("PRAGMA locking_mode = EXCLUSIVE")  # keeps the index of the log in memory
                if self._is_store(db):
                    self._ids = store_file.file_ids(self.path)
                    return db
                if time.monotonic() > until or not store_file.was_changed_within(self.path, _CREATION_SECONDS):
                    raise NotAStoreError(f"{self.path} is no store of gati")
            except BaseException:  # also if interrupted: the connection would leak
                db.close()
                raise
            db.close()
            time.sleep(0.01)

    def _is_store(self, db: sqlite3.Connection) -> bool:
        """Return False for a database without tables, as a store is while it is created. Raises `NotAStoreError`."""
        db.row_factory = sqlite3.Row
        kind = store_file.recognize(db)
        if kind == "foreign":
            raise NotAStoreError(f"{self.path} is no store of gati")
        if kind == "store" and not self._any_version and not schema.is_readable(db):
            raise NotAStoreError(f"{self.path} was written by an earlier version of gati; `gati studio` converts it")
        return kind == "store"


def check_is_store(path: Path) -> None:
    """Raise `NotAStoreError`, `sqlite3.Error` or OSError if an existing file is not a store. Changes nothing."""
    connections = ReadOnlyConnections(path, any_version=True)
    with connections.reading():
        pass
    connections.close()


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:  # also if interrupted: the transaction does not stay open
        # SQLite has already rolled back if the disk is full.
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
