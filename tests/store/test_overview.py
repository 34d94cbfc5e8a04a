"""Totals of a period."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gati.store import long_durations, overview, schema, sum_queries
from gati.store.latencies import Histogram, bucket_of
from gati.store.overview import Overview
from gati.store.store import Store
from gati.store.sums import DAY, QUARTER, WEEKS
from tests.store.bodies import START, at, body, said, step, turn

HOUR = 4 * QUARTER


@pytest.fixture
def store(any_store: Store) -> Store:
    return any_store


def totals(store: Store, since: int, until: int, bar: int = HOUR) -> Overview:
    """The totals of a period around the first message of the tests, from `since` to `until` hours."""
    first = START // HOUR * HOUR
    return overview.compute_overview(store, [*range(first + since * HOUR, first + until * HOUR + 1, bar)])


def test_totals_are_grouped_by_time_model_and_agent(store: Store) -> None:
    store.ingest(body("c", *turn("r1"), *turn("r2", when=3 * 3_600_000), properties={"agent_name": "math-tutor"}))
    bare = [said("q", "x"), step("m", "llm", "q", 1, model="mini", properties={"status": "completed"})]
    failed = step("m2", "llm", "q", 2, model="mini", properties={"status": "error"})
    store.ingest(body("d", *bare, failed, properties={"agent_name": "bare"}))
    found = totals(store, -18, 6)
    assert (found.conversations, found.total.turns, found.total.calls) == (2, 3, 6)
    assert [bar.turns for bar in found.bars if bar.turns] == [2, 1]
    assert found.total.tokens_in == 306
    gpt, mini = found.models["gpt-4o"], found.models["mini"]
    assert [gpt.percentile(share) for share in (0.25, 0.5, 0.75, 1)] == [630.0, 630.0, 801.0, 801.0]
    assert (gpt.first_tokens.percentile(0.5), gpt.unpriced) == (180.0, 0)
    assert (mini.tokens_in, mini.cost, mini.error_rate) == (None, None, 0.5)
    tutor = found.agents["math-tutor"]
    assert (tutor.turns, tutor.ended, tutor.error_rate, tutor.percentile(0.5)) == (2, 2, 0.0, 1480.0)
    assert (found.agents["bare"].turns, found.agents["bare"].error_rate) == (1, 0.5)


def test_only_completed_calls_without_a_price_make_a_cost_uncertain(store: Store) -> None:
    calls = [
        step(f"m{n}", "llm", "q", n, model="mini", properties={"status": status} if status else {})
        for n, status in enumerate(("completed", None, "error", "aborted", "unfinished"))
    ]
    store.ingest(body("c", said("q", "x"), *calls))
    assert totals(store, 0, 1).total.unpriced == 2


def test_tools_have_calls_failures_and_durations(store: Store) -> None:
    store.ingest(body("c", *turn("r1")))
    call = step("t9", "tool_call", "r9", 0, toolName="search", input={})
    store.ingest(body("d", call))
    # A result may come later, and leave its tool and its duration to the call.
    store.ingest(body("d", step("t9:error", "tool_error", "t9", 250, output={"message": "boom"})))
    found = totals(store, 0, 1).tools
    assert (found["calculator"].calls, found["calculator"].failed, found["calculator"].percentile(0.5)) == (1, 0, 12.0)
    assert (found["search"].calls, found["search"].failed, found["search"].percentile(0.95)) == (1, 1, 250.0)


def test_prompt_versions_have_their_own_cost_errors_and_ratings(store: Store) -> None:
    for number, manner in enumerate(["kind", "strict"]):
        prompt = {"externalPromptId": "tutor", "components": [{"content": f"You are {manner}."}]}
        store.ingest(body(f"c{number}", *turn(f"r{number}"), systemPrompt=prompt))
    for conversation, rating in (("c0", 5), ("c1", 1), ("c1", 2)):
        store.record_action("ratings", rated(conversation, rating))
    found = {(v.name, v.number): v.totals for v in totals(store, 0, 1).versions}
    assert found["tutor", 1].cost == pytest.approx(0.00067)
    assert {key: (group.calls, group.ratings, group.rating) for key, group in found.items()} == {
        ("tutor", 1): (2, 1, 1.0), ("tutor", 2): (2, 2, 0.125),
    }  # fmt: skip


def rated(conversation: str, rating: float, **more: Any) -> dict[str, Any]:
    product = "0b9f1c5e-7a44-4c63-9f0e-5f2b1f7c3a10"
    body = {"productId": product, "rating": rating, "ratingMin": 1, "ratingMax": 5, "ratedAt": at(60_000)}
    return {**body, "externalConversationId": conversation, **more}


def test_ratings_are_counted_when_they_were_given(store: Store) -> None:
    store.ingest(body("c", *turn("r1")))
    store.record_action("ratings", rated("c", 4))
    store.record_action("ratings", rated("c", 2, ratedAt=at(3 * 3_600_000)))
    found = totals(store, 0, 6)
    assert [(bar.ratings, bar.rating) for bar in found.bars if bar.ratings] == [(1, 0.75), (1, 0.25)]
    assert (found.total.ratings, found.total.rating) == (2, 0.5)


def test_users_and_organizations_have_the_sums_of_their_conversations(store: Store) -> None:
    for number in range(3):
        store.ingest(body(f"c{number}", *turn(f"r{number}"), user="ada", externalOrganizationId="acme"))
    store.ingest(body("d", *turn("r9"), user="grace"))
    store.record_action("users", {"externalUserId": "ada", "name": "Ada Lovelace"})
    found = totals(store, 0, 1)
    assert [(owner.id, owner.name, owner.conversations, owner.turns) for owner in found.users] == [
        ("ada", "Ada Lovelace", 3, 3), ("grace", None, 1, 1),
    ]  # fmt: skip
    assert [(owner.id, owner.conversations) for owner in found.organizations] == [("acme", 3)]
    assert found.users[0].cost == pytest.approx(3 * 0.00067)


def test_messages_outside_of_the_period_are_not_counted(store: Store) -> None:
    store.ingest(body("c", *turn("r1")))
    for since, until in ((2, 30), (-72, 0)):
        found = totals(store, since, until)
        assert (found.conversations, found.total.calls, found.total.cost, found.models) == (0, 0, None, {})


@given(st.integers(0, 90 * DAY), st.integers(0, 90 * DAY), st.sets(st.integers(0, 180)), st.sets(st.integers(0, 6)))
def test_the_rows_of_a_period_cover_each_of_its_quarters_once(
    since: int, length: int, days: set[int], weeks: set[int]
) -> None:
    made = {DAY: sorted(day * DAY for day in days), WEEKS: sorted(week * WEEKS for week in weeks)}
    found = sum_queries.segments(since, since + length, made)
    begin, end = sum_queries.rounded(since), sum_queries.rounded(since + length)
    assert all(segment.until > segment.since for segment in found)
    assert [segment.since for segment in found] + [end] == (
        [begin] + [segment.until for segment in found] if found else [end]
    )
    for segment in found:
        assert segment.since % segment.length == segment.until % segment.length == 0
        if segment.length != QUARTER:
            assert set(range(segment.since, segment.until, segment.length)) <= set(made[segment.length])


def test_long_rows_give_the_same_totals_and_follow_late_messages(store: Store) -> None:
    for number in range(40):
        store.ingest(body(f"c{number}", *turn(f"r{number}", when=number * 86_400_000)))
    first = overview.compute_overview(store, [START - DAY, START + 60 * DAY])
    with store.connections.reading() as db:
        assert {row[0] for row in db.execute("SELECT length FROM long_sums")} == {DAY, WEEKS}
    store.ingest(body("late", *turn("r-late", when=86_400_000)))
    second = overview.compute_overview(store, [START - DAY, START + 60 * DAY])
    assert (first.total.calls, second.total.calls, second.models["gpt-4o"].calls) == (80, 82, 82)
    assert second.total.percentile(0.5) == second.models["gpt-4o"].percentile(0.5) == 630.0
    assert second.tools["calculator"].calls == 41


def test_a_store_whose_durations_of_days_are_not_packed_is_converted(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db")
    for number in range(40):
        store.ingest(body(f"c{number}", *turn(f"r{number}", when=number * 86_400_000)))
    period = [START - DAY, START + 20 * DAY, START + 60 * DAY]
    first = overview.compute_overview(store, period)
    store.close()
    with closing(sqlite3.connect(tmp_path / "store.db")) as db:  # as the version before had it
        db.execute("DROP TABLE long_durations")
        db.execute("INSERT INTO durations VALUES ('model', ?, ?, 'gpt-4o', 99, 7, 7000.0)", (DAY, START // DAY * DAY))
        db.execute(f"PRAGMA user_version = {schema.MIGRATIONS.index(long_durations.add_long_durations)}")
        db.commit()
    with closing(Store(tmp_path / "store.db")) as converted:
        assert overview.compute_overview(converted, period) == first


@given(st.lists(st.tuples(st.floats(0, 1e300), st.integers(1, 10**9))))
def test_a_packed_histogram_is_the_same_histogram(values: list[tuple[float, int]]) -> None:
    histogram, unpacked = Histogram(), Histogram()
    for value, count in values:
        histogram.add(bucket_of(value), count, value * count)
    unpacked.add_packed(histogram.pack())
    assert unpacked == histogram


@pytest.mark.parametrize(("length", "bar"), [(24, HOUR), (24 * 30, DAY), (24 * 364, 14 * DAY)])
def test_every_time_of_a_period_has_a_bar(store: Store, length: int, bar: int) -> None:
    for number in range(20):
        store.ingest(body(f"c{number}", said("q", "x", -number * length * 3_600_000 // 20)))
    found = totals(store, 1 - length, 1, bar)
    assert sum(bar.turns for bar in found.bars) == found.total.turns >= 19


def test_deleted_conversations_leave_the_sums(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db")
    for number in range(2):
        store.ingest(body(f"c{number}", *turn(f"r{number}"), step(f"e{number}", "tool_error", f"r{number}-t1", 900)))
    store.transaction(lambda db: store._delete_conversation(db, 1))
    found = totals(store, 0, 1)
    assert (found.total.calls, found.total.turns, found.tools["calculator"].calls) == (2, 1, 1)
    store.transaction(lambda db: store._delete_conversation(db, 2))
    with store.connections.reading() as db:
        assert [db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("sums", "durations")] == [0, 0]
    store.close()


@given(st.lists(st.floats(0.01, 1e7), min_size=1), st.floats(0.01, 1))
def test_a_percentile_is_the_nearest_rank_within_the_width_of_a_bucket(values: list[float], share: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(bucket_of(value), 1, value)
    found = histogram.percentile(share)
    assert found is not None
    exact = sorted(values)[max(0, -(-share * len(values) // 1).__int__() - 1)]
    assert found == pytest.approx(exact, rel=0.091)
    assert Histogram().percentile(share) is None
