"""Long runs of successes, errors, cancellations and runs that never end, on an unreliable server."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import threading
import time
import uuid
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableLambda

from gati import observe
from gati.testing import ScriptedChatModel
from gati.testing.server import fault_injection as faults
from tests.faults.chat_driver import PRODUCT, ChatDriver
from tests.servers import API_KEY, LocalServer, greenflash_server

CACHES = {
    "_ended": 20_000, "_dropped_turns": 10_000, "_states": 10_000, "entries": 100_000, "message_ids": 16_384,
    "_conversations": 4_096, "_memories": 4_096, "_by_answer": 4_096,
}  # fmt: skip
"""Maximum sizes of bounded caches, which evict their oldest entries."""

ROOMY = 300
"""Maximum size of any other container while idle; more is a leak."""


@dataclass
class Reading:
    """Measurements taken while idle."""

    seconds: float
    turns: int
    rss: int
    threads: int
    containers: dict[str, int] = field(repr=False)


class Soak:
    """Runs turns and measures memory."""

    def __init__(self, server: LocalServer, folder: Path, seed: int = 1) -> None:
        self._server = server
        self._rng = random.Random(seed)
        self._driver = ChatDriver()
        self._began = time.monotonic()
        self.turns = 0
        observe.init(
            agent_name="soak", api_key=API_KEY, base_url=server.url, product_id=PRODUCT, spool_dir=folder,
            flush_interval=0.1, timeout=1.0, turn_timeout=0.5, spool_max_bytes=4_000_000, local=False,
        )  # fmt: skip
        self._kinds = [
            self._succeeding,
            self._succeeding,
            self._failing,
            self._cancelled,
            self._closed_early,
            self._never_ended,
        ]

    def run_turns(self, turns: int) -> None:
        """Run turns of all kinds, and inject server faults now and then."""
        for _ in range(turns):
            if self._rng.random() < 0.02:
                self._inject_fault()
            self._rng.choice(self._kinds)(f"c{self._rng.randrange(10**9)}")
            self.turns += 1

    def _inject_fault(self) -> None:
        kinds = [
            faults.failing(503),
            faults.connection_reset(after_commit=True),
            faults.html(),
            faults.rate_limited("0"),
        ]
        self._server.faults.clear()  # one fault at a time: several in a row are an outage with growing delays
        self._server.faults.add(self._rng.choice(kinds))

    def _succeeding(self, name: str) -> None:
        self._driver.turn(name, "word")
        self._driver.texts_by_conversation.clear()

    def _failing(self, name: str) -> None:
        def fail(text: str) -> str:
            raise LookupError(text)

        with observe.conversation(name):
            try:
                RunnableLambda(fail).invoke("word")
            except LookupError:
                pass

    def _cancelled(self, name: str) -> None:
        async def run() -> None:
            async def wait(text: str) -> str:
                await asyncio.sleep(60)
                return text

            task = asyncio.create_task(RunnableLambda(wait).ainvoke(name))
            await asyncio.sleep(0)
            await asyncio.sleep(0.001)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                pass

        asyncio.run(run())

    def _closed_early(self, name: str) -> None:
        model = ScriptedChatModel(replies=["one two three four"])
        with observe.conversation(name):
            stream = model.stream("word")
            next(stream)
            stream.close()  # type: ignore[attr-defined]  # typed as an iterator, but is a generator

    def _never_ended(self, name: str) -> None:
        from gati.langchain.callback import handler

        run: Any = handler
        message: list[list[BaseMessage]] = [[]]
        run.on_chat_model_start({"name": "lost"}, message, run_id=uuid.uuid4(), metadata={"conversation_id": name})

    def reading(self) -> Reading:
        """Wait until everything is delivered and unfinished runs have timed out, then measure."""
        end = time.monotonic() + 120
        while True:
            observe.flush(timeout=30.0)
            stats = observe.stats()
            assert stats.balanced, stats
            if not (stats.turns_open or stats.spooled or stats.records_waiting):
                break
            assert time.monotonic() < end, stats
            time.sleep(0.1)
        assert stats.faults == {}
        gc.collect()
        return Reading(time.monotonic() - self._began, self.turns, rss(), threading.active_count(), dict(containers()))


def soak_for(folder: Path, seconds: float, seed: int = 1) -> Iterator[Reading]:
    """Run turns for `seconds`. Yield a reading after a warm-up, every minute, and at the end."""
    with greenflash_server(path=folder / "store.db") as server:
        soak = Soak(server, folder / "spool", seed)
        soak.run_turns(500)
        yield soak.reading()
        end, next_reading = time.monotonic() + seconds, time.monotonic() + 60
        while (now := time.monotonic()) < end:
            soak.run_turns(200)
            server.requests.clear()
            if now >= next_reading:
                next_reading = now + 60
                yield soak.reading()
        yield soak.reading()
        observe.shutdown()


def rss() -> int:
    """Return the resident memory in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def containers() -> Iterator[tuple[str, int]]:
    """Yield the containers in gati's objects with their lengths: the largest per attribute."""
    sizes: dict[str, int] = {}
    for instance in gc.get_objects():
        kind, module = type(instance), str(type(instance).__module__)
        # The test server runs in this process too.
        if not module.startswith("gati.") or module.startswith(("gati.studio", "gati.store", "gati.testing.server")):
            continue
        slots = [name for base in kind.__mro__ for name in getattr(base, "__slots__", ()) if isinstance(name, str)]
        for name in {*slots, *getattr(instance, "__dict__", {})}:
            value = getattr(instance, name, None)
            if isinstance(value, (dict, list, set, deque, OrderedDict)):
                key = f"{kind.__name__}.{name}"
                sizes[key] = max(sizes.get(key, 0), len(value))
    yield from sizes.items()


def leaks(reading: Reading) -> dict[str, int]:
    """Return the containers that exceed their bound."""
    return {name: size for name, size in reading.containers.items() if size > CACHES.get(name.rsplit(".", 1)[1], ROOMY)}
