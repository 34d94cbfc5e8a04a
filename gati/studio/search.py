"""Full-text search in parts: each part indexes the messages of one stretch of arrival.

Words cannot be taken out of a full-text index without writing more of it, which a store at its
bound has no room for. So dropped messages stay in the index, where they match nothing that is
still there, until their part has more of them than of others and goes as a whole. The index
keeps no copy of the texts (contentless).
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable
from itertools import pairwise

from gati.studio import columns

_WORD = re.compile(r"\w+", re.UNICODE)


def create(db: sqlite3.Connection) -> None:
    """Make the index, where this SQLite has FTS5."""
    db.execute(
        "CREATE TABLE search_parts (id INTEGER PRIMARY KEY, first INTEGER NOT NULL, characters INTEGER NOT NULL)"
    )
    try:
        _add_part(db, 1, 0)
    except sqlite3.OperationalError as error:
        if "fts5" not in str(error):
            raise


def _add_part(db: sqlite3.Connection, part: int, first: int) -> None:
    db.execute(
        f"CREATE VIRTUAL TABLE search_{part} USING fts5(text, content='', tokenize='unicode61 remove_diacritics 2')"
    )
    db.execute("INSERT INTO search_parts VALUES (?, ?, 0)", (part, first))


def exists(db: sqlite3.Connection) -> bool:
    """Whether this store has an index."""
    return db.execute("SELECT 1 FROM search_parts").fetchone() is not None


def add(db: sqlite3.Connection, texts: list[tuple[int, str]], part_characters: int) -> None:
    """Index messages (number, words); a part that holds `part_characters` is followed by a new one."""
    last = db.execute("SELECT * FROM search_parts ORDER BY id DESC LIMIT 1").fetchone()
    if last is None:
        return
    part = int(last["id"])
    if last["characters"] > part_characters:
        part += 1
        _add_part(db, part, texts[0][0])
    db.executemany(f"INSERT INTO search_{part} (rowid, text) VALUES (?, ?)", texts)  # noqa: S608  # our own name
    characters = sum(len(text) for _, text in texts)
    db.execute("UPDATE search_parts SET characters = characters + ? WHERE id = ?", (characters, part))


def tidy(db: sqlite3.Connection) -> None:
    """Drop the parts of which less than half is still there; what is there is indexed anew in the last one."""
    parts = db.execute("SELECT id, first FROM search_parts ORDER BY id").fetchall()
    for part, following in pairwise(parts):
        stretch = (part["first"], following["first"])
        left = db.execute("SELECT count(*) FROM messages WHERE id >= ? AND id < ?", stretch).fetchone()[0]
        if left * 2 > following["first"] - part["first"]:
            continue
        rows = db.execute("SELECT id, body FROM messages WHERE id >= ? AND id < ?", stretch)
        texts = [(row["id"], columns.searchable(json.loads(row["body"]))) for row in rows]
        db.execute(f"DROP TABLE search_{part['id']}")
        db.execute("DELETE FROM search_parts WHERE id = ?", (part["id"],))
        last = parts[-1]["id"]
        db.executemany(f"INSERT INTO search_{last} (rowid, text) VALUES (?, ?)", texts)  # noqa: S608  # our own name


def find(db: sqlite3.Connection, words: str, limit: int) -> Iterable[int]:
    """Numbers of messages that hold all words (the last may be a beginning), newest first; at most `limit`."""
    match = expression(words)
    found: list[int] = []
    for part in db.execute("SELECT id FROM search_parts ORDER BY id DESC").fetchall() if match else ():
        rows = db.execute(
            f"SELECT rowid FROM search_{part['id']} WHERE search_{part['id']} MATCH ? ORDER BY rowid DESC LIMIT ?",  # noqa: S608  # our own name
            (match, limit - len(found)),
        )
        found += [row[0] for row in rows]
        if len(found) >= limit:
            break
    return found


def expression(words: str) -> str:
    """What was typed, as FTS5 takes it: every word must be there, the last one may go on."""
    typed = _WORD.findall(words)
    return " ".join(f'"{word}"' for word in typed) + "*" if typed else ""
