"""`gati import` with real checkpoints, the embedded store and the strict local Greenflash."""

from __future__ import annotations

import gc
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langgraph.checkpoint.sqlite import SqliteSaver

from gati import observe
from gati.cli import importing
from gati.cli.store import make_team_exporter
from gati.settings import load
from gati.store import queries
from gati.store.store import Store
from gati.testing import ScriptedChatModel
from tests.cli.programs import destination, gati, invoke
from tests.servers import LocalServer


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    """Create a SQLite file with the checkpoints of two threads, which gati did not see."""
    file = tmp_path / "checkpoints.sqlite"
    talk(file, "t1", "Hi", "Thanks")
    talk(file, "t2", "Hello")
    return file


def talk(file: Path, thread: str, *texts: str) -> None:
    with SqliteSaver.from_conn_string(str(file)) as saver:
        agent: Any = create_agent(
            ScriptedChatModel(respond=lambda messages: f"re: {messages[-1].text}"), checkpointer=saver
        )
        for text in texts:
            agent.invoke({"messages": [("user", text)]}, {"configurable": {"thread_id": thread, "user_id": "ada"}})


def contents(store: Path, kind: str = "user_message") -> list[str]:
    with closing(Store(store, read_only=True)) as opened, opened.connections.reading() as db:
        bodies = [
            json.loads(row[0])
            for row in db.execute("SELECT body FROM messages WHERE type = ? ORDER BY at, id", (kind,))
        ]
    return sorted(body["content"] for body in bodies)


def test_checkpoints_are_imported_once(checkpoints: Path, tmp_path: Path):
    store = tmp_path / "store.db"
    arguments = ("import", "checkpoints", str(checkpoints), "--store", str(store), "--json")
    first = json.loads(invoke(*arguments).stdout)
    assert (first["turns"], first["conversations"], first["left"], first["lost"]) == (3, 2, 0, 0)
    assert contents(store) == ["Hello", "Hi", "Thanks"]
    invoke(*arguments)
    talk(checkpoints, "t1", "More")
    assert json.loads(invoke(*arguments).stdout)["turns"] == 4
    assert contents(store) == ["Hello", "Hi", "More", "Thanks"]
    assert contents(store, "assistant_message") == ["re: Hello", "re: Hi", "re: More", "re: Thanks"]


def test_checkpoints_are_imported_into_the_store_of_a_team(checkpoints: Path, team_database: str):
    arguments = ("import", "checkpoints", str(checkpoints), "--store", team_database, "--json")
    for turns in (3, 3):
        done = json.loads(invoke(*arguments).stdout)
        assert (done["turns"], done["conversations"], done["left"], done["lost"]) == (turns, 2, 0, 0)
    found = json.loads(invoke("show", "--list", "--store", team_database, "--json").stdout)
    assert sorted((row["conversation"], row["user"], row["turns"]) for row in found) == [
        ("t1", "ada", 2),
        ("t2", "ada", 1),
    ]


def test_a_dry_run_creates_no_store_of_a_team(checkpoints: Path, postgres: str):
    import psycopg

    done = invoke("import", "checkpoints", str(checkpoints), "--store", postgres, "--dry-run")
    assert done.exit_code == 2
    assert "the team's store cannot be opened" in done.stderr
    with psycopg.connect(postgres) as connection:
        assert connection.execute("SELECT to_regnamespace('gati')").fetchone() == (None,)


def test_the_garbage_collector_is_as_before_after_an_import(checkpoints: Path, tmp_path: Path):
    before = gc.get_threshold()
    invoke("import", "checkpoints", str(checkpoints), "--store", str(tmp_path / "store.db"))
    assert gc.get_threshold() == before


@pytest.mark.parametrize("place", ["store", "greenflash"])
def test_a_thread_is_imported_up_to_the_first_turn_that_gati_reported(
    checkpoints: Path, tmp_path: Path, greenflash: LocalServer, place: str
):
    store = tmp_path / "store.db"
    delivered = place == "greenflash"
    options: dict[str, Any] = (
        {"api_key": greenflash.api_key, "base_url": greenflash.url} if delivered else {"local": store}
    )
    observe.init(**options)
    talk(checkpoints, "t1", "Seen", "Seen again")
    assert observe.flush()
    observe.shutdown()
    environment = destination(greenflash) if delivered else {}
    target = ["--no-mask"] if delivered else ["--store", str(store)]
    for _ in range(2):
        done = invoke("import", "checkpoints", str(checkpoints), "--json", *target, **environment)
        assert done.exit_code == 0, done.output
        result = json.loads(done.stdout)
        assert (result["turns"], result["skipped"]) == (3, 2)
    found = (
        sorted(m["content"] for m in greenflash.messages() if m.get("messageType") == "user_message")
        if delivered
        else contents(store)
    )
    assert found == ["Hello", "Hi", "Seen", "Seen again", "Thanks"]


def test_the_store_of_a_team_gets_a_thread_up_to_the_first_turn_that_gati_reported(
    checkpoints: Path, team_database: str
):
    from gati.team_store.store import PostgresStore

    observe.init(exporters=[make_team_exporter(load(), team_database)], local=False)
    talk(checkpoints, "t1", "Seen")
    assert observe.flush()
    observe.shutdown()
    result = json.loads(invoke("import", "checkpoints", str(checkpoints), "--store", team_database, "--json").stdout)
    assert (result["turns"], result["skipped"]) == (3, 1)
    with closing(PostgresStore(team_database, read_only=True)) as store:
        found = [m["content"] for m in queries.wire_messages(store) if m["messageType"] == "user_message"]
    assert sorted(found) == ["Hello", "Hi", "Seen", "Thanks"]


def test_greenflash_gets_nothing_without_a_decision_about_the_mask(checkpoints: Path, greenflash: LocalServer):
    done = invoke("import", "checkpoints", str(checkpoints), **destination(greenflash))
    assert done.exit_code == 2
    assert "--mask module:function, or --no-mask" in done.stderr
    assert greenflash.messages() == []


def test_a_mask_of_the_program_is_applied(checkpoints: Path, greenflash: LocalServer, tmp_path: Path):
    (tmp_path / "masking.py").write_text("def hide(text, path, kind):\n    return text.replace('Thanks', '***')\n")
    done = gati(
        "import", "checkpoints", str(checkpoints), "--mask", "masking:hide", cwd=tmp_path, **destination(greenflash)
    )
    assert done.returncode == 0, done.stderr
    sent = json.dumps(greenflash.messages())
    assert "***" in sent
    assert "Thanks" not in sent


def test_a_dry_run_prints_the_requests_and_sends_nothing(checkpoints: Path, greenflash: LocalServer):
    done = invoke("import", "checkpoints", str(checkpoints), "--dry-run", "--thread", "t2", **destination(greenflash))
    assert done.exit_code == 0
    request = json.loads(done.stdout)
    assert request["endpoint"] == "messages"
    assert "Hello" in [message.get("content") for message in request["messages"]]
    assert "would import 1 turns of 1 conversations" in done.stderr
    assert greenflash.messages() == []


def test_dates_select_turns(checkpoints: Path, tmp_path: Path):
    store = tmp_path / "store.db"
    arguments = ("import", "checkpoints", str(checkpoints), "--store", str(store), "--json")
    assert json.loads(invoke(*arguments, "--before", "2020-01-01").stdout)["turns"] == 0
    assert json.loads(invoke(*arguments, "--since", "2020-01-01").stdout)["turns"] == 3
    assert invoke(*arguments, "--since", "yesterday").exit_code == 2


def test_exports_are_read_as_lists_objects_and_lines(tmp_path: Path):
    row = {
        "id": "11111111-1111-4111-8111-111111111111", "run_type": "llm", "name": "m", "start_time": "2026-01-31T10:00:00",
        "inputs": {"messages": [{"role": "user", "content": "Hi"}]},
        "outputs": {"choices": [{"message": {"role": "assistant", "content": "Hello"}}]},
    }  # fmt: skip
    for number, text in enumerate(
        [json.dumps([row]), json.dumps({"runs": [row]}), json.dumps(row) + "\n\n" + json.dumps(row)]
    ):
        file = tmp_path / f"{number}.json"
        file.write_text(text)
        done = invoke("import", "langsmith", str(file), "--store", str(tmp_path / "store.db"), "--json")
        assert json.loads(done.stdout)["turns"] == 1
    assert contents(tmp_path / "store.db") == ["Hi"]


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (("langsmith", "missing.json"), 3, "cannot read missing.json"),
        (("checkpoints", "missing.sqlite"), 3, "there is no file missing.sqlite"),
        (("checkpoints", "nowhere:saver"), 2, "cannot be loaded"),
        (("langsmith", __file__), 2, "neither JSON nor JSON Lines"),
        (("langfuse", "/dev/zero"), 2, "/dev/zero is not a file"),
        (("checkpoints", "/dev/zero"), 2, "/dev/zero is not a file"),
    ],
)
def test_a_source_that_cannot_be_read_is_named(arguments: tuple[str, ...], code: int, reason: str, tmp_path: Path):
    done = invoke("import", *arguments, "--store", str(tmp_path / "store.db"))
    assert done.exit_code == code
    assert reason in done.stderr


def test_an_export_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importing, "MAX_EXPORT_BYTES", 1024**2)
    file = tmp_path / "runs.jsonl"
    file.write_bytes(b" " * 1024**2 + b"{}")
    done = invoke("import", "langfuse", str(file), "--store", str(tmp_path / "store.db"))
    assert (done.exit_code, "larger than 1 MiB" in done.stderr) == (2, True)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such pipes")
def test_an_export_is_read_from_a_pipe(tmp_path: Path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor() as pool:
        pool.submit(pipe.write_text, "[]")
        done = invoke("import", "langfuse", str(pipe), "--store", str(tmp_path / "store.db"), "--json")
    assert json.loads(done.stdout)["turns"] == 0


def test_an_import_leaves_a_file_that_is_no_store_where_it_is(tmp_path: Path):
    file = tmp_path / "runs.json"
    file.write_text('[{"id": "a", "timestamp": "2026-01-31T10:00:00Z", "input": "Hi", "output": "Hello"}]')
    done = invoke("import", "langfuse", str(file), "--store", str(file))
    assert (done.exit_code, "is no store of gati" in done.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == [file]


def test_imported_conversations_go_to_the_store_if_only_an_otlp_receiver_is_configured():
    settings = load(otlp_endpoint="http://127.0.0.1:4318")
    assert importing._destination(settings, importing.ImportOptions()).kind == "local"
