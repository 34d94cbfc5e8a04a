"""The `gati` command line, mostly run as a separate process."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import sysconfig
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import pytest
from click.testing import Result
from greenflash import Greenflash
from typer.testing import CliRunner

from gati import __version__, observe
from gati.cli import doctor
from gati.cli.commands import app
from gati.store import marks, message_columns, queries
from gati.store.store import Store
from gati.studio.access import load_token
from gati.testing import ScriptedChatModel
from gati.testing.server import fault_injection as faults
from tests.optional import WARNINGS
from tests.servers import LocalServer, gati_backend, greenflash_server
from tests.store.bodies import body, said, step

ROOT = Path(__file__).parent.parent.parent
PRODUCT = "0b9f1c5e-7a44-4c63-9f0e-5f2b1f7c3a10"
GATI = "from gati.cli import main; main()"
LEAVE_A_TURN = """
from gati import observe
from gati.testing import ScriptedChatModel

observe.init(shutdown_timeout=0.1)
ScriptedChatModel(replies=["x"]).invoke("y")
while not observe.stats().spool_bytes:
    observe.flush(0.5)
observe.shutdown(0.1)
"""
"""A program that ends before its three messages are delivered, and after they are on disk."""


def gati(
    *arguments: str, program: str = GATI, cwd: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, *WARNINGS, "-c", program, *arguments]
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, check=False, timeout=100)


def destination(server: LocalServer, **more: str) -> dict[str, str]:
    return {"GREENFLASH_API_KEY": server.api_key, "GREENFLASH_BASE_URL": server.url, **more}


def invoke(*arguments: str, **variables: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(app, list(arguments), env=variables)


def doctor_checks(*arguments: str, **variables: str) -> dict[str, dict[str, str]]:
    """Return the checks of `gati doctor` by name."""
    return {check["name"]: check for check in json.loads(invoke("doctor", "--json", *arguments, **variables).stdout)}


def verdicts(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    return {check["name"]: check["verdict"] for check in json.loads(done.stdout)}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Create a store with one conversation."""
    file = tmp_path / "store.db"
    observe.init(local=file, agent_name="tutor")
    with observe.conversation("c-1", user_id="ada"):
        ScriptedChatModel(replies=["Four."]).invoke("What is 2 + 2?")
    assert observe.flush()
    observe.shutdown()
    return file


def test_demo_prints_its_conversation_from_the_embedded_store(tmp_path: Path):
    file = tmp_path / "store.db"
    done = gati("demo", GATI_LOCAL=str(file))
    assert done.returncode == 0, done.stderr
    for text in (
        "What does it cost to rent two city bikes for three days?", "Two city bikes for three days come to 97.20",
        "And if we bring them back two hours late?", "calculate", "2 documents", "tokens", "$0.0000", " ms", "run ",
        f"messages delivered to the embedded store, {file}.",
    ):  # fmt: skip
        assert text in done.stdout
    assert "unknown" not in done.stdout
    assert "gati studio" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="runs the command in a POSIX shell")
def test_demo_prints_commands_that_can_be_copied_without_an_active_environment(tmp_path: Path):
    scripts = Path(sysconfig.get_path("scripts"))
    if not (scripts / "gati").exists():
        pytest.skip("gati is not installed in this environment")
    folder = scripts.parent
    environment = {"GATI_LOCAL": str(tmp_path / "store.db"), "PATH": "/nowhere"}
    done = gati("demo", cwd=folder, **environment)
    (command,) = re.findall(r"^Print it again: +(.+)$", done.stderr, re.MULTILINE)
    assert command.startswith(f"{scripts.relative_to(folder)}/gati show demo-")
    shown = subprocess.run(
        command, shell=True, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "97.20" in shown.stdout


def test_demo_delivers_to_greenflash_if_a_key_is_set(greenflash: LocalServer):
    done = gati("demo", **destination(greenflash, GATI_PRODUCT_ID=PRODUCT))
    assert done.returncode == 0, done.stderr
    messages = greenflash.messages(product=PRODUCT)
    assert f"{2 * len(messages)} messages delivered to Greenflash" in done.stdout
    assert {message_columns.message_type(message) for message in messages} >= {
        "user_message", "task", "retrieval", "llm", "tool_call", "observation", "final_response",
    }  # fmt: skip


def test_demo_fails_if_greenflash_rejects_the_key(greenflash: LocalServer, tmp_path: Path):
    done = gati("demo", **destination(greenflash, GREENFLASH_API_KEY="gf_wrong", GATI_SPOOL_DIR=str(tmp_path)))
    assert done.returncode == 1
    assert "Not everything was delivered" in done.stderr
    assert "gf_wrong" not in done.stdout + done.stderr
    assert greenflash.messages() == []


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


@pytest.mark.parametrize(
    ("arguments", "variables", "code", "words"),
    [
        (["show", "nothing"], {}, 3, "there is no store at"),
        (["status"], {"GATI_BATCH_SIZE": "x"}, 2, "option 'batch_size' (from GATI_BATCH_SIZE)"),
        (["drain"], {}, 2, "no destination to deliver to"),
        (["serve", "--host", "0.0.0.0"], {}, 2, "only this machine"),
        (["dance"], {}, 2, "No such command"),
    ],
)
def test_errors_have_an_exit_code_and_a_message(arguments: list[str], variables: dict[str, str], code: int, words: str):
    done = gati(*arguments, **variables)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False)
    assert words in " ".join(done.stderr.split())


def test_exit_code_is_3_for_a_missing_conversation(store: Path):
    done = gati("show", "other", GATI_LOCAL=str(store))
    assert (done.returncode, done.stdout) == (3, "")


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_commands_name_the_extra_to_install_if_a_package_is_missing(missing: str):
    done = gati("demo", program=f"import sys; sys.modules[{missing!r}] = None; {GATI}")
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr == f"gati: the command line needs {missing}: pip install 'gati-greenflash[cli]'\n"


def test_studio_names_the_extra_to_install_if_a_package_is_missing():
    done = gati("studio", program=f"import sys; sys.modules['starlette'] = None; {GATI}")
    assert done.returncode == 4
    assert "pip install 'gati-greenflash[studio]'" in done.stderr


@pytest.mark.parametrize(
    "command", ["demo", "show", "status", "doctor", "drain", "export", "import", "push", "serve", "studio"]
)
def test_every_command_has_help_with_an_example(command: str):
    done = CliRunner().invoke(app, [command, "--help"])
    assert done.exit_code == 0
    assert f"Example: gati {command}" in " ".join(done.output.split())


def test_status_and_drain_find_messages_left_by_an_outage(tmp_path: Path):
    home = {"GATI_SPOOL_DIR": str(tmp_path / "spool")}
    with greenflash_server(path=tmp_path / "server.db") as server:
        port, environment = int(server.address.rsplit(":", 1)[-1]), destination(server, **home)
    assert gati(program=LEAVE_A_TURN, **environment).returncode == 0
    waiting = json.loads(gati("status", "--json", **environment).stdout)["spool"]["accounts"]
    assert [(account["messages"], account["orphaned"]) for account in waiting] == [(3, 3)]
    assert "3" in gati("status", **environment).stdout
    with greenflash_server(path=tmp_path / "server.db", port=port) as server:
        done = gati("drain", "--timeout", "30", **environment)
        assert (done.returncode, done.stdout) == (0, "3 messages delivered, 0 rejected, 0 waiting\n"), done.stderr
        assert len(server.messages()) == 3
    assert json.loads(gati("drain", "--json", "--timeout", "5", **environment).stdout)["delivered"] == 0


def test_drain_delivers_what_waits_for_the_embedded_store(tmp_path: Path):
    store = tmp_path / "store.db"
    environment = {"GATI_SPOOL_DIR": str(tmp_path / "spool"), "GATI_LOCAL": str(store)}
    store.mkdir()  # so that it cannot be written
    assert gati(program=LEAVE_A_TURN, **environment).returncode == 0
    store.rmdir()
    done = gati("drain", "--timeout", "30", **environment)
    assert (done.returncode, done.stdout) == (0, "3 messages delivered, 0 rejected, 0 waiting\n"), done.stderr
    assert gati("drain", **environment).returncode == 2


needs_products = pytest.mark.skipif(
    not hasattr(Greenflash(api_key="gf_k"), "products"), reason="this version of the SDK cannot list products"
)


def test_doctor_only_warns_if_the_sdk_cannot_verify_the_key(greenflash: LocalServer):
    """The SDK has no `products` before 1.3; the attribute is deleted from newer versions."""
    older = (
        "from greenflash import Greenflash; hasattr(Greenflash, 'products') and delattr(Greenflash, 'products');"
        " from gati.cli import main; main()"
    )
    done = gati("doctor", "--json", program=older, **destination(greenflash, GATI_PRODUCT_ID=PRODUCT))
    assert (verdicts(done)["key"], done.returncode) == ("warn", 0), done.stdout
    assert "this version of the SDK cannot verify it" in done.stdout


@needs_products
def test_doctor_passes_with_a_valid_key_and_product(greenflash: LocalServer):
    greenflash.store.ingest(
        {
            "productId": PRODUCT,
            "externalUserId": "u",
            "externalConversationId": "c",
            "messages": [{"role": "user", "content": "x"}],
        }
    )
    done = gati("doctor", "--json", **destination(greenflash, GATI_PRODUCT_ID=PRODUCT))
    assert set(verdicts(done).values()) == {"pass"}, done.stdout
    assert done.returncode == 0
    assert any(message["conversation"].startswith("doctor-") for message in greenflash.messages())


@needs_products
def test_doctor_fails_with_an_invalid_key(greenflash: LocalServer):
    done = gati("doctor", **destination(greenflash, GREENFLASH_API_KEY="gf_wrong"))
    assert done.returncode == 1
    assert "✗ fail  key: rejected (HTTP 401)" in done.stdout
    assert "✗ fail  delivery" in done.stdout
    assert "gf_wrong" not in done.stdout + done.stderr


@needs_products
def test_doctor_sends_nothing_after_a_refused_key(greenflash: LocalServer):
    with patch.object(doctor, "_check_delivery", side_effect=AssertionError):
        checks = doctor_checks(**destination(greenflash, GREENFLASH_API_KEY="gf_wrong"))
    assert checks["delivery"]["found"] == "not tried, because of the failure above"
    assert greenflash.messages() == []


def test_doctor_leaves_nothing_on_this_machine(greenflash: LocalServer, tmp_path: Path):
    temporary, home, work = tmp_path / "tmp", tmp_path / "home", tmp_path / "work"
    for folder in (temporary, home, work):
        folder.mkdir()
    places = {"TMPDIR": str(temporary), "HOME": str(home), "XDG_DATA_HOME": str(home / "data")}
    for more in (destination(greenflash, GATI_PRODUCT_ID=PRODUCT), {}):
        assert gati("doctor", cwd=work, **places, **more).returncode in (0, 1)
        assert sorted(tmp_path.rglob("*")) == [home, temporary, work]


@needs_products
def test_doctor_uses_one_conversation_of_greenflash_in_all_runs(greenflash: LocalServer):
    greenflash.store.ingest(body("c", said("a", "Hello")) | {"productId": PRODUCT})
    for _ in range(2):
        check = doctor_checks(**destination(greenflash, GATI_PRODUCT_ID=PRODUCT, GATI_SAMPLE_RATE="0"))["delivery"]
        assert check["verdict"] == "pass"
    conversations = {message["conversation"] for message in greenflash.messages()} - {"c"}
    assert len(conversations) == 1


@needs_products
def test_doctor_describes_failures_in_words(greenflash: LocalServer, monkeypatch: pytest.MonkeyPatch):
    greenflash.store.ingest(body("c", said("a", "Hello")) | {"productId": PRODUCT})
    monkeypatch.setattr(doctor, "DELIVERY_SECONDS", 1.0)
    greenflash.faults.add(faults.failing(503, times=None, path="/api/v1/messages"))
    check = doctor_checks(**destination(greenflash, GATI_PRODUCT_ID=PRODUCT))["delivery"]
    assert check["found"] == "of the test messages: 3 not answered in time"


@needs_products
def test_doctor_counts_conversations_without_an_id_in_greenflash(greenflash: LocalServer):
    for name in ("c-1", "019ac0de-0000-7000-8000-000000000001", "5f0b1c5e-7a44-4c63-9f0e-5f2b1f7c3a10"):
        greenflash.store.ingest(body(name, said(f"{name}:user", "Hello")) | {"productId": PRODUCT})
    check = doctor_checks("--no-send", **destination(greenflash, GATI_PRODUCT_ID=PRODUCT))["conversations"]
    assert (check["verdict"], check["found"]) == ("warn", "1 of the last 3 in Greenflash have no conversation id")


def test_doctor_names_unknown_variables_once():
    done = gati("doctor", "--no-send", GATI_FLUSH_INTERVALL="1")
    assert (done.stdout + done.stderr).count("GATI_FLUSH_INTERVALL (did you mean GATI_FLUSH_INTERVAL?)") == 1


@needs_products
def test_doctor_fails_for_an_unreachable_server_and_an_inaccessible_product(greenflash: LocalServer):
    done = gati("doctor", "--json", "--no-send", GREENFLASH_API_KEY="gf_k", GREENFLASH_BASE_URL="http://127.0.0.1:9")
    assert (verdicts(done)["key"], done.returncode) == ("fail", 1)
    done = gati("doctor", "--json", "--no-send", **destination(greenflash, GATI_PRODUCT_ID=PRODUCT))
    assert (verdicts(done)["key"], verdicts(done)["product"], done.returncode) == ("pass", "fail", 1)
    assert greenflash.messages() == []


def test_doctor_runs_without_an_account_and_fails_for_unwritable_folders(tmp_path: Path):
    done = gati("doctor", "--json")
    checks = verdicts(done)
    assert (checks.pop("key"), set(checks.values()), done.returncode) == ("warn", {"pass"}, 0)
    (tmp_path / "file").write_text("")
    blocked = str(tmp_path / "file" / "folder")
    done = gati("doctor", "--json", "--no-send", GATI_SPOOL_DIR=blocked, GATI_LOCAL=f"{blocked}/store.db")
    assert (verdicts(done)["spool"], verdicts(done)["store"], done.returncode) == ("fail", "fail", 1)


def test_doctor_counts_conversations_without_an_id(tmp_path: Path):
    file = tmp_path / "store.db"
    assert doctor_checks("--no-send", GATI_LOCAL=str(file))["conversations"]["verdict"] == "pass"
    with closing(Store(file)) as store:
        for conversation, run in (("c-1", "r-1"), ("r-2", "r-2")):
            message = {"externalMessageId": f"{run}:user", "messageType": "user_message", "content": "Hello"}
            store.ingest(
                {
                    "productId": PRODUCT,
                    "externalUserId": "u",
                    "externalConversationId": conversation,
                    "messages": [message],
                }
            )
    check = doctor_checks("--no-send", GATI_LOCAL=str(file))["conversations"]
    assert (check["verdict"], check["found"]) == ("warn", "1 of the last 2 have no conversation id")
    assert "thread_id" in check["advice"]


def test_serve_prints_its_address_and_accepts_messages(tmp_path: Path):
    command = [sys.executable, "-c", GATI, "serve", "--port", "0", "--key", "gf_k", "--store", str(tmp_path / "s.db")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        done = gati("demo", GREENFLASH_API_KEY="gf_k", GREENFLASH_BASE_URL=f"{address}/api/v1")
        server.terminate()
    assert done.returncode == 0, done.stderr
    assert "97.20" in gati("show", "--store", str(tmp_path / "s.db")).stdout


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_studio_prints_an_address_with_a_token_and_answers_nobody_else(store: Path, host: str):
    command = [
        sys.executable, "-c", GATI, "studio", "--port", "0", "--no-browser", "--host", host, "--store", str(store),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as studio:
        assert studio.stdout is not None
        assert studio.stderr is not None
        address = studio.stdout.readline().strip()
        with httpx.Client(follow_redirects=True) as client:
            assert client.get(address.partition("?")[0]).status_code == 401
            assert "What is 2 + 2?" in client.get(address).text
            port = address.partition("?")[0].rsplit(":", 1)[1]
            other_name = client.get(f"http://127.0.0.1:{port}", headers={"host": "elsewhere.example"})
        studio.terminate()
        notes = studio.stderr.read()
    assert other_name.status_code == (200 if host == "0.0.0.0" else 403)
    assert ("read and write all conversations" in notes) == (host == "0.0.0.0")
    assert address.endswith(f"/?token={load_token(store)}")


def test_export_writes_json_lines_and_markdown(store: Path, tmp_path: Path):
    environment = {"GATI_LOCAL": str(store)}
    done = gati("export", **environment)
    (line,) = done.stdout.splitlines()
    assert (json.loads(line)["externalConversationId"], done.stderr) == ("c-1", "1 conversation exported\n")
    assert gati("export", "c-1", "--format", "markdown", "-o", str(tmp_path / "c.md"), **environment).returncode == 0
    assert "> Four." in (tmp_path / "c.md").read_text("utf-8")
    assert gati("export", "--user", "nobody", **environment).stdout == ""
    assert gati("export", "c-2", **environment).returncode == 3


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_an_export_is_readable_by_its_owner_only(store: Path, tmp_path: Path):
    new, existing = tmp_path / "new.jsonl", tmp_path / "existing.jsonl"
    existing.write_text("something longer than the export\n" * 1000)
    existing.chmod(0o644)
    for file in (new, existing):
        assert invoke("export", "-o", str(file), GATI_LOCAL=str(store)).exit_code == 0
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert json.loads(file.read_text("utf-8"))["externalConversationId"] == "c-1"
    assert invoke("export", "no such id", "-o", str(new), GATI_LOCAL=str(store)).exit_code == 3
    assert new.read_text("utf-8") == existing.read_text("utf-8")
    assert invoke("export", "-o", str(tmp_path / "none" / "x"), GATI_LOCAL=str(store)).exit_code == 2
    assert invoke("export", "-o", "/dev/null", GATI_LOCAL=str(store)).exit_code == 0


def test_a_conversation_is_shared_as_one_html_file(store: Path, tmp_path: Path):
    environment = {"GATI_LOCAL": str(store)}
    with closing(Store(store)) as opened:
        opened.ingest(body("c-2", said("other", "Another conversation")))
        summary = queries.find_conversation(opened, "c-1")
        assert summary is not None
        marks.add_tag(opened, summary.id, "needs review", None)
    shown = invoke("show", "c-1", "--html", **environment)
    assert "<h1>What is 2 + 2?</h1>" in shown.stdout
    assert "needs review" not in shown.stdout
    assert "needs review" in invoke("show", "c-1", "--html", "--marks", **environment).stdout
    assert invoke("show", "c-3", "--html", **environment).exit_code == 3
    file = tmp_path / "c.html"
    assert invoke("export", "--format", "html", "-o", str(file), **environment).exit_code == 2
    assert not file.exists()
    assert invoke("export", "c-1", "--format", "html", "-o", str(file), **environment).exit_code == 0
    assert file.read_text("utf-8") == shown.stdout.removesuffix("\n")


def test_export_chooses_by_marks(store: Path):
    with closing(Store(store)) as opened:
        summary = queries.find_conversation(opened, "c-1")
        assert summary is not None
        marks.set_verdict(opened, summary.id, "bad", None)
    for options, exported in (
        (("--marked", "bad"), "1 conversation"),
        (("--marked", "good"), "0 "),
        (("--tag", "x"), "0 "),
    ):
        assert invoke("export", *options, GATI_LOCAL=str(store)).stderr.startswith(exported)


def test_push_sends_each_message_once(store: Path, greenflash: LocalServer):
    environment = destination(greenflash, GATI_PRODUCT_ID=PRODUCT, GATI_LOCAL=str(store))
    assert gati("push", **environment).stdout == "3 delivered, 0 rejected, 0 left\n"
    assert json.loads(gati("push", "--json", **environment).stdout)["delivered"] == 0
    assert [message["content"] for message in greenflash.messages("c-1", PRODUCT) if "content" in message] == [
        "What is 2 + 2?", "Four.",
    ]  # fmt: skip
    assert gati("push", GATI_LOCAL=str(store)).returncode == 2
    assert gati("push", **(environment | {"GREENFLASH_API_KEY": "gf_wrong"})).returncode == 1


def test_version_prints_the_package_version():
    assert invoke("--version").stdout == f"{__version__}\n"


def test_status_counts_the_contents_of_the_store(store: Path, tmp_path: Path):
    home = {"GATI_SPOOL_DIR": str(tmp_path / "spool"), "GATI_LOCAL": str(store)}
    lines = invoke("status", **home).stdout.splitlines()
    assert lines[1:] == ["no messages are waiting", f"store  {store}", "1 conversations  3 messages"]
    contents = json.loads(invoke("status", "--json", **home).stdout)["store"]
    assert (contents["conversations"], contents["messages"]) == (1, 3)


def test_show_fails_for_an_empty_store(tmp_path: Path):
    Store(tmp_path / "s.db").close()
    done = invoke("show", "--store", str(tmp_path / "s.db"))
    assert (done.exit_code, done.stdout) == (3, "")
    assert invoke("show", "--list", "--store", str(tmp_path / "s.db")).stdout == ""


def test_drain_reports_a_rejected_key(tmp_path: Path, greenflash: LocalServer):
    home = {"GATI_SPOOL_DIR": str(tmp_path / "spool")}
    environment = destination(greenflash, GREENFLASH_API_KEY="gf_wrong", **home)
    assert gati(program=LEAVE_A_TURN, **environment).returncode == 0
    done = gati("drain", "--timeout", "60", **environment)  # it stops as soon as the key is refused
    assert (done.returncode, done.stdout) == (1, "0 messages delivered, 0 rejected, 3 waiting\n")
    assert "rejected the API key; run `gati doctor` for details" in done.stderr


def test_push_reports_rejected_messages_with_the_reason(store: Path, greenflash: LocalServer):
    greenflash.faults.add(faults.failing(400, times=None))
    done = invoke("push", **destination(greenflash, GATI_PRODUCT_ID=PRODUCT, GATI_LOCAL=str(store)))
    assert (done.exit_code, done.stdout) == (1, "0 delivered, 3 rejected, 0 left\n")
    assert "3 rejected: HTTP 400" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pty")
def test_lists_are_tables_run_in_terminal(store: Path):
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


def run_in_terminal(*arguments: str, **variables: str) -> str:
    """Return what a command prints to a terminal."""
    import pty  # imported late: not available on Windows

    terminal, stdout = pty.openpty()
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "300",
        "TERM": "xterm",
        "NO_COLOR": "1",
        **variables,
    }
    with subprocess.Popen([sys.executable, "-c", GATI, *arguments], env=environment, stdout=stdout) as command:
        os.close(stdout)
        output = b""
        try:
            while chunk := os.read(terminal, 4096):
                output += chunk
        except OSError:  # raised on Linux when the other end is closed
            pass
        assert command.wait(100) == 0
    os.close(terminal)
    return re.sub(r"\x1b\[[\d;]*m", "", output.decode())  # remove colors


def test_doctor_names_an_invalid_option():
    check = doctor_checks("--no-send", GATI_BATCH_SIZE="x")["options"]
    assert check["verdict"] == "fail"
    assert "GATI_BATCH_SIZE" in check["found"]


def test_doctor_warns_about_disabled_features():
    checks = doctor_checks("--no-send", GATI_ENABLED="false", GATI_SPOOL="false")
    assert (checks["options"]["verdict"], checks["spool"]["verdict"]) == ("warn", "warn")
    assert checks["injection"]["verdict"] == "pass"


@needs_products
def test_doctor_lists_products_to_choose_from(greenflash: LocalServer):
    greenflash.store.ingest(
        {"productId": PRODUCT, "externalUserId": "u", "externalConversationId": "c",
         "messages": [{"role": "user", "content": "x"}]},
    )  # fmt: skip
    check = doctor_checks("--no-send", **destination(greenflash))["product"]
    assert check["verdict"] == "warn"
    assert PRODUCT in check["advice"]


def test_doctor_checks_an_otlp_receiver(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("opentelemetry.proto.trace.v1.trace_pb2", reason="needs opentelemetry-proto")
    from tests.otlp_receiver import failing, otlp_receiver

    with otlp_receiver() as receiver:
        checks = doctor_checks(GATI_OTLP_ENDPOINT=receiver.url)
        assert (checks["OTLP"]["verdict"], checks["delivery"]["verdict"]) == ("pass", "pass")
        assert [span.attributes["user.id"] for span in receiver.spans] == ["gati-doctor"]
        receiver.script.append(failing(401))
        refused = doctor_checks("--no-send", GATI_OTLP_ENDPOINT=receiver.url)["OTLP"]
        assert (refused["verdict"], "credentials" in refused["found"]) == ("fail", True)
    monkeypatch.setattr("gati.exporters.otlp.exporter._is_installed", lambda: False)
    missing = doctor_checks("--no-send", GATI_OTLP_ENDPOINT="http://127.0.0.1:4318")["OTLP"]
    assert (missing["verdict"], missing["advice"]) == ("fail", 'pip install "gati-greenflash[otel]"')


def test_doctor_does_not_read_back_from_a_gati_backend():
    with gati_backend() as server:
        check = doctor_checks(GATI_BACKEND_URL=server.url, GATI_BACKEND_API_KEY=server.api_key)["delivery"]
        assert (check["verdict"], "does not support reading them back" in check["found"]) == ("pass", True)
        assert server.events()


def test_doctor_reports_what_an_old_sdk_does_not_support(greenflash: LocalServer, monkeypatch: pytest.MonkeyPatch):
    for name in ("products", "interactions"):
        monkeypatch.delattr(Greenflash, name, raising=False)
    checks = doctor_checks(**destination(greenflash, GATI_PRODUCT_ID=PRODUCT))
    assert (checks["key"]["verdict"], checks["delivery"]["verdict"]) == ("warn", "pass")
    assert "cannot verify" in checks["key"]["found"]
    assert "cannot read them back" in checks["delivery"]["found"]


def test_doctor_reports_missing_packages_and_unsupported_versions(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "SUPPORTED_VERSIONS", {"greenflash": ("0.1", "0.2"), "no-such-package": ("1", "2")})
    checks = doctor_checks("--no-send")
    assert (checks["greenflash"]["verdict"], checks["no-such-package"]["verdict"]) == ("warn", "fail")
    assert "greenflash>=0.1,<0.2" in checks["greenflash"]["advice"]


def test_doctor_supports_the_same_versions_as_pyproject():
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    for name, (low, high) in doctor.SUPPORTED_VERSIONS.items():
        assert f'"{name}>={low},<{high}"' in project


def test_doctor_reports_a_check_that_raises():
    def broken_check() -> doctor.Check:
        raise LookupError("nowhere")

    check = doctor._run_guarded("delivery", broken_check)
    assert (check.verdict, check.found) == ("fail", "LookupError: nowhere")


ODD = "[/x] [link=http://evil]\x1b]0;PWNED\x07\x1b[2J\x9b31m\u202e\u2066\r<b>"
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture
def odd_store(tmp_path: Path) -> Path:
    """Create a store whose every id, name and text holds terminal sequences and markup."""
    file = tmp_path / "odd.db"
    prompt = {"externalPromptId": ODD, "content": ODD}
    with closing(Store(file)) as store:
        store.ingest(body(
            f"c{ODD}", said(f"q{ODD}", ODD),
            step(f"r{ODD}", "chain_start", f"q{ODD}", 1, properties={"name": ODD, "agent_name": ODD}, input={ODD: ODD}),
            step(f"m{ODD}", "llm", f"r{ODD}", 2, model=ODD, output={"text": ODD}, properties={"status": ODD}),
            step(f"t{ODD}", "tool_call", f"r{ODD}", 3, toolName=ODD, input={"x": ODD}),
            step(f"e{ODD}", "tool_error", f"t{ODD}", 4, output={"type": ODD, "message": ODD}),
            said(f"a{ODD}", ODD, 5, "final_response"), step(f"z{ODD}", "chain_end", f"r{ODD}", 6, output={"status": ODD}),
            user=ODD, systemPrompt=prompt, properties={ODD: ODD}, externalOrganizationId=ODD,
        ))  # fmt: skip
    return file


@pytest.mark.parametrize(
    "command",
    [
        ["show"], ["show", "--json"], ["show", "--list"], ["show", "--list", "--json"], ["show", f"c{ODD}"],
        ["show", f"no such {ODD}"], ["export"], ["export", "--format", "markdown"], ["status"],
    ],
)  # fmt: skip
def test_no_command_prints_what_a_terminal_obeys(odd_store: Path, command: list[str]):
    done = invoke(*command, GATI_LOCAL=str(odd_store))
    assert done.exception is None or isinstance(done.exception, SystemExit)
    assert not OBEYED.search(done.output)
    if command not in (["status"], ["show", f"no such {ODD}"]):
        assert "PWNED" in done.output
    if "--json" in command:
        assert any(ODD in str(value) for row in json.loads(done.stdout) for value in row.values())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pty")
def test_a_terminal_shows_markup_and_control_characters_as_text(odd_store: Path):
    for command in (["show"], ["show", "--list"]):
        printed = run_in_terminal(*command, GATI_LOCAL=str(odd_store))
        assert "[/x]" in printed
        assert not OBEYED.search(printed.replace("\r\n", "\n"))
