"""The embedded store: once only, in order, bounded, safe from several processes."""

from __future__ import annotations

import os
import random
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gati.store import queries, schema, search
from gati.store.actions import UnknownConversationError
from gati.store.store import Store, TooLargeError, default_path
from tests.store.bodies import at, body, said, turn


@pytest.fixture
def store(any_store: Store) -> Store:
    return any_store


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "store.db")
    yield store
    store.close()


def texts(store: Store, conversation: str | None = None) -> list[Any]:
    return [message.get("content") for message in queries.wire_messages(store, conversation)]


def test_a_message_sent_twice_is_stored_once(store: Store) -> None:
    first = store.ingest(body("c", said("a", "hello"), said("a", "hello"), said("b", "bye", 1)))
    second = store.ingest(body("c", said("b", "bye", 1), said("d", "again", 2)))
    assert [m["status"] for m in first["messages"]] == ["created", "deduplicated", "created"]
    assert [m["status"] for m in second["messages"]] == ["deduplicated", "created"]
    assert second["messages"][0]["messageId"] == first["messages"][2]["messageId"]
    assert texts(store) == ["hello", "bye", "again"]


def test_the_same_message_id_in_another_conversation_is_another_message(store: Store) -> None:
    store.ingest(body("c", said("a", "one")))
    answer = store.ingest(body("d", said("a", "two")))
    assert answer["messages"][0]["status"] == "created"


def test_the_same_conversation_id_in_another_product_is_another_conversation(store: Store) -> None:
    first = store.ingest(body("c", said("a", "one"), productId="11111111-1111-4111-8111-111111111111"))
    second = store.ingest(body("c", said("a", "two"), productId="22222222-2222-4222-8222-222222222222"))
    assert first["conversationId"] != second["conversationId"]
    assert len(queries.wire_messages(store, "c", "11111111-1111-4111-8111-111111111111")) == 1


def test_messages_are_ordered_by_time_then_by_arrival(store: Store) -> None:
    store.ingest(body("c", said("a", "second", 5), said("b", "third", 5)))
    store.ingest(body("c", said("d", "first", 1), said("e", "fourth", 5)))
    assert texts(store) == ["first", "second", "third", "fourth"]


def test_a_conversation_can_be_continued_by_its_greenflash_id(store: Store) -> None:
    uid = store.ingest(body("c", said("a", "one")))["conversationId"]
    payload = body("c", said("b", "two", 1)) | {"conversationId": uid}
    del payload["externalConversationId"]
    assert store.ingest(payload)["conversationId"] == uid
    with pytest.raises(UnknownConversationError):
        store.ingest(payload | {"conversationId": "33333333-3333-4333-8333-333333333333"})


def test_all_requests_of_a_conversation_get_the_same_sampling_decision(store: Store) -> None:
    for part in range(3):
        for number in range(200):
            store.ingest(body(f"c{number}", said(f"m{part}", "x", part), sampleRate=0.3))
    with store.connections.reading() as db:
        counts = [row[0] for row in db.execute("SELECT count(*) FROM messages GROUP BY conversation")]
    assert 30 < len(counts) < 90
    assert set(counts) == {3}
    assert store.ingest(body("c-none", said("m", "x"), sampleRate=0))["messages"] == []
    assert store.ingest(body("c-forced", said("m", "x"), sampleRate=0, forceSample=True))["messages"]


def test_a_prompt_is_returned_as_sent_and_variables_create_no_versions(store: Store) -> None:
    def prompt(name: str, facts: str) -> dict[str, Any]:
        return {
            "externalPromptId": "tutor", "variables": {"name": name},
            "components": [{"content": "Teach {{name}}."}, {"content": facts, "isDynamic": True, "type": "rag"}],
        }  # fmt: skip

    store.ingest(body("c", said("a", "1"), systemPrompt=prompt("Ada", "fact one")))
    store.ingest(body("c", said("b", "2", 1), systemPrompt=prompt("Bob", "fact two")))
    store.ingest(body("c", said("d", "3", 2), systemPrompt="plain"))
    store.ingest(body("c", said("e", "4", 3)))
    sent = [message["prompt"] for message in queries.wire_messages(store, "c")]
    assert sent == [prompt("Ada", "fact one"), prompt("Bob", "fact two"), "plain", None]
    with store.connections.reading() as db:
        assert db.execute("SELECT count(*) FROM prompt_versions").fetchone()[0] == 2


def test_totals_of_unknown_values_are_unknown(store: Store) -> None:
    store.ingest(body("c", *turn("r1")))
    store.ingest(body("d", said("a", "hello"), {"messageType": "llm", "model": "m", "properties": {"tokens_in": None}}))
    with store.connections.reading() as db:
        known = db.execute("SELECT * FROM conversations WHERE external_id = 'c'").fetchone()
        unknown = db.execute("SELECT * FROM conversations WHERE external_id = 'd'").fetchone()
    assert (known["tokens_in"], known["tokens_out"], known["agent"]) == (153, 29, "math-tutor")
    assert known["cost"] == pytest.approx(0.00067)
    assert (unknown["tokens_in"], unknown["cost"], unknown["unpriced"]) == (None, None, 1)


def test_the_file_is_private(embedded: Store) -> None:
    assert stat.S_IMODE(os.stat(embedded.path).st_mode) == 0o600


def test_the_oldest_conversations_are_evicted_to_keep_the_size_limit(tmp_path: Path) -> None:
    bound = 2 * 1024**2
    store = Store(tmp_path / "store.db", max_bytes=bound)
    noise, largest = random.Random(7), 0
    for number in range(1500):
        words = " ".join(f"{noise.getrandbits(40):x}" for _ in range(300))
        store.ingest(body(f"c{number}", said("q", words, number), said("a", words[::-1], number, "assistant_message")))
        largest = max(largest, sum(path.stat().st_size for path in tmp_path.iterdir() if path.suffix != ".db-shm"))
    with store.connections.reading() as db:
        kept = [row[0] for row in db.execute("SELECT external_id FROM conversations ORDER BY id")]
        assert list(search.search_messages(db, "no such words", 10)) == []
    assert largest <= bound
    assert kept == [f"c{number}" for number in range(1500 - len(kept), 1500)]
    assert store.evicted_conversations() == 1500 - len(kept) > 0
    store.close()


def test_a_request_larger_than_the_store_is_rejected_and_the_store_keeps_working(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db", max_bytes=1024**2)
    with pytest.raises(TooLargeError):
        store.ingest(body("c", said("a", "x" * 2 * 1024**2)))
    assert store.ingest(body("d", said("a", "small")))["messages"][0]["status"] == "created"
    store.close()


def test_users_without_conversations_are_evicted_too(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db", max_bytes=1024**2)
    for number in range(1500):
        payload = {"externalUserId": f"u{number}", "properties": {"note": "x" * 1000}}
        store.record_action("users", payload)
    assert store.path.stat().st_size <= 1024**2
    store.close()


def test_updating_a_user_keeps_its_other_fields(store: Store) -> None:
    first = store.record_action("users", {"externalUserId": "u", "name": "Ada"})
    second = store.record_action("users", {"externalUserId": "u", "email": "ada@example.org"})
    assert second["id"] == first["id"]
    assert second["body"] == {"externalUserId": "u", "name": "Ada", "email": "ada@example.org"}


def test_an_event_with_the_same_insert_id_is_stored_once(store: Store) -> None:
    first = store.record_action("events", {"eventType": "x", "value": "1", "insertId": "key"})
    assert store.record_action("events", {"eventType": "x", "value": "2", "insertId": "key"})["id"] == first["id"]
    assert store.record_action("events", {"eventType": "x", "value": "2"})["id"] != first["id"]


_WRITER = """
import sys
from gati.store.store import Store
from tests.store.bodies import body, said
store = Store(sys.argv[1])
for number in range(60):
    store.ingest(body(f"c{number % 5}", said(f"m{number}", "text", number), said(f"{sys.argv[2]}-{number}", "own", number)))
"""


def test_several_processes_write_to_one_store(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    root = Path(__file__).parents[2]
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path), str(n)], cwd=root, env={**os.environ, "PYTHONPATH": "."}
        )
        for n in range(3)
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    with closing(Store(path)) as store:
        assert len(queries.wire_messages(store)) == 60 + 3 * 60


def test_threads_wait_for_each_other_instead_of_trying_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # SQLite lets those who wait try now and then, so among many writers one may never succeed.
    monkeypatch.setattr("gati.store.connections._BUSY_SECONDS", 0.0)
    with closing(Store(tmp_path / "store.db")) as store, ThreadPoolExecutor(16) as threads:

        def write(thread: int) -> None:
            for number in range(5):
                store.ingest(body(f"c{thread}", said(f"{number}", "hello", number)))

        store.ingest(body("first", said("a", "hello")))
        list(threads.map(write, range(16)))
        assert len(queries.wire_messages(store)) == 1 + 16 * 5


def test_what_other_threads_write_is_not_taken_for_the_work_of_another_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Store(tmp_path / "store.db")) as store:
        store.ingest(body("c", said("a", "hello")))
        others_may_write: list[bool] = []
        monkeypatch.setattr(
            "gati.store.store_file.raise_if_damaged",
            lambda db: others_may_write.append(not store.connections._writer.locked()),
        )
        os.utime(store.path, (1, 1))  # another program
        store.ingest(body("c", said("b", "hello")))
        assert others_may_write == [False]


def test_several_threads_write_to_one_store(store: Store) -> None:
    def write(name: int) -> None:
        for number in range(40):
            store.ingest(body("c", said(f"{number}", "shared", number), said(f"{name}-{number}", "own", number)))

    threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(queries.wire_messages(store)) == 40 + 4 * 40


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_writes_to_the_same_store(store: Store) -> None:
    store.ingest(body("c", said("a", "parent")))
    child = os.fork()
    if child == 0:
        try:
            store.ingest(body("c", said("b", "child", 1)))
            store.close()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    store.ingest(body("c", said("d", "parent again", 2)))
    assert texts(store) == ["parent", "child", "parent again"]


def test_a_store_of_an_older_version_is_migrated(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    db = sqlite3.connect(path, isolation_level=None)
    schema.MIGRATIONS[0](db)
    db.execute("PRAGMA user_version = 1")
    db.close()
    store = Store(path)
    store.ingest(body("c", said("a", "hello")))
    assert store.has_search
    store.close()


def test_a_damaged_file_is_renamed_and_a_new_one_created(tmp_path: Path) -> None:
    (tmp_path / "store.db").write_bytes(b"this is no database, whatever its name says. " * 100)
    store = Store(tmp_path / "store.db")
    store.ingest(body("c", said("a", "hello")))
    assert texts(store) == ["hello"]
    assert [path.name.startswith("store.db.damaged-") for path in tmp_path.iterdir()].count(True) == 1
    store.close()


def test_the_default_path_is_in_the_users_data_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_path().name == "studio.db"
    assert default_path().parent.name == "gati"


def test_timestamps_in_every_iso_8601_form_are_parsed(store: Store) -> None:
    forms = ["2026-01-02T03:04:05Z", "2026-01-02T03:04:05.1Z", "2026-01-02T04:04:05.1234567+01:00", "2026-01-02", at(3)]
    for number, form in enumerate(forms):
        store.ingest(body(f"c{number}", said("a", "x") | {"createdAt": form}))
    store.ingest(body("c-now", {"role": "user", "content": "x", "createdAt": None}))


def test_a_connection_in_use_while_the_store_closes_is_closed_afterwards(store: Store) -> None:
    with store.connections.reading() as db:
        store.close()
        assert db.execute("SELECT 1").fetchone()[0] == 1
    with pytest.raises((sqlite3.ProgrammingError, OSError)):
        db.execute("SELECT 1")


def test_a_failing_migration_leaves_the_store_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store(tmp_path / "store.db").close()

    def broken(db: sqlite3.Connection) -> None:
        db.execute("CREATE TABLE half_done (id INTEGER)")
        raise ValueError("no")

    with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as db:
        monkeypatch.setattr(schema, "MIGRATIONS", [*schema.MIGRATIONS, broken])
        with pytest.raises(ValueError, match="no"):
            schema.migrate(db)
        assert not db.in_transaction
        assert db.execute("SELECT 1 FROM sqlite_master WHERE name = 'half_done'").fetchone() is None
        assert schema._schema_version(db) == len(schema.MIGRATIONS) - 1


def test_a_store_without_a_search_index_accepts_messages(embedded: Store) -> None:
    with embedded.connections.writing() as db:
        db.execute("DELETE FROM search_parts")  # as where SQLite has no FTS5
        assert not search.has_index(db)
    assert embedded.ingest(body("c", said("a", "hello")))["messages"][0]["status"] == "created"
    assert texts(embedded) == ["hello"]


def test_a_search_stops_at_its_limit(store: Store) -> None:
    store.ingest(body("c", *(said(f"m{n}", "hello", n) for n in range(5))))
    with store.connections.reading() as db:
        assert len(list(search.search_messages(db, "hello", 3))) == 3


def test_a_failure_during_eviction_is_rolled_back(embedded: Store) -> None:
    embedded.ingest(body("c", said("a", "hello")))

    def fail() -> None:
        with embedded.connections.evicting() as (db, _):
            db.execute("DELETE FROM messages")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert texts(embedded) == ["hello"]


def test_a_rating_finds_its_conversation_by_any_of_its_ids(store: Store) -> None:
    answer = store.ingest(body("c", said("a", "hello")))
    names = (
        {"conversationId": answer["conversationId"]},
        {"externalConversationId": "c"},
        {"messageId": answer["messages"][0]["messageId"]},
        {"externalMessageId": "a"},
    )
    for name in names:
        store.record_action("ratings", {"rating": 1, "ratingMin": 0, "ratingMax": 5, **name})
    store.record_action("ratings", {"rating": 1, "ratingMin": 0, "ratingMax": 5, "externalMessageId": "elsewhere"})
    with store.connections.reading() as db:
        found = [row[0] is not None for row in db.execute("SELECT conversation FROM actions ORDER BY id")]
    assert found == [True] * 4 + [False]
