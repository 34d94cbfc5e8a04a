"""`gati import checkpoints` reads threads from a real PostgreSQL, written by LangGraph's own saver."""

from __future__ import annotations

import asyncio
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langgraph.checkpoint.postgres", reason="needs langgraph-checkpoint-postgres")
pytest.importorskip("tests.brokers", reason="needs a PostgreSQL for tests")
pytest.importorskip("langchain", reason="the programs are agents of `langchain`")

from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from typer.testing import CliRunner, Result

from gati.cli.commands import app
from gati.events import ToolCallEvent, Turn
from gati.importing.checkpoints import read_checkpoints
from gati.importing.importer import import_turns
from gati.settings import load
from gati.store import queries
from gati.store.store import Store
from tests.importing.kit import Collector
from tests.importing.test_checkpoints import talk, transcript

QUESTIONS = ("What is 1 + 2?", "Thanks")


def imported(saver: Any) -> list[Turn]:
    collector = Collector()
    assert import_turns(read_checkpoints(saver), "langgraph", load(spool=False), [collector]).lost == 0
    return collector.turns


def write(address: str, *threads: str) -> None:
    with PostgresSaver.from_conn_string(address) as saver:
        saver.setup()
        for thread in threads:
            talk(saver, thread, *QUESTIONS)


def run_import(address: str, folder: Path, *options: str) -> Result:
    command = ["import", "checkpoints", address, "--store", str(folder / "store.db"), *options]
    return CliRunner().invoke(app, command, env={"GATI_SPOOL_DIR": str(folder / "spool")})


def stored(folder: Path) -> dict[str, list[str]]:
    """Return the ids of the messages of each conversation."""
    found: dict[str, list[str]] = {}
    with closing(Store(folder / "store.db", read_only=True)) as store:
        for message in queries.wire_messages(store):
            found.setdefault(message["conversation"], []).append(message["externalMessageId"])
    return found


def test_threads_of_postgresql_become_conversations(postgres: str):
    write(postgres, "t1", "t2")
    with PostgresSaver.from_conn_string(postgres) as saver:
        turns = imported(saver)
    assert [
        (turn.conversation.id, transcript(turn)) for turn in sorted(turns, key=lambda turn: turn.conversation.id)
    ] == [
        (thread, texts)
        for thread in ("t1", "t2")
        for texts in (["What is 1 + 2?", "It is 3"], ["Thanks", "You are welcome"])
    ]
    (tool,) = (event for event in turns[0].events if isinstance(event, ToolCallEvent))
    assert (tool.tool_name, tool.output) == ("add", {"output": "3"})
    assert {turn.conversation.user_id for turn in turns} == {"ada"}
    assert all(turn.started_ns > 1_700_000_000_000_000_000 for turn in turns)


def test_threads_that_the_async_saver_wrote_are_read_by_the_sync_one(postgres: str):
    from langchain.agents import create_agent

    from gati.testing import ScriptedChatModel

    async def write_async() -> None:
        async with AsyncPostgresSaver.from_conn_string(postgres) as saver:
            await saver.setup()
            agent = create_agent(ScriptedChatModel(replies=["Hello"]), [], checkpointer=saver)
            await agent.ainvoke({"messages": [("user", "Hi")]}, {"configurable": {"thread_id": "t1"}})

    asyncio.run(write_async())
    with PostgresSaver.from_conn_string(postgres) as saver:
        assert [transcript(turn) for turn in imported(saver)] == [["Hi", "Hello"]]


def test_the_command_reads_an_address_and_may_be_repeated(postgres: str, tmp_path: Path):
    write(postgres, "t1", "t2")
    dry = run_import(postgres, tmp_path, "--dry-run", "--thread", "t1")
    assert dry.exit_code == 0, dry.output
    assert not (tmp_path / "store.db").exists()
    first = run_import(postgres, tmp_path, "--json")
    assert first.exit_code == 0, first.output
    assert json.loads(first.stdout)["conversations"] == 2
    found = stored(tmp_path)
    assert set(found) == {"t1", "t2"}
    assert run_import(postgres, tmp_path, "--json").exit_code == 0
    assert stored(tmp_path) == found


@pytest.mark.parametrize("address", ["no tables", "postgresql://nobody:hidden-word@127.0.0.1:9/none"])
def test_a_database_that_cannot_be_read_is_named_without_its_password(postgres: str, tmp_path: Path, address: str):
    done = run_import(postgres if address == "no tables" else address, tmp_path)
    assert done.exit_code != 0
    assert isinstance(done.exception, SystemExit)
    assert "hidden-word" not in done.output
    assert done.output.strip()
