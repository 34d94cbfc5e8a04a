"""Deletion from the team's store, on a real PostgreSQL."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from gati.cli.commands import app
from gati.store import queries
from gati.store.filters import Filter
from gati.team_store.store import PostgresStore
from tests.store.bodies import body, turn


def test_a_deleted_user_is_not_found_and_does_not_come_back_by_a_late_delivery(team_database: str) -> None:
    store = PostgresStore(team_database)
    bodies = [
        body(f"c{number}", *turn(f"r{number}", f"Secret {word}"), user=f"u{number}")
        for number, word in enumerate(("apple", "pear"))
    ]
    store.ingest_many(bodies)
    deleted = CliRunner().invoke(app, ["delete", "user", "u1", "--yes", "--store", team_database])
    assert deleted.exit_code == 0, deleted.output
    late = store.ingest_many(bodies)
    statuses = [{message["status"] for message in answer["messages"]} for answer in late if isinstance(answer, dict)]
    assert statuses == [{"deduplicated"}, {"deduplicated"}]
    assert [row.external_id for row in queries.list_conversations(store).conversations] == ["c0"]
    assert not queries.list_conversations(store, Filter(words="secret pear")).conversations
    with store.connections.reading() as db:
        assert db.execute("SELECT uses FROM prompt_versions").fetchall() == []
        assert db.execute("SELECT count(*) FROM messages").fetchone()[0] == len(turn("r"))
    store.close()


def test_after_a_deletion_a_batch_makes_one_more_prepared_query(
    team_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = PostgresStore(team_database)
    made: list[bool | None] = []
    execute = psycopg.Cursor.execute

    def count(cursor: Any, query: Any, params: Any = None, *, prepare: bool | None = None, **options: Any) -> Any:
        made.append(prepare)
        return execute(cursor, query, params, prepare=prepare, **options)

    def store_turns(first: int, number: int) -> list[bool | None]:
        bodies = [body(f"c{n}", *turn(f"r{n}"), user=f"u{n}") for n in range(first, first + number)]
        made.clear()
        with monkeypatch.context() as patch:
            patch.setattr(psycopg.Cursor, "execute", count)
            store.ingest_many(bodies)
        return list(made)

    before = store_turns(0, 10)
    deleted = CliRunner().invoke(app, ["delete", "user", "u1", "--yes", "--store", team_database])
    assert deleted.exit_code == 0, deleted.output
    few, many = store_turns(10, 2), store_turns(20, 30)
    assert few.count(None) == many.count(None) == before.count(None)
    assert few.count(True) == many.count(True) == before.count(True) + 1
    store.close()
