"""The queue's tables in a real PostgreSQL."""

from __future__ import annotations

import threading
from datetime import date

import psycopg
import pytest

from gati.queues import postgres_schema
from gati.queues.postgres_schema import DEAD, INSERT, TURNS, NewerSchemaError, drop_partitions, ensure_schema

ROW = ("c-1", "", "messages", "t-1", 2, "1", b"{}")


def partitions(connection: psycopg.Connection, table: str) -> list[str]:
    query = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass ORDER BY 1"
    return [row[0] for row in connection.execute(query, (table,))]


def test_requests_are_numbered_in_the_order_of_publication(postgres: str) -> None:
    with psycopg.connect(postgres, autocommit=True) as connection:
        ensure_schema(connection)
        ensure_schema(connection)
        for _ in range(3):
            connection.execute(INSERT, ROW)
        rows = connection.execute(f"SELECT id, key, value, published_at FROM {TURNS} ORDER BY id").fetchall()
    assert [row[0] for row in rows] == [1, 2, 3]
    assert rows[0][1:3] == ("c-1", b"{}")


def test_requests_with_the_same_key_share_a_lane(postgres: str) -> None:
    with psycopg.connect(postgres, autocommit=True) as connection:
        ensure_schema(connection)
        for key in ("c-1", "c-2", "c-1"):
            connection.execute(INSERT, (key, *ROW[1:]))
        lanes = [row[0] for row in connection.execute(f"SELECT lane FROM {TURNS} ORDER BY id")]
    assert lanes[0] == lanes[2] != lanes[1]
    assert all(0 <= lane < postgres_schema.LANES for lane in lanes)


def test_many_processes_may_create_the_tables_at_once(postgres: str) -> None:
    errors: list[Exception] = []

    def create() -> None:
        try:
            with psycopg.connect(postgres, autocommit=True) as connection:
                ensure_schema(connection)
                connection.execute(INSERT, ROW)
        except psycopg.Error as error:
            errors.append(error)

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with psycopg.connect(postgres) as connection:
        assert connection.execute(f"SELECT count(*) FROM {TURNS}").fetchone() == (8,)


def test_a_day_that_is_over_is_dropped_as_a_partition(postgres: str) -> None:
    with psycopg.connect(postgres, autocommit=True) as connection:
        ensure_schema(connection)
        postgres_schema.make_partitions(connection, date(2026, 1, 1))
        connection.execute(
            f"INSERT INTO {TURNS} (key, format, value, published_at) VALUES ('c', '1', '', '2026-01-02')"
        )
        assert len(partitions(connection, TURNS)) == len(partitions(connection, DEAD)) == 8
        dropped = drop_partitions(connection, TURNS, date(2026, 1, 4))
        assert dropped == [f"{TURNS}_202601{day:02}" for day in (1, 2, 3)]
        assert connection.execute(f"SELECT count(*) FROM {TURNS}").fetchone() == (0,)


def test_tables_of_a_newer_version_are_left_alone(postgres: str) -> None:
    with psycopg.connect(postgres, autocommit=True) as connection:
        ensure_schema(connection)
        connection.execute("UPDATE gati_queue_version SET version = 99")
        with pytest.raises(NewerSchemaError, match="version 99"):
            ensure_schema(connection)
