"""Connects the counters of this process to the metrics systems that are installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gati._api.arguments import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.metrics import Meter
    from prometheus_client import CollectorRegistry

    from gati.pipeline.stats import Stats


def expose(registry: CollectorRegistry | None, meter: Meter | None, read: Callable[[], Stats]) -> None:
    """Add the counters that `read` returns to a registry of `prometheus_client`, to a meter of OpenTelemetry, or to both.

    Raises:
        InvalidArgumentError: an argument has the wrong type, or the package is not installed.
    """
    if meter is not None:
        _expose_to_meter(meter, read)
    if registry is not None or meter is None:
        _expose_to_registry(registry, read)


def _expose_to_meter(meter: Meter, read: Callable[[], Stats]) -> None:
    try:
        from opentelemetry.metrics import Meter
    except ImportError:
        raise InvalidArgumentError("meter", "None unless opentelemetry-api is installed") from None
    if not isinstance(meter, Meter):
        raise InvalidArgumentError("meter", "a meter of OpenTelemetry")
    from gati.metrics import opentelemetry

    opentelemetry.create_instruments(meter, read)


def _expose_to_registry(registry: CollectorRegistry | None, read: Callable[[], Stats]) -> None:
    try:
        from prometheus_client import CollectorRegistry
    except ImportError:
        raise InvalidArgumentError(
            "registry", 'used with prometheus_client: pip install "gati-greenflash[metrics]"'
        ) from None
    if registry is not None and not isinstance(registry, CollectorRegistry):
        raise InvalidArgumentError("registry", "a registry of prometheus_client")
    from gati.metrics import prometheus

    prometheus.register_collector(registry, read)
