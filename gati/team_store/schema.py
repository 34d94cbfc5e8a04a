"""Tables of the team's store: those of the embedded store in PostgreSQL's terms, and versioned migrations of both.

The version numbers are those of `gati.store.schema`. A new database begins at `FIRST_SHARED_VERSION`, and gets the later
migrations as an embedded store does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from gati.store import schema
from gati.team_store.connection import SCHEMA

if TYPE_CHECKING:
    from gati.team_store.connection import PostgresConnection

LOCK = 0x67617469
"""Key of the advisory lock that a transaction that writes holds: "gati" in ASCII."""

_FUNCTIONS = r"""
CREATE FUNCTION max(a bigint, b bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS
  'SELECT CASE WHEN a IS NULL OR b IS NULL THEN NULL ELSE greatest(a, b) END';
CREATE FUNCTION min(a bigint, b bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS
  'SELECT CASE WHEN a IS NULL OR b IS NULL THEN NULL ELSE least(a, b) END';
CREATE FUNCTION max(a double precision, b double precision) RETURNS double precision LANGUAGE sql IMMUTABLE AS
  'SELECT CASE WHEN a IS NULL OR b IS NULL THEN NULL ELSE greatest(a, b) END';
CREATE FUNCTION min(a double precision, b double precision) RETURNS double precision LANGUAGE sql IMMUTABLE AS
  'SELECT CASE WHEN a IS NULL OR b IS NULL THEN NULL ELSE least(a, b) END';
CREATE FUNCTION json_extract(body text, path text) RETURNS text LANGUAGE sql IMMUTABLE AS
  'SELECT replace(body, ''\u0000'', ''\ufffd'')::jsonb #>> string_to_array(substr(path, 3), ''.'')';
CREATE FUNCTION row_id_of(owner text) RETURNS bigint LANGUAGE sql IMMUTABLE AS
  'SELECT CASE WHEN owner ~ ''^[0-9]{1,18}$'' THEN owner::bigint END';
CREATE FUNCTION last_insert_rowid() RETURNS bigint LANGUAGE sql VOLATILE AS 'SELECT lastval()'
"""
"""Functions of SQLite that the statements of `gati.store` use. NUL characters in JSON are not allowed in PostgreSQL."""

_TABLES = """
CREATE TABLE secrets (name text PRIMARY KEY, value text NOT NULL);
ALTER TABLE messages ADD COLUMN terms tsvector;
ALTER TABLE labels ADD COLUMN terms tsvector;
CREATE INDEX messages_terms ON messages USING gin (terms);
CREATE INDEX labels_terms ON labels USING gin (terms);
DROP INDEX messages_external;
CREATE UNIQUE INDEX messages_external ON messages (external_id, conversation) WHERE external_id IS NOT NULL;
CREATE INDEX conversations_external ON conversations (external_id);
DROP INDEX conversations_user;
CREATE INDEX conversations_user ON conversations ("user", last_at, id);
DROP INDEX conversations_organization;
CREATE INDEX conversations_organization ON conversations (organization, last_at, id) WHERE organization IS NOT NULL;
ALTER TABLE labels DROP CONSTRAINT labels_owner_kind_owner_kind_name_value_key;
CREATE UNIQUE INDEX labels_once ON labels
  (owner_kind, owner, kind, hashtextextended(name, 0), hashtextextended(value, 0));
ALTER TABLE conversations SET (fillfactor = 80);
ALTER TABLE sums SET (fillfactor = 50);
ALTER TABLE durations SET (fillfactor = 50);
ALTER TABLE prompt_versions SET (fillfactor = 50)
"""
"""What differs from the embedded store: terms for search, and indexes, whose rows are limited to 2,700 bytes."""


def version_of(db: PostgresConnection) -> int:
    """Return the version of the tables; 0 if there are none."""
    exists = db.run("SELECT to_regclass(%s) IS NOT NULL", (f"{SCHEMA}.schema_version",)).fetchone()[0]
    if not exists:
        return 0
    return int(db.run("SELECT version FROM schema_version").fetchone()[0])


def migrate(db: PostgresConnection) -> None:
    """Create the tables, or apply the missing migrations. Several processes may do this at the same time."""
    if version_of(db) >= len(schema.MIGRATIONS):
        return
    db.run("BEGIN")
    try:
        for setting in ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout"):
            db.run(f"SET LOCAL {setting} = 0")
        db.run("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        _apply_missing(db)  # reads the version again: another process may have migrated in the meantime
        db.run("COMMIT")
    except BaseException:  # also if interrupted: the lock of migrations is released
        if not db.session.closed:
            db.run("ROLLBACK")
        raise


def _apply_missing(db: PostgresConnection) -> None:
    version = version_of(db)
    if not version:
        _create_tables(db)
        version = schema.FIRST_SHARED_VERSION
    for migration in schema.MIGRATIONS[version:]:
        migration(cast(Any, db))
    db.run("UPDATE schema_version SET version = greatest(version, %s)", (len(schema.MIGRATIONS),))


def _create_tables(db: PostgresConnection) -> None:
    db.run(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
    for statement in _FUNCTIONS.split(";\n"):
        db.run(statement)
    for statement in schema.first_shared_tables():
        db.execute(statement)
    for statement in _TABLES.split(";\n"):
        db.run(statement)
    db.run("CREATE TABLE schema_version (version bigint NOT NULL)")
    db.run("INSERT INTO schema_version VALUES (%s)", (schema.FIRST_SHARED_VERSION,))
