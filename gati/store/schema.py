"""The tables of the embedded store, as a list of migrations. Each migration is a function.

Times (`at`) are microseconds since the epoch. `messages.id` increases in order of arrival. NULL in a numeric column
means unknown, 0 means zero.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable

from gati.store import deletion_schema, finding_schema, long_durations, marks_schema, search, store_file
from gati.store.engine import engine_of

_READABLE_VERSION = 2
"""The tables of this version have all that the queries read."""


def _create_initial_tables(db: sqlite3.Connection) -> None:
    for statement in _INITIAL_TABLES.split(";\n"):
        db.execute(statement)


def _mark_as_store(db: sqlite3.Connection) -> None:
    db.execute(f"PRAGMA application_id = {store_file.APPLICATION_ID}")


def _add_managed_prompts(db: sqlite3.Connection) -> None:
    for statement in _MANAGED_PROMPTS.split(";\n"):
        db.execute(statement)
    rows = db.execute(
        "SELECT v.id, v.digest, p.uid FROM prompt_versions v JOIN prompts p ON p.id = v.prompt"
    ).fetchall()
    uids = [(str(uuid.uuid5(uuid.UUID(prompt), digest)), row_id) for row_id, digest, prompt in rows]
    db.executemany("UPDATE prompt_versions SET uid = ? WHERE id = ?", uids)


MIGRATIONS: list[Callable[[sqlite3.Connection], None]] = [
    _create_initial_tables, search.create_index, _mark_as_store, _add_managed_prompts, finding_schema.add_finding,
    marks_schema.add_marks, deletion_schema.add_deletion, long_durations.add_long_durations,
]  # fmt: skip

_FINDING_VERSION = 5
"""From this version on, stores have labels, sums and the columns that belong to them."""

FIRST_SHARED_VERSION = 5
"""The version at which stores in other databases begin. They apply the later migrations, too."""


def first_shared_tables() -> list[str]:
    """Return the statements that create the empty tables of `FIRST_SHARED_VERSION`."""
    scripts = (_INITIAL_TABLES, _MANAGED_PROMPTS, *finding_schema.SCRIPTS)
    return [statement for script in scripts for statement in script.split(";\n")]


def migrate(db: sqlite3.Connection) -> None:
    """Apply the missing migrations. Several processes may do this at the same time."""
    if _schema_version(db) >= len(MIGRATIONS):
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        # Read the version again inside the transaction: another process may have migrated in the meantime.
        for number, migration in enumerate(MIGRATIONS[_schema_version(db) :], start=_schema_version(db) + 1):
            migration(db)
            db.execute(f"PRAGMA user_version = {number}")
        db.execute("COMMIT")
    except BaseException:  # also if interrupted: a half-done migration is undone
        db.execute("ROLLBACK")
        raise


def is_readable(db: sqlite3.Connection) -> bool:
    """Return True if the queries can read this store without a migration."""
    return _schema_version(db) >= _READABLE_VERSION


def can_find_and_sum(db: sqlite3.Connection) -> bool:
    """Return False for a store of an earlier version, opened read-only: it has no labels and no sums."""
    return _schema_version(db) >= _FINDING_VERSION


def has_marks(db: sqlite3.Connection) -> bool:
    """Return False for a store of an earlier version, opened read-only: it has no marks."""
    return _schema_version(db) > MIGRATIONS.index(marks_schema.add_marks)


def _schema_version(db: sqlite3.Connection) -> int:
    if engine_of(db) is not None:
        return len(MIGRATIONS)  # opening another database migrates it
    return int(db.execute("PRAGMA user_version").fetchone()[0])


_INITIAL_TABLES = """
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;

CREATE TABLE conversations (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  uid TEXT NOT NULL UNIQUE,
  product TEXT NOT NULL,
  external_id TEXT,
  user TEXT NOT NULL,
  organization TEXT,
  agent TEXT,
  status TEXT,
  title TEXT,
  preview TEXT,
  properties TEXT,
  first_at INTEGER NOT NULL,
  last_at INTEGER NOT NULL,
  last_message INTEGER NOT NULL DEFAULT 0,
  turns INTEGER NOT NULL DEFAULT 0,
  messages INTEGER NOT NULL DEFAULT 0,
  errors INTEGER NOT NULL DEFAULT 0,
  model_calls INTEGER NOT NULL DEFAULT 0,
  tokens_in INTEGER,
  tokens_out INTEGER,
  cost REAL,
  unpriced INTEGER NOT NULL DEFAULT 0,
  UNIQUE (product, external_id)
);
CREATE INDEX conversations_newest ON conversations (last_at, id);
CREATE INDEX conversations_user ON conversations (user, last_at, id);
CREATE INDEX conversations_status ON conversations (status, last_at, id);

CREATE TABLE facets (
  kind TEXT NOT NULL,
  value TEXT NOT NULL,
  conversation INTEGER NOT NULL,
  PRIMARY KEY (kind, value, conversation)
) WITHOUT ROWID;
CREATE INDEX facets_conversation ON facets (conversation);

CREATE TABLE prompts (
  id INTEGER PRIMARY KEY,
  uid TEXT NOT NULL UNIQUE,
  product TEXT NOT NULL,
  name TEXT NOT NULL,
  named INTEGER NOT NULL,
  UNIQUE (product, name)
);

CREATE TABLE prompt_versions (
  id INTEGER PRIMARY KEY,
  prompt INTEGER NOT NULL REFERENCES prompts,
  number INTEGER NOT NULL,
  digest TEXT NOT NULL,
  body TEXT NOT NULL,
  first_at INTEGER NOT NULL,
  last_at INTEGER NOT NULL,
  uses INTEGER NOT NULL DEFAULT 0,
  UNIQUE (prompt, digest)
);

CREATE TABLE calls (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  conversation INTEGER NOT NULL,
  version INTEGER REFERENCES prompt_versions,
  envelope TEXT NOT NULL
);
CREATE INDEX calls_conversation ON calls (conversation, id);
CREATE INDEX calls_version ON calls (version, id);

CREATE TABLE messages (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  conversation INTEGER NOT NULL,
  call INTEGER NOT NULL,
  external_id TEXT,
  type TEXT NOT NULL,
  at INTEGER NOT NULL,
  agent TEXT,
  model TEXT,
  status TEXT,
  latency_ms REAL,
  first_token_ms REAL,
  tokens_in INTEGER,
  tokens_out INTEGER,
  cost REAL,
  body TEXT NOT NULL
);
CREATE UNIQUE INDEX messages_external ON messages (conversation, external_id) WHERE external_id IS NOT NULL;
CREATE INDEX messages_order ON messages (conversation, at, id);
CREATE INDEX messages_turns ON messages (conversation, at, id) WHERE type = 'user_message';
CREATE INDEX messages_numbers ON messages
  (type, at, model, agent, status, latency_ms, first_token_ms, tokens_in, tokens_out, cost)
  WHERE type IN ('user_message', 'llm', 'chain_end');

CREATE TABLE actions (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  endpoint TEXT NOT NULL,
  key TEXT,
  uid TEXT NOT NULL UNIQUE,
  conversation INTEGER,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  body TEXT NOT NULL,
  UNIQUE (endpoint, key)
);
CREATE INDEX actions_conversation ON actions (conversation);

CREATE TABLE gati_runs (
  agent TEXT NOT NULL,
  name TEXT NOT NULL,
  run_id TEXT NOT NULL PRIMARY KEY,
  UNIQUE (agent, name)
) WITHOUT ROWID;

CREATE TABLE gati_events (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  event_id TEXT NOT NULL UNIQUE,
  run_id TEXT NOT NULL,
  conversation INTEGER,
  body TEXT NOT NULL
);
CREATE INDEX gati_events_conversation ON gati_events (conversation);

CREATE TABLE pushes (
  account TEXT NOT NULL,
  kind TEXT NOT NULL,
  position INTEGER NOT NULL,
  PRIMARY KEY (account, kind)
) WITHOUT ROWID
"""

_MANAGED_PROMPTS = """
ALTER TABLE prompts ADD COLUMN title TEXT;
ALTER TABLE prompts ADD COLUMN description TEXT;
ALTER TABLE prompts ADD COLUMN role TEXT;
ALTER TABLE prompt_versions ADD COLUMN uid TEXT;
ALTER TABLE prompt_versions ADD COLUMN managed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE prompt_versions ADD COLUMN active INTEGER NOT NULL DEFAULT 0;
ALTER TABLE prompt_versions ADD COLUMN archived_at INTEGER;
CREATE INDEX prompt_versions_uid ON prompt_versions (uid)
"""
"""`uid` is the id of the version in the prompts API. `managed`: created there, rather than recovered from messages."""
