"""From a program to Greenflash: published to a queue, delivered by a relay, and what commands and metrics say about it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import psycopg
import pytest
from typer.testing import CliRunner

from gati import observe
from gati.cli.commands import app
from gati.relay.relay import Relay
from gati.relay.relay_metrics import serve_metrics
from gati.testing import ScriptedChatModel
from gati.testing.server import fault_injection
from tests.brokers import KafkaBroker, PostgresServer
from tests.pipeline.kit import wait_until
from tests.relay import kit
from tests.relay.kit import Queue, relay_of
from tests.servers import LocalServer

ROOT = Path(__file__).parents[2]


def shown(store: str, *arguments: str) -> str:
    """Return what `gati show` prints of a team's store."""
    program = [sys.executable, "-c", "from gati.cli import main; main()", "show", "--store", store, *arguments]
    return subprocess.run(program, capture_output=True, text=True, check=False, cwd=ROOT).stdout


def test_a_program_s_conversation_arrives_through_the_queue(queue: Queue, greenflash: LocalServer):
    observe.init(queue=queue.url, product_id=kit.PRODUCT, user_id="anna", local=False)
    model = ScriptedChatModel(replies=["Hello Anna", "It is sunny"])
    with observe.conversation("c1"):
        model.invoke("Hello")
        model.invoke("How is the weather?")
    published = observe.flush(20).published
    observe.shutdown()
    with relay_of(queue, greenflash) as relay:
        wait_until(lambda: relay.counts().delivered == published)
    messages = greenflash.messages("c1")
    assert len(messages) == published
    said = [
        m["content"] for m in messages if m["messageType"] in ("user_message", "assistant_message", "final_response")
    ]
    assert [text for text in said if text] == ["Hello", "Hello Anna", "How is the weather?", "It is sunny"]
    assert {body["externalUserId"] for body in greenflash.bodies()} == {"anna"}
    assert {body["productId"] for body in greenflash.bodies()} == {kit.PRODUCT}


def test_commands_show_the_queue_and_replay_dead_letters(queue: Queue, greenflash: LocalServer):
    def gati(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, [*arguments, "--queue", queue.url])
        assert result.exit_code == code, result.output
        return result.stdout

    turn = kit.queued(kit.request("c", 0))
    queue.publish([replace(turn, format="99")])
    assert json.loads(gati("relay", "status", "--json"))["turns"] == 1
    with relay_of(queue, greenflash) as relay:
        wait_until(lambda: relay.counts().dead)
    status = json.loads(gati("relay", "status", "--json"))
    assert (status["turns"], status["dead"], status["relays"]) == (0, 1, [])
    (row,) = json.loads(gati("dead", "list", "--json"))
    assert (row["reason"], row["conversation"], row["product"]) == ("unknown format", "c", kit.PRODUCT)
    assert json.loads(gati("dead", "show", row["id"]))["request"]["lane"] == "c"
    gati("dead", "show", "no-such-id", code=3)
    gati("dead", "replay", code=2)
    gati("dead", "replay", row["id"])
    assert json.loads(gati("relay", "status", "--json"))["turns"] == 1
    assert json.loads(gati("dead", "list", "--json")) == []
    with relay_of(queue, greenflash) as relay:
        wait_until(lambda: relay.counts().dead)
    gati("dead", "drop", "--all")
    assert json.loads(gati("dead", "list", "--json")) == []


def test_commands_that_read_create_no_queue(postgres: str, kafka: KafkaBroker):
    other_topic = kafka.new_topic() + "-other"
    for queue in (postgres, other_topic):
        for arguments in (["relay", "status"], ["dead", "list"]):
            result = CliRunner().invoke(app, [*arguments, "--queue", queue])
            assert (result.exit_code, result.stdout) == (0, ""), result.output
            assert "no queue" in result.stderr
        assert CliRunner().invoke(app, ["dead", "show", "1", "--queue", queue]).exit_code == 3
        assert json.loads(CliRunner().invoke(app, ["relay", "status", "--json", "--queue", queue]).stdout)["lanes"] == 0
        assert json.loads(CliRunner().invoke(app, ["dead", "list", "--json", "--queue", queue]).stdout) == []
    with psycopg.connect(postgres) as connection:
        assert connection.execute("SELECT count(*) FROM pg_class WHERE relname LIKE 'gati%'").fetchone() == (0,)
    assert other_topic.rpartition("/")[2] not in kafka.topics()


@contextmanager
def metrics_of(relay: Relay) -> Iterator[str]:
    server = serve_metrics(relay, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def test_metrics_are_the_relay_s_counts(queue: Queue, greenflash: LocalServer):
    published = kit.turns(["a", "b"], 3)
    published.append(replace(published[0], format="99"))
    queue.publish(published)
    with relay_of(queue, greenflash, session_seconds=3.0, rate=1000.0) as relay, metrics_of(relay) as address:
        wait_until(lambda: relay.counts().delivered == 12 and relay.counts().dead and not relay.counts().held)
        with urllib.request.urlopen(address + "/metrics") as answer:
            lines = answer.read().decode().splitlines()
        values = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line[0] != "#"}
        counts = relay.counts()
        assert values["gati_relay_delivered_total"] == counts.delivered == 12
        assert values["gati_relay_requests_total"] == counts.requests
        assert values['gati_relay_dead_total{reason="unknown format"}'] == 1
        assert values["gati_relay_lanes"] == counts.lanes == counts.total_lanes
        assert values["gati_relay_held"] == values["gati_relay_paused"] == values["gati_relay_inflight"] == 0
        assert values["gati_relay_rate_limit"] == 1000
        assert urllib.request.urlopen(address + "/health").status == 200
        with pytest.raises(HTTPError, match="404"):
            urllib.request.urlopen(address + "/other")
    assert not wait_unhealthy(relay)


def wait_unhealthy(relay: Relay) -> bool:
    """Return whether a relay that has ended is healthy, once its last poll is older than its session."""
    wait_until(lambda: not relay.is_healthy)
    return relay.is_healthy


def test_as_many_requests_as_wished_are_made_at_once(postgres: str, greenflash: LocalServer, tmp_path: Path):
    seen: set[str] = set()

    def note(body: dict[str, Any], size: int) -> bool:
        seen.add(body["externalConversationId"])
        return True

    greenflash.faults.add(fault_injection.black_hole(times=None, applies=note))
    kit.PostgresQueue(postgres).publish(kit.turns([f"c{number}" for number in range(20)], 1))
    program = [sys.executable, "-c", "from gati.cli import main; main()"]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "GREENFLASH_API_KEY": greenflash.api_key,
        "GREENFLASH_BASE_URL": greenflash.url,
        "GATI_TIMEOUT": "300",
    }
    arguments = ["relay", "run", "--queue", postgres, "--connections", "12"]
    with subprocess.Popen([*program, *arguments], cwd=tmp_path, env=environment) as relay:
        try:
            wait_until(lambda: len(seen) == 12)
        finally:
            relay.kill()


def test_a_relay_delivers_to_the_team_s_store(postgres: str, postgres_server: PostgresServer, tmp_path: Path):
    store = postgres_server.new_database()
    observe.init(queue=postgres, product_id=kit.PRODUCT, user_id="anna", local=False)
    with observe.conversation("c1"):
        ScriptedChatModel(replies=["Hello Anna"]).invoke("Hello")
    published = observe.flush(20).published
    observe.shutdown()
    program = [sys.executable, "-c", "from gati.cli import main; main()"]
    arguments = ["relay", "run", "--queue", postgres, "--to", store]
    with subprocess.Popen([*program, *arguments], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}) as relay:
        try:
            wait_until(lambda: "c1" in shown(store, "--list"), 60)
        finally:
            relay.terminate()
    assert relay.returncode == 0
    assert published > 0
    assert "Hello Anna" in shown(store, "c1")
