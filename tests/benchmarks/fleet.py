"""Measures relays: `python -m tests.benchmarks.fleet kafka` or `postgres`, or the address of a broker's empty queue.

First it measures how relays scale: for each number of relays it publishes turns of 14 messages (9 KB) whose envelopes
differ, so that each is a request, and lets the relays deliver them to an API of 100 ms latency in a process of its own.
Then it lets relays drain a backlog (`--backlog`), of which they join the requests of a conversation.

It prints turns per second, CPU of the relays per turn without their start, and their memory, and checks the order of each
conversation. The first line says what a small request through the SDK takes, to compare machines (`sdk_call.py`). A topic
needs at least four partitions for each relay. Keep `docs/performance.md` up to date with the results.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from gati.exporters.base import PackedRequest
from gati.queues.message import QueueMessage
from tests import brokers
from tests.benchmarks.sdk_call import sdk_call_line
from tests.relay import kit
from tests.relay.kit import KafkaQueue, PostgresQueue, Queue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
CONVERSATIONS = 500
MESSAGES = 14
TICKS = os.sysconf("SC_CLK_TCK")


class SlowApi:
    """Acknowledges messages after a latency, and notes their ids by conversation."""

    def __init__(self, latency: float, state: Any) -> None:
        self._latency, self._state = latency, state
        self._misplaced = self._repeated = 0
        self._last: dict[str, str] = defaultdict(str)
        self._seen: set[str] = set()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (head := await reader.readuntil(b"\r\n\r\n")) is not None:
                lines = head.decode("latin-1").lower().split("\r\n")
                length = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length:"))
                body = json.loads(await reader.readexactly(length))
                await asyncio.sleep(self._latency)
                answer = json.dumps(self._answer(body)).encode()
                writer.write(b"HTTP/1.1 201 Created\r\ncontent-type: application/json\r\n")
                writer.write(b"content-length: %d\r\n\r\n" % len(answer) + answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def _answer(self, body: dict[str, Any]) -> dict[str, Any]:
        conversation, entries = body["externalConversationId"], []
        for message in body["messages"]:
            id_ = message["externalMessageId"]
            if id_ not in self._seen:
                self._seen.add(id_)
                self._misplaced += id_ <= self._last[conversation]
                self._last[conversation] = id_
            else:
                self._repeated += 1
            entries.append({"externalMessageId": id_, "status": "created"})
        # Once for each request: the counts live in another process, and reaching it takes longer than all the rest.
        self._state.update(received=len(self._seen), misplaced=self._misplaced, repeated=self._repeated)
        return {"success": True, "conversationId": "c", "messages": entries}


def serve(latency: float, state: Any, port: Any) -> None:
    async def run() -> None:
        server = await asyncio.start_server(SlowApi(latency, state).handle, "127.0.0.1", 0, limit=2**24)
        port.value = server.sockets[0].getsockname()[1]
        await server.serve_forever()

    asyncio.run(run())


def turn(conversation: str, number: int, *, joinable: bool = False) -> QueueMessage:
    """A turn of 14 messages. Unless it is joinable, its envelope differs from those of the others."""
    at = kit.START_MS + number * 1_000
    messages = [
        {
            "externalMessageId": f"{conversation}-{number:06d}-{part:02d}",
            "messageType": "assistant_message" if part % 2 else "user_message",
            "content": "x" * 550,
            "createdAt": kit.time_text(at + part),
        }
        for part in range(MESSAGES)
    ]
    envelope: dict[str, Any] = {"external_user_id": "user", "external_conversation_id": conversation}
    if not joinable:
        envelope["properties"] = {"turn": number}
    fields = orjson.dumps(envelope)[1:-1]
    items = [orjson.dumps(message) for message in messages]
    turn_id = f"{conversation}-{number}"
    return kit.queued(PackedRequest.of(conversation, turn_id, "messages", "messages", fields, items))


def usage(pid: int) -> tuple[float, float]:
    """Return CPU seconds and peak memory in MB of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    status = Path(f"/proc/{pid}/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return (int(fields[11]) + int(fields[12])) / TICKS, peak / 1024


@contextmanager
def running_api(latency: float) -> Iterator[tuple[str, Any]]:
    """Run an API; yield its base URL and what it has counted."""
    with multiprocessing.Manager() as manager:
        state = manager.dict(received=0, misplaced=0, repeated=0)
        port = multiprocessing.Value("i", 0)
        api = multiprocessing.Process(target=serve, args=(latency, state, port), daemon=True)
        api.start()
        while not port.value:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port.value}/api/v1", state
        api.terminate()


@contextmanager
def running_relays(queue: Queue, url: str, relays: int, connections: int) -> Iterator[list[int]]:
    """Run relays; yield their process ids."""
    program = [
        sys.executable,
        str(ROOT / "tests/relay/relay_program.py"),
        queue.url,
        url,
        "key",
        str(connections),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as starter:
        assert starter.stdin is not None
        assert starter.stdout is not None
        pids = []
        for _ in range(relays):
            starter.stdin.write("10\n")
            starter.stdin.flush()
            pids.append(int(starter.stdout.readline()))
        yield pids
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        starter.stdin.close()


class Measurement(NamedTuple):
    """Turns per second, and what the relays used."""

    rate: float
    cpu_ms: float
    memory_mb: float
    seconds: float
    state: dict[str, int]

    def __str__(self) -> str:
        return (
            f"{self.rate:.0f} turns/s, {self.cpu_ms:.2f} ms CPU a turn, at most {self.memory_mb:.0f} MB, "
            f"{self.seconds:.0f} s, {self.state['repeated']} messages repeated, {self.state['misplaced']} misplaced"
        )


def publish(queue: Queue, turns: int, first: int, *, joinable: bool) -> None:
    """Publish turns of new conversations, a turn of each in turn."""
    names = [f"c{first}-{number}" for number in range(CONVERSATIONS)]
    for begin in range(0, turns, 5_000):
        numbers = range(begin, min(turns, begin + 5_000))
        queue.publish([turn(names[n % CONVERSATIONS], n // CONVERSATIONS, joinable=joinable) for n in numbers])


def measure(queue: Queue, relays: int, turns: int, latency: float, connections: int) -> Measurement:
    """Deliver what was published. Rate and CPU are those of the turns between a fifth and nine tenths."""
    with running_api(latency) as (url, state), running_relays(queue, url, relays, connections) as pids:
        started, total = time.perf_counter(), turns * MESSAGES
        while state["received"] < total // 5:  # libraries are loaded, and the lanes are shared
            time.sleep(0.02)
        begun, before, used = time.perf_counter(), state["received"], sum(usage(pid)[0] for pid in pids)
        while state["received"] < total * 9 // 10:
            time.sleep(0.02)
        delivered = (state["received"] - before) / MESSAGES
        rate = delivered / (time.perf_counter() - begun)
        cpu = sum(usage(pid)[0] for pid in pids) - used
        while state["received"] < total:
            time.sleep(0.05)
        seconds, memory = time.perf_counter() - started, max(usage(pid)[1] for pid in pids)
        return Measurement(rate, cpu / delivered * 1000, memory, seconds, dict(state))


@contextmanager
def opened(queue: str, partitions: int) -> Iterator[Callable[[], Queue]]:
    """Start a broker if only its kind is given; yield a function that returns an empty queue, if it can create one."""
    if queue == "kafka":
        with brokers.run_kafka() as kafka:
            yield lambda: KafkaQueue(kafka.new_topic(partitions))
    elif queue == "postgres":
        with brokers.run_postgres() as postgres:
            yield lambda: PostgresQueue(postgres.new_database())
    else:
        yield lambda: KafkaQueue(queue) if queue.startswith("kafka") else PostgresQueue(queue)


def main() -> None:
    """Measure scaling, then a backlog."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("queue", help="kafka, postgres, or an address")
    parser.add_argument("--relays", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--turns", type=int, default=4_000, help="for each relay (default: 4000)")
    parser.add_argument("--backlog", type=int, default=100_000, help="turns that wait (default: 100000); 0 for none")
    parser.add_argument("--backlog-relays", type=int, default=2, help="relays that drain the backlog (default: 2)")
    parser.add_argument("--latency", type=float, default=0.1)
    parser.add_argument("--connections", type=int, default=16)
    options = parser.parse_args()
    print(sdk_call_line(), flush=True)
    most = max([*options.relays, options.backlog_relays])
    with opened(options.queue, 4 * most) as new_queue:
        rates = []
        for number, relays in enumerate(options.relays):
            queue, turns = new_queue(), options.turns * relays
            publish(queue, turns, number, joinable=False)
            measured = measure(queue, relays, turns, options.latency, options.connections)
            rates.append(measured.rate)
            print(f"{relays} relays: {measured}, ×{measured.rate / rates[0]:.2f}", flush=True)
        if options.backlog:
            queue = new_queue()
            publish(queue, options.backlog, len(rates), joinable=True)
            drained = measure(queue, options.backlog_relays, options.backlog, options.latency, options.connections)
            print(f"backlog of {options.backlog} turns, {options.backlog_relays} relays: {drained}", flush=True)


if __name__ == "__main__":
    main()
