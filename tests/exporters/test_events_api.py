"""The events exporter over HTTP, against a backend with the validation rules of the existing one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from gati.exporters.base import Verdict
from gati.exporters.events_api import EventsApiExporter
from gati.testing.server import fault_injection as faults
from tests.exporters.turns import ROOT, agent_turn, run_id, settings, tool, turn
from tests.servers import LocalServer


@pytest.fixture
def exporter(backend: LocalServer) -> Iterator[EventsApiExporter]:
    made = EventsApiExporter(settings(api_key=None, backend_url=backend.url, backend_api_key=backend.api_key))
    yield made
    made.close()


def test_turn_arrives_as_one_run(backend: LocalServer, exporter: EventsApiExporter):
    (request,) = exporter.encode([agent_turn()])
    assert exporter.send(request).verdict is Verdict.OK
    stored = backend.events()
    assert {(event["run_id"], event["agent_name"]) for event in stored} == {(ROOT, "tutor")}
    assert [event["event_type"] for event in stored] == [
        "agent_start", "node_execution", "llm_call", "node_execution", "tool_call", "node_execution", "llm_call",
        "agent_end",
    ]  # fmt: skip


def test_resent_request_is_stored_once(backend: LocalServer, exporter: EventsApiExporter):
    (request,) = exporter.encode([agent_turn()])
    backend.faults.add(faults.connection_reset(after_commit=True))
    assert exporter.send(request).verdict is Verdict.RETRY
    assert exporter.send(request).verdict is Verdict.OK
    assert len(backend.events()) == 8


def test_two_runs_of_one_agent_are_accepted(backend: LocalServer, exporter: EventsApiExporter):
    for request in exporter.encode([agent_turn(), agent_turn(root=run_id(90), conversation="c-2")]):
        assert exporter.send(request).verdict is Verdict.OK
    assert len({event["run_name"] for event in backend.events()}) == 2
    assert all(event["run_name"].startswith("temp_") for event in backend.events())


def test_invalid_event_is_rejected_alone(backend: LocalServer, exporter: EventsApiExporter):
    pending = exporter.encode([turn(*[tool(n, at=n) for n in range(100, 160)])])
    body = pending[0].body
    body["events"][30]["event_type"] = ""
    pending[0] = replace(pending[0], body=body)
    rejected = []
    while pending:
        sent = pending.pop(0)
        outcome = exporter.send(sent)
        if outcome.verdict is Verdict.SPLIT:
            pending = [*(exporter.split(sent) or ()), *pending]
        elif outcome.verdict is Verdict.REJECT:
            rejected += sent.body["events"]
    assert [event["event_id"] for event in rejected] == [run_id(129)]
    assert len(backend.events()) == 61


FAULTS: list[tuple[faults.InjectedFault, Verdict]] = [
    (faults.failing(500), Verdict.RETRY),
    (faults.rate_limited("7"), Verdict.RETRY),
    (faults.unauthorized(401), Verdict.PAUSE),
    (faults.html(200), Verdict.RETRY),
    (faults.empty(204), Verdict.OK),
    (faults.redirect(), Verdict.RETRY),
    (faults.connection_reset(), Verdict.RETRY),
    (faults.too_large(items=3, times=1), Verdict.SPLIT),
]


@pytest.mark.parametrize(("fault", "verdict"), FAULTS, ids=[fault.name for fault, _ in FAULTS])
def test_verdict_of_each_fault(
    backend: LocalServer, exporter: EventsApiExporter, fault: faults.InjectedFault, verdict: Verdict
):
    backend.faults.add(fault)
    assert exporter.send(exporter.encode([agent_turn()])[0]).verdict is verdict


def test_authorization_header_is_sent_only_with_a_key():
    from tests.servers import gati_backend

    with gati_backend(api_keys=None) as server:
        exporter = EventsApiExporter(settings(api_key=None, backend_url=server.url))
        assert exporter.send(exporter.encode([agent_turn()])[0]).verdict is Verdict.OK
        client = exporter._client.get()
        assert client is not None
        assert "authorization" not in client.headers
        exporter.close()
        assert exporter.send(exporter.encode([agent_turn()])[0]).verdict is Verdict.RETRY
