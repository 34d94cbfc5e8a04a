"""Managed prompts in the store: versions, references from messages, activation, eviction and old stores."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gati.store import prompt_records, schema
from gati.store.store import Store
from tests.store.bodies import body, said


@pytest.fixture
def store(any_store: Store) -> Store:
    return any_store


def create(store: Store, text: str, name: str = "p") -> str:
    created = prompt_records.create_prompt(
        store, {"name": name, "externalPromptId": name, "role": "agent", "components": [{"content": text}]}
    )
    version: str = created["promptId"]
    return version


def rows(store: Store) -> list[tuple[Any, ...]]:
    with store.connections.reading() as db:
        return [
            tuple(row) for row in db.execute("SELECT number, managed, active, uses FROM prompt_versions ORDER BY id")
        ]


def test_each_text_is_one_version(store: Store):
    first = create(store, "One.")
    assert create(store, "One.") == first
    assert create(store, "Two.") != first
    assert rows(store) == [(1, 1, 0, 0), (2, 1, 0, 0)]


def test_an_external_id_means_the_active_version_else_the_newest(store: Store):
    first = create(store, "One.")
    create(store, "Two.")
    read = prompt_records.read_prompt(store, "p")
    assert read is not None
    assert read["composedPrompt"] == "Two."
    prompt_records.activate_version(store, first)
    read = prompt_records.read_prompt(store, "p")
    assert read is not None
    assert read["composedPrompt"] == "One."
    assert prompt_records.read_prompt(store, first) == read
    assert prompt_records.read_prompt(store, "missing") is None


def test_values_fill_the_placeholders(store: Store):
    create(store, "Hi {{who}}, {{ what }}.")
    read = prompt_records.read_prompt(store, "p", {"who": "Ada"})
    assert read is not None
    assert read["composedPrompt"] == "Hi Ada, {{ what }}."
    assert read["prompt"]["components"][0]["content"] == "Hi {{who}}, {{ what }}."


def test_a_reference_uses_the_version_that_it_means(store: Store):
    first = create(store, "One.")
    second = create(store, "Two.")
    prompt_records.activate_version(store, second)
    store.ingest(body("a", said("q1", "x"), systemPrompt={"externalPromptId": "p"}))
    store.ingest(body("b", said("q2", "x"), systemPrompt={"promptId": first}))
    assert rows(store) == [(1, 1, 0, 1), (2, 1, 1, 1)]


def test_a_reference_to_an_unknown_prompt_loses_no_message(store: Store):
    answer = store.ingest(body("a", said("q1", "x"), systemPrompt={"externalPromptId": "unknown"}))
    assert answer["messages"][0]["status"] == "created"


def test_an_update_without_components_changes_the_name_only(store: Store):
    first = create(store, "One.")
    assert prompt_records.update_prompt(store, "p", {"name": "Title"}) == {
        "promptId": first, "versionId": None, "externalPromptId": "p",
    }  # fmt: skip
    (item,) = prompt_records.list_records(store)
    assert item["name"] == "Title"


def test_an_archived_version_is_not_listed_and_comes_back_with_its_text(store: Store):
    first = create(store, "One.")
    prompt_records.archive_prompt(store, first)
    assert prompt_records.list_records(store) == []
    assert len(prompt_records.list_records(store, include_archived=True)) == 1
    assert not prompt_records.activate_version(store, first)
    create(store, "One.")
    assert len(prompt_records.list_records(store)) == 1


def test_an_active_version_cannot_be_archived(store: Store):
    first = create(store, "One.")
    prompt_records.activate_version(store, first)
    with pytest.raises(prompt_records.ActiveVersionError):
        prompt_records.archive_prompt(store, first)


def test_eviction_keeps_managed_versions(tmp_path: Path):
    store = Store(tmp_path / "small.db", max_bytes=512 * 1024)
    create(store, "Keep me.")
    for number in range(60):
        store.ingest(body(f"c{number}", said(f"q{number}", "x" * 20_000), systemPrompt=f"Prompt {number}."))
    assert store.evicted_conversations() > 0
    read = prompt_records.read_prompt(store, "p")
    assert read is not None
    assert read["composedPrompt"] == "Keep me."
    store.close()


def test_versions_of_an_old_store_get_ids(tmp_path: Path):
    store = Store(tmp_path / "new.db")
    store.ingest(body("a", said("q1", "x"), systemPrompt={"externalPromptId": "p", "content": "Old."}))
    expected = prompt_records.read_prompt(store, "p")
    store.close()
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as db, db:
        number = schema.MIGRATIONS.index(schema._add_managed_prompts)
        for migration in schema.MIGRATIONS[:number]:
            migration(db)
        db.execute("ATTACH ? AS new", (str(tmp_path / "new.db"),))
        for table in ("prompts", "prompt_versions"):
            columns = ", ".join(row[1] for row in db.execute(f"PRAGMA main.table_info({table})"))
            db.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM new.{table}")
        db.execute(f"PRAGMA user_version = {number}")
    store = Store(path)
    assert prompt_records.read_prompt(store, "p") == expected
    store.close()
