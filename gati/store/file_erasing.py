"""Overwrite what was deleted. SQLite only marks deleted text as unused, until something else is written in its place."""

from __future__ import annotations

import sqlite3
from functools import partial

from gati.store import index_erasing
from gati.store.engine import engine_of
from gati.store.store import Store

_CHECKPOINTS = 5
"""Attempts to write the log into the file, each of which waits for readers and writers."""


def erase(store: Store) -> bool:
    """Take deleted words out of the indexes, and rewrite the file. Return False if that was not possible."""
    try:
        with store.connections.reading() as db:
            indexes = index_erasing.pending_indexes(db)
        for index in indexes:
            store.deleting(partial(index_erasing.erase_words, index=index))
        return rewrite_file(store)
    except sqlite3.OperationalError:
        return False


def rewrite_file(store: Store, *, whole: bool = True) -> bool:
    """Rewrite the file and its log without unused parts.

    While the file is rewritten, other programs cannot write to it; they wait. It needs free disk space of the file's
    size, and the log is as large as the file for a moment.

    Args:
        store: The store.
        whole: False only returns unused pages to the file system. Parts of pages in use may keep deleted text.

    Returns:
        False if another program kept reading the file as it was.

    Raises:
        sqlite3.OperationalError: The file is locked, or the disk is full.
    """
    with store.connections.reading() as db:
        if (engine := engine_of(db)) is not None:
            return engine.rewrite_tables(whole=whole)
        db.execute("VACUUM" if whole else "PRAGMA incremental_vacuum").fetchall()
    return any(_write_log(store) for _ in range(_CHECKPOINTS))


def _write_log(store: Store) -> bool:
    """Write the write-ahead log into the file, and empty it. Return False if somebody is using it."""
    with store.connections.reading() as db:
        return not db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
