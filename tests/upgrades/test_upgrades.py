"""Files that earlier versions left on users' disks are read by this one: the spool and the embedded store.

`samples` holds a folder for each version; `generate.py` says how they are made and what they hold.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.optional import WARNINGS
from tests.servers import LocalServer, greenflash_server

ROOT = Path(__file__).parents[2]
SAMPLES = sorted(path.parent for path in Path(__file__).parent.glob("samples/*/expected.json"))
COMMAND = "from gati.cli import main; main()"
NEW_PROGRAM = """
from gati import observe
from gati.testing import ScriptedChatModel

observe.init()
with observe.conversation("new", user_id="ada"):
    ScriptedChatModel(replies=["Hello."]).invoke("Hi!")
observe.flush(60.0)
observe.shutdown(60.0)
"""

Pieces = dict[tuple[str, ...], Any]


@dataclass
class Sample:
    """Copies of one version's files, and what that version made of them."""

    spool: Path
    store: Path
    expected: dict[str, Any]

    @property
    def options(self) -> dict[str, str]:
        return self.expected["options"]

    def at(self, server: LocalServer) -> dict[str, str]:
        """Return the options of the program that wrote the sample, with the address of a running server."""
        return {**self.options, "GREENFLASH_BASE_URL": server.url, "GATI_BACKEND_URL": server.address}

    def move_spool_to(self, server: LocalServer) -> dict[str, str]:
        """Rename the folders of the accounts as if the sample had been written for `server`; return its options."""
        options = self.at(server)
        for old, new in zip(account_folders(self.options), account_folders(options), strict=True):
            (self.spool / old).rename(self.spool / new)
        return {**options, "GATI_SPOOL_DIR": str(self.spool)}

    def files(self, kind: str) -> dict[str, bytes]:
        """Return the files of one kind ("ready", "rejected") of all accounts."""
        return {file.name: file.read_bytes() for file in self.spool.glob(f"*/{kind}/*")}


@pytest.fixture(params=SAMPLES, ids=lambda folder: folder.name)
def sample(request: pytest.FixtureRequest, tmp_path: Path) -> Sample:
    shutil.copytree(request.param / "spool", tmp_path / "spool")
    for account in (tmp_path / "spool").iterdir():
        for name in ("ready", "rejected", "owners"):
            (account / name).mkdir(exist_ok=True)  # git keeps no empty folders
    shutil.copy(request.param / "store.db", tmp_path / "store.db")
    expected = json.loads((request.param / "expected.json").read_text("utf-8"))
    return Sample(tmp_path / "spool", tmp_path / "store.db", expected)


@pytest.fixture
def server(sample: Sample) -> Iterator[LocalServer]:
    """A strict Greenflash and GATI backend that accepts the sample's keys."""
    keys = (sample.options["GREENFLASH_API_KEY"], sample.options["GATI_BACKEND_API_KEY"])
    with greenflash_server(keys) as running:
        yield running
        assert running.unknown_keys == []


def account_folders(options: dict[str, str]) -> list[str]:
    """Return the folders of the Greenflash account and of the backend account in the spool.

    Written out here instead of imported: a process that computes another name for the same address and key no longer
    finds what an earlier version left.
    """
    greenflash = f"greenflash\0{options['GREENFLASH_BASE_URL']}\0{options['GREENFLASH_API_KEY']}"
    backend = f"events_api\0{options['GATI_BACKEND_URL']}/api/events\0{options['GATI_BACKEND_API_KEY']}"
    return [
        f"{text.partition(chr(0))[0]}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        for text in (greenflash, backend)
    ]


def run(code: str, *arguments: str, **options: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own."""
    command = [sys.executable, *WARNINGS, "-c", code, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **options}
    return subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=False, timeout=100)


@pytest.fixture
def gati(sample: Sample, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command in this process, on the sample's store and spool; return what it prints."""
    from gati.cli import main

    def command(*arguments: str, **options: str) -> str:
        with monkeypatch.context() as patch:
            options = {"GATI_LOCAL": str(sample.store), "GATI_SPOOL_DIR": str(sample.spool), **options}
            for name, value in options.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["gati", *arguments])
            capsys.readouterr()
            with pytest.raises(SystemExit) as ended:
                main()
        printed = capsys.readouterr()
        assert ended.value.code in (None, 0), printed.err
        return printed.out

    return command


def received(server: LocalServer) -> list[dict[str, Any]]:
    """Return the requests that a server received, without those of `NEW_PROGRAM`."""
    requests = [{"path": request.path, "body": request.body} for request in server.requests]
    return [request for request in requests if '"new"' not in json.dumps(request)]


def pieces(requests: list[dict[str, Any]]) -> Pieces:
    """Return every message, event and action of the requests under a key of its own; fail if one was sent twice.

    A message comes with the rest of its request, so that it does not matter how messages are packed into requests.
    """
    found: Pieces = {}
    for path, body in ((request["path"], request["body"]) for request in requests):
        if path == "/api/events":
            parts = {(path, event["event_id"]): event for event in body["events"]}
        elif path == "/api/v1/messages":
            rest = {key: value for key, value in body.items() if key != "messages"}
            conversation = body["externalConversationId"]
            parts = {(path, conversation, m["externalMessageId"]): {**m, "request": rest} for m in body["messages"]}
        else:
            parts = {(path, json.dumps(body, sort_keys=True)): body}
        assert not found.keys() & parts.keys()
        found |= parts
    return found


def ids_in_order(requests: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Return the ids of messages by conversation, in the order in which they were sent."""
    ids: dict[str, list[str]] = {}
    for path, *rest in pieces(requests):
        if path == "/api/v1/messages":
            conversation, message = rest
            ids.setdefault(conversation, []).append(message)
    return ids


def without(message: dict[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in message.items() if key not in names}


def check_delivered(sample: Sample, server: LocalServer) -> None:
    """Check that the server accepted what the sample's own version delivers: nothing else, nothing twice, in order."""
    requests = sample.expected["spool"]["requests"]
    assert pieces(received(server)) == pieces(requests)
    assert ids_in_order(received(server)) == ids_in_order(requests)
    held = {(message["conversation"], message.get("externalMessageId")) for message in server.messages()}
    assert {(conversation, id_) for conversation, ids in ids_in_order(requests).items() for id_ in ids} <= held
    assert sample.files("ready") == {}


def check_rejected(sample: Sample, before: dict[str, bytes]) -> None:
    """Check that refused requests are where they were, and only the damaged file came to them."""
    after = sample.files("rejected")
    assert after.items() >= before.items()
    assert [name.rpartition(".")[2] for name in after.keys() - before.keys()] == ["damaged"]


def test_there_are_samples():
    assert SAMPLES


def test_an_account_keeps_its_folder(sample: Sample):
    assert sorted(account_folders(sample.options)) == sorted(path.name for path in sample.spool.iterdir())


def test_status_counts_what_an_earlier_version_left_in_the_spool(sample: Sample, gati: Callable[..., str]):
    accounts = json.loads(gati("status", "--json"))["spool"]["accounts"]
    expected = sample.expected["spool"]["accounts"]
    assert len(accounts) == len(expected)
    for account, known in zip(accounts, expected, strict=True):
        assert account.items() >= known.items()


def test_gati_drain_delivers_everything_that_an_earlier_version_left(sample: Sample, server: LocalServer):
    options, rejected = sample.move_spool_to(server), sample.files("rejected")
    done = run(COMMAND, "drain", "--json", "--timeout", "60", **options)
    drained = json.loads(done.stdout)
    assert drained.items() >= sample.expected["spool"]["drained"].items(), done.stderr
    check_delivered(sample, server)
    check_rejected(sample, rejected)


def test_a_new_process_delivers_everything_that_an_earlier_version_left(sample: Sample, server: LocalServer):
    options, rejected = sample.move_spool_to(server), sample.files("rejected")
    done = run(NEW_PROGRAM, GATI_LOCAL="false", **options)
    assert done.returncode == 0, done.stderr
    check_delivered(sample, server)
    check_rejected(sample, rejected)
    new = [
        message["content"]
        for message in server.messages("new", sample.options["GATI_PRODUCT_ID"])
        if "content" in message
    ]
    assert new == ["Hi!", "Hello."]


def test_refused_requests_keep_their_reason_and_content(sample: Sample):
    for data in sample.files("rejected").values():
        refused = json.loads(data)
        assert refused["reason"].startswith("HTTP 400")
        assert "sample-refused" in json.dumps(refused["request"])


def test_an_old_store_opens_at_the_newest_schema_without_damage(sample: Sample, gati: Callable[..., str]):
    def schema_and_integrity() -> tuple[int, list[str]]:
        with closing(sqlite3.connect(sample.store)) as db:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            return version, [row[0] for row in db.execute("PRAGMA integrity_check")]

    before = schema_and_integrity()
    expected = sample.expected["store"]["list"]
    held = json.loads(gati("status", "--json"))["store"]
    assert held["conversations"] == len(expected)
    assert held["messages"] == sum(row["messages"] for row in expected)
    after = schema_and_integrity()
    assert after[0] >= before[0]
    # Not compared with "ok": SQLite 3.40 reports NULL values in tables whose key is not the first column.
    assert after[1] == before[1]
    assert list(sample.store.parent.glob("store.db.damaged*")) == []


def test_an_old_store_lists_its_conversations(sample: Sample, gati: Callable[..., str]):
    rows = json.loads(gati("show", "--list", "--limit", "100", "--json"))
    for row, known in zip(rows, sample.expected["store"]["list"], strict=True):
        assert row.items() >= known.items()


def test_an_old_store_shows_each_conversation(sample: Sample, gati: Callable[..., str]):
    for known in sample.expected["store"]["conversations"]:
        shown = json.loads(gati("show", known["externalConversationId"], "--json"))
        assert [without(message, "messageId", "conversation", "prompt") for message in shown] == [
            without(message, "call") for message in known["messages"]
        ]
        prompts = [known["systemPrompts"].get(str(message["call"])) for message in known["messages"]]
        assert [message["prompt"] for message in shown] == prompts
    assert "Three days cost 54.00 €" in gati("show", "sample-agent")


def test_an_old_store_is_exported_in_full(sample: Sample, gati: Callable[..., str]):
    lines = [json.loads(line) for line in gati("export").splitlines()]
    for line, known in zip(lines, sample.expected["store"]["conversations"], strict=True):
        assert line.items() >= known.items()
    assert "> Three days cost 54.00 €" in gati("export", "--format", "markdown")


def test_an_old_store_is_searched(sample: Sample, gati: Callable[..., str]):
    for words, known in sample.expected["store"]["found"].items():
        lines = gati("export", "--words", words).splitlines()
        assert [json.loads(line)["conversationId"] for line in lines] == known, words


def test_the_studio_shows_an_old_store(sample: Sample):
    command = [sys.executable, "-c", COMMAND, "studio", "--port", "0", "--no-browser", "--store", str(sample.store)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as studio:
        try:
            assert studio.stdout is not None
            # The printed address has a token, which becomes a cookie.
            browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
            with browser.open(studio.stdout.readline().strip(), timeout=60) as response:
                page = response.read().decode()
        finally:
            studio.terminate()
    assert "What do three days cost? 🚲" in page
    assert "Sent by another client" in page


def test_a_program_can_continue_writing_to_an_old_store(sample: Sample, gati: Callable[..., str]):
    code = NEW_PROGRAM.replace('"new"', '"sample-later"')
    done = run(code, GATI_LOCAL=str(sample.store))
    assert (done.returncode, done.stderr) == (0, "")
    shown = json.loads(gati("show", "sample-later", "--json"))
    texts = [message["content"] for message in shown if "content" in message]
    assert texts == ["Was this pushed before?", "Answer to: Was this pushed before?", "Hi!", "Hello."]
    assert [json.loads(line)["externalConversationId"] for line in gati("export", "--words", "hello").splitlines()] == [
        "sample-later"
    ]


def test_messages_already_in_an_old_store_are_not_stored_twice(sample: Sample):
    key = sample.options["GREENFLASH_API_KEY"]
    count = sum(row["messages"] for row in sample.expected["store"]["list"])
    with greenflash_server((key,), path=sample.store) as server:

        def post(path: str, body: Any) -> Any:
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
            request = urllib.request.Request(server.address + path, json.dumps(body).encode(), headers)
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.load(response)

        events = sample.expected["events"]
        answer = post("/api/events", {"events": events})
        assert (answer["received"], answer["stored"]) == (len(events), 0)
        (later,) = (
            request["body"]
            for request in sample.expected["store"]["push_of_the_rest"]["requests"]
            if request["body"]["externalConversationId"] == "sample-later"
        )
        # The local program named no product; the push added it.
        answer = post("/api/v1/messages", {**later, "conversationId": conversation_id(sample, "sample-later")})
        assert {message["status"] for message in answer["messages"]} == {"deduplicated"}
        assert len(server.messages()) == count


def conversation_id(sample: Sample, external_id: str) -> str:
    """Return the id that the store itself gave to a conversation."""
    conversations = sample.expected["store"]["conversations"]
    (found,) = (line["conversationId"] for line in conversations if line["externalConversationId"] == external_id)
    return str(found)


def test_a_push_of_an_old_store_resumes_where_the_last_one_stopped(
    sample: Sample, server: LocalServer, gati: Callable[..., str]
):
    options = sample.at(server)
    account = account_folders(options)[0].removeprefix("greenflash-")
    with closing(sqlite3.connect(sample.store)) as db, db:
        db.execute("UPDATE pushes SET account = ?", (account,))
    known = sample.expected["store"]["push_of_the_rest"]
    assert json.loads(gati("push", "--json", **options)) == {
        "delivered": known["delivered"], "rejected": {}, "left": 0, "stopped": "",
    }  # fmt: skip
    assert pieces(received(server)) == pieces(known["requests"])
    assert ids_in_order(received(server)) == ids_in_order(known["requests"])


def test_an_old_store_can_be_pushed_to_another_account(sample: Sample, server: LocalServer, gati: Callable[..., str]):
    known = sample.expected["store"]["push_of_all"]
    pushed = json.loads(gati("push", "--json", **sample.at(server)))
    assert pushed == {"delivered": known["delivered"], "rejected": {}, "left": 0, "stopped": ""}
    assert ids_in_order(received(server)) == known["messages"]
    actions = [request for request in received(server) if not request["path"].endswith("/messages")]
    assert pieces(actions) == pieces(known["actions"])
    own = ("messageId", "conversation", "prompt", "call", "createdAt", "externalMessageId")
    for conversation in sample.expected["store"]["conversations"]:
        arrived = server.messages(conversation["externalConversationId"])
        assert [without(message, *own) for message in arrived] == [
            without(message, *own) for message in conversation["messages"]
        ]
