"""A real LangGraph Server, `langgraph dev`, whose graphs gati records."""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path
from typing import Any

import pytest

from gati.store import message_columns, queries
from tests.langgraph_server.conftest import (
    EXAMPLE,
    LangGraphServer,
    delivering_to,
    langgraph_dev,
    wait_for,
)
from tests.servers import LocalServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROLES = {"user_message": "user", "assistant_message": "assistant", "final_response": "assistant"}


def asked(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


def new_thread(client: Any) -> str:
    return str(client.threads.create()["thread_id"])


def messages_of(destination: LocalServer, thread: str, ends: int = 1) -> list[dict[str, Any]]:
    """Return the messages of a conversation, once `ends` turns of it have been delivered."""

    def delivered() -> list[dict[str, Any]] | None:
        found = destination.messages(thread)
        return found if sum(m["messageType"] == "chain_end" for m in found) >= ends else None

    return wait_for(delivered, f"turns of {thread}")


def transcript(messages: list[dict[str, Any]]) -> list[tuple[str, str]]:
    kinds = [(ROLES.get(message_columns.message_type(message)), message) for message in messages]
    return [(role, message["content"]) for role, message in kinds if role]


def statuses(messages: list[dict[str, Any]]) -> list[str]:
    return [m["output"]["status"] for m in messages if m["messageType"] == "chain_end"]


def user_of(destination: LocalServer, thread: str) -> str | None:
    found = queries.list_conversations(destination.store, limit=1000).conversations
    return {row.external_id: row.user for row in found}[thread]


@pytest.mark.parametrize("mode", ["values", "messages-tuple", "updates", "events"])
def test_users_that_the_server_authenticates_arrive(server: LangGraphServer, destination: LocalServer, mode: str):
    threads = {}
    for user in ("ada", "alan"):
        client = server.client(f"token-of-{user}")
        threads[user] = new_thread(client)
        for text in ("One?", "Two?"):
            assert list(client.runs.stream(threads[user], "chat", input=asked(text), stream_mode=mode))
    for user, thread in threads.items():
        messages = messages_of(destination, thread, ends=2)
        assert transcript(messages) == [
            ("user", "One?"), ("assistant", "You asked: One?"), ("user", "Two?"), ("assistant", "You asked: Two?"),
        ]  # fmt: skip
        assert user_of(destination, thread) == user
        assert statuses(messages) == ["completed", "completed"]


def test_a_run_without_a_thread_is_a_conversation_of_its_own(server: LangGraphServer, destination: LocalServer):
    question = f"Who? {uuid.uuid4()}"
    server.client().runs.wait(None, "chat", input=asked(question))
    (conversation,) = wait_for(
        lambda: {m["conversation"] for m in destination.messages() if m.get("content") == question}, question
    )
    assert len(transcript(messages_of(destination, conversation))) == 2
    assert user_of(destination, conversation) == "ada"


def test_a_retry_answers_the_same_question(server: LangGraphServer, destination: LocalServer):
    client = server.client()
    thread = new_thread(client)
    client.runs.wait(thread, "attempts", input=asked("Again?"))
    messages = messages_of(destination, thread, ends=2)
    assert transcript(messages) == [("user", "Again?"), ("assistant", "You asked: Again?")]
    assert statuses(messages) == ["error", "completed"]


def test_an_interrupted_graph_goes_on_in_the_same_conversation(server: LangGraphServer, destination: LocalServer):
    client = server.client()
    thread = new_thread(client)
    client.runs.wait(thread, "approval", input=asked("Send it."))
    client.runs.wait(thread, "approval", command={"resume": "yes"})
    messages = messages_of(destination, thread, ends=2)
    assert transcript(messages) == [
        ("user", "Send it."), ("assistant", "Shall I send it?"), ("user", "yes"), ("assistant", "You decided: yes"),
    ]  # fmt: skip
    assert statuses(messages) == ["waiting", "completed"]


def start_slow(server: LangGraphServer, client: Any, thread: str) -> str:
    """Start a run that waits in the middle of its answer; return the question."""
    folder = server.folder.parent
    (folder / "continue").unlink(missing_ok=True)
    question = f"slow {uuid.uuid4()}"
    client.runs.create(thread, "chat", input=asked(question))
    wait_for((folder / question).exists, "the answer begins")
    return question


def test_a_rejected_run_is_no_turn(server: LangGraphServer, destination: LocalServer):
    client = server.client()
    thread = new_thread(client)
    question = start_slow(server, client, thread)
    with pytest.raises(Exception, match="already running"):
        client.runs.create(thread, "chat", input=asked("Too early."), multitask_strategy="reject")
    (server.folder.parent / "continue").touch()
    messages = messages_of(destination, thread)
    assert transcript(messages) == [("user", question), ("assistant", f"You asked: {question}")]


def test_an_enqueued_run_is_the_next_turn(server: LangGraphServer, destination: LocalServer):
    client = server.client()
    thread = new_thread(client)
    question = start_slow(server, client, thread)
    client.runs.create(thread, "chat", input=asked("Next?"), multitask_strategy="enqueue")
    (server.folder.parent / "continue").touch()
    messages = messages_of(destination, thread, ends=2)
    assert transcript(messages) == [
        ("user", question), ("assistant", f"You asked: {question}"), ("user", "Next?"), ("assistant", "You asked: Next?"),
    ]  # fmt: skip
    assert statuses(messages) == ["completed", "completed"]


@pytest.mark.parametrize("strategy", ["interrupt", "rollback"])
def test_a_run_that_another_one_replaces_is_aborted(server: LangGraphServer, destination: LocalServer, strategy: str):
    client = server.client()
    thread = new_thread(client)
    client.runs.wait(thread, "chat", input=asked("Zero?"))
    question = start_slow(server, client, thread)
    client.runs.wait(thread, "chat", input=asked("Instead?"), multitask_strategy=strategy)
    messages = messages_of(destination, thread, ends=3)
    assert transcript(messages) == [
        ("user", "Zero?"), ("assistant", "You asked: Zero?"),
        ("user", question), ("assistant", "You asked: "),
        ("user", "Instead?"), ("assistant", "You asked: Instead?"),
    ]  # fmt: skip
    assert statuses(messages) == ["completed", "aborted", "completed"]


def test_a_cancelled_run_is_aborted(server: LangGraphServer, destination: LocalServer):
    client = server.client()
    thread = new_thread(client)
    question = start_slow(server, client, thread)
    (run,) = client.runs.list(thread)
    client.runs.cancel(thread, run["run_id"], wait=True)
    messages = messages_of(destination, thread)
    assert transcript(messages) == [("user", question), ("assistant", "You asked: ")]
    assert statuses(messages) == ["aborted"]


def test_each_process_logs_one_warning(tmp_path: Path):
    """Without a key: gati says where it keeps conversations, once in each process, also after a reload."""
    with langgraph_dev(
        Path(__file__).parent / "app", tmp_path, GATI_LOCAL="", HOME=tmp_path, XDG_DATA_HOME=tmp_path / "data"
    ) as server:
        client = server.client()
        client.runs.wait(new_thread(client), "chat", input=asked("One?"))
        client.runs.wait(new_thread(client), "other", input=asked("Two?"))
        wait_for(lambda: len(server.warnings_of_gati()) >= 1, "the first process warns")
        started = server.output.count("Application started up")
        (server.folder / "other_graph.py").touch()
        wait_for(lambda: server.output.count("Application started up") > started, "the server reloads")
        server.wait_until_ready()
        client.runs.wait(new_thread(client), "chat", input=asked("Three?"))
        wait_for(lambda: len(server.warnings_of_gati()) >= 2, "the second process warns")
    assert len(server.warnings_of_gati()) == server.output.count("Application started up"), server.warnings_of_gati()


@pytest.mark.parametrize("flushes", [True, False], ids=["example", "without_a_lifespan"])
def test_a_reload_loses_no_turn(destination: LocalServer, tmp_path: Path, flushes: bool):
    """The server's process ends by a signal. Without a flush before, its next process delivers."""
    shutil.copytree(EXAMPLE, tmp_path / "example")
    if not flushes:
        file = tmp_path / "example" / "langgraph.json"
        file.write_text(json.dumps({key: v for key, v in json.loads(file.read_text()).items() if key != "http"}))
    with langgraph_dev(
        tmp_path / "example", tmp_path, **{**delivering_to(destination), "GATI_FLUSH_INTERVAL": 600}
    ) as server:
        client = server.client()
        thread = new_thread(client)
        client.runs.wait(thread, "tutor", input=asked("Before?"))
        if not flushes:
            wait_for(lambda: list((tmp_path / "spool").rglob("*.jsonl")), "the turn is on disk")
        started = server.output.count("Application started up")
        (server.folder / "tutor.py").touch()
        wait_for(lambda: server.output.count("Application started up") > started, "the server reloads")
        server.wait_until_ready()
        if not flushes:
            client.runs.wait(new_thread(client), "tutor", input=asked("After?"))
        messages = messages_of(destination, thread)
    assert transcript(messages) == [("user", "Before?"), ("assistant", "You asked: Before?")]


def test_the_example_delivers(destination: LocalServer, tmp_path: Path):
    shutil.copytree(EXAMPLE, tmp_path / "example")
    with langgraph_dev(tmp_path / "example", tmp_path, "--no-reload", **delivering_to(destination)) as server:
        client = server.client("token-of-alan")
        thread = new_thread(client)
        client.runs.wait(thread, "tutor", input=asked("What is 2 + 2?"))
        messages = messages_of(destination, thread)
        with pytest.raises(Exception, match="unknown token"):
            new_thread(server.client("a-wrong-token"))
    assert transcript(messages) == [("user", "What is 2 + 2?"), ("assistant", "You asked: What is 2 + 2?")]
    assert user_of(destination, thread) == "alan"
