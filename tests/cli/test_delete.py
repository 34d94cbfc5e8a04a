"""`gati delete`, on the store and on the spool that programs leave behind."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import Result
from langchain_core.messages import AIMessage
from typer.testing import CliRunner

from gati import observe
from gati.cli.commands import app
from gati.data_folder import data_folder
from gati.pipeline.spool import Spool
from gati.store import queries
from gati.store.store import Store, default_path
from gati.testing import ScriptedChatModel
from tests.servers import LocalServer
from tests.store.bodies import body, turn


def invoke(*arguments: str, answer: str | None = None, **variables: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env=variables, input=answer)


def fill() -> None:
    with closing(Store(default_path())) as store:
        store.ingest(body("c-1", *turn("r1", "the zebra"), user="ada"))
        store.ingest(body("c-2", *turn("r2"), user="bob"))


def conversations() -> list[str | None]:
    with closing(Store(default_path(), read_only=True)) as store:
        return [row.external_id for row in queries.list_conversations(store).conversations]


def test_it_deletes_a_conversation_a_user_and_what_is_older_than_a_date() -> None:
    fill()
    found = invoke("delete", "conversation", "c-1", "--yes", "--json")
    assert (found.exit_code, json.loads(found.stdout)["conversations"]) == (0, 1)
    assert conversations() == ["c-2"]
    assert invoke("delete", "user", "bob", "--yes").exit_code == 0
    assert conversations() == []
    with closing(Store(default_path())) as store:
        store.ingest(body("c-3", *turn("r3"), user="eve"))
    assert invoke("delete", "before", "2100-01-01", "--yes").exit_code == 0
    assert conversations() == []


def test_a_dry_run_counts_and_deletes_nothing() -> None:
    fill()
    shown = invoke("delete", "user", "ada", "--dry-run")
    assert shown.exit_code == 0
    assert "would be deleted in the store: 1 conversations, 12 messages" in shown.output
    assert len(conversations()) == 2


def test_without_a_terminal_it_deletes_only_with_yes() -> None:
    fill()
    refused = invoke("delete", "user", "ada")
    assert refused.exit_code == 2
    assert "--yes" in refused.output
    assert len(conversations()) == 2


def test_what_is_not_found_is_reported_but_stays_out_when_it_arrives() -> None:
    fill()
    assert invoke("delete", "conversation", "c-9", "--yes").exit_code == 3
    with closing(Store(default_path())) as store:
        store.ingest(body("c-9", *turn("r9")))
    assert conversations() == ["c-2", "c-1"]


def test_a_date_that_is_none_is_refused() -> None:
    result = invoke("delete", "before", "yesterday", "--yes")
    assert result.exit_code == 2
    assert "2026-01-31" in result.output
