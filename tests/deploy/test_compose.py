"""The compose files of `deploy/`: their services run here as processes, with a real broker, without containers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from gati.store.queries import list_conversations
from gati.store.store import Store
from tests.brokers import KafkaBroker

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
SECONDS = 90
TURNS = 3


def compose(*names: str) -> dict[str, Any]:
    """Return compose files merged into one, as `docker compose -f … -f …` does."""
    merged: dict[str, Any] = {"services": {}, "volumes": {}}
    for name in names:
        found = yaml.safe_load((DEPLOY / name).read_text())
        for service, added in found["services"].items():
            known = merged["services"].setdefault(service, {})
            for key, value in added.items():
                known[key] = {**known.get(key, {}), **value} if isinstance(value, dict) else value
        merged["volumes"] |= found["volumes"]
    return merged


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Machine:
    """Runs services of a compose file as processes: other ports, and folders below a temporary one."""

    def __init__(self, services: dict[str, Any], folder: Path, replaced: dict[str, str]) -> None:
        self._services = services
        self._folder = folder
        self._replaced = replaced
        for name in ("store", "spool"):
            (folder / name).mkdir(parents=True)

    @contextmanager
    def running(self, service: str, **more: str) -> Iterator[subprocess.Popen[str]]:
        """Run a service. Kill it at the end if it is still there."""
        options = self._services[service]
        commands = {"gati": [sys.executable, "-c", "from gati.cli import main; main()"], "python": [sys.executable]}
        first, *arguments = (self._here(argument) for argument in options["command"])
        environment = {key: self._here(value) for key, value in options.get("environment", {}).items()}
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("GATI_", "GREENFLASH_"))}
        with subprocess.Popen(
            [*commands[first], *arguments], cwd=DEPLOY, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**kept, "PYTHONPATH": str(ROOT), "HOME": str(self._folder), **environment, **more},
        ) as process:  # fmt: skip
            try:
                yield process
            finally:
                with suppress(ProcessLookupError):
                    process.kill()

    def _here(self, text: str) -> str:
        for old, new in self._replaced.items():
            text = text.replace(old, new)
        return text


def read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return bytes(answer.read())


def wait_until_answers(url: str, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + SECONDS
    while True:
        assert process.poll() is None, process.stdout and process.stdout.read()
        try:
            read(url)
        except OSError:
            assert time.monotonic() < until, url
            time.sleep(0.05)
        else:
            return


def delivered(store: Store) -> list[int]:
    """Return the number of turns of each conversation."""
    return [found.turns for found in list_conversations(store).conversations]


def requests_of_relay(port: int) -> float:
    """Return how many requests a relay has sent, from its metrics."""
    lines = read(f"http://127.0.0.1:{port}/metrics").decode().splitlines()
    return sum(float(line.split()[1]) for line in lines if line.startswith("gati_relay_requests_total"))


@pytest.fixture(params=["postgres", "kafka"])
def engine(request: pytest.FixtureRequest) -> tuple[str, dict[str, str]]:
    """The name of a compose file's engine, and what replaces the address of its broker."""
    broker: Any = request.getfixturevalue(request.param)
    if isinstance(broker, KafkaBroker):
        return "kafka", {"kafka://kafka:9092/gati.turns": broker.new_topic()}
    return "postgres", {"postgresql://gati:gati@postgres/gati": broker}


def test_services_of_the_compose_files_deliver_a_program_s_turns(
    engine: tuple[str, dict[str, str]], tmp_path: Path
) -> None:
    name, replaced = engine
    services = compose("compose.yml", f"compose.{name}.yml")["services"]
    api, *metrics = (free_port(), free_port(), free_port())
    replaced |= {"greenflash:8080": f"127.0.0.1:{api}", "8080": str(api), "/store/": f"{tmp_path}/store/"}
    replaced |= {"/spool": f"{tmp_path}/spool", "0.0.0.0": "127.0.0.1"}
    with ExitStack() as stack:
        machine = Machine(services, tmp_path, replaced)
        greenflash = stack.enter_context(machine.running("greenflash"))
        relays = []
        for port in metrics:
            machine = Machine(services, tmp_path / str(port), replaced | {"9464": str(port)})
            relays.append((stack.enter_context(machine.running("relay")), port))
        program = stack.enter_context(machine.running("program", TURNS=str(TURNS), SECONDS_BETWEEN_TURNS="0"))
        out, _ = program.communicate(timeout=SECONDS)
        assert (program.returncode, out) == (0, "")
        for relay, port in relays:
            wait_until_answers(f"http://127.0.0.1:{port}/health", relay)
        until = time.monotonic() + SECONDS
        with closing(Store(tmp_path / "store" / "conversations.db")) as store:
            while sum(delivered(store)) < TURNS:
                assert time.monotonic() < until
                assert greenflash.poll() is None
                time.sleep(0.05)
            assert delivered(store) == [1] * TURNS
        # A relay counts a request when it has the response. The store has its turn before that.
        while sum(requests_of_relay(port) for _, port in relays) < TURNS:
            assert time.monotonic() < until
            time.sleep(0.05)
        for relay, _ in relays:
            relay.send_signal(signal.SIGTERM)
        for relay, _ in relays:
            out, _ = relay.communicate(timeout=SECONDS)
            assert relay.returncode == 0, out


@pytest.mark.parametrize("name", ["kafka", "postgres"])
def test_each_volume_and_dependency_of_a_service_exists(name: str) -> None:
    merged = compose("compose.yml", f"compose.{name}.yml")
    for service in merged["services"].values():
        assert set(service.get("depends_on", {})) <= set(merged["services"])
        assert {volume.partition(":")[0] for volume in service.get("volumes", [])} <= set(merged["volumes"])
        assert "image" in service or "build" in service
