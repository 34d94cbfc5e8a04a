"""Measures how relays scale: `python -m tests.benchmarks.fleet postgresql://…` or `kafka://host:port/topic`.

For each number of relays it publishes turns of 14 messages (9 KB), lets the relays deliver them to an API of 100 ms latency
in a process of its own, and prints turns per second, and CPU and memory of the relays. It checks the order of each conversation.
Use an empty database or topic; a topic needs at least four partitions for each relay.
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
from pathlib import Path
from typing import Any

import orjson

from gati.exporters.base import PackedRequest
from gati.queues.message import QueueMessage
from tests.relay import kit
from tests.relay.kit import KafkaQueue, PostgresQueue, Queue

ROOT = Path(__file__).parents[2]
CONVERSATIONS = 500
MESSAGES = 14
TICKS = os.sysconf("SC_CLK_TCK")


class SlowApi:
    """Acknowledges messages after a latency, and notes their ids by conversation."""

    def __init__(self, latency: float, state: Any) -> None:
        self._latency, self._state = latency, state
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
                self._state["misplaced"] += id_ <= self._last[conversation]
                self._last[conversation] = id_
            else:
                self._state["repeated"] += 1
            entries.append({"externalMessageId": id_, "status": "created"})
        self._state["received"] = len(self._seen)
        return {"success": True, "conversationId": "c", "messages": entries}


def serve(latency: float, state: Any, port: Any) -> None:
    async def run() -> None:
        server = await asyncio.start_server(SlowApi(latency, state).handle, "127.0.0.1", 0, limit=2**24)
        port.value = server.sockets[0].getsockname()[1]
        await server.serve_forever()

    asyncio.run(run())


def turn(conversation: str, number: int) -> QueueMessage:
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
    fields = orjson.dumps({"external_user_id": "user", "external_conversation_id": conversation})[1:-1]
    items = [orjson.dumps(message) for message in messages]
    turn_id = f"{conversation}-{number}"
    return kit.queued(PackedRequest.of(conversation, turn_id, "messages", "messages", fields, items))


def usage(pid: int) -> tuple[float, float]:
    """Return CPU seconds and peak memory in MB of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    status = Path(f"/proc/{pid}/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return (int(fields[11]) + int(fields[12])) / TICKS, peak / 1024


def measure(queue: Queue, relays: int, turns: int, first: int, latency: float, connections: int) -> float:
    """Deliver new turns with a number of relays; print and return the turns per second."""
    with multiprocessing.Manager() as manager:
        state = manager.dict(received=0, misplaced=0, repeated=0)
        port = multiprocessing.Value("i", 0)
        api = multiprocessing.Process(target=serve, args=(latency, state, port), daemon=True)
        api.start()
        while not port.value:
            time.sleep(0.01)
        program = [sys.executable, str(ROOT / "tests/relay/relay_program.py"), queue.url]
        arguments = [f"http://127.0.0.1:{port.value}/api/v1", "key", "10", str(connections)]
        names = [f"c{first}-{number}" for number in range(CONVERSATIONS)]
        for begin in range(0, turns, 5_000):
            numbers = range(begin, min(turns, begin + 5_000))
            queue.publish([turn(names[n % CONVERSATIONS], n // CONVERSATIONS) for n in numbers])
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(
            [*program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        ) as starter:
            assert starter.stdin is not None
            assert starter.stdout is not None
            pids = []
            for _ in range(relays):
                starter.stdin.write("\n")
                starter.stdin.flush()
                pids.append(int(starter.stdout.readline()))
            total = turns * MESSAGES
            while state["received"] < total // 5:  # the lanes are shared by now
                time.sleep(0.05)
            begun, before = time.perf_counter(), state["received"]
            while state["received"] < total * 9 // 10:
                time.sleep(0.02)
            rate = (state["received"] - before) / MESSAGES / (time.perf_counter() - begun)
            while state["received"] < total:
                time.sleep(0.05)
            used = [usage(pid) for pid in pids]
            for pid in pids:
                os.kill(pid, signal.SIGTERM)
            starter.stdin.close()
        api.terminate()
        cpu = sum(seconds for seconds, _ in used) / turns * 1000
        print(
            f"{relays} relays: {rate:.0f} turns/s, {cpu:.2f} ms CPU a turn, at most {max(m for _, m in used):.0f} MB, "
            f"{state['repeated']} messages repeated, {state['misplaced']} misplaced",
            flush=True,
        )
        return rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("queue")
    parser.add_argument("--relays", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--turns", type=int, default=4_000, help="for each relay")
    parser.add_argument("--latency", type=float, default=0.1)
    parser.add_argument("--connections", type=int, default=16)
    options = parser.parse_args()
    queue: Queue = KafkaQueue(options.queue) if options.queue.startswith("kafka") else PostgresQueue(options.queue)
    rates = [
        measure(queue, relays, options.turns * relays, number, options.latency, options.connections)
        for number, relays in enumerate(options.relays)
    ]
    print("scale", *(f"×{rate / rates[0]:.2f}" for rate in rates))


if __name__ == "__main__":
    main()
