"""Real servers with forked, threaded and monkey-patched workers: every turn arrives once."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

from tests.optional import needs
from tests.processes.conftest import SECONDS, Sandbox, wait_for_exit

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the servers need POSIX")

TURNS = 40


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(program: subprocess.Popen[str], port: int) -> Iterator[httpx.Client]:
    """Return a client of a running server. Send SIGTERM at the end, and check that it exits without errors."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=SECONDS, trust_env=False) as client:
        end = time.monotonic() + SECONDS
        while True:
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
            except OSError:
                assert program.poll() is None, program.communicate()
                assert time.monotonic() < end, "the server did not start"
                time.sleep(0.05)
        try:
            yield client
        finally:
            program.send_signal(signal.SIGTERM)
            _, error = wait_for_exit(program)
            assert "Traceback" not in error, error
            assert "gati" not in error, error


def ask(client: httpx.Client) -> set[str]:
    """Run turns in many conversations concurrently; return the pids that answered."""

    def one(n: int) -> str:
        answer = client.get(f"/c{n}")
        assert (answer.status_code, answer.text) == (200, "certainly")
        return str(answer.headers["x-pid"])

    with ThreadPoolExecutor(8) as pool:
        return set(pool.map(one, range(TURNS)))


def check(sandbox: Sandbox, *more: str) -> None:
    assert sandbox.user_texts() == {**{f"c{n}": ["1"] for n in range(TURNS)}, **{name: ["1"] for name in more}}
    assert sandbox.spooled() == 0


@pytest.mark.parametrize("kind", ["sync", "gthread", "gevent"])
def test_gunicorn_with_preload_delivers_every_turn(sandbox: Sandbox, kind: str) -> None:
    needs("gunicorn", "gevent")
    port = free_port()
    program = sandbox.start(
        "-m", "gunicorn", "--preload", "--workers", 2, "--threads", 4 if kind == "gthread" else 1, "-k", kind,
        "--bind", f"127.0.0.1:{port}", "--log-level", "warning", "tests.processes.apps:wsgi",
        TURN_AT_IMPORT=1,
    )  # fmt: skip
    with serving(program, port) as client:
        ask(client)
    check(sandbox, "preloaded")
    assert sandbox.duplicates() == []


def test_uvicorn_workers_deliver_every_turn(sandbox: Sandbox) -> None:
    port = free_port()
    program = sandbox.start(
        "-m", "uvicorn", "--workers", 2, "--port", port, "--log-level", "warning", "tests.processes.apps:asgi"
    )
    with serving(program, port) as client:
        ask(client)
    check(sandbox)


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_celery_workers_deliver_every_turn(sandbox: Sandbox, pool: str) -> None:
    needs("celery")
    for name in ("queue", "control", "results"):
        (sandbox.folder / name).mkdir()
    sender = sandbox.start("-c", SEND, BROKER_FOLDER=sandbox.folder, GATI_ENABLED="false")
    assert sender.stdout is not None
    # The worker would fail at a message that the sender has not written to the end.
    assert sender.stdout.readline() == "sent\n"
    worker = sandbox.start(
        "-m", "celery", "-A", "tests.processes.tasks", "worker", "--pool", pool, "--concurrency", 2,
        "--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "ERROR",
        BROKER_FOLDER=sandbox.folder,
    )  # fmt: skip
    wait_for_exit(sender)
    worker.send_signal(signal.SIGTERM)
    out, error = wait_for_exit(worker)
    assert "Traceback" not in out + error, out + error
    check(sandbox)


SEND = f"""
from tests.processes.tasks import run_turn
results = [run_turn.delay(f"c{{n}}") for n in range({TURNS})]
print("sent", flush=True)
for result in results:
    assert result.get(timeout={SECONDS}, interval=0.05) == "certainly"
"""


def test_a_program_patched_by_gevent_delivers_every_turn(sandbox: Sandbox) -> None:
    needs("gevent")
    program = sandbox.start(
        "-c", "from gevent import monkey; monkey.patch_all(); import tests.processes.program as p; "
        "p.monkey_patched_by_gevent()",
    )  # fmt: skip
    out, error = wait_for_exit(program)
    assert error == ""
    assert out == '{"delivered": 60}\n'
    assert sandbox.user_texts() == {f"c{n}": ["1"] for n in range(20)}
