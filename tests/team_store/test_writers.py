"""Several writers, readers and versions at once, on a real PostgreSQL that stops and starts."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from gati.store import queries, schema
from gati.store.store_file import NotAStoreError
from gati.team_store.connection import StoreUnavailableError
from gati.team_store.store import PostgresStore
from tests.brokers import PostgresServer
from tests.store.bodies import body, said


def ids_after(team: PostgresStore, last: int) -> list[int]:
    with team.connections.reading() as db:
        return [row[0] for row in db.execute("SELECT id FROM messages WHERE id > ? ORDER BY id", (last,))]


def test_a_reader_that_asks_for_what_came_after_the_last_message_misses_none_of_two_writers(team_database: str) -> None:
    writers, reader = [PostgresStore(team_database) for _ in range(2)], PostgresStore(team_database)
    done = threading.Event()

    def write(number: int) -> None:
        for turn in range(40):
            writers[number].ingest(
                body(f"c{number}-{turn % 3}", *(said(f"{number}-{turn}-{n}", "x") for n in range(5)))
            )

    def read() -> list[int]:
        seen: list[int] = []
        while True:
            finished = done.is_set()
            seen += ids_after(reader, seen[-1] if seen else 0)
            if finished:
                return seen

    with ThreadPoolExecutor() as pool:
        reading = pool.submit(read)
        try:
            for writing in [pool.submit(write, number) for number in range(2)]:
                writing.result()
        finally:
            done.set()
        seen = reading.result()
    assert seen == ids_after(reader, 0)
    assert len(seen) == 400
    for store in (*writers, reader):
        store.close()


def test_the_live_view_changes_with_the_commit_and_not_before(team_database: str) -> None:
    team, other = PostgresStore(team_database), PostgresStore(team_database)
    team.ingest(body("c", said("a", "one")))
    before = queries.last_message_id(other)
    with team.connections.writing() as db:
        team.ingest_within(db, body("c", said("b", "two", 1)))
        assert queries.last_message_id(other) == before
    assert queries.last_message_id(other) > before
    team.close()
    other.close()


def test_a_second_writer_waits_until_the_first_one_has_committed(team_database: str) -> None:
    team, other = PostgresStore(team_database), PostgresStore(team_database)
    with ThreadPoolExecutor() as pool:
        with team.connections.writing() as db:
            team.ingest_within(db, body("first", said("a", "x")))
            waiting = pool.submit(other.ingest, body("second", said("a", "x")))
            assert not waiting.done()
        waiting.result()
    listed = queries.list_conversations(team, sort="oldest").conversations
    assert {row.external_id: row.last_message for row in listed} == {"first": 1, "second": 2}
    team.close()
    other.close()


def test_several_processes_create_the_tables_once(postgres: str) -> None:
    barrier = threading.Barrier(4)

    def open_store(_: int) -> str:
        barrier.wait()
        store = PostgresStore(postgres)
        store.ingest(body("c", said("a", "x")))
        token = store.shared_token()
        store.close()
        return token

    with ThreadPoolExecutor(4) as pool:
        tokens = set(pool.map(open_store, range(4)))
    assert len(tokens) == 1
    store = PostgresStore(postgres, read_only=True)
    assert len(queries.wire_messages(store)) == 1
    store.close()


def test_a_store_of_an_earlier_version_is_migrated_and_a_failing_migration_changes_nothing(
    team_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add_table(db: Any) -> None:
        db.execute("CREATE TABLE later (id INTEGER PRIMARY KEY AUTOINCREMENT, user TEXT, share REAL)")

    def fail(db: Any) -> None:
        db.execute("CREATE TABLE half_done (id INTEGER)")
        raise ValueError("no")

    known = list(schema.MIGRATIONS)
    monkeypatch.setattr(schema, "MIGRATIONS", [*known, fail])
    with pytest.raises(ValueError, match="no"):
        PostgresStore(team_database)
    monkeypatch.setattr(schema, "MIGRATIONS", [*known, add_table])
    store = PostgresStore(team_database)
    with store.connections.writing() as db:
        assert db.execute("INSERT INTO later (user, share) VALUES (?, ?)", ("ada", 0.5)).lastrowid == 1
        assert db.execute("SELECT user FROM later").fetchone()["user"] == "ada"
        assert db.execute("SELECT version FROM schema_version").fetchone()[0] == len(known) + 1
        assert db.run("SELECT to_regclass('gati.half_done')").fetchone()[0] is None
    store.close()


def test_only_a_writer_creates_the_tables(postgres: str) -> None:
    with pytest.raises(NotAStoreError, match="has no store of gati"):
        PostgresStore(postgres, read_only=True)
    with pytest.raises(StoreUnavailableError):
        PostgresStore("postgresql://gati@127.0.0.1:1/none")
    PostgresStore(postgres).close()
    store = PostgresStore(postgres, read_only=True)
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        store.ingest(body("c", said("a", "x")))
    store.close()


def test_a_store_goes_on_after_the_database_was_restarted(team_database: str, postgres_server: PostgresServer) -> None:
    store = PostgresStore(team_database)
    store.ingest(body("c", said("a", "one")))
    postgres_server.kill()
    with pytest.raises(StoreUnavailableError):
        store.ingest(body("c", said("b", "two", 1)))
    postgres_server.start()
    store.ingest(body("c", said("b", "two", 1)))
    assert [message["content"] for message in queries.wire_messages(store)] == ["one", "two"]
    store.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_uses_connections_of_its_own(team_database: str) -> None:
    store = PostgresStore(team_database)
    store.ingest(body("c", said("a", "parent")))
    _in_a_child(lambda: store.ingest(body("c", said("b", "child", 1))))
    store.ingest(body("c", said("d", "parent again", 2)))
    assert len(queries.wire_messages(store)) == 3
    store.close()


def _in_a_child(work: Callable[[], object]) -> None:
    child = os.fork()
    if not child:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
