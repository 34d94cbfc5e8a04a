"""Measure what publishing to a queue costs a program: `python -m tests.benchmarks.queues`.

Starts the brokers of `tests/brokers.py`. Prints CPU time of a turn of 14 messages in the thread that publishes and in all threads of
the process, published alone and twenty at a time, and the CPU time of prompt, model, parser relative to no tracing, each turn in a
conversation of its own. The first line says what a small request through the SDK takes, to compare machines
(`sdk_call.py`). Keep `docs/performance.md` up to date with the results.
"""

from __future__ import annotations

import argparse
import statistics
import time
import uuid
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from gati import observe
from gati.exporters.base import PackedRequest, Request, Verdict
from gati.pipeline.codec import pack, unpack_lazily
from gati.queues.address import QueueAddress
from gati.queues.exporter import QueueExporter, make_publisher
from tests import brokers
from tests.benchmarks.contenders import Session
from tests.benchmarks.on_off import COUNTS, pairs
from tests.benchmarks.sdk_call import sdk_call_line
from tests.benchmarks.workloads import WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Iterator

TOGETHER = 20
"""Turns of one call."""

ROUNDS = 9
"""The median of the rounds is printed."""


def main() -> None:
    """Measure both engines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=400, help="turns of a round (default: 400)")
    parser.add_argument("--engine", choices=("kafka", "postgres"), action="append", help="default: both")
    options = parser.parse_args()
    print(sdk_call_line(), flush=True)
    for engine in options.engine or ("kafka", "postgres"):
        with _queue(engine) as address:
            alone, together = _measure_turns(address, options.turns)
            print(
                f"{engine}: µs CPU per turn: alone {alone.thread:.0f} in gati's thread, {alone.process:.0f} in all; in calls of"
                f" {TOGETHER} {together.thread:.0f} and {together.process:.0f}",
                flush=True,
            )
            print(
                f"{engine}: CPU of prompt, model, parser relative to no tracing: {_measure_chain(address)}", flush=True
            )


@contextmanager
def _queue(engine: str) -> Iterator[str]:
    """Start a broker; yield the address of an empty queue."""
    if engine == "kafka":
        with brokers.run_kafka() as kafka:
            yield kafka.new_topic()
        return
    with brokers.run_postgres() as postgres:
        yield postgres.new_database()


class _NoEncoder:
    """The requests exist already."""

    def encode(self, items: Any) -> list[Request]:
        raise NotImplementedError

    def split(self, request: Request) -> None:
        raise NotImplementedError


class _Cpu(NamedTuple):
    """µs of CPU time per turn, in the thread that publishes and in all threads of the process."""

    thread: float
    process: float


def _measure_turns(address: str, turns: int) -> tuple[_Cpu, _Cpu]:
    """Return the CPU time of turns that are published alone and together."""
    parsed = QueueAddress.parse(address)
    exporter = QueueExporter(parsed, None, _NoEncoder, make_publisher(parsed, 30.0))
    exporter.prepare()
    requests = [_request(number) for number in range(TOGETHER)]
    _publish(exporter, requests)  # connects
    alone = [_cpu(exporter, [[requests[n % TOGETHER]] for n in range(turns)]) for _ in range(ROUNDS)]
    together = [_cpu(exporter, [requests] * (turns // TOGETHER)) for _ in range(ROUNDS)]
    exporter.close()
    return _median(alone, turns), _median(together, turns // TOGETHER * TOGETHER)


def _median(rounds: list[_Cpu], turns: int) -> _Cpu:
    return _Cpu(*(1e6 * statistics.median(column) / turns for column in zip(*rounds, strict=True)))


def _publish(exporter: QueueExporter, requests: list[Request]) -> None:
    outcomes = exporter.send_many(requests)
    assert all(outcome.verdict is Verdict.OK for outcome in outcomes), outcomes


def _request(number: int) -> Request:
    """Return a turn of 14 messages, 9.3 KB of JSON."""
    words = "the bicycle was delivered with a broken saddle and the customer asks for a refund of the whole order "
    messages = [
        {
            "externalMessageId": str(uuid.uuid4()),
            "messageType": "observation",
            "role": "tool",
            "content": f"{number}.{place} " + words * 4,
            "createdAt": "2026-11-27T12:00:00.000Z",
            "metadata": {"run_id": str(uuid.uuid4()), "agent": "shop"},
        }
        for place in range(14)
    ]
    fields = orjson.dumps({"external_user_id": "u", "external_conversation_id": f"c{number}"})[1:-1]
    items = [orjson.dumps(message) for message in messages]
    request = PackedRequest.of(f"c{number}", str(uuid.uuid4()), "messages", "messages", fields, items)
    return unpack_lazily(pack(request))  # as senders do


def _cpu(exporter: QueueExporter, calls: list[list[Request]]) -> _Cpu:
    thread, process = time.thread_time(), time.process_time()
    for requests in calls:
        _publish(exporter, requests)
    return _Cpu(time.thread_time() - thread, time.process_time() - process)


def _measure_chain(address: str) -> str:
    """Return the ratio of CPU times with and without gati: median and quartiles of pairs in this process."""
    with TemporaryDirectory() as folder:
        observe.init(agent_name="benchmark", spool_dir=Path(folder), queue=address)
        session = Session(flush=lambda: observe.flush(timeout=120.0))
        ratios = pairs(WORKLOADS["chain"], COUNTS["chain"], session, own=True)["cpu"]
        assert observe.stats().published == observe.stats().recorded
        observe.shutdown(timeout=10.0)
    first, median, third = statistics.quantiles(ratios, n=4)
    return f"{median:.2f} ({first:.2f} to {third:.2f})"


if __name__ == "__main__":
    main()
