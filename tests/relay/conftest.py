"""Fixtures of the relay's tests: a queue of each engine, and relays in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.relay.kit import KafkaQueue, PostgresQueue, Queue
from tests.servers import LocalServer

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("relay_program.py")


@pytest.fixture(params=["postgres", "kafka"])
def queue(request: pytest.FixtureRequest) -> Queue:
    broker: Any = request.getfixturevalue(request.param)
    if request.param == "postgres":
        return PostgresQueue(broker, request.getfixturevalue("postgres_server"))
    return KafkaQueue(broker.new_topic(), broker)


@pytest.fixture
def start_relay(queue: Queue, greenflash: LocalServer) -> Iterator[Callable[..., int]]:
    """Start a relay in a process of its own; return its id."""
    arguments = [sys.executable, str(PROGRAM), queue.url, greenflash.url, greenflash.api_key]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    started: list[int] = []
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as program:

        def start(session_seconds: float = 2.0) -> int:
            assert program.stdin is not None
            assert program.stdout is not None
            program.stdin.write(f"{session_seconds}\n")
            program.stdin.flush()
            started.append(int(program.stdout.readline()))
            return started[-1]

        try:
            yield start
        finally:
            for pid in started:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            program.kill()
