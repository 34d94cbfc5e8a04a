"""More data than the destination accepts: limits hold, whole turns are dropped, every message is counted."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from gati import observe
from gati.testing.server import fault_injection as faults
from tests.faults.chat_driver import ChatDriver
from tests.faults.conftest import Init
from tests.servers import LocalServer

LIMIT = 400_000
SECONDS = float(os.environ.get("GATI_OVERLOAD_SECONDS", "0"))
"""Minimum duration of the overload; 300 turns by default."""


@pytest.mark.parametrize("on_full", ["oldest", "newest"])
def test_overload_drops_whole_turns_and_respects_the_limits(
    on_full: str, init: Init, greenflash: LocalServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    greenflash.faults.add(faults.slow(0.05, times=None))
    init(greenflash, spool_max_bytes=LIMIT, buffer_max_bytes=2_000_000, connections=1, on_full=on_full)
    chat, stop = ChatDriver(), threading.Event()
    sizes: list[tuple[int, int]] = []
    chat.turn("c0", "load libraries before the overload starts")
    observe.flush(timeout=60.0)
    turns = 1

    def sample_sizes() -> None:
        while not stop.wait(0.02):
            stats = observe.stats()
            assert stats.balanced, stats
            sizes.append((stats.spool_bytes, stats.memory_bytes))

    sampler = threading.Thread(target=sample_sizes)
    sampler.start()
    try:
        end = time.monotonic() + SECONDS
        while turns < 300 or time.monotonic() < end:
            chat.turn(f"c{turns % 10}", f"word {turns}")
            turns += 1
    finally:
        stop.set()
        sampler.join()
    greenflash.faults.clear()
    assert observe.flush(timeout=60.0).spooled == 0
    stats = observe.stats()
    assert stats.balanced
    assert stats.delivered == len(greenflash.messages())
    assert stats.dropped.keys() <= {"spool_full"}
    assert stats.dropped["spool_full"] > 0
    assert max(disk for disk, _ in sizes) <= LIMIT
    assert max(memory for _, memory in sizes) < 2_000_000
    # No partial turns: all have the same number of messages.
    ends = [m for m in greenflash.messages() if m["messageType"] == "final_response"]
    assert len(greenflash.messages()) % len(ends) == 0
    assert stats.recorded == turns * len(greenflash.messages()) // len(ends)
    parents = {m["externalMessageId"] for m in greenflash.messages()}
    links = {m["parentExternalMessageId"] for m in greenflash.messages() if "parentExternalMessageId" in m}
    assert links <= parents
    # At most one line of each kind per minute.
    assert max(Counter(caplog.messages).values(), default=0) <= 1 + SECONDS / 60


def test_a_full_buffer_drops_whole_turns(init: Init, greenflash: LocalServer) -> None:
    init(greenflash, buffer_max_bytes=150_000)
    chat = ChatDriver()
    threads = [threading.Thread(target=lambda k=k: [chat.turn(f"c{k}", f"{n}") for n in range(40)]) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    observe.flush(timeout=60.0)
    stats = observe.stats()
    assert stats.balanced
    assert stats.records_waiting == 0
    assert stats.recorded == stats.delivered == len(greenflash.messages())
    if stats.records_refused:
        assert stats.turns < chat.total
    else:
        assert stats.turns == chat.total
