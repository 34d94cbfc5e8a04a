"""The embedded store: accepts the requests that Greenflash accepts and keeps them in one SQLite file.

`queries` reads the store, `schema` defines its tables.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from gati.data_folder import data_folder
from gati.store import (
    actions,
    ingestion,
    labels,
    message_columns,
    search,
    store_file,
    sums,
)
from gati.store.connections import Connections, ReadOnlyConnections, StoreReplacedError
from gati.store.store_file import NotAStoreError

T = TypeVar("T")

DEFAULT_MAX_BYTES = 512 * 1024**2
"""Default limit of the store's size on disk."""

_FILL_AFTER_EVICTION = 0.9
"""Eviction stops below this fraction of the limit, so that it does not run again on the next request."""

_SEARCH_PARTITIONS = 20
"""A partition of the search index holds about this fraction of the file, in characters. See `search`."""

_SIZE_ON_DISK = 4
"""A request takes up to about this many times its size in the file: message, search index, indexes, unused space."""

_MIN_SPACE = 256 * 1024
"""Space of the smallest request: a page in each table and index, in the file and in its log."""

_ATTEMPTS = 4
"""Attempts of a transaction whose file turns out to be replaced or damaged."""


def default_path() -> Path:
    """Return the default location of the store: `gati/studio.db` in the user's data directory.

    Raises:
        FileNotFoundError: The user has no home folder.
    """
    folder = data_folder()
    if folder is None:
        raise FileNotFoundError("there is no home folder for the store; set GATI_LOCAL to a file")
    return folder / "studio.db"


class TooLargeError(ValueError):
    """A single request is larger than the store may become."""


class Store:
    """Conversations, users, ratings and events in one SQLite file. Safe to share between threads and processes.

    A file that is deleted or replaced is noticed by the next use. A damaged one is renamed to
    ``<name>.damaged-<time>``, and a new one is begun.

    Args:
        path: The file, created with its directory if missing. Default: `default_path()`.
        max_bytes: Limit of the file plus its write-ahead log. The oldest conversations are evicted to stay below it.
        read_only: Create, rename and change nothing. For use in one thread.

    Raises:
        NotAStoreError: The file is the database of another program or, with `read_only`, not a store.
        sqlite3.DatabaseError: The file cannot be opened.
    """

    def __init__(
        self, path: str | Path | None = None, max_bytes: int = DEFAULT_MAX_BYTES, *, read_only: bool = False
    ) -> None:
        self.path = Path(path) if path is not None else default_path()
        self._read_only = read_only
        self.connections = ReadOnlyConnections(self.path) if read_only else Connections(self.path, max_bytes)
        self.has_search = self._with_intact_file(self._has_search_index)

    def _has_search_index(self) -> bool:
        with self.connections.reading() as db:
            return search.has_index(db)

    def close(self) -> None:
        """Close the file. Using the store again reopens it."""
        self.connections.close()

    @property
    def name(self) -> str:
        """The name of the file, or the address of the database without its password."""
        return self.path.name

    def shared_token(self) -> str | None:
        """Return the token of the studios that share the store; None for a file, which has its token beside it."""
        return None

    def size_bytes(self) -> int:
        """Return the size of the file."""
        return self.path.stat().st_size

    def ingest(self, body: dict[str, Any]) -> dict[str, Any]:
        """Store the body of a `POST /messages` request and return the response body.

        Skips messages whose `externalMessageId` already exists in the conversation. Does not validate the body.

        Raises:
            UnknownConversationError: `conversationId` is not in the store.
            TooLargeError: The request does not fit into an empty store.
        """
        response: dict[str, Any] = self.transaction(
            lambda db: self.ingest_within(db, body), lambda: len(message_columns.compact_json(body))
        )
        return response

    def ingest_many(self, bodies: Sequence[dict[str, Any]]) -> list[dict[str, Any] | Exception]:
        """Store several requests, in order, in one transaction. Return the response of each, or why it was not stored.

        Raises:
            sqlite3.DatabaseError: The store is locked, damaged or cannot be written.
            OSError: As above.
        """
        if len(bodies) > 1:
            try:
                together: list[dict[str, Any] | Exception] = self.transaction(
                    lambda db: ingestion.ingest_many(db, bodies, self._partition_characters),
                    lambda: sum(len(message_columns.compact_json(body)) for body in bodies),
                )
                return together
            except Exception as error:
                if _concerns_store(error):
                    raise
        return [self._ingest_alone(body) for body in bodies]

    def _ingest_alone(self, body: dict[str, Any]) -> dict[str, Any] | Exception:
        try:
            return self.ingest(body)
        except Exception as error:
            if _concerns_store(error):
                raise
            return error

    @property
    def _partition_characters(self) -> int:
        return self.connections.file_bytes // _SEARCH_PARTITIONS

    def transaction(self, work: Callable[[sqlite3.Connection], Any], size: Callable[[], int] = lambda: 0) -> Any:
        """Run `work` in a transaction; again if the file was replaced or damaged, or has reached its limit.

        At the limit, the oldest conversations are evicted. A full disk evicts nothing.

        Args:
            work: Called with the connection.
            size: Returns the approximate number of bytes that `work` adds.

        Raises:
            sqlite3.OperationalError: The disk is full, or the file is locked or cannot be written.
        """
        return self._with_intact_file(lambda: self._evicting_transaction(work, size))

    def deleting(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work`, which deletes, in a transaction. At the size limit it may use the pages reserved for that."""

        def attempt() -> T:
            with self.connections.evicting() as (db, _):
                return work(db)

        return self._with_intact_file(attempt)

    def _with_intact_file(self, function: Callable[[], T]) -> T:
        """Call `function`. After damage, try again with new connections, then with a new file."""
        for attempt in range(_ATTEMPTS):
            try:
                return function()
            except StoreReplacedError:
                self.connections.close()
                if attempt == _ATTEMPTS - 1:
                    raise
            except sqlite3.DatabaseError as error:
                if self._read_only or not store_file.is_damage(error) or attempt == _ATTEMPTS - 1:
                    raise
                # The first time, the damage may be in the log only, which a new connection recovers.
                self.connections.set_aside() if attempt else self.connections.close()
        raise AssertionError("unreachable")

    def _evicting_transaction(self, work: Callable[[sqlite3.Connection], Any], size: Callable[[], int]) -> Any:
        while True:
            try:
                with self.connections.writing() as db:
                    return work(db)
            except sqlite3.OperationalError as error:  # inside the loop: each attempt may find the file full
                if not store_file.is_full(error) or not self._is_at_limit(size()):
                    raise
                if not self._evict():
                    raise TooLargeError("the request is larger than the store may be") from error
                self._release_free_pages()

    def _is_at_limit(self, size: int) -> bool:
        """Return True if the file has no space for `size` bytes within its limit, but the disk has.

        SQLite raises the same error in both cases, and often has ended the transaction by then.
        """
        with self.connections.reading() as db:
            page = db.execute("PRAGMA page_size").fetchone()[0]
            left = (db.execute("PRAGMA max_page_count").fetchone()[0] - _used_pages(db)) * page
        needed = _SIZE_ON_DISK * size + max(_MIN_SPACE, self.connections.file_bytes // 20)
        return left < needed and store_file.has_disk_space(self.path.parent, _SIZE_ON_DISK * size + _MIN_SPACE)

    def ingest_within(self, db: sqlite3.Connection, body: dict[str, Any]) -> dict[str, Any]:
        """Do the work of `ingest` inside the caller's `transaction`."""
        (result,) = ingestion.ingest_many(db, [body], self._partition_characters)
        if isinstance(result, Exception):
            raise result
        return result

    def record_action(self, endpoint: str, body: dict[str, Any], recorded_at: int | None = None) -> dict[str, Any]:
        """Store a user, an organization, a rating or an event.

        A known user or organization is updated with the fields of `body`. An event with a known `insertId` is ignored.
        So is a record from before the deletion of its user or conversation; `recorded_at` (in microseconds since the
        epoch, default: now) is its time if `body` has none.

        Returns:
            The record as ``{id, body, created_at, updated_at}``.

        Raises:
            UnknownConversationError: A rating or event names a `conversationId` that is not in the store.
        """
        record: dict[str, Any] = self.transaction(
            # The time is read inside: a push continues after the last one, so it must increase with the transactions.
            lambda db: actions.upsert_action(db, endpoint, body, time.time_ns() // 1000, recorded_at)
        )
        return record

    def evicted_conversations(self) -> int:
        """Return the number of conversations evicted since the store was created."""
        with self.connections.reading() as db:
            row = db.execute("SELECT value FROM counters WHERE name = 'dropped'").fetchone()
        return int(row[0]) if row else 0

    def _evict(self) -> bool:
        """Evict the oldest conversations until a tenth of the file is free; return False if nothing was left."""
        evicted = False
        while self._evict_batch(evicted):
            evicted = True
        return evicted

    def _evict_batch(self, evicted_before: bool) -> bool:
        """Evict about a twentieth of the file; return False if enough is free already or nothing is left."""
        with self.connections.evicting() as (db, max_pages):
            if evicted_before and _used_pages(db) <= max_pages * _FILL_AFTER_EVICTION:
                return False
            batch_bytes = max_pages * db.execute("PRAGMA page_size").fetchone()[0] // 20
            freed_bytes = count = 0
            oldest = db.execute("SELECT id FROM conversations ORDER BY last_at, id LIMIT 10000").fetchall()
            for row in oldest:
                freed_bytes += self._delete_conversation(db, row["id"])
                count += 1
                if freed_bytes > batch_bytes:
                    break
            _increment_counter(db, "dropped", count)
            # Prompt versions that no remaining call uses.
            db.execute(
                "DELETE FROM prompt_versions WHERE managed = 0"
                " AND id NOT IN (SELECT version FROM calls WHERE version IS NOT NULL)"
            )
            search.drop_sparse_partitions(db)
            labels.remove_unused(db)
            labels.rebuild_sparse_index(db)
            return count > 0 or _evict_unattached_records(db)

    @staticmethod
    def _delete_conversation(db: sqlite3.Connection, conversation: int) -> int:
        """Delete a conversation and return the number of characters its messages held."""
        query = "SELECT sum(length(body)) FROM messages WHERE conversation = ?"
        length = db.execute(query, (conversation,)).fetchone()[0] or 0
        sums.remove_conversation(db, conversation)
        labels.remove(db, labels.CONVERSATION, conversation)
        for table in ("ratings", "marks", "messages", "calls", "facets", "actions", "gati_events"):
            db.execute(f"DELETE FROM {table} WHERE conversation = ?", (conversation,))  # noqa: S608  # our own names
        db.execute("DELETE FROM conversations WHERE id = ?", (conversation,))
        return int(length)

    def _release_free_pages(self) -> None:
        """Return half of the free pages to the file system if there are many. The rest is reused."""
        with self.connections.reading() as db:
            free = db.execute("PRAGMA freelist_count").fetchone()[0]
            if free > 64 and free > _used_pages(db) // 4:
                db.execute(f"PRAGMA incremental_vacuum({free // 2})").fetchall()


def _increment_counter(db: sqlite3.Connection, name: str, amount: int) -> None:
    db.execute(
        "INSERT INTO counters VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = counters.value + excluded.value",
        (name, amount),
    )


def _evict_unattached_records(db: sqlite3.Connection) -> bool:
    """Delete the oldest actions and events that belong to no conversation; return False if there are none."""
    oldest = "(SELECT id FROM {0} ORDER BY id LIMIT 1 + (SELECT count(*) FROM {0}) / 10)"
    deleted = 0
    for table in ("actions", "gati_events"):
        deleted += db.execute(f"DELETE FROM {table} WHERE id IN " + oldest.format(table)).rowcount  # noqa: S608  # our names
    deleted += db.execute("DELETE FROM gati_runs WHERE run_id NOT IN (SELECT run_id FROM gati_events)").rowcount
    return deleted > 0


def _used_pages(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA page_count").fetchone()[0] - db.execute("PRAGMA freelist_count").fetchone()[0])


def _concerns_store(error: Exception) -> bool:
    """Return True if the store itself is locked, damaged or not writable, whatever the request is."""
    return type(error) is sqlite3.DatabaseError or isinstance(
        error, (sqlite3.OperationalError, OSError, NotAStoreError)
    )
