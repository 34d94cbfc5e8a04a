"""The OTLP exporter over HTTP, against a receiver that decodes with OpenTelemetry's own classes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("opentelemetry.proto.trace.v1.trace_pb2", reason="needs opentelemetry-proto")

from gati import observe
from gati.errors import ConfigurationError
from gati.exporters.base import Verdict
from gati.exporters.otlp import exporter as module
from gati.exporters.otlp.exporter import OTLPExporter, resource_attributes, traces_url
from tests.exporters.turns import ROOT, agent_turn, settings
from tests.otlp_receiver import PROTOBUF, Answer, Receiver, failing, partial_success


@pytest.fixture
def exporter(receiver: Receiver) -> Iterator[OTLPExporter]:
    made = OTLPExporter(settings(api_key=None, otlp_endpoint=receiver.url, otlp_headers="authorization=Bearer%20k"))
    yield made
    made.close()


def test_a_turn_arrives_as_one_trace(receiver: Receiver, exporter: OTLPExporter):
    (request,) = exporter.encode([agent_turn()])
    assert exporter.accepts(request)
    assert exporter.send(request).verdict is Verdict.OK
    assert {span.trace_id for span in receiver.spans} == {ROOT.replace("-", "")}
    agent, call = receiver.named("invoke_agent tutor"), receiver.spans[2]
    assert (agent.kind, call.kind, call.name) == ("INTERNAL", "CLIENT", "chat gpt-4o")
    assert call.attributes["gen_ai.response.finish_reasons"] == ["tool_calls"]
    assert agent.resource["service.name"] == "tutor"
    assert receiver.headers[0]["authorization"] == "Bearer k"
    assert receiver.headers[0]["user-agent"].startswith("gati-greenflash/")


VERDICTS = [
    (failing(429, retry_after="7"), Verdict.RETRY, 7.0),
    (failing(503, retry_after="Wed, 21 Oct 2015 07:28:00 GMT"), Verdict.RETRY, 0.0),
    (failing(500), Verdict.RETRY, None),
    (failing(404), Verdict.RETRY, None),
    (failing(302, location="http://elsewhere"), Verdict.RETRY, None),
    (failing(401), Verdict.PAUSE, None),
    (failing(403), Verdict.PAUSE, None),
    (failing(400), Verdict.SPLIT, None),
    (failing(413), Verdict.SPLIT, None),
    (failing(415), Verdict.REJECT, None),
    (failing(400, content_type="text/html"), Verdict.RETRY, None),
    (failing(400, content_type="text/plain; charset=utf-8"), Verdict.RETRY, None),
    (failing(415, content_type="text/plain"), Verdict.RETRY, None),
    (failing(415, content_type="application/json; charset=utf-8"), Verdict.REJECT, None),
    (Answer(body=b"<html>", headers={"content-type": "text/html"}), Verdict.RETRY, None),
    (Answer(body=b"{", headers={"content-type": "application/json"}), Verdict.RETRY, None),
    (Answer(body=b"\xff", headers={"content-type": PROTOBUF}), Verdict.RETRY, None),
    (Answer(body=b"{}", headers={"content-type": "application/json; charset=utf-8"}), Verdict.OK, None),
    (Answer(headers={}), Verdict.OK, None),
    (partial_success(0, "deprecated attribute"), Verdict.OK, None),
]


@pytest.mark.parametrize(("answer", "verdict", "wait"), VERDICTS)
def test_verdict_of_each_answer(
    receiver: Receiver, exporter: OTLPExporter, answer: Answer, verdict: Verdict, wait: float | None
):
    (request,) = exporter.encode([agent_turn()])
    receiver.script.append(answer)
    outcome = exporter.send(request)
    assert (outcome.verdict, outcome.retry_after, outcome.refused_items) == (verdict, wait, 0)


def test_no_answer_is_tried_again(exporter: OTLPExporter, receiver: Receiver):
    (request,) = exporter.encode([agent_turn()])
    exporter.after_fork()
    exporter.close()
    assert exporter.send(request).verdict is Verdict.RETRY
    unreachable = OTLPExporter(settings(api_key=None, otlp_endpoint="http://127.0.0.1:9"))
    assert unreachable.send(request).verdict is Verdict.RETRY
    unreachable.close()


def test_spans_that_the_receiver_rejects_are_counted_and_not_sent_again(receiver: Receiver, tmp_path: Path):
    dropped: list[observe.Drop] = []
    receiver.script.append(partial_success(7))
    observe.init(agent_name="tutor", otlp_endpoint=receiver.url, spool_dir=tmp_path, on_drop=dropped.append)
    with observe.conversation("c-1"):
        for name in ("one", "two", "three"):
            with observe.span(name):
                pass
    result = observe.flush()
    stats = observe.stats()
    assert (result.rejected, stats.rejected, stats.balanced) == (1, 1, True)
    assert stats.delivered == stats.recorded - 1 == 2
    observe.shutdown()
    assert [(drop.kind, drop.messages, drop.destination) for drop in dropped] == [("rejected", 1, "otlp")]


def test_an_outage_is_waited_for_and_each_span_arrives_once(receiver: Receiver, tmp_path: Path):
    receiver.script += [failing(503), Answer(502, accepts=True)]
    observe.init(agent_name="tutor", otlp_endpoint=receiver.url, spool_dir=tmp_path, flush_interval=0.05)
    with observe.conversation("c-1"), observe.span("one"):
        pass
    result = observe.flush(timeout=30)
    assert result
    assert receiver.requests == 3
    assert len(receiver.spans) == observe.stats().delivered


def test_the_address_may_name_the_path():
    assert traces_url("http://c:4318") == traces_url("http://c:4318/v1/traces") == "http://c:4318/v1/traces"


def test_opentelemetrys_variables_describe_the_program(monkeypatch: pytest.MonkeyPatch):
    config = settings(environment="production")
    assert resource_attributes(config)["deployment.environment.name"] == "production"
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.namespace=shop,deployment.environment.name=a%20b,broken")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "tutor-api")
    found = resource_attributes(config)
    assert (found["service.name"], found["service.namespace"]) == ("tutor-api", "shop")
    assert found["deployment.environment.name"] == "a b"


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_is_installed", lambda: False)
    with pytest.raises(ConfigurationError, match=r"gati-greenflash\[otel\]"):
        observe.init(otlp_endpoint="http://collector:4318")


def test_headers_are_shown_nowhere():
    made = settings(otlp_endpoint="http://c:4318", otlp_headers={"x-api-key": "hidden-value"})
    assert "hidden-value" not in f"{made!r}{made.model_dump()}{made.model_dump_json()}"
    for wrong in ("hidden-value", {"a b": "hidden-value"}, {"a": "hidden-value\n"}, {"a": 1}, 7):
        with pytest.raises(ConfigurationError) as error:
            settings(otlp_headers=wrong)
        assert "hidden-value" not in str(error.value)


def test_only_the_same_receiver_with_the_same_key_takes_over_a_spool(receiver: Receiver, exporter: OTLPExporter):
    same = OTLPExporter(settings(otlp_endpoint=receiver.url, otlp_headers={"Authorization": "Bearer k"}))
    other = OTLPExporter(settings(otlp_endpoint=receiver.url, otlp_headers={"Authorization": "Bearer other"}))
    assert same.account == exporter.account != other.account
    assert same.spool_identity.address == other.spool_identity.address
