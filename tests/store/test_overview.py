"""Totals of a period."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gati.store import overview
from gati.store.store import Store
from tests.store.bodies import START, body, said, step, turn


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "store.db")
    yield made
    made.close()


def test_totals_are_grouped_by_time_model_and_agent(store: Store) -> None:
    store.ingest(body("c", *turn("r1"), *turn("r2", when=3 * 3_600_000), properties={"agent_name": "math-tutor"}))
    bare = [said("q", "x"), step("m", "llm", "q", 1, model="mini", properties={"status": "error"})]
    store.ingest(body("d", *bare, properties={"agent_name": "bare"}))
    found = overview.compute_overview(store, "24h", START + 5 * 3_600_000_000)
    assert (found.conversations, found.total.turns, found.total.calls) == (2, 3, 5)
    assert [bar.turns for bar in found.bars if bar.turns] == [2, 1]
    assert (found.total.tokens_in, found.total.unpriced) == (306, 1)
    assert found.models["gpt-4o"].latencies == [630.0, 630.0, 801.0, 801.0]
    assert (found.models["mini"].tokens_in, found.models["mini"].cost, found.models["mini"].error_rate) == (
        None,
        None,
        1.0,
    )
    tutor = found.agents["math-tutor"]
    assert (tutor.turns, tutor.ended, tutor.error_rate, tutor.latencies) == (2, 2, 0.0, [1480.0, 1480.0])
    assert (found.agents["bare"].turns, found.agents["bare"].error_rate) == (1, 1.0)


def test_messages_before_the_period_are_not_counted(store: Store) -> None:
    store.ingest(body("c", *turn("r1")))
    found = overview.compute_overview(store, "24h", START + 3 * 86_400_000_000)
    assert (found.conversations, found.total.calls, found.total.cost) == (0, 0, None)


@pytest.mark.parametrize("period", overview.PERIODS)
def test_every_time_of_a_period_has_a_bar(store: Store, period: str) -> None:
    length, _ = overview.PERIODS[period]
    for number in range(20):
        store.ingest(body(f"c{number}", said("q", "x", -number * length // 20_000)))
    found = overview.compute_overview(store, period, START)
    assert sum(bar.turns for bar in found.bars) == found.total.turns >= 19


@given(st.lists(st.floats(0, 1e9), min_size=1), st.floats(0.01, 1))
def test_a_percentile_is_the_nearest_rank(values: list[float], share: float) -> None:
    ordered = sorted(values)
    found = overview.percentile(ordered, share)
    assert found is not None
    assert sum(value <= found for value in ordered) >= share * len(ordered) - 1e-6
    assert overview.percentile([], share) is None
