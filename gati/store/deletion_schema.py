"""The migration for deletion: the table of tombstones, and what a call contributes to its prompt version."""

from __future__ import annotations

import sqlite3

_TABLES = """
CREATE TABLE tombstones (
  kind TEXT NOT NULL,
  digest TEXT NOT NULL,
  at INTEGER NOT NULL,
  PRIMARY KEY (kind, digest)
) WITHOUT ROWID;
ALTER TABLE calls ADD COLUMN requests INTEGER NOT NULL DEFAULT 1;
ALTER TABLE calls ADD COLUMN first_at INTEGER;
ALTER TABLE calls ADD COLUMN last_at INTEGER
"""


def add_deletion(db: sqlite3.Connection) -> None:
    """Create the table and columns. Of earlier calls, the number of requests is not known, so each counts as one."""
    for statement in _TABLES.split(";\n"):
        db.execute(statement)
    rows = db.execute("SELECT call, min(at), max(at) FROM messages GROUP BY call").fetchall()
    db.executemany(
        "UPDATE calls SET first_at = ?, last_at = ? WHERE id = ?", [(row[1], row[2], row[0]) for row in rows]
    )
