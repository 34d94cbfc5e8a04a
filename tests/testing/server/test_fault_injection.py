"""The test server: injected faults and recorded requests."""

from __future__ import annotations

import concurrent.futures
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from gati.testing.server import fault_injection as faults
from tests.servers import LocalServer, greenflash_server
from tests.store.bodies import body, said


@pytest.fixture(scope="module")
def shared() -> Any:
    with greenflash_server() as running:
        yield running


@pytest.fixture
def local(shared: LocalServer) -> Any:
    yield shared
    shared.faults.clear()


def test_unknown_keys_are_accepted_and_recorded() -> None:
    with greenflash_server() as local:
        assert local.post(body("c", said("a", "x", colour="red"))).status_code == 201
        assert local.unknown_keys == ["messages.0.colour"]


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
def test_a_fault_is_injected_once_and_nothing_is_stored(
    local: LocalServer, fault: faults.InjectedFault, status: int
) -> None:
    conversation = f"fault {fault.name} {status}"
    payload = body(conversation, said("a", "x", parentExternalMessageId="p"))
    local.faults.add(fault)
    assert local.post(payload).status_code == status
    assert local.messages(conversation) == []
    assert local.post(payload).status_code == 201
    assert len(local.messages(conversation)) == 1


@pytest.mark.parametrize("form", ["7", "1.5", "nonsense", "", pytest.param(faults.http_date(30), id="date")])
def test_retry_after_is_sent_in_every_form(local: LocalServer, form: str) -> None:
    local.faults.add(faults.rate_limited(form))
    assert local.post(body("c", said("a", "x"))).headers["retry-after"] == form


@pytest.mark.parametrize("after", [False, True])
def test_a_connection_is_reset_before_or_after_the_request_is_stored(local: LocalServer, after: bool) -> None:
    conversation = f"reset {after}"
    local.faults.add(faults.connection_reset(after_commit=after))
    with pytest.raises(httpx.TransportError):
        local.post(body(conversation, said("a", "x")))
    assert len(local.messages(conversation)) == after


@pytest.mark.parametrize("after", [False, True])
def test_a_black_hole_never_responds(local: LocalServer, after: bool) -> None:
    conversation = f"hole {after}"
    local.faults.add(faults.black_hole(after_commit=after))
    with pytest.raises(httpx.TimeoutException):
        local.post(body(conversation, said("a", "x")), timeout=0.3)
    assert len(local.messages(conversation)) == after


def test_clearing_the_faults_ends_a_black_hole(local: LocalServer) -> None:
    local.faults.add(faults.black_hole())
    before = local.faults.hits["black_hole"]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        waiting = pool.submit(local.post, body("c", said("a", "x")))
        while local.faults.hits["black_hole"] == before:
            time.sleep(0.01)
        local.faults.clear()
        assert isinstance(waiting.exception(20), httpx.TransportError)


def test_a_slow_response_is_a_successful_one(local: LocalServer) -> None:
    local.faults.add(faults.slow(0.05))
    assert local.post(body("slow", said("a", "x"))).status_code == 201


def test_unknown_parent_rejects_messages_whose_parent_is_not_stored(local: LocalServer) -> None:
    local.faults.add(local.faults.create("unknown_parent"))
    assert local.post(body("strict", said("a", "x"), said("b", "y", parentExternalMessageId="a"))).status_code == 201
    assert local.post(body("strict", said("d", "y", parentExternalMessageId="b"))).status_code == 201
    response = local.post(body("strict", said("e", "y", parentExternalMessageId="nobody")))
    assert (response.status_code, response.json()["error"]) == (400, "Parent message not found")


_SERVE = """
import sys
from gati.testing.server.app import serve_test_server
serve_test_server(port=0, path=sys.argv[1], control=True, ready=lambda address: print(address, flush=True))
"""


def test_faults_of_a_server_in_another_process_are_controlled_over_http(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    program = subprocess.Popen(
        [sys.executable, "-c", _SERVE, str(tmp_path / "store.db")], cwd=root, stdout=subprocess.PIPE, text=True
    )
    try:
        assert program.stdout is not None
        address = program.stdout.readline().strip()
        payload = {"externalUserId": "u", "externalConversationId": "c", "messages": [{"role": "user", "content": "x"}]}
        fault = {"kind": "rate_limited", "retry_after": "3"}
        assert httpx.post(f"{address}/__faults__", json=fault).status_code == 200
        assert httpx.post(f"{address}/__faults__", json={"kind": "no such"}).status_code == 400
        assert httpx.post(f"{address}/api/v1/messages", json=payload).headers["retry-after"] == "3"
        assert httpx.post(f"{address}/api/v1/messages", json=payload).status_code == 201
        assert httpx.get(f"{address}/__faults__").json() == {"hits": {"rate_limited": 1}}
        assert httpx.delete(f"{address}/__faults__").status_code == 200
    finally:
        program.terminate()
        program.communicate(timeout=20)
    assert program.returncode in (0, -signal.SIGTERM)


def test_the_control_endpoint_is_off_by_default(local: LocalServer) -> None:
    assert httpx.post(f"{local.address}/__faults__", json={"kind": "html"}).status_code == 404


def test_an_unknown_fault_raises_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="no fault 'earthquake'; there are failing, rate_limited"):
        faults.FaultInjector().create("earthquake")
    assert faults.FaultInjector().create("failing", status=503).status == 503


def test_a_fault_that_inspects_the_body_ignores_invalid_json(local: LocalServer) -> None:
    local.faults.add(faults.no_parents())
    before = local.faults.hits["no_parents"]
    assert local.post(b"{").status_code == 400
    assert local.faults.hits["no_parents"] == before
