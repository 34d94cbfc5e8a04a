"""The prompt version that a rating of a conversation counts for."""

from __future__ import annotations

from typing import Any

import pytest

from gati.store import deletion
from gati.store.deletion import Target
from gati.store.store import Store
from tests.store.bodies import START, at, body, turn

HOUR = 3_600_000


def rated_text(store: Store) -> str:
    with store.connections.reading() as db:
        row = db.execute("SELECT v.body FROM ratings r JOIN prompt_versions v ON v.id = r.version").fetchone()
    return str(row["body"])


def rate(store: Store, when: int) -> None:
    rating: dict[str, Any] = {
        "externalConversationId": "c", "rating": 5, "ratingMin": 1, "ratingMax": 5, "ratedAt": at(when),
    }  # fmt: skip
    store.record_action("ratings", rating)


@pytest.fixture
def store(any_store: Store) -> Store:
    """A conversation whose turns used three prompts, in this order, and arrived in another."""
    for hour, prompt in ((2, "second"), (1, "first"), (3, "third")):
        any_store.ingest(body("c", *turn(f"r{hour}", when=hour * HOUR), systemPrompt=prompt))
    return any_store


@pytest.mark.parametrize(("when", "prompt"), [(1.5, "first"), (2.5, "second"), (9, "third")])
def test_a_rating_counts_for_the_version_in_use_at_its_time(store: Store, when: float, prompt: str) -> None:
    rate(store, int(when * HOUR))
    assert prompt in rated_text(store)


def test_a_rating_from_before_the_conversation_counts_for_its_first_version(store: Store) -> None:
    rate(store, -HOUR)
    assert "first" in rated_text(store)


def test_a_rating_keeps_its_version_if_other_turns_are_deleted(store: Store) -> None:
    rate(store, int(2.5 * HOUR))
    deletion.delete_matches(store, Target("before", at=START + int(1.5 * HOUR) * 1000))
    assert "second" in rated_text(store)
