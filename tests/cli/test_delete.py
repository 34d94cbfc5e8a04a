"""`gati delete`, on the store and on the spool that programs leave behind."""

from __future__ import annotations

import json
import re
from contextlib import closing
from pathlib import Path

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

PRODUCT = "0b9f1c5e-7a44-4c63-9f0e-5f2b1f7c3a10"


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


def leave_in_spool(*pairs: tuple[str, str]) -> None:
    """Run a program whose destinations cannot be reached, for pairs of user and conversation."""
    observe.init(
        api_key="gf_x", base_url="http://127.0.0.1:9/api/v1", local=True, flush_interval=0.05, product_id=PRODUCT
    )
    model = ScriptedChatModel(replies=[AIMessage("the answer")] * len(pairs))
    for user, conversation in pairs:
        with observe.conversation(conversation, user_id=user):
            model.invoke(f"question of {user}")
        observe.identify_user(user, name=f"Name of {user}")
        observe.log_rating(
            rating=1, rating_min=1, rating_max=5, conversation_id=conversation, feedback=f"feedback of {user}"
        )
    observe.flush(timeout=1.0)
    observe.shutdown(timeout=1.0)


def spooled() -> str:
    folder = data_folder()
    assert folder is not None
    return "".join(path.read_text() for path in sorted((folder / "spool").rglob("*.json*")))


def test_it_removes_what_exited_processes_left_in_the_spool() -> None:
    leave_in_spool(("ada", "c-1"), ("bob", "c-2"))
    assert "question of ada" in spooled()
    result = invoke("delete", "user", "ada", "--yes", "--json")
    assert json.loads(result.stdout)["waiting"] >= 4
    left = spooled()
    assert not re.search(r"\bada\b", left)  # a hexadecimal id may contain these letters
    assert "question of bob" in left
    assert "Name of bob" in left
    assert "feedback of bob" in left
    assert conversations() == ["c-2"]


def test_gati_drain_delivers_the_rest(greenflash: LocalServer) -> None:
    leave_in_spool(("ada", "c-1"), ("bob", "c-2"))
    invoke("delete", "conversation", "c-1", "--yes")
    variables = {"GREENFLASH_API_KEY": greenflash.api_key, "GREENFLASH_BASE_URL": greenflash.url}
    assert invoke("drain", "--adopt", **variables).exit_code == 0
    assert {message["conversation"] for message in greenflash.messages()} == {"c-2"}


def test_it_removes_refused_requests(tmp_path: Path) -> None:
    fill()
    spool = Spool(tmp_path, "greenflash", "a")
    for conversation in ("c-1", "c-2"):
        request = {
            "lane": conversation, "turn": "t", "items": 1, "endpoint": "messages",
            "body": {"external_user_id": "ada", "external_conversation_id": conversation, "messages": [{"content": "x"}]},
        }  # fmt: skip
        spool.set_aside(json.dumps(request).encode(), "refused", 10**6)
    spool.close()
    result = invoke("delete", "conversation", "c-1", "--yes", "--json", GATI_SPOOL_DIR=str(tmp_path))
    assert json.loads(result.stdout)["rejected"] == 1
    (left,) = spool.rejected.glob("*.json")
    assert "c-2" in left.read_text()


def test_what_a_running_process_has_stays_and_is_reported(tmp_path: Path) -> None:
    fill()
    observe.init(
        api_key="gf_x", base_url="http://127.0.0.1:9/api/v1", local=True, spool_dir=tmp_path, flush_interval=0.05
    )
    with observe.conversation("c-1", user_id="ada"):
        ScriptedChatModel(replies=[AIMessage("the answer")]).invoke("question")
    observe.flush(timeout=1.0)
    result = invoke("delete", "user", "ada", "--yes", GATI_SPOOL_DIR=str(tmp_path))
    assert "wait in running processes" in result.output
    assert conversations() == ["c-2"]
    with observe.conversation("c-1", user_id="ada"):
        ScriptedChatModel(replies=[AIMessage("the answer")]).invoke("a new question")
    observe.flush(timeout=5.0)
    assert conversations() == ["c-1", "c-2"]
