"""Kill a program at random moments: the next process delivers what was on disk, once and in order."""

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
from tests.processes.conftest import SECONDS, Sandbox

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")

KILLS = int(os.environ.get("GATI_TEST_KILLS", "100"))


def on_disk(spool: Path) -> set[str]:
    """Return the ids of the messages in the spool."""
    ids = set()
    for path in spool.glob("*/ready/*.jsonl"):
        for line in path.read_bytes().splitlines():
            ids |= {m["externalMessageId"] for m in json.loads(line)["body"]["messages"]}
    return ids


class ForkingProgram:
    """A program that forks children which run turns, so that starting a child needs no imports."""

    def __init__(self, sandbox: Sandbox, **environment: object) -> None:
        self.program = subprocess.Popen(
            [sys.executable, "-m", "tests.processes.forking_program"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env=sandbox.environment(GATI_FLUSH_INTERVAL=SPOOL_SECONDS, **environment), cwd=sandbox.folder, text=True, start_new_session=True,
        )  # fmt: skip
        self._read()

    def _read(self) -> str:
        assert self.program.stdout
        return self.program.stdout.readline().strip()

    def begin(self, name: str, pause: float) -> int:
        """Start a child that runs turns until it is killed. Return its pid after its first turn."""
        assert self.program.stdin
        self.program.stdin.write(f"{name} {pause}\n")
        self.program.stdin.flush()
        return int(self._read())

    def turn_times(self) -> list[float]:
        """Return the end times of the turns of the killed child."""
        return [float(part) for part in self._read().split()]

    def end(self) -> None:
        os.killpg(self.program.pid, signal.SIGKILL)
        self.program.communicate()


def run_and_kill(
    sandbox: Sandbox, pause: float, life: float, **environment: object
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Kill children at random moments of their lives, and let another process deliver what they left.

    Returns, by name, the end times of the turns of each child, and the time when it was killed.
    """
    rng = random.Random(20261120)
    program, turn_times, spooled_ids = ForkingProgram(sandbox, **environment), dict[str, list[float]](), set[str]()
    killed_at: dict[str, float] = {}
    try:
        for n in range(KILLS // 2):
            name = f"life {n}"
            child = program.begin(name, pause)
            time.sleep(rng.uniform(0.0, life))  # kill at a random moment
            os.kill(child, signal.SIGKILL)
            killed_at[name] = time.time()
            turn_times[name] = program.turn_times()
            spooled_ids |= on_disk(sandbox.spool)
    finally:
        program.end()
    sandbox.run("flush_without_turns")
    assert sandbox.spooled() == 0
    delivered_ids = {m["externalMessageId"] for m in sandbox.server.messages()}
    assert spooled_ids <= delivered_ids, "a spooled message was not delivered"
    return turn_times, killed_at


@pytest.mark.timeout(400)  # a minute and more on an idle machine
@pytest.mark.parametrize(
    ("pause", "life"), [(0.002, 3.0), (3 * LULL_SECONDS, 0.5)], ids=["no pause", "pause between turns"]
)
def test_a_killed_program_loses_no_turn(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], pause: float, life: float
) -> None:
    turn_times, _ = run_and_kill(sandbox, pause, life)
    texts = sandbox.user_texts()
    assert texts.pop("first life")
    lost = 0
    for name, times in turn_times.items():
        delivered = texts.get(name, [])
        # The last turn may be there although its end time was not reported. No turn in the middle is missing.
        assert delivered == [str(k) for k in range(len(delivered))]
        lost += max(0, len(times) - len(delivered))
    with capsys.disabled():
        print(f"\n{KILLS // 2} kills: {sum(map(len, turn_times.values()))} turns, {lost} lost")
    assert lost == 0


@pytest.mark.timeout(400)  # a minute and more on an idle machine
@pytest.mark.parametrize(
    ("pause", "longest", "life"),
    [(0.002, SPOOL_SECONDS, 3.0), (3 * LULL_SECONDS, 2 * LULL_SECONDS, 0.5)],
    ids=["no pause", "pause between turns"],
)
def test_without_a_journal_a_killed_program_loses_only_turns_since_the_last_spool_write(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], pause: float, longest: float, life: float
) -> None:
    turn_times, killed_at = run_and_kill(sandbox, pause, life, GATI_JOURNAL=False)
    texts = sandbox.user_texts()
    assert texts.pop("first life")
    lost = []
    for name, times in turn_times.items():
        delivered = texts.get(name, [])
        # The last turn may be on disk although its end time was not reported. No turn in the middle is missing.
        assert delivered == [str(k) for k in range(len(delivered))]
        lost += [killed_at[name] - end_time for end_time in times[len(delivered) :]]
    total, oldest = sum(map(len, turn_times.values())), max(lost, default=0.0)
    with capsys.disabled():
        print(f"\n{KILLS // 2} kills: {total} turns, {len(lost)} lost", end=" ")
        print(f"(the oldest {oldest * 1000:.0f} ms before its kill; spooled every {longest * 1000:.0f} ms)")
    # The bound is the interval plus one round of the worker, which can be slow on a loaded machine.
    assert oldest < longest + SECONDS / 45
    assert len(lost) < total / 2
