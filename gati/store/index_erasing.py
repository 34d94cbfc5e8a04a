"""Take deleted texts out of the full-text indexes.

The indexes are contentless: to remove a row, SQLite needs the text that was indexed. The words themselves stay in the
index until its parts are merged. The table `counters` remembers the indexes for which that has yet to be done.
"""

from __future__ import annotations

import json
import sqlite3

from gati.store import labels, search, words
from gati.store.engine import engine_of

_PENDING = "erase "
"""Beginning of the names of counters."""

_LABELS = "labels"


def unindex_messages(db: sqlite3.Connection, texts: dict[int, str]) -> None:
    """Remove messages from the index. `texts`: row id → text."""
    if engine_of(db) is not None:
        return  # the index is a column of the messages
    former = search.partitions_without_pairs(db)
    for partition in search.partitions(db):
        _unindex(db, str(partition), texts, as_is=str(partition) in former)


def mark_labels(db: sqlite3.Connection) -> None:
    """Remember that labels were removed. Their index is small, so it is made again."""
    if engine_of(db) is None and labels.has_label_index(db):
        _mark(db, _LABELS)


def _unindex(db: sqlite3.Connection, index: str, texts: dict[int, str], *, as_is: bool = False) -> None:
    table = f"search_{index}"
    found = db.execute(
        f"SELECT id FROM {table}_docsize WHERE id IN (SELECT value FROM json_each(?))",  # noqa: S608  # our own name
        (json.dumps(list(texts)),),
    ).fetchall()
    db.executemany(
        f"INSERT INTO {table} ({table}, rowid, text) VALUES ('delete', ?, ?)",  # noqa: S608  # our own name
        [(row[0], texts[row[0]] if as_is else words.index_text(texts[row[0]])) for row in found],
    )
    if found:
        _mark(db, index)


def _mark(db: sqlite3.Connection, index: str) -> None:
    db.execute("INSERT INTO counters VALUES (?, 1) ON CONFLICT DO NOTHING", (_PENDING + index,))


def pending_indexes(db: sqlite3.Connection) -> list[str]:
    """Return the indexes that still contain words of removed texts, also of evicted conversations."""
    if engine_of(db) is not None:
        return []
    evicted = [str(partition) for partition in search.partitions(db) if _has_evicted(db, f"search_{partition}")]
    return sorted({*marked_indexes(db), *evicted})


def marked_indexes(db: sqlite3.Connection) -> list[str]:
    """Return the indexes that still contain words of texts that were removed by a deletion."""
    if engine_of(db) is not None:
        return []
    rows = db.execute("SELECT name FROM counters WHERE name LIKE ? ORDER BY name", (_PENDING + "%",))
    return [str(row[0]).removeprefix(_PENDING) for row in rows]


def _has_evicted(db: sqlite3.Connection, table: str) -> bool:
    """Return True if an index contains messages that are not in the store any more."""
    query = f"SELECT 1 FROM {table}_docsize d WHERE NOT EXISTS (SELECT 1 FROM messages m WHERE m.id = d.id) LIMIT 1"  # noqa: S608  # our own name
    return db.execute(query).fetchone() is not None


def erase_words(db: sqlite3.Connection, index: str) -> None:
    """Leave no word of removed texts in an index."""
    table = f"search_{index}"
    if index == _LABELS:
        labels.rebuild_index(db)
    elif db.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone() is None:
        pass  # the partition was dropped meanwhile
    elif _has_evicted(db, table):
        search.rebuild_partition(db, int(index), as_is=index in search.partitions_without_pairs(db))
    else:
        db.execute(f"INSERT INTO {table} ({table}) VALUES ('optimize')")  # noqa: S608  # our own name
    db.execute("DELETE FROM counters WHERE name = ?", (_PENDING + index,))
