"""Marks: what readers of the studio say about a conversation. They are found, exported and pushed, and they stay."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gati import push_requests
from gati.store import choices, export, marks, marks_schema, queries, schema
from gati.store.filters import Filter
from gati.store.marks import InvalidMarkError, Marks
from gati.store.queries import ConversationSummary
from gati.store.store import Store
from tests.store.bodies import body, said, turn


@pytest.fixture
def store(any_store: Store) -> Store:
    any_store.ingest(body("c", *turn("r")))
    any_store.ingest(body("d", said("x", "Hello")))
    return any_store


def conversation(store: Store, external: str = "c") -> ConversationSummary:
    found = queries.find_conversation(store, external)
    assert found is not None
    return found


def found(store: Store, **conditions: Any) -> list[str | None]:
    return [row.external_id for row in queries.list_conversations(store, Filter(**conditions)).conversations]


def mark_all(store: Store) -> int:
    row = conversation(store).id
    marks.set_verdict(store, row, "good", "Ada")
    marks.rate(store, row, 4, "Ada")
    marks.add_tag(store, row, "needs  review", "Bob")
    marks.write_note(store, row, "Remember the zebra.\r\nIt matters.", None, marks.new_key())
    return row


def test_marks_keep_their_author_and_time(store: Store) -> None:
    made = marks.marks_of(store, mark_all(store))
    assert made.verdict is not None
    assert made.verdict[2:4] == ("good", "Ada")
    assert [mark[2:4] for mark in (*made.ratings, *made.tags, *made.notes)] == [
        ("4", "Ada"), ("needs review", "Bob"), ("Remember the zebra.\nIt matters.", None),
    ]  # fmt: skip
    assert made.verdict.at <= made.ratings[0].at <= made.tags[0].at <= made.notes[0].at
    assert marks.read_marks(store, [conversation(store, "d").id]) == {}


def test_marks_find_their_conversation(store: Store) -> None:
    mark_all(store)
    finding: list[dict[str, Any]] = [
        {"mark": "good"}, {"mark": "yes"}, {"tag": "needs review"}, {"note": "yes"}, {"rating": "good"},
        {"words": "zebra"}, {"words": "revi"},
    ]  # fmt: skip
    for conditions in finding:
        assert found(store, **conditions) == ["c"], conditions
    for conditions in ({"mark": "no"}, {"note": "no"}, {"rating": "no"}):
        assert found(store, **conditions) == ["d"], conditions
    assert found(store, mark="bad") == []
    assert [choice.value for choice in choices.complete(store, "tag", "need")] == ["needs review"]


def test_removed_marks_find_nothing(store: Store) -> None:
    row = mark_all(store)
    note = marks.marks_of(store, row).notes[0]
    marks.write_note(store, row, "Remember the giraffe.", "Ada", note.key)
    assert (found(store, words="zebra"), found(store, words="giraffe")) == ([], ["c"])
    marks.remove_mark(store, row, marks.NOTE, note.key)
    marks.remove_mark(store, row, marks.TAG, "needs review")
    marks.set_verdict(store, row, None, "Bob")
    marks.rate(store, row, None, "Ada")
    assert marks.marks_of(store, row) == Marks()
    finding: list[dict[str, Any]] = [
        {"words": "giraffe"}, {"tag": "needs review"}, {"note": "yes"}, {"mark": "yes"}, {"rating": "yes"},
    ]  # fmt: skip
    for conditions in finding:
        assert found(store, **conditions) == []


def test_a_tag_of_the_program_stays_if_a_reader_removes_the_same_tag(store: Store) -> None:
    store.ingest(body("c", said("y", "Again", 9000, properties={"tags": ["beta"]})))
    row = conversation(store).id
    marks.add_tag(store, row, "beta", "Ada")
    assert found(store, tag="beta") == ["c"]
    marks.remove_mark(store, row, marks.TAG, "beta")
    assert found(store, tag="beta") == ["c"]


def test_marks_survive_that_messages_arrive_again(store: Store) -> None:
    row = mark_all(store)
    before = marks.marks_of(store, row)
    store.ingest(body("c", *turn("r")))
    store.ingest(body("c", *turn("r2", when=9000), properties={"tags": ["other"]}))
    assert marks.marks_of(store, row) == before
    assert found(store, tag="needs review") == found(store, words="zebra") == found(store, mark="good") == ["c"]


def test_a_note_that_is_sent_twice_is_written_once(store: Store) -> None:
    row, key = conversation(store).id, marks.new_key()
    for _ in range(2):
        marks.write_note(store, row, "Once", None, key)
    assert [note.value for note in marks.marks_of(store, row).notes] == ["Once"]


def test_each_person_has_one_rating_and_the_conversation_their_mean(store: Store) -> None:
    row = conversation(store).id
    for rating, author in ((1, "Ada"), (5, "Ada"), (3, "Bob"), (3, "Bob"), (1, None)):
        marks.rate(store, row, rating, author)
    assert {mark.author: mark.value for mark in marks.marks_of(store, row).ratings} == {
        "Ada": "5",
        "Bob": "3",
        None: "1",
    }
    assert conversation(store).ratings == 3
    assert conversation(store).rating == pytest.approx(0.5)
    assert len(queries.ratings_and_events(store, row)) == 3


@pytest.mark.parametrize("external", ["c", None])
def test_a_rating_is_pushed_for_its_conversation_once(store: Store, external: str | None) -> None:
    answer = store.ingest({"externalUserId": "u", "messages": [{"role": "user", "content": "Without an id"}]})
    name = external or answer["conversationId"]
    row = conversation(store, name).id
    marks.rate(store, row, 2, "Ada")
    marks.rate(store, row, 4, "Ada")
    with store.connections.reading() as db:
        (pending,) = push_requests.next_actions(db, "account", "ratings")
        request = push_requests.stored_action_request("ratings", pending, None)
    assert {key: value for key, value in request.body.items() if key != "rated_at"} == {
        "rating": 4, "rating_min": 1, "rating_max": 5, "external_conversation_id": name,
    }  # fmt: skip
    store.transaction(lambda db: push_requests.save_position(db, "account", "ratings", pending["place"]))
    marks.rate(store, row, 4, "Ada")  # no change
    with store.connections.reading() as db:
        assert push_requests.next_actions(db, "account", "ratings") == []
        assert db.execute("SELECT count(*) FROM actions").fetchone()[0] == 1


def test_marks_are_exported(store: Store) -> None:
    mark_all(store)
    exported = json.loads(export.export_jsonl(store, conversation(store)))
    assert [(mark["kind"], mark["value"], mark["author"]) for mark in exported["marks"]] == [
        ("verdict", "good", "Ada"), ("tag", "needs review", "Bob"), ("note", "Remember the zebra.\nIt matters.", None),
    ]  # fmt: skip
    (rating,) = exported["ratings"]
    assert (rating["rating"], rating["ratingMax"], rating["author"]) == (4, 5, "Ada")
    text = export.export_markdown(store, conversation(store))
    for part in ("- Marked: good, by Ada", "- Rated: 4 of 5 by Ada", "- Tags: needs review", "> Remember the zebra."):
        assert part in text


def test_marks_that_are_empty_or_too_long_are_refused(store: Store) -> None:
    row = conversation(store).id
    refused = [
        lambda: marks.add_tag(store, row, " \n", None), lambda: marks.add_tag(store, row, "x" * 61, None),
        lambda: marks.write_note(store, row, " ", None, marks.new_key()),
        lambda: marks.write_note(store, row, "x" * 10_001, None, marks.new_key()),
        lambda: marks.write_note(store, row, "x", None, "../key"), lambda: marks.rate(store, row, 6, None),
        lambda: marks.set_verdict(store, row, "great", None),
    ]  # fmt: skip
    for attempt in refused:
        with pytest.raises(InvalidMarkError):
            attempt()
    assert marks.marks_of(store, row) == Marks()
    assert marks.clean_name(" Ada\n\x00Lovelace ") == "Ada Lovelace"
    assert marks.clean_name(" ") is None


def test_marks_of_a_deleted_conversation_are_deleted(store: Store) -> None:
    row = mark_all(store)
    store.transaction(lambda db: store._delete_conversation(db, row))
    marks.add_tag(store, row, "late", None)
    with store.connections.reading() as db:
        assert db.execute("SELECT count(*) FROM marks").fetchone()[0] == 0


def test_a_store_of_an_earlier_version_is_read_without_marks_and_gets_them_when_it_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    number = schema.MIGRATIONS.index(marks_schema.add_marks)
    with closing(sqlite3.connect(path)) as db:
        db.row_factory = sqlite3.Row
        for migration in schema.MIGRATIONS[:number]:
            migration(db)
        db.execute(
            "INSERT INTO conversations (uid, product, external_id, user, first_at, last_at) VALUES ('x', '', 'c', 'u', 1, 1)"
        )
        db.execute(f"PRAGMA user_version = {number}")
        db.commit()
    with closing(Store(path, read_only=True)) as store:
        assert json.loads(export.export_jsonl(store, conversation(store)))["marks"] == []
    with closing(Store(path)) as store:
        assert marks.marks_of(store, mark_all(store)).verdict is not None
