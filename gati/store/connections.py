"""Pooled SQLite connections, safe to use across threads, processes and forks."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gati.store import schema

_BUSY_SECONDS = 10.0
"""How long a writer waits for another process's transaction to end."""

_inherited: list[sqlite3.Connection] = []
"""Connections inherited from the parent of a fork. SQLite forbids using or closing them in the child."""


class Connections:
    """A pool of connections to one file. A connection serves one caller at a time.

    `max_bytes` limits the file plus its write-ahead log: SQLite refuses to grow the file beyond its share, and
    truncates the log after each checkpoint.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self.log_bytes = min(4 * 1024**2, max_bytes // 4)
        self.file_bytes = max_bytes - self.log_bytes
        self._lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._close_count = 0
        self._pid = os.getpid()
        path.parent.mkdir(parents=True, exist_ok=True)
        # Create the file with mode 0600: conversations are private.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        with self.reading() as db:
            schema.migrate(db)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Provide a connection outside a transaction. Rows are `sqlite3.Row`."""
        db, close_count = self._take(), self._close_count
        try:
            yield db
        except BaseException:
            db.close()
            raise
        with self._lock:
            if close_count == self._close_count:
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
        """Provide a connection inside a transaction. Commit it when the block succeeds, else roll back."""
        with self.reading() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                # SQLite has already rolled back if the disk is full.
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    @contextmanager
    def evicting(self) -> Iterator[tuple[sqlite3.Connection, int]]:
        """Like `writing`, but may also use the reserved pages. Yields the connection and the page limit without them."""
        with self.reading() as db:
            page_limit = self.file_bytes // db.execute("PRAGMA page_size").fetchone()[0] * 9 // 10
            db.execute(f"PRAGMA max_page_count = {page_limit * 10 // 9}")
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db, page_limit
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
            db.execute(f"PRAGMA max_page_count = {page_limit}")

    def close(self) -> None:
        """Close the idle connections. Later use opens new ones."""
        with self._lock:
            idle, self._idle = self._idle, []
            self._close_count += 1
        for db in idle:
            db.close()

    def _take(self) -> sqlite3.Connection:
        if self._pid != os.getpid():
            _inherited.extend(self._idle)
            self._idle, self._lock, self._pid = [], threading.Lock(), os.getpid()
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return self._open()

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            self._prepare(db)
        except BaseException:
            db.close()
            raise
        return db

    def _prepare(self, db: sqlite3.Connection) -> None:
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # before the first table, or it is ignored
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        page = db.execute("PRAGMA page_size").fetchone()[0]
        # Deleting writes too (tombstones of the search index). A tenth is reserved for that, see `evicting`.
        db.execute(f"PRAGMA max_page_count = {self.file_bytes // page * 9 // 10}")
        db.execute(f"PRAGMA wal_autocheckpoint = {max(16, self.log_bytes // page // 4)}")
        db.execute(f"PRAGMA journal_size_limit = {self.log_bytes}")
