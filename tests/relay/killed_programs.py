"""Programs that publish to a queue, are killed one after the other, and are compared with what arrived."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers import LocalServer

ROOT = Path(__file__).parents[2]
MAX_TURNS = 40
"""A program is killed after one to so many turns."""


class Life:
    """A program that was killed.

    Attributes:
        turns: Turns that it has run.
        acknowledged: Turns whose messages the broker has acknowledged.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.turns = self.acknowledged = 0

    def texts(self, server: LocalServer) -> list[str]:
        """Return the texts of its user that arrived."""
        return [m["content"] for m in server.messages(self.name) if m["messageType"] == "user_message"]

    def has_arrived(self, server: LocalServer) -> bool:
        """Return True if all acknowledged turns arrived."""
        return len(self.texts(server)) >= self.acknowledged

    def assert_in_order(self, server: LocalServer) -> None:
        """Fail unless the turns that arrived are in order and without a gap."""
        texts = self.texts(server)
        assert texts == [str(number + 1) for number in range(len(texts))], self.name
        assert len(texts) <= self.turns + 1


class KilledPrograms:
    """Runs `tests.queues.program` in a thread, and kills each of its children."""

    def __init__(self, address: str, count: int) -> None:
        self.lives = [Life(f"life-{number}") for number in range(count)]
        command = [sys.executable, "-W", "ignore", "-m", "tests.queues.program", address]
        self.program = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        self._thread = threading.Thread(target=self._kill_all, daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait until the last one was killed."""
        self._thread.join(120)
        assert not self._thread.is_alive()

    def _kill_all(self) -> None:
        chance = random.Random(18)
        assert self.program.stdin is not None
        assert self.program.stdout is not None
        assert self.program.stdout.readline() == "ready\n"
        for life in self.lives:
            self.program.stdin.write(f"{life.name}\n")
            self.program.stdin.flush()
            child, enough = int(self.program.stdout.readline()), chance.randrange(1, MAX_TURNS)
            while (line := self.program.stdout.readline()) != "killed\n":
                life.turns, messages = map(int, line.split())
                life.acknowledged = messages // 3
                if life.turns == enough:
                    os.kill(child, signal.SIGKILL)


@contextmanager
def killed_programs(address: str, count: int) -> Iterator[KilledPrograms]:
    """Run programs and kill them while the block runs."""
    programs = KilledPrograms(address, count)
    try:
        yield programs
    finally:
        os.killpg(programs.program.pid, signal.SIGKILL)
        programs.program.communicate()
