"""Delete what is older than a number of days, in small steps beside the writes of a program, or in the studio's thread.

The table `counters` has the time at which the processes that share the store were done last.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import suppress
from functools import partial

from gati.clock import Clock
from gati.store import deletion, file_erasing, index_erasing, tombstones
from gati.store.deletion import Contents, Target
from gati.store.store import Store

_DAY = 86_400
_CHECK_SECONDS = 60.0
"""How often a process looks whether something is due."""

_REWRITTEN_BYTES = 64 * 1024**2
"""A file up to this size is rewritten after a deletion, which takes less than a second."""

_DONE_AT = "retention"


class Retention:
    """Deletes turns that began more than `days` ago, within a day, or a tenth of that time if that is less.

    Not thread-safe.
    """

    def __init__(self, store: Store, days: float) -> None:
        self._store, self._seconds = store, days * _DAY
        self._next_check = 0.0

    def step(self) -> bool:
        """Do a part of what is due, in a fraction of a second typically. Return True if more is due at once.

        A store that cannot be written now is left to a later call.
        """
        if Clock.monotonic() < self._next_check:
            return False
        with suppress(sqlite3.Error, OSError):
            if self._is_due() and self._delete_some():
                return True
        self._next_check = Clock.monotonic() + _CHECK_SECONDS
        return False

    def _is_due(self) -> bool:
        with self._store.connections.reading() as db:
            row = db.execute("SELECT value FROM counters WHERE name = ?", (_DONE_AT,)).fetchone()
        return row is None or abs(time.time() - row[0]) >= min(_DAY, self._seconds / 10)

    def _delete_some(self) -> bool:
        """Delete some conversations, or else merge one index, or else rewrite the file. Return False after that."""
        target = Target("before", at=int((time.time() - self._seconds) * 1_000_000))
        if deletion.delete_some(self._store, target, Contents()):
            return True
        with self._store.connections.reading() as db:
            indexes = index_erasing.marked_indexes(db)
            used = db.execute("SELECT value FROM counters WHERE name = ?", (_UNUSED,)).fetchone()
        if indexes:
            self._store.deleting(partial(index_erasing.erase_words, index=indexes[0]))
            self._store.deleting(_mark_unused)
            return True
        if used:
            file_erasing.rewrite_file(self._store, whole=self._store.size_bytes() <= _REWRITTEN_BYTES)
        self._store.deleting(partial(_finish, before=target.at))
        return False


_UNUSED = "unused"
"""Counter that exists while the file contains deleted text in its unused parts."""


def _mark_unused(db: sqlite3.Connection) -> None:
    db.execute("INSERT INTO counters VALUES (?, 1) ON CONFLICT DO NOTHING", (_UNUSED,))


def _finish(db: sqlite3.Connection, before: int) -> None:
    tombstones.add_before(db, before)
    db.execute("DELETE FROM counters WHERE name IN (?, ?)", (_UNUSED, _DONE_AT))
    db.execute("INSERT INTO counters VALUES (?, ?)", (_DONE_AT, int(time.time())))


class RetentionThread:
    """Applies the retention of a store until it is stopped."""

    def __init__(self, store: Store, days: float) -> None:
        self._retention = Retention(store, days)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gati-retention", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop after the current step."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set():
            if not self._retention.step():
                self._stopped.wait(_CHECK_SECONDS)
