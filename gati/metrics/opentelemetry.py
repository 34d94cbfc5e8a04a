"""Counters and GenAI metrics for a meter of OpenTelemetry.

Names and attributes of model calls follow the semantic conventions for generative AI, in the version that
`gati.semconv` names.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from gati import semconv
from gati.events import Item, LLMCallEvent, Turn
from gati.metrics.counters import METRICS, Metric
from gati.pipeline import listeners

if TYPE_CHECKING:
    from opentelemetry.util.types import AttributeValue

    from gati.pipeline.stats import Stats

TOKEN_BOUNDARIES = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
SECONDS_BOUNDARIES = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""Bucket boundaries that the semantic conventions recommend."""

_registered: weakref.WeakSet[Meter] = weakref.WeakSet()


def create_instruments(meter: Meter, read: Callable[[], Stats]) -> None:
    """Create the instruments of a meter, once.

    Args:
        meter: any meter of OpenTelemetry's API.
        read: returns the counters.
    """
    if meter in _registered:
        return
    _registered.add(meter)
    for metric in METRICS:
        make = meter.create_observable_counter if metric.kind == "counter" else meter.create_observable_gauge
        make(f"gati.{metric.field}", [_observer(metric, read)], metric.unit, metric.help)
    listeners.finished_items.append(_ModelCalls(meter).record)


def _observer(metric: Metric, read: Callable[[], Stats]) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observe(_: CallbackOptions) -> Iterator[Observation]:
        for label, value in metric.values(read()):
            yield Observation(value, {metric.label: label} if metric.label else {})

    return observe


class _ModelCalls:
    """Histograms of tokens and durations."""

    def __init__(self, meter: Meter) -> None:
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            unit="{token}",
            description="Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=TOKEN_BOUNDARIES,
        )
        self._seconds = meter.create_histogram(
            "gen_ai.client.operation.duration",
            unit="s",
            description="GenAI operation duration.",
            explicit_bucket_boundaries_advisory=SECONDS_BOUNDARIES,
        )

    def record(self, items: Sequence[Item]) -> None:
        """Record the model calls of finished turns. Answers from LangChain's cache are no calls."""
        for item in items:
            events = item.events if isinstance(item, Turn) else [item]
            for event in events:
                if isinstance(event, LLMCallEvent) and not event.cached:
                    self._record(event)

    def _record(self, call: LLMCallEvent) -> None:
        attributes: dict[str, AttributeValue] = {"gen_ai.operation.name": "chat", "gen_ai.request.model": call.model}
        if call.provider:
            attributes["gen_ai.provider.name"] = semconv.provider_name(call.provider)
        if call.latency_ms is not None:
            error = {"error.type": call.error_type or "_OTHER"} if call.status == "error" else {}
            self._seconds.record(call.latency_ms / 1000, {**attributes, **error})
        for kind, tokens in (("input", call.tokens_in), ("output", call.tokens_out)):
            if tokens is not None:
                self._tokens.record(tokens, {**attributes, "gen_ai.token.type": kind})
