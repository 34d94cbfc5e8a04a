"""Measure the studio's pages over a large store: `python -m tests.benchmarks.studio`.

Fills a store with about 400,000 messages in 14,000 conversations of a year (or takes one that exists), serves it in a
process of its own, and requests each page several times over HTTP. Prints the median and the 95th percentile of each
page, the processor time of the server per request, which other programs on the machine hardly change, and how long a
message took to store. Keep `docs/studio.md` up to date with the results.
"""

from __future__ import annotations

import argparse
import itertools
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gati.store.message_columns import format_timestamp
from gati.store.store import Store

DAY = 86_400_000_000
TOKEN = "benchmark-token-0123456789012345678901"
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
    "return",
    "warranty",
    "charge",
    "battery",
    "saddle",
    "helmet",
    "colour",
    "size",
    "exchange",
    "voucher",
    "storno",
    "Rückgabe",
    "livraison",
    "返品",
    "配送",
    "환불",
    "คืนเงิน",
]
AGENTS = ["support", "sales", "router", "math-tutor"]
MODELS = ["gpt-4o", "gpt-4o-mini", "claude-sonnet-4-5", "gemini-2.5-flash"]
TOOLS = ["search_orders", "get_weather", "calculator", "create_ticket", "lookup_user", "send_mail"]
TAGS = ["beta", "vip", "trial", "escalated"]


def main() -> None:
    """Fill a store, serve it and print the times."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.studio", description=__doc__)
    parser.add_argument("--store", type=Path, help="file to fill, or to measure if it exists")
    parser.add_argument("--conversations", type=int, default=14_000)
    parser.add_argument("--requests", type=int, default=20, help="requests per page, after three that warm up")
    parser.add_argument("--only", default="", metavar="TEXT", help="measure the pages whose names contain this")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.store or Path(folder) / "studio.db"
        if not path.exists():
            _fill(path, options.conversations)
        size = path.stat().st_size / 1024**2
        with Store(path).connections.reading() as db:
            count = db.execute("SELECT count(*) FROM messages").fetchone()[0]
        print(f"{count:,} messages, {size:.0f} MB")
        _measure(path, options.requests, options.only)


def _fill(path: Path, conversations: int) -> None:
    chance, now = random.Random(7), time.time_ns() // 1000
    store = Store(path, 4 * 1024**3)
    messages, began = 0, time.monotonic()
    for user in range(conversations // 6):
        store.record_action(
            "users", {"externalUserId": f"user-{user}", "name": f"Person {user} {chance.choice(WORDS)}"}
        )
    for number in range(conversations):
        begin = now - int((conversations - number) / conversations * 364 * DAY)
        for turn in range(chance.choice((1, 1, 2, 2, 3, 4, 5))):
            body = _turn(chance, number, turn, begin + turn * 300_000_000, conversations)
            messages += len(body["messages"])
            store.ingest(body)
        if number % 3 == 0:
            store.record_action("ratings", _rating(chance, number, begin + 5_000_000))
    seconds = time.monotonic() - began
    print(f"stored {messages:,} messages in {seconds:.0f} s, {seconds / messages * 1e6:.0f} µs each")
    store.close()


def _turn(chance: random.Random, number: int, turn: int, at: int, conversations: int) -> dict[str, Any]:
    run = f"r{number}-{turn}"
    agent, model = AGENTS[number % len(AGENTS)], MODELS[number % len(MODELS)]
    version = 1 + number * 12 // conversations
    prompt = {
        "externalPromptId": agent,
        "components": [{"content": f"You are {agent}, edition {version}. {{{{user}}}}"}],
    }
    return {
        "externalUserId": f"user-{number % (conversations // 6)}", "externalConversationId": f"conversation-{number}",
        "externalOrganizationId": f"organization-{number % 40}", "systemPrompt": {**prompt, "variables": {"user": "x"}},
        "properties": {"agent_name": agent, "plan": ("free", "gold")[number % 2], "order": f"A-{number:06}"},
        "messages": list(_messages(chance, run, model, at)),
    }  # fmt: skip


def _messages(chance: random.Random, run: str, model: str, at: int) -> Iterator[dict[str, Any]]:
    times = itertools.count(at, 40_000)

    def message(key: str, kind: str, parent: str | None, **more: Any) -> dict[str, Any]:
        parents = {"parentExternalMessageId": parent} if parent else {}
        return {
            "externalMessageId": key,
            "messageType": kind,
            "createdAt": format_timestamp(next(times)),
            **parents,
            **more,
        }

    def text(length: int) -> str:
        return " ".join(chance.choices(WORDS, k=length))

    failed = chance.random() < 0.03
    yield message(f"{run}:user", "user_message", None, content=text(14))
    yield message(run, "chain_start", f"{run}:user", properties={"name": "graph", "tags": [chance.choice(TAGS)]})
    for step in range(2):
        yield message(f"{run}-n{step}", "task", run, properties={"node": "model", "latency_ms": 800.0})
        properties = {
            "tokens_in": chance.randint(50, 4000), "tokens_out": chance.randint(5, 600), "status": "completed",
            "latency_ms": chance.lognormvariate(6.6, 0.7), "time_to_first_token_ms": chance.lognormvariate(5.4, 0.5),
            "cost_usd": chance.random() / 50,
        }  # fmt: skip
        yield message(
            f"{run}-m{step}", "llm", f"{run}-n{step}", model=model, properties=properties, output={"text": text(9)}
        )
        tool = chance.choice(TOOLS)
        yield message(f"{run}-t{step}", "tool_call", f"{run}-n{step}", toolName=tool, input={"query": text(3)})
        kind = "tool_error" if failed and step else "observation"
        result = {"latency_ms": chance.lognormvariate(4, 1)}
        yield message(f"{run}-t{step}:result", kind, f"{run}-t{step}", output={"output": text(12)}, properties=result)
    yield message(f"{run}:answer", "final_response", run, content=text(30))
    yield message(f"{run}:end", "chain_end", run, output={"status": "completed"}, properties={"latency_ms": 2500.0})


def _rating(chance: random.Random, number: int, at: int) -> dict[str, Any]:
    return {
        "productId": "0b9f1c5e-7a44-4c63-9f0e-5f2b1f7c3a10", "rating": chance.randint(1, 5), "ratingMin": 1, "ratingMax": 5,
        "externalConversationId": f"conversation-{number}", "feedback": " ".join(chance.choices(WORDS, k=5)),
        "ratedAt": format_timestamp(at),
    }  # fmt: skip


PAGES = {
    "list": "/",
    "list, middle": "/?after={middle}",
    "list, by cost": "/?sort=cost",
    "list, worst ratings": "/?sort=rating",
    "filter: model": "/?model=gpt-4o",
    "filter: tag, with errors": "/?tag=vip&errors=yes",
    "filter: prompt version": "/?version=support+v6",
    "filter: user": "/?user=user-77",
    "filter: tool, cost, slow": "/?tool=calculator&cost=0.01&latency=2",
    "filter: no match": "/?agent=support&model=gpt-4o-mini",
    "search: one word": "/?q=refund",
    "search: three words": "/?q=refund+late+bat",
    "search: Japanese": "/?q=返品",
    "search: order number": "/?q=A-004711",
    "search: name and word": "/?q=person+77+refund",
    "search and filters": "/?q=refund&agent=support&period=90d",
    "list of a month": "/?period=30d",
    "complete a user": "/complete/user?typed=person+7",
    "complete a tag": "/complete/tag?typed=v",
    "conversation": "/conversations/{uid}",
    "hit in a conversation": "/conversations/{uid}?at={message}&q=refund",
    "prompts": "/prompts",
    "prompt": "/prompts/{prompt}",
    "overview: 24 hours": "/overview?period=24h",
    "overview: yesterday": "/overview?period=yesterday",
    "overview: 7 days": "/overview?period=7d",
    "overview: 30 days": "/overview?period=30d",
    "overview: 90 days": "/overview?period=90d",
    "overview: 1 year": "/overview?period=1y",
    "overview: all time": "/overview?period=all",
    "users": "/users",
    "users by cost, a month": "/users?sort=cost&period=30d",
    "users: search": "/users?q=person+77",
    "user": "/users/user-77",
}

_SERVE = """
import sys
from gati.store.store import Store
from gati.studio.server import create_studio_app, listen, uvicorn_server
listener = listen()
print(listener.getsockname()[1], flush=True)
uvicorn_server(create_studio_app(Store(sys.argv[1], 4 * 1024**3), sys.argv[2])).run(sockets=[listener])
"""


def _measure(path: Path, requests: int, only: str) -> None:
    with Store(path).connections.reading() as db:
        uid, identifier = db.execute("SELECT uid, id FROM conversations ORDER BY turns DESC, id LIMIT 1").fetchone()
        row = db.execute("SELECT last_at, id FROM conversations ORDER BY last_at LIMIT 1 OFFSET 7000").fetchone()
        values = {
            "uid": uid, "middle": "{}~{}".format(*(row or (0, 0))),
            "prompt": db.execute("SELECT uid FROM prompts").fetchone()[0],
            "message": db.execute("SELECT min(id) FROM messages WHERE conversation = ?", (identifier,)).fetchone()[0],
        }  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-c", _SERVE, str(path), TOKEN], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        address = f"http://127.0.0.1:{server.stdout.readline().strip()}"
        try:
            for name, template in PAGES.items():
                if only not in name:
                    continue
                page = urllib.parse.quote(re.sub(r"{(\w+)}", lambda m: str(values[m[1]]), template), safe="/?=&+:,<>%~")
                _print_times(name, address + page, server.pid, requests)
        finally:
            server.terminate()


def _print_times(name: str, address: str, server: int, requests: int) -> None:
    for _ in range(3):
        _request(address)
    times, cpu_times = [], []
    for _ in range(requests):
        before = _cpu_seconds(server)
        times.append(_request(address))
        cpu_times.append((_cpu_seconds(server) - before) * 1000)
    (median, p95), (cpu, cpu_p95) = (
        (statistics.median(some), statistics.quantiles(some, n=20)[-1]) for some in (times, cpu_times)
    )
    print(
        f"{name:28} median {median:4.0f} ms  95 % {p95:4.0f} ms   processor: median {cpu:4.0f} ms  95 % {cpu_p95:4.0f} ms",
        flush=True,
    )


def _cpu_seconds(process: int) -> float:
    """Return the processor time of a process. Linux: from its file, in nanoseconds per thread; exact to 10 ms elsewhere."""
    tasks = Path(f"/proc/{process}/task")
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9


def _request(address: str) -> float:
    request = urllib.request.Request(address, headers={"authorization": f"Bearer {TOKEN}"})
    began = time.perf_counter()
    with urllib.request.urlopen(request, timeout=60) as response:
        response.read()
    return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    main()
