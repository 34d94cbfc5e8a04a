"""The strict local Greenflash over real HTTP, with the real SDK where it can say it."""

from __future__ import annotations

import concurrent.futures
import signal
import subprocess
import sys
import time
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import greenflash
import httpx
import pytest
from starlette.testclient import TestClient

from gati.store.store import Store
from gati.studio import server
from gati.testing.server import fault_injection as faults
from tests.servers import LocalServer, gati_backend, greenflash_server
from tests.store.bodies import body, said, turn


@pytest.fixture(scope="module")
def shared() -> Any:
    with greenflash_server() as running:
        yield running


@pytest.fixture
def local(shared: LocalServer) -> Any:
    yield shared
    shared.faults.clear()


def sdk(local: LocalServer, **more: Any) -> greenflash.Greenflash:
    return greenflash.Greenflash(api_key=local.api_key, base_url=local.url, max_retries=0, **more)


def key(local: LocalServer) -> dict[str, str]:
    return {"authorization": f"Bearer {local.api_key}"}


def post(local: LocalServer, told: Any, path: str = "/messages", **more: Any) -> httpx.Response:
    headers = {**key(local), **more.pop("headers", {})}
    form = "content" if isinstance(told, (bytes, str)) else "json"
    return httpx.post(local.url + path, headers=headers, **{form: told}, **more)


reads = pytest.mark.skipif(find_spec("greenflash.resources.products") is None, reason="this SDK reads nothing back")


@reads
def test_the_sdk_reads_what_it_wrote(local: LocalServer) -> None:
    with sdk(local) as client:
        created = client.messages.create(
            external_user_id="u", external_conversation_id="sdk",
            messages=[
                {"role": "user", "content": "Hello"},
                {"message_type": "final_response", "content": "Hi", "external_message_id": "a"},
            ],
            system_prompt={"external_prompt_id": "p", "components": [{"content": "Hi {{x}}"}], "variables": {"x": "1"}},
        )  # fmt: skip
        found = client.interactions.get(created.conversation_id)
        listed = client.interactions.list()
        products = client.products.list()
    assert created.success
    assert [message.status for message in created.messages] == ["created", "created"]
    assert len(created.system_prompt_component_ids) == 1
    assert [(message.role, message.content) for message in found.messages] == [
        ("user", "Hello"),
        ("final_response", "Hi"),
    ]
    assert created.conversation_id in [interaction.id for interaction in listed]
    assert products


@reads
def test_users_organizations_ratings_and_events_are_taken_as_the_sdk_sends_them(local: LocalServer) -> None:
    with sdk(local) as client:
        product = client.products.list()[0].id
        client.messages.create(
            external_user_id="u", external_conversation_id="r", messages=[{"role": "user", "content": "x"}]
        )
        user = client.users.create(external_user_id="u-9", name="Ada")
        again = client.users.create(external_user_id="u-9", email="ada@example.org")
        changed = client.users.update(user.participant.id, phone="1")
        organization = client.organizations.create(external_organization_id="o", name="Org")
        event = client.events.create(event_type="upgrade", product_id=product, value="1", insert_id="i")
        repeated = client.events.create(event_type="upgrade", product_id=product, value="1", insert_id="i")
        rating = client.ratings.log(
            product_id=product, rating=5, rating_min=0, rating_max=5, external_conversation_id="r"
        )
        assert "u-9" in [participant.external_id for participant in client.users.list()]
    assert (again.participant.id, again.participant.name) == (user.participant.id, "Ada")
    assert changed.participant.phone == "1"
    assert httpx.put(f"{local.url}/users/{user.participant.id}", content=b"[]", headers=key(local)).status_code == 400
    assert httpx.put(f"{local.url}/users/nobody", json={}, headers=key(local)).status_code == 404
    assert organization.organization.name == "Org"
    assert event.event_id == repeated.event_id
    assert rating.success


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ({}, "Authentication required"),
        ({"authorization": "Basic abc"}, "Invalid authorization header"),
        ({"authorization": "Bearer wrong"}, "Invalid API key"),
    ],
)
def test_a_request_without_a_good_key_is_told_what_is_wrong(local: LocalServer, headers: Any, text: str) -> None:
    answer = httpx.post(local.url + "/messages", json={}, headers=headers)
    assert answer.status_code == 401
    assert answer.json()["message"].startswith(text)


def test_a_good_request_is_created(local: LocalServer) -> None:
    answer = post(local, body("created", *turn("r")))
    assert answer.status_code == 201
    assert answer.json()["success"] is True


def test_a_bad_request_names_the_place(local: LocalServer) -> None:
    answer = post(local, body("c", {"messageType": "tool_call"}))
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("Validation error: messages.0")
    assert answer.json()["message"] == answer.json()["error"]
    assert answer.json()["success"] is False


@pytest.mark.parametrize(
    "told", [b"", b"{", b"[" * 100_000, b'{"a": NaN}', b'{"a": 1e999}', b'{"a": "\\ud800"}', b"\xff", b"[]", b"null"]
)
def test_what_is_no_json_object_is_a_bad_request(local: LocalServer, told: bytes) -> None:
    for path in ("/messages", "/users", "/ratings"):
        assert post(local, told, path).status_code == 400


def test_unknown_keys_are_accepted_and_recorded() -> None:
    with greenflash_server() as local:
        assert post(local, body("c", said("a", "x", colour="red"))).status_code == 201
        assert local.unknown_keys == ["messages.0.colour"]


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "127.0.0.1.evil.example"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
    ],
)
def test_other_sites_are_not_answered(local: LocalServer, headers: dict[str, str]) -> None:
    assert post(local, body("c", said("a", "x")), headers=headers).status_code == 403


def test_a_body_over_the_limit_is_refused_unread(local: LocalServer) -> None:
    def endless() -> Any:
        for _ in range(30):
            yield b"x" * 1024**2

    assert httpx.post(local.url + "/messages", content=b"x" * (21 * 1024**2)).status_code == 413
    assert httpx.post(local.url + "/messages", content=endless()).status_code == 413


@pytest.mark.parametrize("host", ["0.0.0.0", "example.org", "192.168.0.1"])
def test_only_loopback_is_served(host: str) -> None:
    with pytest.raises(ValueError, match="only this machine"):
        server.listen(host)


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (faults.failing(500), 500),
        (faults.failing(503), 503),
        (faults.failing(408), 408),
        (faults.failing(409), 409),
        (faults.rate_limited("3"), 429),
        (faults.unauthorized(403), 403),
        (faults.too_large(items=0, times=1), 413),
        (faults.bad_message("a", times=1), 400),
        (faults.no_parents(times=1), 400),
        (faults.html(), 200),
        (faults.json_value([]), 200),
        (faults.redirect(), 302),
        (faults.empty(), 204),
    ],
)
def test_a_fault_happens_once_and_keeps_nothing(local: LocalServer, fault: faults.InjectedFault, status: int) -> None:
    conversation = f"fault {fault.name} {status}"
    told = body(conversation, said("a", "x", parentExternalMessageId="p"))
    local.faults.add(fault)
    assert post(local, told).status_code == status
    assert local.messages(conversation) == []
    assert post(local, told).status_code == 201
    assert len(local.messages(conversation)) == 1


@pytest.mark.parametrize("form", ["7", "1.5", "nonsense", "", faults.http_date(30)])
def test_retry_after_comes_in_every_form(local: LocalServer, form: str) -> None:
    local.faults.add(faults.rate_limited(form))
    assert post(local, body("c", said("a", "x"))).headers["retry-after"] == form


@pytest.mark.parametrize("after", [False, True])
def test_a_connection_breaks_before_or_after_the_request_was_kept(local: LocalServer, after: bool) -> None:
    conversation = f"reset {after}"
    local.faults.add(faults.connection_reset(after_commit=after))
    with pytest.raises(httpx.TransportError):
        post(local, body(conversation, said("a", "x")))
    assert len(local.messages(conversation)) == after


@pytest.mark.parametrize("after", [False, True])
def test_a_black_hole_never_answers(local: LocalServer, after: bool) -> None:
    conversation = f"hole {after}"
    local.faults.add(faults.black_hole(after_commit=after))
    with pytest.raises(httpx.TimeoutException):
        post(local, body(conversation, said("a", "x")), timeout=0.3)
    assert len(local.messages(conversation)) == after


def test_a_black_hole_ends_when_the_faults_are_cleared(local: LocalServer) -> None:
    local.faults.add(faults.black_hole())
    before = local.faults.hits["black_hole"]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        waiting = pool.submit(post, local, body("c", said("a", "x")))
        while local.faults.hits["black_hole"] == before:
            time.sleep(0.01)
        local.faults.clear()
        assert isinstance(waiting.exception(20), httpx.TransportError)


def test_a_slow_answer_is_a_good_one(local: LocalServer) -> None:
    local.faults.add(faults.slow(0.05))
    assert post(local, body("slow", said("a", "x"))).status_code == 201


def test_a_parent_must_be_known_when_the_server_is_that_strict(local: LocalServer) -> None:
    local.faults.add(local.faults.create("unknown_parent"))
    assert post(local, body("strict", said("a", "x"), said("b", "y", parentExternalMessageId="a"))).status_code == 201
    assert post(local, body("strict", said("d", "y", parentExternalMessageId="b"))).status_code == 201
    answer = post(local, body("strict", said("e", "y", parentExternalMessageId="nobody")))
    assert (answer.status_code, answer.json()["error"]) == (400, "Parent message not found")


def test_a_conversation_that_is_not_there_is_not_found(local: LocalServer) -> None:
    told = body("c", said("a", "x"), conversationId="33333333-3333-4333-8333-333333333333")
    answer = post(local, told)
    assert (answer.status_code, answer.json()["error"]) == (404, "Conversation not found")


def event(**more: Any) -> dict[str, Any]:
    given = {
        "event_type": "llm_call", "run_id": "run", "run_name": "temp_1", "agent_name": "tutor", "event_id": "e1",
        "timestamp": "2026-11-20T10:00:00Z", "parent_event_id": None, "data": {"prompt": "Hi", "completion": "Hello"},
    }  # fmt: skip
    return {**given, **more}


def test_events_of_a_gati_backend_are_kept_once_and_shown_as_messages() -> None:
    with gati_backend() as local:
        events = [event(), event(event_id="e2", event_type="tool_call", data={"tool_name": "calc", "output": 3})]
        assert post(local, {"events": events}, "/api/events").status_code == 201
        assert post(local, {"events": events}, "/api/events").json()["stored"] == 0
        assert local.events() == events
        kinds = [message["messageType"] for message in local.messages("run")]
    assert kinds == ["user_message", "llm", "assistant_message", "tool_call", "observation"]


@pytest.mark.parametrize(
    "change",
    [
        {"event_type": ""}, {"event_type": "x" * 51}, {"run_id": "x" * 37}, {"run_name": "x" * 256}, {"agent_name": None},
        {"timestamp": "now"}, {"event_id": "x" * 37}, {"parent_event_id": ""}, {"data": None}, {"data": []},
    ],
)  # fmt: skip
def test_one_bad_event_refuses_the_whole_batch(change: dict[str, Any]) -> None:
    with gati_backend() as local:
        answer = post(local, {"events": [event(), event(event_id="e2") | change]}, "/api/events")
        assert (answer.status_code, local.events()) == (422, [])


@pytest.mark.parametrize("change", [{"run_id": "other", "run_name": "fixed"}, {"agent_name": "other"}])
def test_names_that_the_backend_cannot_tell_apart_are_its_error_500(change: dict[str, Any]) -> None:
    with gati_backend() as local:
        assert post(local, {"events": [event(run_name="fixed")]}, "/api/events").status_code == 201
        second = event(event_id="e2", run_name="fixed") | change
        assert post(local, {"events": [second]}, "/api/events").status_code == 500
        assert len(local.events()) == 1


_SERVE = """
import sys
from gati.testing.server.app import serve_test_server
serve_test_server(port=0, path=sys.argv[1], control=True, ready=lambda address: print(address, flush=True))
"""


def test_a_server_in_a_process_of_its_own_is_steered_from_outside(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    program = subprocess.Popen(
        [sys.executable, "-c", _SERVE, str(tmp_path / "store.db")], cwd=root, stdout=subprocess.PIPE, text=True
    )
    try:
        assert program.stdout is not None
        address = program.stdout.readline().strip()
        told = {"externalUserId": "u", "externalConversationId": "c", "messages": [{"role": "user", "content": "x"}]}
        fault = {"kind": "rate_limited", "retry_after": "3"}
        assert httpx.post(f"{address}/__faults__", json=fault).status_code == 200
        assert httpx.post(f"{address}/__faults__", json={"kind": "no such"}).status_code == 400
        assert httpx.post(f"{address}/api/v1/messages", json=told).headers["retry-after"] == "3"
        assert httpx.post(f"{address}/api/v1/messages", json=told).status_code == 201
        assert httpx.get(f"{address}/__faults__").json() == {"hits": {"rate_limited": 1}}
        assert httpx.delete(f"{address}/__faults__").status_code == 200
    finally:
        program.terminate()
        program.communicate(timeout=20)
    assert program.returncode in (0, -signal.SIGTERM)


def test_faults_cannot_be_steered_unless_the_server_was_told_so(local: LocalServer) -> None:
    assert httpx.post(f"{local.address}/__faults__", json={"kind": "html"}).status_code == 404


def test_a_fault_that_is_not_known_is_refused_with_those_that_are() -> None:
    with pytest.raises(ValueError, match="no fault 'earthquake'; there are failing, rate_limited"):
        faults.FaultInjector().create("earthquake")
    assert faults.FaultInjector().create("failing", status=503).status == 503


def test_a_fault_that_looks_at_the_body_lets_pass_what_is_no_json(local: LocalServer) -> None:
    local.faults.add(faults.no_parents())
    before = local.faults.hits["no_parents"]
    assert post(local, b"{").status_code == 400
    assert local.faults.hits["no_parents"] == before


def test_a_request_larger_than_the_whole_store_is_refused(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "s.db", max_bytes=1024**2)) as store:
        client = TestClient(server.create_studio_app(store), base_url="http://127.0.0.1")
        answer = client.post("/api/v1/messages", json=body("c", said("a", "x" * 2 * 1024**2)))
        assert answer.status_code == 413
        assert client.get("/openapi.json").json()["openapi"].startswith("3.")
