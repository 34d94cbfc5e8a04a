"""Start `langgraph dev`."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.optional import needs
from tests.servers import API_KEY, LocalServer, greenflash_server

ROOT = Path(__file__).parents[2]
APP = Path(__file__).parent / "app"
EXAMPLE = ROOT / "examples" / "langgraph_server"
SECONDS = 90.0


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    """Wait until `condition` returns a true value, and return that."""
    end = time.monotonic() + SECONDS
    while not (value := condition()):
        assert time.monotonic() < end, f"{what}: {value!r}"
        time.sleep(0.05)
    return value


class LangGraphServer:
    """A running `langgraph dev`, in a folder of its own."""

    def __init__(self, folder: Path, url: str, output: Path) -> None:
        self.folder = folder
        self.url = url
        self._output = output
        self._clients: dict[str, Any] = {}

    @property
    def output(self) -> str:
        """What the server has printed."""
        return self._output.read_text("utf-8", "replace")

    def warnings_of_gati(self) -> list[str]:
        """Return the lines that gati has logged."""
        return [line for line in self.output.splitlines() if "[gati]" in line or "logger=gati" in line]

    def client(self, token: str = "token-of-ada") -> Any:
        """Return a client of LangGraph's SDK."""
        from langgraph_sdk import get_sync_client

        if token not in self._clients:
            self._clients[token] = get_sync_client(url=self.url, headers={"authorization": f"Bearer {token}"})
        return self._clients[token]

    def close(self) -> None:
        """Close the clients."""
        for client in self._clients.values():
            client.http.client.close()

    def wait_until_ready(self) -> None:
        """Wait until the server answers."""
        wait_for(self._is_ready, self._output.name)

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/ok", timeout=5, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False


@contextmanager
def langgraph_dev(source: Path, folder: Path, *options: str, **environment: object) -> Iterator[LangGraphServer]:
    """Run `langgraph dev` on a copy of `source`, and stop it at the end as Ctrl-C does."""
    app = folder / "app"
    shutil.copytree(source, app)
    shutil.copy(EXAMPLE / "access.py", app)  # the users are those of the example
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    names = {
        "PYTHONPATH": ROOT,
        "FOLDER": folder,
        "LANGSMITH_TRACING": "false",
        "LANGGRAPH_CLI_NO_ANALYTICS": "1",
        "LOG_COLOR": "false",
        "GATI_SPOOL_DIR": folder / "spool",
        "GATI_FLUSH_INTERVAL": 0.1,
        **environment,
    }
    output = folder / "output.txt"
    with output.open("w") as file:
        program = subprocess.Popen(
            [sys.executable, "-m", "langgraph_cli", "dev", "--no-browser", "--port", str(port), *options],
            cwd=app,
            env={**os.environ, **{name: str(value) for name, value in names.items()}},
            stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    server = LangGraphServer(app, f"http://127.0.0.1:{port}", output)
    try:
        server.wait_until_ready()
        yield server
        os.killpg(program.pid, signal.SIGINT)
        program.wait(SECONDS)
    except BaseException:
        print(server.output)  # pytest shows it with the failure
        raise
    finally:
        server.close()
        if program.poll() is None:
            os.killpg(program.pid, signal.SIGKILL)
            program.wait()


@pytest.fixture(scope="module")
def destination() -> Iterator[LocalServer]:
    """A strict local Greenflash. Fails if a request holds keys that the API or gati's contract does not list."""
    needs("langgraph_api", "langgraph_cli")
    with greenflash_server() as server:
        yield server
        assert server.unknown_keys == []
        assert server.outside_contract == []


def delivering_to(destination: LocalServer) -> dict[str, object]:
    """Return the environment of a program that delivers to a local Greenflash."""
    return {
        "GREENFLASH_API_KEY": API_KEY,
        "GREENFLASH_BASE_URL": destination.url,
        "GATI_AGENT_NAME": "tutor",
    }


@pytest.fixture(scope="module")
def server(destination: LocalServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LangGraphServer]:
    """A server that runs `app/`, with several workers and without reloads."""
    folder = tmp_path_factory.mktemp("server")
    with langgraph_dev(APP, folder, "--no-reload", "--n-jobs-per-worker", "4", **delivering_to(destination)) as running:
        yield running
