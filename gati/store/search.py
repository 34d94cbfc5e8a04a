"""Full-text search over messages, in partitions. Each partition indexes a range of row ids.

Deleting from a full-text index writes to it, and a store at its size limit has no space for that. So deleted messages
stay in the index, where they match no row, until more than half of a partition is deleted and the partition is
dropped as a whole. The index is contentless: it keeps no copy of the texts.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable
from itertools import pairwise

from gati.store import message_columns

_WORD = re.compile(r"\w+", re.UNICODE)


def create_index(db: sqlite3.Connection) -> None:
    """Create the index if this SQLite supports FTS5."""
    db.execute(
        "CREATE TABLE search_parts (id INTEGER PRIMARY KEY, first INTEGER NOT NULL, characters INTEGER NOT NULL)"
    )
    try:
        _create_partition(db, 1, 0)
    except sqlite3.OperationalError as error:
        if "fts5" not in str(error):
            raise


def _create_partition(db: sqlite3.Connection, partition: int, first_row_id: int) -> None:
    db.execute(
        f"CREATE VIRTUAL TABLE search_{partition} USING fts5(text, content='', tokenize='unicode61 remove_diacritics 2')"
    )
    db.execute("INSERT INTO search_parts VALUES (?, ?, 0)", (partition, first_row_id))


def has_index(db: sqlite3.Connection) -> bool:
    """Return True if this store has an index."""
    return db.execute("SELECT 1 FROM search_parts").fetchone() is not None


def index_messages(db: sqlite3.Connection, texts: list[tuple[int, str]], partition_characters: int) -> None:
    """Index (row id, text) pairs. Start a new partition once the last one exceeds `partition_characters`."""
    last = db.execute("SELECT * FROM search_parts ORDER BY id DESC LIMIT 1").fetchone()
    if last is None:
        return
    partition = int(last["id"])
    if last["characters"] > partition_characters:
        partition += 1
        _create_partition(db, partition, texts[0][0])
    db.executemany(f"INSERT INTO search_{partition} (rowid, text) VALUES (?, ?)", texts)  # noqa: S608  # our own name
    characters = sum(len(text) for _, text in texts)
    db.execute("UPDATE search_parts SET characters = characters + ? WHERE id = ?", (characters, partition))


def drop_sparse_partitions(db: sqlite3.Connection) -> None:
    """Drop partitions with more than half of their messages deleted. Index the remaining messages in the last one."""
    partitions = db.execute("SELECT id, first FROM search_parts ORDER BY id").fetchall()
    for partition, following in pairwise(partitions):
        row_ids = (partition["first"], following["first"])
        remaining = db.execute("SELECT count(*) FROM messages WHERE id >= ? AND id < ?", row_ids).fetchone()[0]
        if remaining * 2 > following["first"] - partition["first"]:
            continue
        rows = db.execute("SELECT id, body FROM messages WHERE id >= ? AND id < ?", row_ids)
        texts = [(row["id"], message_columns.search_text(json.loads(row["body"]))) for row in rows]
        db.execute(f"DROP TABLE search_{partition['id']}")
        db.execute("DELETE FROM search_parts WHERE id = ?", (partition["id"],))
        last = partitions[-1]["id"]
        db.executemany(f"INSERT INTO search_{last} (rowid, text) VALUES (?, ?)", texts)  # noqa: S608  # our own name


def search_messages(db: sqlite3.Connection, words: str, limit: int) -> Iterable[int]:
    """Return row ids of messages that contain all words, newest first. The last word may be a prefix."""
    match = match_expression(words)
    row_ids: list[int] = []
    for partition in db.execute("SELECT id FROM search_parts ORDER BY id DESC").fetchall() if match else ():
        table = f"search_{partition['id']}"
        rows = db.execute(
            f"SELECT rowid FROM {table} WHERE {table} MATCH ? ORDER BY rowid DESC LIMIT ?",  # noqa: S608  # our own name
            (match, limit - len(row_ids)),
        )
        row_ids += [row[0] for row in rows]
        if len(row_ids) >= limit:
            break
    return row_ids


def match_expression(words: str) -> str:
    """Convert user input to an FTS5 expression: ``hello wor`` → ``"hello" "wor"*``."""
    typed = _WORD.findall(words)
    return " ".join(f'"{word}"' for word in typed) + "*" if typed else ""
