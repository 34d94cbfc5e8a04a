"""Deletion from the store: afterwards it is as if what was deleted had never arrived, and late deliveries stay out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gati.store import (
    connections,
    deletion,
    gati_events,
    marks,
    people,
    queries,
    saved_filters,
    tombstones,
)
from gati.store.deletion import Target
from gati.store.filters import Filter
from gati.store.store import Store
from tests.store.bodies import START, at, body, turn
from tests.store.histories import (
    Deletion,
    Request,
    compare,
    deletion_before,
    deletion_of_conversation,
    deletion_of_user,
    histories,
)

SECRET = "zebrafinch"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "store.db")) as opened:
        yield opened


def compare_embedded(history: list[Request], what: Deletion) -> None:
    with TemporaryDirectory() as folder, ExitStack() as stack:
        store, other = (stack.enter_context(closing(Store(Path(folder, name)))) for name in ("a.db", "b.db"))
        compare(history, what, store, other)


@settings(max_examples=8)
@given(histories())
def test_after_deleting_a_conversation_the_store_is_as_if_it_had_never_arrived(history: list[Request]) -> None:
    compare_embedded(history, deletion_of_conversation())


@settings(max_examples=8)
@given(histories())
def test_after_deleting_a_user_the_store_is_as_if_the_user_had_never_been_there(history: list[Request]) -> None:
    compare_embedded(history, deletion_of_user(history))


@settings(max_examples=8)
@given(histories(), st.integers(0, 41))
def test_after_deleting_what_is_before_a_date_the_store_is_as_if_it_had_begun_then(
    history: list[Request], hour: int
) -> None:
    compare_embedded(history, deletion_before(hour))


def conversations(store: Store) -> list[str | None]:
    return [row.external_id for row in queries.list_conversations(store).conversations]


def bytes_of(folder: Path) -> bytes:
    """The bytes of the store's file, its log and everything else beside it."""
    return b"".join(path.read_bytes() for path in folder.iterdir() if path.is_file())


def fill_with_secrets(store: Store) -> None:
    for number in range(40):  # so many that pages of the file are divided and merged
        prompt = f"You are {SECRET}." if number % 2 else "You are kind."
        text = f"{'Ada ' + SECRET if number % 2 else 'plain'} {number} " + "filler " * (number * 7)
        messages = turn(f"r{number}", text, f"answer to {text}", number * 1000)
        messages[1]["properties"]["tags"] = [f"{SECRET}tag" if number % 2 else "tag"]
        more = {"properties": {"note": SECRET if number % 2 else "none"}, "systemPrompt": prompt}
        store.ingest(body(f"c-{number}", *messages, user=f"{SECRET}-user" if number % 2 else "bob", **more))
        rating = {"externalConversationId": f"c-{number}", "rating": 1, "ratingMin": 1, "ratingMax": 5}
        store.record_action("ratings", {**rating, "feedback": f"{SECRET} said" if number % 2 else "fine"})
    store.record_action("users", {"externalUserId": f"{SECRET}-user", "name": f"Name {SECRET}"})
    saved_filters.save_filter(store, f"of {SECRET}", f"user={SECRET}-user")


def test_no_byte_of_the_text_is_left_in_the_file_and_its_log(store: Store, tmp_path: Path) -> None:
    fill_with_secrets(store)
    assert SECRET.encode() in bytes_of(tmp_path)
    assert deletion.delete_matches(store, Target("user", f"{SECRET}-user")).erased
    assert SECRET[:6].encode() not in bytes_of(tmp_path)
    assert len(conversations(store)) == 20


def test_text_that_was_deleted_earlier_is_overwritten_too(store: Store, tmp_path: Path) -> None:
    fill_with_secrets(store)
    with store.connections.writing() as db:
        db.execute("PRAGMA secure_delete = OFF")
        db.execute("DELETE FROM saved_filters")
    deletion.delete_matches(store, Target("user", f"{SECRET}-user"))
    assert SECRET[:6].encode() not in bytes_of(tmp_path)


def test_a_reader_keeps_the_log_and_the_next_deletion_empties_it(store: Store, tmp_path: Path) -> None:
    fill_with_secrets(store)
    with closing(Store(store.path)) as other, closing(Store(store.path)) as read:
        with patch.object(connections, "_BUSY_SECONDS", 0.01), read.connections.snapshot() as reader:
            reader.execute("SELECT count(*) FROM messages").fetchone()
            store.connections.close()
            assert not deletion.delete_matches(store, Target("user", f"{SECRET}-user")).erased
        read.close()
        store.connections.close()
        assert deletion.delete_matches(other, Target("user", f"{SECRET}-user")).erased
    assert SECRET[:6].encode() not in bytes_of(tmp_path)


def test_a_later_turn_of_a_deleted_conversation_or_user_is_accepted(store: Store) -> None:
    now = time.time_ns() // 1000
    later = (now + 60_000_000 - START) // 1000
    store.ingest(body("c-1", *turn("r1"), user="ada"))
    deletion.delete_matches(store, Target("user", "ada"), now)
    store.ingest(body("c-1", *turn("r1"), *turn("r2", "again", when=later), user="ada"))
    assert conversations(store) == ["c-1"]
    assert {message["content"] for message in queries.wire_messages(store) if message.get("content")} == {
        "again", "The square root of 144 is 12.",
    }  # fmt: skip
    assert len(queries.wire_messages(store)) == 12


def test_a_turn_that_was_running_during_the_deletion_stays_out_as_a_whole(store: Store) -> None:
    deletion.delete_matches(store, Target("conversation", "c-1"), START + 500_000)
    response = store.ingest(body("c-1", *turn("r1")))
    assert {message["status"] for message in response["messages"]} == {"deduplicated"}
    assert len(response["messages"]) == 12
    assert conversations(store) == []


def test_a_message_without_a_time_counts_as_new(store: Store) -> None:
    deletion.delete_matches(store, Target("conversation", "c-1"))
    store.ingest(body("c-1", {"role": "user", "content": "hello", "externalMessageId": "m"}))
    assert conversations(store) == ["c-1"]


def test_late_ratings_events_and_names_stay_out_and_later_ones_do_not(store: Store) -> None:
    store.ingest(body("c-1", *turn("r1"), user="ada"))
    now = time.time_ns() // 1000
    deletion.delete_matches(store, Target("user", "ada"), now)
    scale = {"rating": 2, "ratingMin": 1, "ratingMax": 5, "feedback": "bad"}
    late = [
        ("users", {"externalUserId": "ada", "name": "Ada"}),
        ("ratings", {"externalMessageId": "r1:answer", **scale}),
        ("ratings", {"externalConversationId": "c-1", **scale}),
        ("events", {"externalUserId": "ada", "eventType": "signup", "value": "1", "insertId": "e"}),
    ]
    for endpoint, record in late:
        store.record_action(endpoint, record, now - 1)
    assert people.find_user(store, "ada") is None
    with store.connections.reading() as db:
        assert db.execute("SELECT count(*) FROM actions").fetchone()[0] == 0
    store.record_action("users", {"externalUserId": "ada", "name": "Ada"}, now + 1)
    assert people.find_user(store, "ada") is not None


def test_a_rating_of_an_answer_that_never_reached_the_store_stays_out(store: Store) -> None:
    deletion.delete_matches(store, Target("user", "ada"))
    store.ingest(body("c-1", *turn("r1"), user="ada"))
    rating = {"externalMessageId": "r1:answer", "rating": 2, "ratingMin": 1, "ratingMax": 5}
    store.record_action("ratings", {**rating, "ratedAt": at(2000)})
    with store.connections.reading() as db:
        assert db.execute("SELECT count(*) FROM actions").fetchone()[0] == 0


def test_events_of_a_gati_backend_stay_out(store: Store) -> None:
    event = {
        "event_id": "e1", "run_id": "run-1", "run_name": "run", "agent_name": "a", "event_type": "agent_start",
        "timestamp": at(0), "data": {"input": {"input": "hello"}, "conversation_id": "c-1", "user_id": "ada"},
    }  # fmt: skip
    gati_events.ingest_events(store, [event])
    deletion.delete_matches(store, Target("conversation", "c-1"))
    gati_events.ingest_events(store, [event])
    assert conversations(store) == []
    assert gati_events.stored_events(store) == []


def test_messages_of_a_user_are_deleted_from_a_conversation_that_another_user_continued(store: Store) -> None:
    store.ingest(body("c-1", *turn("r1", "first"), user="ada"))
    store.ingest(body("c-1", *turn("r2", "second", when=5000), user="bob"))
    found = deletion.delete_matches(store, Target("user", "ada"))
    assert (found.conversations, found.shortened, found.messages) == (0, 1, 12)
    summary = queries.find_conversation(store, "c-1")
    assert summary is not None
    assert (summary.title, summary.turns, summary.messages, summary.user) == ("second", 1, 12, "bob")


def test_ids_with_the_wildcards_of_sql_match_only_themselves(store: Store) -> None:
    for user in ("a%", "a_", 'a"!', "ab"):
        store.ingest(body(f"c-{user}", *turn(f"r-{user}"), user=user))
        store.ingest(body("shared", *turn(f"s-{user}", when=1000), user=user))
    store.ingest(body("shared", *turn("s-end", when=9000), user="eve"))
    for user in ("a%", "a_", 'a"!'):
        found = deletion.delete_matches(store, Target("user", user))
        assert (found.conversations, found.shortened, found.messages) == (1, 1, 24)
    assert len(conversations(store)) == 2


def test_tombstones_do_not_name_what_was_deleted(store: Store) -> None:
    store.ingest(body("c-yuri", *turn("r1"), user="yuri@example.org"))
    deletion.delete_matches(store, Target("user", "yuri@example.org"))
    with store.connections.reading() as db:
        rows = [tuple(row) for row in db.execute("SELECT * FROM tombstones")]
    assert "yuri" not in repr(rows)  # no letter of it is in a hexadecimal hash
    assert {row[0] for row in rows} == {tombstones.USER, tombstones.CONVERSATION, tombstones.SUBJECT, "key"}


def test_counting_changes_nothing_and_agrees_with_the_deletion(store: Store) -> None:
    store.ingest(body("c-1", *turn("r1"), user="ada"))
    store.ingest(body("c-1", *turn("r2", when=60_000), user="ada"))
    target = Target("before", at=START + 30_000_000)
    counted = deletion.count_matches(store, target)
    assert (counted.conversations, counted.shortened, counted.messages) == (0, 1, 12)
    assert len(queries.wire_messages(store)) == 24
    assert deletion.delete_matches(store, target).messages == 12
    assert not deletion.count_matches(store, target)


@pytest.fixture
def small_store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "small.db", max_bytes=2 * 1024**2)) as opened:
        yield opened


def test_a_full_store_evicts_nothing_while_it_deletes(small_store: Store) -> None:
    store = small_store
    for number in range(300):
        store.ingest(
            body(f"c-{number}", *turn(f"r{number}", "word " * 300, when=number * 1000), user=f"u-{number % 3}")
        )
    before, evicted = len(conversations_of_all(store)), store.evicted_conversations()
    deleted = deletion.delete_matches(store, Target("user", "u-1")).conversations
    assert deleted > 0
    assert len(conversations_of_all(store)) == before - deleted
    assert store.evicted_conversations() == evicted


def conversations_of_all(store: Store) -> list[int]:
    return [row.id for row in queries.list_conversations(store, Filter(), limit=1000).conversations]


def test_what_people_wrote_about_a_conversation_is_deleted_with_it(store: Store, tmp_path: Path) -> None:
    for number in (1, 2):
        store.ingest(body(f"c-{number}", *turn(f"r{number}"), user=f"u-{number}"))
        found = queries.find_conversation(store, f"c-{number}")
        assert found is not None
        marks.write_note(store, found.id, f"note {SECRET}{number}", "eve", marks.new_key())
        marks.add_tag(store, found.id, "late", "eve")
        marks.rate(store, found.id, 2, "eve")
    deletion.delete_matches(store, Target("conversation", "c-1"))
    assert f"{SECRET}1".encode() not in bytes_of(tmp_path)
    assert set(marks.read_marks(store, range(10))) == {2}
    assert len(queries.list_conversations(store, Filter(words=SECRET)).conversations) == 1


def test_a_shortened_conversation_loses_older_marks_and_keeps_newer_ones(store: Store) -> None:
    store.ingest(body("c-1", *turn("r1", "first"), *turn("r2", "second", when=90_000), user="ada"))
    found = queries.find_conversation(store, "c-1")
    assert found is not None
    with patch.object(marks.time, "time_ns", lambda: START * 1000):
        marks.add_tag(store, found.id, "early", "eve")
        marks.rate(store, found.id, 2, "eve")
    marks.add_tag(store, found.id, "late", "eve")
    deletion.delete_matches(store, Target("before", at=START + 60_000_000))
    left = marks.marks_of(store, found.id)
    assert ([tag.value for tag in left.tags], left.ratings) == (["late"], ())
    assert len(queries.list_conversations(store, Filter(tag="late")).conversations) == 1
    assert not queries.list_conversations(store, Filter(tag="early")).conversations


def test_every_table_that_names_a_conversation_is_emptied(store: Store) -> None:
    """A table that is added later has to be deleted from, too."""
    with store.connections.reading() as db:
        tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        named = {t for t in tables if "conversation" in {column[1] for column in db.execute(f"PRAGMA table_info({t})")}}
    known = {"ratings", "marks", "calls", "facets", "actions", "gati_events", "messages"}
    assert named == known
