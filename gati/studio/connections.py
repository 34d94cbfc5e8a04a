"""Connections to the store's file: pooled, safe across threads, processes and fork."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gati.studio import schema

_BUSY_SECONDS = 10.0
"""How long a writer waits for another process's transaction."""

_inherited: list[sqlite3.Connection] = []
"""Connections of the parent of a fork: SQLite forbids their use and their closing in the child."""


class Connections:
    """Hands out connections to one file, one per user at a time.

    `max_bytes` bounds the file and its write-ahead log together: SQLite refuses to grow the
    file past its share, and the log is cut back after each checkpoint.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self.log_bytes = min(4 * 1024**2, max_bytes // 4)
        self.file_bytes = max_bytes - self.log_bytes
        self._lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._closings = 0
        self._pid = os.getpid()
        path.parent.mkdir(parents=True, exist_ok=True)
        # Made by us so that nobody else can read it: what people say to agents is private.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        with self.reading() as db:
            schema.migrate(db)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection outside a transaction; rows are `sqlite3.Row`."""
        db, closings = self._take(), self._closings
        try:
            yield db
        except BaseException:
            db.close()
            raise
        with self._lock:
            if closings == self._closings:
                self._idle.append(db)
                return
        db.close()  # closed meanwhile, by a thread that could not know of this connection

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """A connection whose reads all see the same moment."""
        with self.reading() as db:
            db.execute("BEGIN")
            yield db
            db.execute("COMMIT")

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A connection inside a transaction that is kept if the block ends well."""
        with self.reading() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                # A full disk may have rolled back already.
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    @contextmanager
    def making_room(self) -> Iterator[tuple[sqlite3.Connection, int]]:
        """As `writing`, with the reserve, and how many pages the file may have without it."""
        with self.reading() as db:
            usual = self.file_bytes // db.execute("PRAGMA page_size").fetchone()[0] * 9 // 10
            db.execute(f"PRAGMA max_page_count = {usual * 10 // 9}")
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db, usual
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
            db.execute(f"PRAGMA max_page_count = {usual}")

    def close(self) -> None:
        """Close what is idle; a later use opens anew."""
        with self._lock:
            idle, self._idle = self._idle, []
            self._closings += 1
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
        # Dropping writes too (tombstones of the search index): a tenth is kept for that, see `making_room`.
        db.execute(f"PRAGMA max_page_count = {self.file_bytes // page * 9 // 10}")
        db.execute(f"PRAGMA wal_autocheckpoint = {max(16, self.log_bytes // page // 4)}")
        db.execute(f"PRAGMA journal_size_limit = {self.log_bytes}")
