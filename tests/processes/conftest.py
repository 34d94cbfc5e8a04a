"""A local Greenflash, and programs that are started for real and talk to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gati.pipeline.recovery import spool_status
from tests.servers import API_KEY, LocalServer, greenflash_server

ROOT = Path(__file__).parents[2]
SECONDS = 90
"""After which a program hangs, on the slowest machine."""


@dataclass
class World:
    """The server, and where programs run."""

    server: LocalServer
    folder: Path
    programs: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def spool(self) -> Path:
        return self.folder / "spool"

    def environment(self, **more: object) -> dict[str, str]:
        """A program's: everything that `observe.init()` needs."""
        names = {
            "PYTHONPATH": ROOT,
            "PYTHONWARNINGS": "ignore::DeprecationWarning",  # of forks in programs with threads
            "GREENFLASH_API_KEY": API_KEY,
            "GREENFLASH_BASE_URL": self.server.url,
            "GATI_AGENT_NAME": "program",
            "GATI_SPOOL_DIR": self.spool,
            "GATI_FLUSH_INTERVAL": 0.1,
            **more,
        }
        return {**os.environ, **{name: str(value) for name, value in names.items()}}

    def start(self, *command: object, **environment: object) -> subprocess.Popen[str]:
        """Start a program; it has no terminal and is killed if the test ends before it does."""
        program = subprocess.Popen(
            [sys.executable, *map(str, command)], cwd=self.folder, env=self.environment(**environment),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        self.programs.append(program)
        return program

    def program(self, name: str, *arguments: object, **environment: object) -> subprocess.Popen[str]:
        """Start one of `program`."""
        return self.start("-m", "tests.processes.program", name, *arguments, **environment)

    def run(self, name: str, *arguments: object, code: int = 0, **environment: object) -> list[dict[str, Any]]:
        """Run one of `program` to its end; what it told. It must say nothing else."""
        out, error = ended(self.program(name, *arguments, **environment), code)
        assert error == "", error
        return [json.loads(line) for line in out.splitlines()]

    def held(self) -> dict[str, list[str]]:
        """The users' texts that the server holds, by conversation; every turn must be whole."""
        texts: dict[str, list[str]] = defaultdict(list)
        kinds: dict[str, Counter[str]] = defaultdict(Counter)
        for message in self.server.messages():
            kinds[message["conversation"]][message["messageType"]] += 1
            if message["messageType"] == "user_message":
                texts[message["conversation"]].append(message["content"])
        for conversation, counts in kinds.items():
            assert counts["user_message"] == counts["llm"] == len(texts[conversation]), counts
        return dict(texts)

    def sent_twice(self) -> list[str]:
        """Ids of messages that came in more than one request."""
        ids = Counter(m["externalMessageId"] for body in self.server.bodies() for m in body["messages"])
        return [name for name, count in ids.items() if count > 1]

    def waiting(self) -> int:
        """Messages in the spool."""
        return sum(account.messages for account in spool_status(self.spool))


def ended(program: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    """Wait for a program's end; what it printed."""
    try:
        out, error = program.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(program.pid, signal.SIGKILL)
        out, error = program.communicate()
        raise AssertionError(f"the program hung\n{out}\n{error}") from None
    assert program.returncode == code, error
    return out, error


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with greenflash_server() as server:
        world = World(server, tmp_path)
        try:
            yield world
        finally:
            for program in world.programs:
                if program.poll() is None:
                    os.killpg(program.pid, signal.SIGKILL)
                    program.communicate()
        assert server.unknown_keys == []
