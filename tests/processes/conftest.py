"""Start programs as separate processes that deliver to a local Greenflash server."""

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

from gati._api.runtime import MISSING_CONVERSATION_ID
from gati.pipeline.recovery import spool_status
from tests.servers import API_KEY, LocalServer, greenflash_server

ROOT = Path(__file__).parents[2]
SECONDS = 90
"""Timeout after which a program is considered hung, even on a slow machine."""


@dataclass
class Sandbox:
    """A server, and a folder in which programs run."""

    server: LocalServer
    folder: Path
    programs: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def spool(self) -> Path:
        return self.folder / "spool"

    def environment(self, **more: object) -> dict[str, str]:
        """Return the environment of a program, with every option that `observe.init()` needs."""
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
        """Start a program without a terminal. It is killed if it outlives the test."""
        program = subprocess.Popen(
            [sys.executable, *map(str, command)], cwd=self.folder, env=self.environment(**environment),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        self.programs.append(program)
        return program

    def program(self, name: str, *arguments: object, **environment: object) -> subprocess.Popen[str]:
        """Start a function of `program`."""
        return self.start("-m", "tests.processes.program", name, *arguments, **environment)

    def run(self, name: str, *arguments: object, code: int = 0, **environment: object) -> list[dict[str, Any]]:
        """Run a function of `program` to its end and return its reports. It must print nothing else."""
        out, error = wait_for_exit(self.program(name, *arguments, **environment), code)
        error = error.replace(MISSING_CONVERSATION_ID + "\n", "")  # some programs have turns without a conversation
        assert error == "", error
        return [json.loads(line) for line in out.splitlines()]

    def user_texts(self) -> dict[str, list[str]]:
        """Return the user messages on the server by conversation. Every turn must be complete."""
        texts: dict[str, list[str]] = defaultdict(list)
        kinds: dict[str, Counter[str]] = defaultdict(Counter)
        for message in self.server.messages():
            kinds[message["conversation"]][message["messageType"]] += 1
            if message["messageType"] == "user_message":
                texts[message["conversation"]].append(message["content"])
        for conversation, counts in kinds.items():
            assert counts["user_message"] == counts["llm"] == len(texts[conversation]), counts
        return dict(texts)

    def duplicates(self) -> list[str]:
        """Return the ids of messages that were sent more than once."""
        ids = Counter(m["externalMessageId"] for body in self.server.bodies() for m in body["messages"])
        return [name for name, count in ids.items() if count > 1]

    def spooled(self) -> int:
        """Return the number of messages in the spool."""
        return sum(account.messages for account in spool_status(self.spool))


def wait_for_exit(program: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    """Wait for a program to exit, check its exit code, and return stdout and stderr."""
    try:
        out, error = program.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(program.pid, signal.SIGKILL)
        out, error = program.communicate()
        raise AssertionError(f"the program hung\n{out}\n{error}") from None
    assert program.returncode == code, error
    return out, error


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    with greenflash_server() as server:
        sandbox = Sandbox(server, tmp_path)
        try:
            yield sandbox
        finally:
            for program in sandbox.programs:
                if program.poll() is None:
                    os.killpg(program.pid, signal.SIGKILL)
                    program.communicate()
        assert server.unknown_keys == []
