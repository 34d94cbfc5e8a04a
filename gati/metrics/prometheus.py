"""Counters for a registry of `prometheus_client`, also where several worker processes share one endpoint."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import REGISTRY, Collector, CollectorRegistry

from gati.metrics.counters import METRICS, Metric
from gati.pipeline import listeners, process_hooks

if TYPE_CHECKING:
    from prometheus_client import Metric as MetricFamily

    from gati.pipeline.stats import Stats

_registered: weakref.WeakSet[CollectorRegistry] = weakref.WeakSet()
_shared: list[SharedCounts] = []


def register_collector(registry: CollectorRegistry | None, read: Callable[[], Stats]) -> None:
    """Add the counters to a registry, once.

    Args:
        registry: default: the global registry. Ignored if the environment variable ``PROMETHEUS_MULTIPROC_DIR`` is
            set: then the counters of this process are in files in that folder, which a `MultiProcessCollector` sums.
        read: returns the counters.
    """
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        if not _shared:
            _shared.append(SharedCounts(read))
            listeners.changed_counts.append(_shared[0].update)
        return
    registry = REGISTRY if registry is None else registry
    if registry not in _registered:
        registry.register(_StatsCollector(read))
        _registered.add(registry)


class _StatsCollector(Collector):
    """Reads the counters when the registry is scraped."""

    def __init__(self, read: Callable[[], Stats]) -> None:
        self._read = read

    def collect(self) -> Iterable[MetricFamily]:
        """Return one consistent snapshot of all counters."""
        stats = self._read()
        for metric in METRICS:
            yield _family(metric, stats)

    def describe(self) -> Iterable[MetricFamily]:
        """Return nothing: names are not checked, and registering does not read."""
        return ()


def _family(metric: Metric, stats: Stats) -> MetricFamily:
    make = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = make(f"gati_{metric.field}", metric.help, labels=[metric.label] if metric.label else [])
    for label, value in metric.values(stats):
        family.add_metric([label] if metric.label else [], value)
    return family


class SharedCounts:
    """The counters of this process in the files that `prometheus_client` shares between processes.

    Files are written when counters change, since the process that is asked for metrics cannot ask the others.
    """

    def __init__(self, read: Callable[[], Stats]) -> None:
        self._read = read
        self._pid = os.getpid()
        self._written: dict[tuple[str, str], float] = {}
        self._counters = {metric: _make(metric) for metric in METRICS}

    def update(self) -> None:
        """Write what has changed since the last call."""
        # Forks wait for this: a child must not inherit a lock of `prometheus_client` that is held. It also lets one of
        # our threads at a time do this.
        with process_hooks.fork_lock:
            if self._pid != os.getpid():  # a forked child counts from 0, in files of its own
                self._pid, self._written = os.getpid(), {}
            stats = self._read()
            for metric, counter in self._counters.items():
                self._update(metric, counter, dict(metric.values(stats)))

    def _update(self, metric: Metric, counter: Counter | Gauge, values: dict[str, float]) -> None:
        gone = {label: 0.0 for field, label in self._written if field == metric.field and label not in values}
        for label, value in {**gone, **values}.items():
            before = self._written.get((metric.field, label), 0.0)
            if value == before:
                continue
            self._written[metric.field, label] = value
            child = counter.labels(label) if metric.label else counter
            if isinstance(child, Gauge):
                child.set(value)
            else:  # after another `init`, the counters begin at 0 again
                child.inc(value - before if value > before else value)


def _make(metric: Metric) -> Counter | Gauge:
    labels = (metric.label,) if metric.label else ()
    name = f"gati_{metric.field}"
    if metric.kind == "counter":
        return Counter(name, metric.help, labels, registry=None)
    return Gauge(name, metric.help, labels, registry=None, multiprocess_mode="livesum")
