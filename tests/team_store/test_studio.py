"""`gati studio --store postgresql://…`, and the other commands that read a store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
from typer.testing import CliRunner

from gati.cli.commands import app
from gati.exporters.base import Request, Verdict
from gati.exporters.greenflash.exporter import GreenflashExporter
from gati.push import push_store
from gati.settings import load
from gati.store import people, queries
from gati.team_store.exporter import TeamStoreExporter
from gati.team_store.store import PostgresStore
from tests.brokers import PostgresServer
from tests.servers import LocalServer, studio_client
from tests.store.bodies import body, said, turn

ROOT = Path(__file__).parents[2]
AUTHORIZED = {"authorization": "Bearer any"}


def test_two_studios_share_one_store_and_one_token_and_accept_what_a_client_sends(team_database: str) -> None:
    command = [
        sys.executable, "-c", "from gati.cli.commands import run_app; run_app()", "studio", "--port", "0", "--no-browser",
        "--store", team_database,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    running = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for _ in range(2)
    ]
    try:
        addresses = [studio.stdout.readline().strip() for studio in running if studio.stdout is not None]
        bases = [address.partition("/?token=")[0] for address in addresses]
        (token,) = {address.partition("/?token=")[2] for address in addresses}
        assert httpx.get(bases[0]).status_code == 401
        headers = {"authorization": f"Bearer {token}"}

        def post(number: int) -> int:
            given = body(f"c{number}", *turn(f"r{number}", f"Question {number}?"))
            return httpx.post(f"{bases[number % 2]}/api/v1/messages", json=given, headers=headers).status_code

        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(post, range(24))) == {201}
        for base in bases:
            page = httpx.get(base, headers=headers).text
            assert "Question 23?" in page
            assert "Question 7?" in httpx.get(f"{base}/?q=7", headers=headers).text
    finally:
        for studio in running:
            studio.terminate()
            studio.wait(10)
            assert studio.stdout is not None
            studio.stdout.close()


def test_a_local_server_of_greenflash_serves_a_teams_store(team_database: str) -> None:
    command = [sys.executable, "-c", "from gati.cli.commands import run_app; run_app()", "serve", "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [*command, "--store", team_database], env=environment, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            given = body("c", *turn("r", "What is 2 + 2?"))
            assert httpx.post(f"{address}/api/v1/messages", json=given, headers=AUTHORIZED).status_code == 201
        finally:
            server.terminate()
    assert "What is 2 + 2?" in CliRunner().invoke(app, ["show", "--store", team_database, "c"]).output


def test_show_and_export_read_a_teams_store_and_explain_what_is_missing(team_database: str, postgres: str) -> None:
    store = PostgresStore(team_database)
    store.ingest(body("c", *turn("r", "What is 2 + 2?")))
    store.close()
    shown = CliRunner().invoke(app, ["export", "--store", team_database])
    assert json.loads(shown.stdout)["externalConversationId"] == "c"
    assert "What is 2 + 2?" in CliRunner().invoke(app, ["show", "--store", team_database, "c"]).output
    missing = CliRunner().invoke(app, ["show", "--store", postgres, "c"])
    assert missing.exit_code == 2
    assert "has no store of gati" in missing.output


def test_a_push_sends_each_message_of_a_teams_store_once(team_database: str, greenflash: LocalServer) -> None:
    store = PostgresStore(team_database)
    store.ingest_many([body(f"c{number}", *turn(f"r{number}")) for number in range(3)])
    store.record_action("users", {"externalUserId": "u-1", "name": "Ada"})
    settings = load(api_key=greenflash.api_key, base_url=greenflash.url)
    with closing(GreenflashExporter(settings)) as exporter:
        first = push_store(store, exporter)
    assert (first.delivered, first.left) == (37, 0)
    store.ingest(body("c0", said("later", "one more", 9000)))
    with closing(GreenflashExporter(settings)) as exporter:
        second = push_store(store, exporter)
    assert (second.delivered, second.left) == (1, 0)
    assert len(queries.wire_messages(greenflash.store)) == 37
    store.close()


def test_an_exporter_writes_to_the_database_and_waits_while_it_is_away(
    team_database: str, postgres_server: PostgresServer
) -> None:
    encoder = GreenflashExporter(load(api_key="gf_x", base_url="http://127.0.0.1:1"))
    exporter = TeamStoreExporter(team_database, encoder)
    message = {"externalMessageId": "a", "messageType": "user_message", "content": "hello"}
    given = [
        {"external_conversation_id": f"c{number}", "external_user_id": "u", "messages": [message]}
        for number in range(3)
    ]
    requests = [Request(str(body["external_conversation_id"]), body, 1, "turn") for body in given]
    user = Request("users", {"external_user_id": "u", "name": "Ada"}, 1, "turn", "users")
    assert [outcome.verdict for outcome in exporter.send_many([*requests[:2], user])] == [Verdict.OK] * 3
    postgres_server.kill()
    assert [outcome.verdict for outcome in exporter.send_many(requests)] == [Verdict.RETRY] * 3
    assert exporter.send(requests[2]).verdict is Verdict.RETRY
    postgres_server.start()
    assert exporter.send(requests[2]).verdict is Verdict.OK
    store = PostgresStore(team_database, read_only=True)
    assert {row["conversation"] for row in queries.wire_messages(store)} == {"c0", "c1", "c2"}
    assert people.user_names(store, {"u"}) == {"u": "Ada"}
    for opened in (store, exporter, encoder):
        opened.close()


def test_the_api_answers_503_while_the_database_is_away(team_database: str, postgres_server: PostgresServer) -> None:
    store = PostgresStore(team_database)
    pages = studio_client(store)
    postgres_server.kill()
    answer = pages.post("/api/v1/messages", json=body("c", said("a", "x")))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    postgres_server.start()
    assert pages.post("/api/v1/messages", json=body("c", said("a", "x"))).status_code == 201
    store.close()
