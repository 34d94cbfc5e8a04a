from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from gati import observe
from gati.pipeline import listeners
from gati.testing import ScriptedChatModel
from tests.metrics.test_prometheus import expected, talk


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[InMemoryMetricReader]:
    """A meter that gati reports to."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    assert observe.metrics(meter=provider.get_meter("program"))
    observe.init(agent_name="a", local=tmp_path / "studio.db")
    yield reader
    provider.shutdown()
    listeners.finished_items.clear()


def points(reader: InMemoryMetricReader) -> dict[str, list[Any]]:
    data = reader.get_metrics_data()
    assert data is not None
    return {
        metric.name: list(metric.data.data_points)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def test_the_counters_equal_the_statistics(reader: InMemoryMetricReader):
    talk(2)
    assert observe.flush()
    values = {
        " ".join([name.removeprefix("gati."), *point.attributes.values()]): point.value
        for name, found in points(reader).items()
        if name.startswith("gati.")
        for point in found
    }
    assert values == expected(observe.stats())


def test_tokens_and_durations_follow_the_semantic_conventions(reader: InMemoryMetricReader):
    usage = {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}
    model = ScriptedChatModel(replies=[AIMessage("Hello", usage_metadata=usage, response_metadata={"model_name": "m"})])
    model.invoke("Hi")
    assert observe.flush()
    found = points(reader)
    tokens = {point.attributes["gen_ai.token.type"]: point for point in found["gen_ai.client.token.usage"]}
    assert {kind: point.sum for kind, point in tokens.items()} == {"input": 7, "output": 3}
    assert tokens["input"].attributes["gen_ai.operation.name"] == "chat"
    assert tokens["input"].attributes["gen_ai.request.model"]
    (seconds,) = found["gen_ai.client.operation.duration"]
    assert seconds.count == 1
    assert 0 < seconds.sum < 10
    assert "error.type" not in seconds.attributes


def test_a_failed_call_names_its_error(reader: InMemoryMetricReader):
    model = ScriptedChatModel(replies=[TimeoutError("slow")])
    with pytest.raises(TimeoutError):
        model.invoke("Hi")
    observe.flush()
    (seconds,) = points(reader)["gen_ai.client.operation.duration"]
    assert seconds.attributes["error.type"] == "TimeoutError"


def test_an_object_that_is_no_meter_is_refused():
    assert not observe.metrics(meter=object())  # type: ignore[arg-type]  # what a program may pass
