"""`gati show`, and lists in a terminal."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from gati.store import message_columns
from gati.store.store import Store
from tests.cli.programs import gati, invoke, run_in_terminal


def test_show_prints_the_newest_or_the_given_conversation(store: Path):
    assert "Four." in gati("show", "--store", str(store)).stdout
    assert "Four." in gati("show", "c-1", GATI_LOCAL=str(store)).stdout
    messages: list[dict[str, Any]] = json.loads(gati("show", "--json", GATI_LOCAL=str(store)).stdout)
    assert [message_columns.message_type(message) for message in messages] == [
        "user_message",
        "llm",
        "assistant_message",
    ]


def test_show_lists_conversations_as_tsv_or_json(store: Path):
    head, row = gati("show", "--list", GATI_LOCAL=str(store)).stdout.splitlines()
    assert dict(zip(head.split("\t"), row.split("\t"), strict=True)) | {"last": ""} == {
        "conversation": "c-1", "last": "", "user": "ada", "agent": "tutor", "status": "", "turns": "1",
        "messages": "3", "tokens_in": "7", "tokens_out": "5", "cost_usd": "4e-06", "title": "What is 2 + 2?",
    }  # fmt: skip
    assert json.loads(gati("show", "-l", "--json", GATI_LOCAL=str(store)).stdout)[0]["tokens_in"] == 7


def test_show_fails_for_an_empty_store(tmp_path: Path):
    Store(tmp_path / "s.db").close()
    done = invoke("show", "--store", str(tmp_path / "s.db"))
    assert (done.exit_code, done.stdout) == (3, "")
    assert invoke("show", "--list", "--store", str(tmp_path / "s.db")).stdout == ""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pty")
def test_lists_are_tables_in_a_terminal(store: Path):
    printed = run_in_terminal("show", "--list", GATI_LOCAL=str(store))
    assert printed.split()[:4] == ["conversation", "last", "user", "agent"]
    assert "\t" not in printed
    assert "Four." in run_in_terminal("show", GATI_LOCAL=str(store))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pty")
@pytest.mark.parametrize("columns", ["60", "80", "100"])
def test_a_list_is_readable_in_a_narrow_terminal(store: Path, columns: str):
    printed = run_in_terminal("show", "--list", GATI_LOCAL=str(store), COLUMNS=columns)
    assert all(len(line) <= int(columns) for line in printed.splitlines())
    (row,) = json.loads(gati("show", "--list", "--json", GATI_LOCAL=str(store)).stdout)
    assert printed.split()[0] == row["conversation"]
    for name in ("user", "turns", "messages"):
        assert f"{name} {row[name]}" in " ".join(printed.split())
