"""Measure how many turns a second the team's store accepts: `python -m tests.benchmarks.team_store [address]`.

Starts a PostgreSQL of its own (as Debian configures it, with `fsync`), unless the address of an empty database is given.
Writers are processes. Each stores turns of 14 messages (9 KB) in batches, as a relay does, or one by one in threads, as
a studio does. Prints turns a second, CPU time of the writers per turn, and the time until a page shows the list.
"""

from __future__ import annotations

import argparse
import os
import pwd
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
    with _database(options.address) as address:
        PostgresStore(address).close()
        number = 0
        for writers, batch in ((1, 25), (2, 25), (1, 1)):
            began = time.perf_counter()
            command = [
                sys.executable,
                "-m",
                "tests.benchmarks.team_store",
                address,
                "--turns",
                str(options.turns // writers),
            ]
            running = []
            for _ in range(writers):
                running.append(
                    subprocess.Popen([*command, "--writer", str(number), "--batch", str(batch)], stdout=subprocess.PIPE)
                )
                number += 1
            cpu = sum(float(process.communicate()[0]) for process in running)
            seconds = time.perf_counter() - began
            turns = options.turns // writers * writers
            kind = f"batches of {batch}" if batch > 1 else "8 threads, one by one"
            print(
                f"{writers} writer(s), {kind}: {turns / seconds:.0f} turns/s, {cpu / turns * 1000:.2f} ms CPU of the writer per turn"
            )
        _read(address)


def _write(address: str, writer: int, turns: int, batch: int) -> None:
    """Store turns; print the CPU time."""
    store = PostgresStore(address)
    bodies = [_turn(random.Random(writer * 10**6 + number), writer, number) for number in range(turns)]
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
    for name, words in (
        ("the list", ""),
        ("a search for two words", "refund bicycle"),
        ("a search for a rare word", "r7x1"),
    ):
        began = time.perf_counter()
        queries.list_conversations(store, Filter(words=words))
        print(f"{name} over {count:,} messages: {(time.perf_counter() - began) * 1000:.0f} ms")
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


@contextmanager
def _database(address: str | None) -> Iterator[str]:
    if address is not None:
        yield address
        return
    user = "postgres" if os.geteuid() == 0 and any(entry.pw_name == "postgres" for entry in pwd.getpwall()) else None
    folder = Path(tempfile.mkdtemp(prefix="gati-benchmark-"))
    try:
        if user:
            shutil.chown(folder, user)
        server = PostgresServer(postgres_programs(), folder, user)
        server.start()
        try:
            yield server.new_database()
        finally:
            server.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
