"""The migration that adds marks: what people say about conversations in the studio."""

from __future__ import annotations

import sqlite3

_MARKS = """
CREATE TABLE marks (
  conversation INTEGER NOT NULL,
  kind TEXT NOT NULL,
  key TEXT NOT NULL,
  value TEXT NOT NULL,
  author TEXT,
  at INTEGER NOT NULL,
  action INTEGER,
  PRIMARY KEY (conversation, kind, key)
) WITHOUT ROWID;
CREATE INDEX marks_verdict ON marks (value, conversation) WHERE kind = 'verdict'
"""
"""`key` tells the marks of a kind apart: see `marks.Mark`. `action`: the row of a rating in `actions`."""


def add_marks(db: sqlite3.Connection) -> None:
    """Create the table of marks."""
    for statement in _MARKS.split(";\n"):
        db.execute(statement)
