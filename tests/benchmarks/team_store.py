"""Measure how many turns a second the team's store accepts: `python -m tests.benchmarks.team_store [address]`.

Starts a PostgreSQL of its own (with `fsync`, and 64 MB of shared buffers), unless the address of an empty database is
given. Writers are processes. Each stores turns of 14 messages (9 KB) in batches, as a relay does, or one by one in threads,
as a studio does. Prints turns a second, CPU time of the writers and of the server per turn, and the time until a page
shows the list. CPU time says how many turns a second two cores store, even if other programs use them meanwhile.
"""

from __future__ import annotations

import argparse
import itertools
import os
import pwd
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gati.store import message_columns, queries
from gati.store.filters import Filter
from gati.team_store.store import PostgresStore
from tests.brokers import PostgresServer, postgres_programs

WORDS = [
    "refund",
    "order",
    "invoice",
    "delivery",
    "late",
    "broken",
    "bicycle",
    "rental",
    "price",
    "discount",
    "account",
    "password",
    "address",
    "parcel",
]
MODELS = ["gpt-4o", "gpt-4o-mini", "claude-sonnet-4-5"]


SEARCHES = {
    "the list": "", "a search for one word": "refund", "a search for two words": "refund bicycle",
    "a search for a beginning": "refund bic", "a search for a rare word": "r7x1",
}  # fmt: skip

PASSES = ((1, 25), (2, 25), (1, 1))
"""Writers, and turns in a batch; 1: one by one in 8 threads."""


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.team_store", description=__doc__)
    parser.add_argument("address", nargs="?", help="an empty PostgreSQL database")
    parser.add_argument("--turns", type=int, default=4000)
    parser.add_argument("--writer", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, default=25, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.writer is not None:
        _write(options.address, options.writer, options.turns, options.batch)
        return
    with _database(options.address) as (address, server):
        PostgresStore(address).close()
        numbers = itertools.count()
        for writers, batch in PASSES:
            _measure(address, server, [next(numbers) for _ in range(writers)], options.turns // writers, batch)
        _read(address)


def _measure(address: str, server: PostgresServer | None, writers: list[int], turns: int, batch: int) -> None:
    """Let writers store turns at the same time; print what that took."""
    command = [
        sys.executable,
        "-m",
        "tests.benchmarks.team_store",
        address,
        "--turns",
        str(turns),
        "--batch",
        str(batch),
    ]
    before = None if server is None else _cpu_of(server.pid)
    running = [
        subprocess.Popen([*command, "--writer", str(writer)], stdout=subprocess.PIPE, stdin=subprocess.PIPE)
        for writer in writers
    ]
    for process in running:
        assert process.stdout is not None
        process.stdout.readline()  # the turns are made
    began = time.perf_counter()
    for process in running:
        assert process.stdin is not None
        process.stdin.close()
    cpu = sum(float(process.stdout.read()) for process in running if process.stdout is not None)
    seconds = time.perf_counter() - began
    for process in running:
        process.wait()
    count = turns * len(writers)
    kind = f"batches of {batch}" if batch > 1 else "8 threads, one by one"
    line = f"{len(writers)} writer(s), {kind}: {count / seconds:.0f} turns/s, CPU per turn: writer {cpu / count * 1000:.2f} ms"
    if server is not None and before is not None:
        of_server = _cpu_of(server.pid) - before
        both = (cpu + of_server) / count
        line += f", server {of_server / count * 1000:.2f} ms; two cores: {2 / both:.0f} turns/s"
    print(line, flush=True)


def _cpu_of(process: int) -> float:
    """Return the CPU time of a process and of its children, those that have ended included, in seconds."""
    ticks = sum(_ticks(process)[:4])
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process)], capture_output=True, check=False).stdout
    for child in map(int, children.split()):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            ticks += sum(_ticks(child)[:2])
    return ticks / os.sysconf("SC_CLK_TCK")


def _ticks(process: int) -> list[int]:
    """Return the CPU time of a process in user mode and in the kernel, and both of its ended children."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return [int(field) for field in fields[11:15]]


def _write(address: str, writer: int, turns: int, batch: int) -> None:
    """Store turns; print the CPU time."""
    store = PostgresStore(address)
    bodies = [_turn(random.Random(writer * 10**6 + number), writer, number) for number in range(turns)]
    print("ready", flush=True)
    sys.stdin.read()
    began = time.process_time()
    if batch > 1:
        for start in range(0, turns, batch):
            store.ingest_many(bodies[start : start + batch])
    else:
        rest = iter(bodies)
        lock = threading.Lock()

        def work() -> None:
            while True:
                with lock:
                    body = next(rest, None)
                if body is None:
                    return
                store.ingest(body)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    print(time.process_time() - began)
    store.close()


def _read(address: str) -> None:
    store = PostgresStore(address, read_only=True)
    with store.connections.reading() as db:
        count = db.execute("SELECT count(*) FROM messages").fetchone()[0]
    for name, words in SEARCHES.items():
        times = []
        for _ in range(13):
            began = time.perf_counter()
            queries.list_conversations(store, Filter(words=words))
            times.append((time.perf_counter() - began) * 1000)
        times = times[3:]
        p95 = statistics.quantiles(times, n=20)[-1]
        print(f"{name} over {count:,} messages: median {statistics.median(times):.0f} ms, 95 % below {p95:.0f} ms")
    store.close()


def _turn(chance: random.Random, writer: int, number: int) -> dict[str, Any]:
    """A turn of 14 messages, 9 KB of JSON."""
    run, now = f"r{writer}x{number}", time.time_ns() // 1000

    def text(words: int) -> str:
        return " ".join(chance.choice(WORDS) for _ in range(words)) + f" {run}"

    def message(key: str, kind: str, parent: str | None, **more: Any) -> dict[str, Any]:
        parents = {"parentExternalMessageId": parent} if parent else {}
        at = message_columns.format_timestamp(now + len(messages) * 40_000)
        return {"externalMessageId": key, "messageType": kind, "createdAt": at, **parents, **more}

    messages: list[dict[str, Any]] = []
    messages.append(message(f"{run}:user", "user_message", None, content=text(20)))
    messages.append(message(run, "chain_start", f"{run}:user", properties={"name": "support", "agent_name": "support"}))
    for step in range(3):
        usage = {
            "tokens_in": 900,
            "tokens_out": 80,
            "cost_usd": 0.0031,
            "latency_ms": chance.uniform(300, 3000),
            "status": "completed",
        }
        model, tool = f"{run}-m{step}", f"{run}-t{step}"
        messages.append(
            message(model, "llm", run, model=chance.choice(MODELS), output={"text": text(120)}, properties=usage)
        )
        messages.append(message(tool, "tool_call", run, toolName="search_orders", input={"query": text(10)}))
        messages.append(
            message(f"{tool}:r", "observation", tool, output={"rows": text(130)}, properties={"latency_ms": 12.0})
        )
    messages.append(message(f"{run}-m9", "llm", run, model="gpt-4o", output={"text": text(80)}, properties=usage))
    messages.append(message(f"{run}:answer", "final_response", run, content=text(80)))
    messages.append(
        message(f"{run}:end", "chain_end", run, output={"status": "completed"}, properties={"latency_ms": 4000.0})
    )
    return {
        "externalUserId": f"user-{number % 500}", "externalConversationId": f"c{writer}-{number // 4}",
        "systemPrompt": {"externalPromptId": "support", "content": "You help {{user}}.", "variables": {"user": f"u{number}"}},
        "properties": {"agent_name": "support", "plan": "gold"}, "messages": messages,
    }  # fmt: skip


class _Server(PostgresServer):
    """A PostgreSQL that flushes to the disk, as it does by default. Tests need no flushes."""

    def command(self) -> list[str]:
        return [*super().command(), "-c", "fsync=on", "-c", "full_page_writes=on"]


@contextmanager
def _database(address: str | None) -> Iterator[tuple[str, PostgresServer | None]]:
    if address is not None:
        yield address, None
        return
    user = "postgres" if os.geteuid() == 0 and any(entry.pw_name == "postgres" for entry in pwd.getpwall()) else None
    folder = Path(tempfile.mkdtemp(prefix="gati-benchmark-"))
    try:
        if user:
            shutil.chown(folder, user)
        server = _Server(postgres_programs(), folder, user)
        server.start()
        try:
            yield server.new_database(), server
        finally:
            server.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
