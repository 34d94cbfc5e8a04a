"""Deletion from the team's store leaves what deletion from the embedded store leaves."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gati.store import deletion, queries
from gati.store.deletion import Target
from gati.store.store import Store
from tests.brokers import PostgresServer
from tests.store.bodies import START, body, said, turn
from tests.store.histories import (
    Request,
    compare,
    deletion_before,
    deletion_of_conversation,
    deletion_of_user,
    histories,
)
from tests.stores import create_team_database


def left(store: Store, target: Target) -> list[tuple[Any, ...]]:
    """Return what is left of three conversations, of which one is partly older than an hour and has two users."""
    store.ingest(body("a", *turn("r1"), user="u-1"))
    store.ingest(body("b", *turn("r2"), user="u-1", systemPrompt="first"))
    store.ingest(body("b", *turn("r3", when=7_200_000), user="u-2", systemPrompt="second"))
    store.ingest(body("c", said("x", "Hello", when=7_200_000), user="u-3"))
    assert deletion.delete_matches(store, target).messages
    return [
        (row.external_id, row.user, row.turns, row.messages, row.tokens_in, row.status, row.title)
        for row in queries.list_conversations(store).conversations
    ]


@pytest.mark.parametrize("target", [
    Target("conversation", "b"), Target("user", "u-1"), Target("before", at=START + 3_600_000_000),
])  # fmt: skip
def test_the_same_is_left_as_in_an_embedded_store(tmp_path: Path, team_database: str, target: Target) -> None:
    from gati.team_store.store import PostgresStore

    with closing(Store(tmp_path / "store.db")) as embedded, closing(PostgresStore(team_database)) as team:
        assert left(team, target) == left(embedded, target) != []


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=histories(), data=st.data())
def test_after_a_deletion_the_store_is_like_an_embedded_one_that_never_had_it(
    team_template: PostgresServer, history: list[Request], data: st.DataObject
) -> None:
    from gati.team_store.store import PostgresStore

    deletions = [deletion_of_conversation(), deletion_of_user(history), deletion_before(data.draw(st.integers(0, 41)))]
    what = data.draw(st.sampled_from(deletions))
    with (
        TemporaryDirectory() as folder,
        closing(Store(Path(folder, "store.db"))) as embedded,
        closing(PostgresStore(create_team_database(team_template))) as team,
    ):
        compare(history, what, team, embedded)
