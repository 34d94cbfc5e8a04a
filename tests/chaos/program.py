"""The program that the chaos test starts, kills and stops: ``python -m tests.chaos.program NAME SEED TURNS``.

It runs turns, has faults of the operating system at times, forks children that do the same, and exits in one of several
ways. It reports to stdout, a pipe, as JSON lines, which survive its death:

- ``{"name", "conversation", "text"}``: a turn has ended.
- ``{"name", "safe"}``: so many turns are on disk or delivered, so nothing may lose them any more.
- ``{"name", "end", "stats"}``: the process ends by itself, with its counters.
"""

from __future__ import annotations

import atexit
import dataclasses
import json
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

lives: list[Life] = []


@atexit.register
def report_ends() -> None:
    """Report after gati's exit hook, which is registered later."""
    for life in lives:
        life.report_end()


from tests.chaos.os_faults import KINDS, OsFaults  # noqa: E402 - it imports gati

FAULTS = OsFaults(os.environ["GATI_SPOOL_DIR"])

from gati import observe  # noqa: E402 - after the clock was replaced
from gati._api.runtime import runtime  # noqa: E402 - after the clock was replaced
from gati.pipeline import journal_keeper, outbox, quota_spool, spool_keeper  # noqa: E402 - after the clock was replaced
from gati.pipeline.retry import Policy  # noqa: E402 - after the clock was replaced
from tests.faults.chat_driver import ChatDriver  # noqa: E402 - after the clock was replaced

CONVERSATIONS = 3
ENDS = ("return", "sys.exit", "shutdown", "flush", "kill")


def report(name: str, **what: object) -> None:
    os.write(1, json.dumps({"name": name, **what}).encode() + b"\n")


def shorten_times() -> None:
    """Let everything happen often: retries, attempts to use a disk that failed, searches for files."""
    policy = Policy(first=0.02, cap=0.2, retry_after_cap=0.5, probe=0.1)
    outbox.Policy = lambda: policy  # type: ignore[assignment,misc,attr-defined]  # a factory instead of the class
    quota_spool.FIRST_RETRY_SECONDS, quota_spool.RETRY_SECONDS = 0.05, 0.5
    spool_keeper.SCAN_SECONDS, spool_keeper.NEXT_SCAN_SECONDS = 0.5, 0.2
    journal_keeper.TRY_SECONDS, journal_keeper.FIRST_READ_RETRY_SECONDS = 0.1, 0.05


def rss() -> int:
    """Return the resident memory in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class Life:
    """One process, from its start or fork to its end."""

    def __init__(self, name: str, seed: str, driver: ChatDriver) -> None:
        self.name = name
        self.rng = random.Random(seed)
        self.seed = seed
        self.driver = driver
        self.turns = 0
        self.children: list[int] = []
        self.memory = rss()
        self.pipeline = runtime.pipeline

    def run(self, turns: int, *, forks: bool) -> None:
        """Run turns, and begin and end faults between them. The disk works at the end."""
        fault_turns = 0
        for n in range(turns):
            fault_turns -= 1
            if fault_turns == 0:
                FAULTS.end()
            if fault_turns < 0 and self.rng.random() < 0.1:
                FAULTS.begin(self.rng.choice(KINDS))
                fault_turns = self.rng.randrange(2, 15)
            if forks and self.rng.random() < 0.03:
                self._fork(n)
            self._turn()
            if self.rng.random() < 0.05:
                observe.flush(self.rng.choice([0.0, 0.05, 0.5]))
            if self.rng.random() < 0.2:
                time.sleep(self.rng.uniform(0.0, 0.1))
            self._report_safe()
        FAULTS.end()

    def _turn(self) -> None:
        conversation = f"{self.name}-{self.rng.randrange(CONVERSATIONS)}"
        text = str(self.turns)
        self.driver.turn(conversation, text)
        self.turns += 1
        report(self.name, conversation=conversation, text=text)

    def _report_safe(self) -> None:
        stats = observe.stats()
        # Messages are counted before their turn is, so every turn so far is in a place that outlives the process.
        if stats.turns_encoded == self.turns and not stats.pending:
            report(self.name, safe=self.turns)

    def _fork(self, n: int) -> None:
        child = os.fork()
        if child:
            self.children.append(child)
            return
        life = Life(f"{self.name}.{n}", f"{self.seed}.{n}", self.driver)
        life.run(life.rng.randrange(5, 30), forks=False)
        if life.rng.random() < 0.3:
            os.kill(os.getpid(), signal.SIGKILL)
        observe.shutdown(life.rng.choice([0.0, 0.2, 5.0]))
        life.report_end()
        os._exit(0)

    def wait_for_children(self) -> None:
        for child in self.children:
            os.waitpid(child, 0)

    def report_end(self) -> None:
        assert self.pipeline is not None
        counted = self.pipeline.stats()
        stats: dict[str, Any] = dataclasses.asdict(counted)
        counters = {"balanced": counted.balanced, "growth": rss() - self.memory, "threads": threading.active_count()}
        report(self.name, end=self.turns, stats={**stats, **counters})


def main(name: str, seed: str, turns: int) -> None:
    """Run one life."""
    shorten_times()
    observe.init(local=False, timeout=1.0, shutdown_timeout=3.0)
    life = Life(name, seed, ChatDriver())
    lives.append(life)
    life._turn()
    life.memory = rss()
    life.run(turns, forks=True)
    life.wait_for_children()
    end = life.rng.choice(ENDS)
    if end == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if end == "flush":
        observe.flush(5.0)
    if end == "shutdown":
        observe.shutdown(life.rng.choice([0.0, 0.2, 5.0]))
    if end == "sys.exit":
        sys.exit(0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
