"""The metrics of a relay for Prometheus, and its health, over HTTP: `/metrics` and `/health`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from gati.relay.relay import Relay, RelayCounts

_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class RelayCollector:
    """Reads a relay's counts when it is scraped."""

    def __init__(self, read: Callable[[], RelayCounts]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        """Return one snapshot."""
        counts = self._read()
        gauges = {
            "lag_turns": (counts.lag.turns, "Requests that wait in the lanes of this relay."),
            "oldest_seconds": (counts.lag.oldest_seconds, "Age of the oldest of them."),
            "held": (counts.held, "Requests that this relay has read and not settled."),
            "inflight": (counts.in_flight, "Requests that are being sent."),
            "lanes": (counts.lanes, "Lanes or partitions that this relay owns."),
            "rate_limit": (counts.rate_limit or 0, "Requests per second that this relay may send; 0 without a limit."),
            "paused": (bool(counts.paused), "1 while the destination refuses the key."),
        }
        totals = {
            "delivered": (counts.delivered, "Messages that the destination acknowledged."),
            "deduplicated": (counts.deduplicated, "Part of them: messages that the destination had already."),
            "requests": (counts.requests, "Attempts to send a request."),
            "rebalances": (counts.rebalances, "Changes of the lanes of this relay."),
            "restamped": (counts.restamped, "Messages whose time was moved behind the previous one."),
        }
        for name, (value, text) in gauges.items():
            yield GaugeMetricFamily(f"gati_relay_{name}", text, value=value)
        for name, (value, text) in totals.items():
            yield CounterMetricFamily(f"gati_relay_{name}", text, value=value)
        yield _reason_family("gati_relay_retries", "Attempts that failed and are repeated.", counts.retries)
        yield _reason_family("gati_relay_dead", "Requests that became dead letters.", counts.dead)


def _reason_family(name: str, text: str, values: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=["reason"])
    for reason, value in values.items():
        family.add_metric([reason], value)
    return family


def serve_metrics(relay: Relay, host: str, port: int) -> ThreadingHTTPServer:
    """Serve `/metrics`, and `/health`, which is 503 while the relay does not poll. Raises OSError.

    Close it with `shutdown` and `server_close`.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(RelayCollector(relay.counts))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.partition("?")[0] == "/metrics":
                self._answer(200, generate_latest(registry), _CONTENT_TYPE)
            elif self.path == "/health":
                is_healthy = relay.is_healthy
                self._answer(200 if is_healthy else 503, b"ok\n" if is_healthy else b"does not poll\n", "text/plain")
            else:
                self._answer(404, b"not found\n", "text/plain")

        def _answer(self, status: int, body: bytes, content_type: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name in the base class
            """Write no access log."""

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="gati-relay-metrics", daemon=True).start()
    return server
