"""Full-text search over messages, in partitions. Each partition indexes a range of row ids.

Deleting from a full-text index writes to it, and a store at its size limit has no space for that. So deleted messages
stay in the index, where they match no row, until more than half of a partition is deleted and the partition is
dropped as a whole. The index is contentless: it keeps no copy of the texts. `words` prepares texts and searches.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from itertools import pairwise

from gati.store import message_columns, words
from gati.store.engine import engine_of
from gati.store.words import Word

_CREATE = f"CREATE VIRTUAL TABLE {{}} USING fts5(text, content='', tokenize='{words.TOKENIZER}')"


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
    db.execute(_CREATE.format(f"search_{partition}"))
    db.execute("INSERT INTO search_parts VALUES (?, ?, 0)", (partition, first_row_id))


def has_index(db: sqlite3.Connection) -> bool:
    """Return True if this store has an index."""
    if engine_of(db) is not None:
        return True
    return db.execute("SELECT 1 FROM search_parts").fetchone() is not None


def partitions(db: sqlite3.Connection) -> list[int]:
    """Return the numbers of the partitions. A message is in one of them, or also in that of `index_unspaced`."""
    return [row[0] for row in db.execute("SELECT id FROM search_parts ORDER BY id")]


def partitions_without_pairs(db: sqlite3.Connection) -> set[str]:
    """Return the partitions that index texts as they are, without the pairs of unspaced scripts; see `index_unspaced`."""
    found = db.execute("SELECT id, first FROM search_parts ORDER BY id").fetchall()
    with_pairs = [part["id"] for part, following in pairwise(found) if part["first"] == following["first"]]
    return {str(part["id"]) for part in found if with_pairs and part["id"] < with_pairs[0]}


def rebuild_partition(db: sqlite3.Connection, partition: int, *, as_is: bool) -> None:
    """Make a partition again from those of its messages that the store still has."""
    table = f"search_{partition}"
    rows = db.execute(f"SELECT id, body FROM messages WHERE id IN (SELECT id FROM {table}_docsize)").fetchall()  # noqa: S608  # our own name
    db.execute(f"DROP TABLE {table}")
    db.execute(_CREATE.format(table))
    texts = ((row["id"], message_columns.search_text(json.loads(row["body"]))) for row in rows)
    _insert_texts(db, partition, texts, as_is=as_is)


def index_messages(db: sqlite3.Connection, texts: list[tuple[int, str]], partition_characters: int) -> None:
    """Index (row id, text) pairs. Start a new partition once the last one exceeds `partition_characters`."""
    last = db.execute("SELECT * FROM search_parts ORDER BY id DESC LIMIT 1").fetchone()
    if last is None:
        return
    partition = int(last["id"])
    if last["characters"] > partition_characters:
        partition += 1
        _create_partition(db, partition, texts[0][0])
    _insert_texts(db, partition, texts)
    characters = sum(len(text) for _, text in texts)
    db.execute("UPDATE search_parts SET characters = characters + ? WHERE id = ?", (characters, partition))


def _insert_texts(
    db: sqlite3.Connection, partition: int, texts: Iterable[tuple[int, str]], *, as_is: bool = False
) -> None:
    db.executemany(
        f"INSERT INTO search_{partition} (rowid, text) VALUES (?, ?)",  # noqa: S608  # our own name
        ((row_id, text if as_is else words.index_text(text)) for row_id, text in texts),
    )


def index_unspaced(db: sqlite3.Connection, texts: Iterable[tuple[int, str]]) -> None:
    """Index texts of a store whose partitions do not have the pairs of unspaced scripts yet.

    They get a partition of their own. Its range of row ids is empty: all of them are before its first one.
    """
    last = db.execute("SELECT max(id) FROM search_parts").fetchone()[0]
    next_row_id = db.execute("SELECT coalesce(max(id), 0) + 1 FROM messages").fetchone()[0]
    _create_partition(db, last + 1, next_row_id)
    _insert_texts(db, last + 1, texts)
    _create_partition(db, last + 2, next_row_id)


def drop_sparse_partitions(db: sqlite3.Connection) -> None:
    """Drop partitions with more than half of their messages deleted. Index the remaining messages in the last one."""
    if engine_of(db) is not None:
        return
    partitions = db.execute("SELECT id, first FROM search_parts ORDER BY id").fetchall()
    for partition, following in pairwise(partitions):
        row_ids = (partition["first"], following["first"])
        if row_ids[0] == row_ids[1]:  # see `index_unspaced`
            if db.execute("SELECT 1 FROM messages WHERE id < ?", row_ids[:1]).fetchone():
                continue
        remaining = db.execute("SELECT count(*) FROM messages WHERE id >= ? AND id < ?", row_ids).fetchone()[0]
        if remaining * 2 > following["first"] - partition["first"]:
            continue
        rows = db.execute("SELECT id, body FROM messages WHERE id >= ? AND id < ?", row_ids)
        texts = [(row["id"], message_columns.search_text(json.loads(row["body"]))) for row in rows]
        db.execute(f"DROP TABLE search_{partition['id']}")
        db.execute("DELETE FROM search_parts WHERE id = ?", (partition["id"],))
        _insert_texts(db, partitions[-1]["id"], texts)


def search_messages(
    db: sqlite3.Connection, found: str | list[Word], limit: int, prefix: list[Word] | None = None
) -> list[int]:
    """Return row ids of messages that contain all words, newest first.

    Args:
        db: A connection.
        found: The words, or what a person typed.
        limit: Row ids to return.
        prefix: The words that may be prefixes; by default the last one.
    """
    found = words.parse_words(found) if isinstance(found, str) else found
    prefix = found[-1:] if prefix is None else prefix
    if (engine := engine_of(db)) is not None:
        return engine.search_messages(found, prefix, limit) if found else []
    match = words.match_expression(found, prefix)
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
