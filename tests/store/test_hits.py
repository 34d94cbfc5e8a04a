"""Search in messages and labels."""

from __future__ import annotations

from typing import Any

import pytest

from gati.store import gati_events, queries
from gati.store.filters import ANY, Filter, Range, parse_range
from gati.store.store import Store
from tests.store.bodies import body, said, step, turn

PRODUCT = "0b9f1c5e-7a44-4c63-9f0e-5f2b1f7c3a10"


@pytest.fixture
def store(any_store: Store) -> Store:
    return any_store


def found(store: Store, words: str, **conditions: Any) -> list[str]:
    page = queries.list_conversations(store, Filter(words=words, **conditions))
    return sorted(str(conversation.external_id) for conversation in page.conversations)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("東京都に行きました。", "京都"), ("東京都に行きました。", "行き"), ("我要退款", "退款"),
        ("환불을 요청했어요", "환불"), ("ขอคืนเงินครับ", "เงิน"), ("ｶﾀｶﾅ", "カタ"), ("iPhoneケースの返品", "iphone 返品"),
        ("Ein schöner Café-Besuch", "cafe schon"), ("नमस्ते दुनिया", "दुनिया"), ("Заказ не пришёл", "заказ"),
    ],
)  # fmt: skip
def test_text_in_any_script_is_found(store: Store, text: str, words: str) -> None:
    store.ingest(body("c", said("q", text)))
    store.ingest(body("d", said("q", "something else")))
    assert found(store, words) == ["c"]


def test_characters_that_are_not_neighbours_are_not_found(store: Store) -> None:
    store.ingest(body("c", said("q", "東京都")))
    assert found(store, "東都") == []


def test_everything_by_which_people_know_a_conversation_finds_it(store: Store) -> None:
    chat = said("q", "Hello", properties={"tags": ["escalated"], "metadata": {"tier": "platinum"}, "channel": "fax"})
    store.ingest(
        body("order-8613", chat, user="u-w77", externalOrganizationId="acme", properties={"plan": {"name": "gold"}})
    )
    store.ingest(body("other", said("q", "Hello")))
    store.record_action("users", {"externalUserId": "u-w77", "name": "Zoë Quist", "email": "zoe@example.org"})
    store.record_action("organizations", {"externalOrganizationId": "acme", "name": "Acme Cycles"})
    of = {"productId": PRODUCT, "externalConversationId": "order-8613"}
    store.record_action("ratings", {**of, "rating": 1, "ratingMin": 1, "ratingMax": 5, "feedback": "Much too slow"})
    store.record_action("events", {**of, "eventType": "upgrade_clicked", "value": "yes"})
    uid = queries.find_conversation(store, "order-8613").uid  # type: ignore[union-attr]  # it is there
    for words in ("order-8613", uid, "u-w77", "quist", "zoe@example.org", "acme cycles", "escalated", "platinum", "fax",
                  "gold", "too slow", "upgrade_clicked", "quist hello", "hello quist gold"):  # fmt: skip
        assert found(store, words) == ["order-8613"], words


def test_a_changed_name_replaces_the_old_one(store: Store) -> None:
    store.ingest(body("c", said("q", "Hello"), user="u"))
    for name in ("Ada Byron", "Ada Lovelace"):
        store.record_action("users", {"externalUserId": "u", "name": name})
    assert (found(store, "byron"), found(store, "lovelace")) == ([], ["c"])


def test_a_match_names_the_message_or_the_label(store: Store) -> None:
    store.ingest(body("c", *turn("r1"), properties={"plan": "gold"}))
    page = queries.list_conversations(store, Filter(words="calculator"))
    (match,) = page.matches.values()
    assert (match.label, match.messages) == ("", 3)
    assert match.message is not None
    assert "calculator" in match.text
    (match,) = queries.list_conversations(store, Filter(words="gold")).matches.values()
    assert (match.label, match.text, match.message) == ("plan", "gold", None)


def test_events_of_a_gati_backend_are_found_and_filtered_like_messages(store: Store) -> None:
    event = {
        "event_type": "tool_call", "event_id": "e1", "run_id": "run-1", "run_name": "temp_1", "agent_name": "wheels",
        "timestamp": "2025-11-20T01:00:00Z", "parent_event_id": "e0",
        "data": {
            "tool_name": "lookup", "tool_input": {"q": "返品"}, "status": "error", "error_message": "boom",
            "user_id": "u-9", "duration_ms": 40,
        },
    }  # fmt: skip
    gati_events.ingest_events(store, [event])
    for words in ("返品", "u-9", "run-1", "boom"):
        assert found(store, words) == ["run-1"], words
    assert found(store, "", tool="lookup", agent="wheels", errors="yes", user="u-9") == ["run-1"]


def test_events_without_a_user_keep_the_user_of_earlier_events(store: Store) -> None:
    event = {
        "event_type": "agent_start", "event_id": "e1", "run_id": "run-1", "run_name": "temp_1", "agent_name": "wheels",
        "timestamp": "2025-11-20T01:00:00Z", "parent_event_id": None, "data": {"input": "Hi", "user_id": "u-9"},
    }  # fmt: skip
    gati_events.ingest_events(store, [event, {**event, "event_id": "e2", "event_type": "agent_end", "data": {}}])
    assert (found(store, "", user="u-9"), found(store, "", user="anonymous")) == (["run-1"], [])


def test_filters_match_tags_versions_ratings_cost_latency_and_notes(store: Store) -> None:
    prompt = {"externalPromptId": "tutor", "components": [{"content": "You help."}]}
    store.ingest(body("c", *turn("r1"), said("x", "Hi", properties={"tags": ["beta"]}), systemPrompt=prompt))
    store.ingest(
        body("d", said("q", "Hello"), step("m", "llm", "q", 1, properties={"latency_ms": 9000, "cost_usd": 2}))
    )
    of = {"productId": PRODUCT, "ratingMin": 1, "ratingMax": 5}
    store.record_action("ratings", {**of, "externalConversationId": "c", "rating": 2})
    matching: dict[str, dict[str, Any]] = {
        "c": {"tag": "beta"}, "c ": {"version": "tutor v1"}, "c  ": {"rating": "bad"}, "d": {"rating": "no"},
        "d ": {"cost": Range(1, None)}, "c   ": {"cost": Range(None, 1)}, "d  ": {"latency": Range(8000, 10_000)},
    }  # fmt: skip
    for expected, conditions in matching.items():
        assert found(store, "", **conditions) == [expected.strip()], conditions
    assert found(store, "", rating="good") == found(store, "", note="yes") == found(store, "", version="tutor v2") == []
    assert found(store, "", note="no") == ["c", "d"]


def test_lists_are_sorted_and_paged_by_any_order(store: Store) -> None:
    for number in range(7):
        call = step("m", "llm", "q", 1, properties={"latency_ms": 100 * (number % 3), "cost_usd": number / 8})
        store.ingest(body(f"c{number}", said("q", "Hello", number), call))
    for sort, column in (("cost", "cost"), ("slowest", "slowest_ms"), ("newest", "last_at"), ("oldest", "last_at")):
        seen: list[Any] = []
        after = None
        while True:
            page = queries.list_conversations(store, after=after, limit=2, sort=sort)
            seen += [getattr(conversation, column) for conversation in page.conversations]
            if (after := page.more) is None:
                break
        assert seen == sorted(seen, reverse=sort != "oldest")
        assert len(seen) == 7


def test_ranges_are_read_as_people_type_them() -> None:
    assert [parse_range(text, 1000) for text in ("5", "<2", "1-2", "$0.5", "0.5 to 1", "", "x", None)] == [
        Range(5000), Range(None, 2000), Range(1000, 2000), Range(500), Range(500, 1000), ANY, ANY, ANY,
    ]  # fmt: skip


def test_a_failure_counts_once_however_many_steps_it_passes_through(store: Store) -> None:
    failed = {"status": "error"}
    messages = [
        said("q", "Hello"), step("r", "chain_start", "q", 1), step("n", "task", "r", 2, properties=failed),
        step("t", "tool_call", "n", 3, toolName="search", input={}),
        step("t:error", "tool_error", "t", 4, output={"message": "boom"}),
        step("m", "llm", "r", 5, properties=failed),
        step("r:end", "chain_end", "r", 6, output={"status": "error"}),
    ]  # fmt: skip
    for message in messages:  # in any number of requests
        store.ingest(body("c", message))
    handled = [*messages[3:4], {**messages[4], "properties": {"handled": True}}]
    store.ingest(body("d", *handled))
    counts = {c.external_id: c.errors for c in queries.list_conversations(store).conversations}
    assert counts == {"c": 2, "d": 0}
