"""Tables of the queue in PostgreSQL (14 or newer): queued requests and dead letters, each partitioned by day.

Programs and relays both create what is missing, so neither has to start first. A day that is over is removed by dropping
its partition. Days are those of UTC.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg

TURNS = "gati_turns"
DEAD = "gati_dead"
VERSION = 1
"""Version of the tables below, kept in `gati_queue_version`."""

LANES = 256
"""Number of lanes. Requests with the same key share one, and relays share the lanes."""

DAYS_AHEAD = 3
"""Partitions that are created for the following days."""

SCHEMA_LOCK = 0x67617469
"""Key of the advisory lock under which tables and partitions are created."""

# A process that is stopped in the middle must not keep the others from using the queue.
_BEGIN_CHANGE = f"""
SET LOCAL idle_in_transaction_session_timeout = '5s';
SELECT pg_advisory_xact_lock({SCHEMA_LOCK})
"""

_COLUMNS = """
    key          text        NOT NULL,
    account      text        NOT NULL DEFAULT '',
    endpoint     text        NOT NULL DEFAULT '',
    turn         text        NOT NULL DEFAULT '',
    items        integer     NOT NULL DEFAULT 0,
    format       text        NOT NULL,
    value        bytea       NOT NULL,
    published_at timestamptz NOT NULL DEFAULT now()
"""

SCHEMA = f"""
CREATE TABLE IF NOT EXISTS gati_queue_version (version integer NOT NULL);
INSERT INTO gati_queue_version SELECT {VERSION} WHERE NOT EXISTS (SELECT FROM gati_queue_version);

CREATE SEQUENCE IF NOT EXISTS gati_turns_id;
CREATE TABLE IF NOT EXISTS gati_turns (
    id bigint NOT NULL DEFAULT nextval('gati_turns_id'),{_COLUMNS},
    lane smallint GENERATED ALWAYS AS ((hashtextextended(key, 0) & {LANES - 1})::smallint) STORED,
    PRIMARY KEY (id, published_at)
) PARTITION BY RANGE (published_at);
CREATE INDEX IF NOT EXISTS gati_turns_by_lane ON gati_turns (lane, id);
CREATE TABLE IF NOT EXISTS gati_lanes (lane smallint PRIMARY KEY, floor_ms bigint NOT NULL);
CREATE TABLE IF NOT EXISTS gati_relays (
    id         text        PRIMARY KEY,
    pid        integer     NOT NULL,
    lanes      integer     NOT NULL,
    started_at timestamptz NOT NULL,
    seen_at    timestamptz NOT NULL,
    state      jsonb       NOT NULL
);

CREATE SEQUENCE IF NOT EXISTS gati_dead_id;
CREATE TABLE IF NOT EXISTS gati_dead (
    id bigint NOT NULL DEFAULT nextval('gati_dead_id'),{_COLUMNS},
    reason  text NOT NULL DEFAULT '',
    origin  text NOT NULL DEFAULT '',
    dead_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (id, dead_at)
) PARTITION BY RANGE (dead_at);
"""  # noqa: S608  # our own numbers

INSERT = """
INSERT INTO gati_turns (key, account, endpoint, turn, items, format, value) VALUES (%s, %s, %s, %s, %s, %s, %s)
"""
"""Publishes one request."""


class NewerSchemaError(Exception):
    """The tables were created by a newer version of gati."""


def ensure_schema(connection: psycopg.Connection[Any]) -> None:
    """Create the tables, and the missing partitions for today and the following days.

    Raises:
        NewerSchemaError: see there.
        psycopg.Error: the database cannot be reached, or forbids it.
    """
    with connection.transaction():
        if not _exists(connection, DEAD):
            connection.execute(_BEGIN_CHANGE)
            connection.execute(SCHEMA)
        _check_version(connection)
        make_partitions(connection)


def has_tables(connection: psycopg.Connection[Any]) -> bool:
    """Return whether the tables exist. Raises `NewerSchemaError`."""
    found = _exists(connection, DEAD)
    if found:
        _check_version(connection)
    return found


def _check_version(connection: psycopg.Connection[Any]) -> None:
    row = connection.execute("SELECT max(version) FROM gati_queue_version").fetchone()
    if row is not None and row[0] is not None and row[0] > VERSION:
        raise NewerSchemaError(f"the queue's tables have version {row[0]}, this gati knows {VERSION}")


def make_partitions(connection: psycopg.Connection[Any], today: date | None = None) -> None:
    """Create the partitions of a day (default: the server's today) and the following days, as far as they are missing."""
    with connection.transaction():
        first = today or _today(connection)
        days = [first + timedelta(days) for days in range(DAYS_AHEAD + 1)]
        missing = [
            (table, day) for table in (TURNS, DEAD) for day in days if not _exists(connection, _name(table, day))
        ]
        if not missing:
            return
        connection.execute(_BEGIN_CHANGE)
        for table, day in missing:
            # Creating and attaching takes a weaker lock on the table than CREATE … PARTITION OF.
            if not _exists(connection, _name(table, day)):
                name, begin, end = _name(table, day), _midnight(day), _midnight(day + timedelta(1))
                connection.execute(f"CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS INCLUDING GENERATED)")
                connection.execute(
                    f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ('{begin}') TO ('{end}')"
                )


def drop_partitions(connection: psycopg.Connection[Any], table: str, before: date) -> list[str]:
    """Drop a table's partitions of the days before `before`, with all that is in them; return their names."""
    query = (
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = %s::regclass "
        "AND c.relname < %s ORDER BY c.relname"
    )
    names = [str(row[0]) for row in connection.execute(query, (table, _name(table, before)))]
    for name in names:
        connection.execute(f"DROP TABLE IF EXISTS {name}")
    return names


def _exists(connection: psycopg.Connection[Any], table: str) -> bool:
    row = connection.execute("SELECT to_regclass(%s) IS NOT NULL", (table,)).fetchone()
    return bool(row and row[0])


def _today(connection: psycopg.Connection[Any]) -> date:
    row = connection.execute("SELECT (now() AT TIME ZONE 'UTC')::date").fetchone()
    return row[0] if row else datetime.now(UTC).date()


def _name(table: str, day: date) -> str:
    return f"{table}_{day:%Y%m%d}"


def _midnight(day: date) -> str:
    return f"{day:%Y-%m-%d} 00:00:00+00"
