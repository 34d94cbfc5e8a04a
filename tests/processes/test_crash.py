"""Killed at random moments: what was on disk is delivered by the next life, nothing twice, nothing out of order."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gati.pipeline.worker import LULL_SECONDS, SPOOL_SECONDS
from tests.processes.conftest import SECONDS, World

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")

KILLS = int(os.environ.get("GATI_TEST_KILLS", "100"))


def on_disk(spool: Path) -> set[str]:
    """Ids of the messages that lie in the spool."""
    ids = set()
    for path in spool.glob("*/ready/*.jsonl"):
        for line in path.read_bytes().splitlines():
            ids |= {m["externalMessageId"] for m in json.loads(line)["body"]["messages"]}
    return ids


class Lives:
    """A program that forks one talking child after the other, so that each life costs no import."""

    def __init__(self, world: World) -> None:
        self.program = subprocess.Popen(
            [sys.executable, "-m", "tests.processes.forking_program"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env=world.environment(GATI_FLUSH_INTERVAL=SPOOL_SECONDS), cwd=world.folder, text=True, start_new_session=True,
        )  # fmt: skip
        self._read()

    def _read(self) -> str:
        assert self.program.stdout
        return self.program.stdout.readline().strip()

    def begin(self, name: str, pause: float) -> int:
        """A child that talks in a conversation until it is killed; its process id, once it has begun."""
        assert self.program.stdin
        self.program.stdin.write(f"{name} {pause}\n")
        self.program.stdin.flush()
        return int(self._read())

    def said(self) -> list[float]:
        """Times at which the turns of the child that was killed had ended."""
        return [float(part) for part in self._read().split()]

    def end(self) -> None:
        os.killpg(self.program.pid, signal.SIGKILL)
        self.program.communicate()


@pytest.mark.parametrize(
    ("pause", "longest", "life"),
    [(0.002, SPOOL_SECONDS, 3.0), (3 * LULL_SECONDS, 2 * LULL_SECONDS, 0.5)],
    ids=["talks without a pause", "waits for its model"],
)
def test_a_killed_program_loses_only_turns_since_the_last_spool_write(
    world: World, capsys: pytest.CaptureFixture[str], pause: float, longest: float, life: float
) -> None:
    dice = random.Random(20261120)
    lives, said, safe = Lives(world), dict[str, list[float]](), set[str]()
    deaths: dict[str, float] = {}
    try:
        for n in range(KILLS // 2):
            name = f"life {n}"
            child = lives.begin(name, pause)
            time.sleep(dice.uniform(0.0, life))  # the moment is what is tested
            os.kill(child, signal.SIGKILL)
            deaths[name] = time.time()
            said[name] = lives.said()
            safe |= on_disk(world.spool)
    finally:
        lives.end()
    world.run("nothing_said_but_flushed")
    assert world.waiting() == 0
    held = {m["externalMessageId"] for m in world.server.messages()}
    assert safe <= held, "what was on disk is delivered"
    texts = world.held()
    assert texts.pop("first life")
    lost = []
    for name, times in said.items():
        here = texts.get(name, [])
        # One more may have reached the disk than the child could tell; none is missing in the middle.
        assert here == [str(k) for k in range(len(here))]
        lost += [deaths[name] - ended for ended in times[len(here) :]]
    told, oldest = sum(map(len, said.values())), max(lost, default=0.0)
    with capsys.disabled():
        print(f"\n{KILLS // 2} kills: {told} turns, {len(lost)} lost", end=" ")
        print(f"(the oldest {oldest * 1000:.0f} ms before its kill; spooled every {longest * 1000:.0f} ms)")
    # The bound is the interval and what one round takes; a machine under load may take long for a round.
    assert oldest < longest + SECONDS / 45
    assert len(lost) < told / 2
