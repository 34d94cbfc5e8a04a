"""Real workers of RQ and Celery, whose children end without exit hooks. Needs a Redis server for RQ."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gati.testing.server import fault_injection as faults
from tests.optional import needs
from tests.processes.conftest import SECONDS, Sandbox, wait_for_exit

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="the workers need POSIX")]

JOBS = 6


@pytest.fixture
def redis_socket(tmp_path: Path) -> Iterator[Path]:
    """Start a Redis server; return its socket."""
    needs("rq")
    server = shutil.which("redis-server")
    if server is None:
        pytest.skip("needs redis-server")
    path = tmp_path / "redis.sock"
    options = ["--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no", "--dir", str(tmp_path)]
    process = subprocess.Popen([server, *options], stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + SECONDS
        while not path.exists():
            assert process.poll() is None
            assert time.monotonic() < end, "Redis did not start"
            time.sleep(0.02)
        yield path
    finally:
        process.terminate()
        process.wait()


ENQUEUE = f"""
import sys
from redis import Redis
from rq import Queue
queue = Queue(connection=Redis(unix_socket_path=sys.argv[1]))
for n in range({JOBS}):
    queue.enqueue("tests.processes.rq_jobs." + sys.argv[2], f"c{{n}}")
"""


@pytest.mark.parametrize("kind", ["Worker", "SpawnWorker"])
@pytest.mark.parametrize("job", ["job", "async_job", "failing_job"])
def test_jobs_of_rq_are_on_disk_before_their_process_ends(
    sandbox: Sandbox, redis_socket: Path, kind: str, job: str
) -> None:
    sandbox.server.faults.add(faults.failing(503, times=None))
    subprocess.run(
        [sys.executable, "-c", ENQUEUE, str(redis_socket), job],
        check=True,
        env=sandbox.environment(),
        cwd=sandbox.folder,
    )
    url = f"unix://{redis_socket}"
    wait_for_exit(
        sandbox.start("-m", "rq.cli", "worker", "--burst", "--url", url, "--worker-class", f"rq.worker.{kind}")
    )
    sandbox.server.faults.clear()
    sandbox.run("flush_without_turns")
    users = [m for m in sandbox.server.messages() if m["messageType"] == "user_message"]
    assert sorted(m["conversation"] for m in users) == [f"c{n}" for n in range(JOBS)]
    assert sandbox.duplicates() == []


def test_jobs_of_rq_deliver_what_earlier_ones_left(sandbox: Sandbox, redis_socket: Path) -> None:
    subprocess.run(
        [sys.executable, "-c", ENQUEUE, str(redis_socket), "job"],
        check=True,
        env=sandbox.environment(),
        cwd=sandbox.folder,
    )
    wait_for_exit(sandbox.start("-m", "rq.cli", "worker", "--burst", "--url", f"unix://{redis_socket}"))
    sandbox.run("flush_without_turns")
    # Not `duplicates`: a child that ends while it sends leaves a request that the server recognizes when it comes again.
    assert sandbox.user_texts() == {f"c{n}": ["1"] for n in range(JOBS)}
    assert sandbox.spooled() == 0


SEND = """
import sys
from tests.processes import tasks
task = getattr(tasks, sys.argv[1])
results = [task.delay(f"c{n}") for n in range(int(sys.argv[2]))]
for result in results:
    result.get(timeout=80, interval=0.05, propagate=False)
"""


def run_celery(sandbox: Sandbox, task: str, tasks: int, *options: object, **environment: object) -> None:
    """Run tasks in a worker with two children, and end the worker by SIGTERM."""
    needs("celery")
    for name in ("queue", "control", "results"):
        (sandbox.folder / name).mkdir()
    worker = sandbox.start(
        "-m", "celery", "-A", "tests.processes.tasks", "worker", "--pool", "prefork", "--concurrency", 2, *options,
        "--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "ERROR",
        BROKER_FOLDER=sandbox.folder, **environment,
    )  # fmt: skip
    sender = subprocess.run(
        [sys.executable, "-c", SEND, task, str(tasks)], cwd=sandbox.folder, timeout=SECONDS, capture_output=True, text=True,
        env=sandbox.environment(BROKER_FOLDER=sandbox.folder, GATI_ENABLED="false"), check=False,
    )  # fmt: skip
    assert sender.returncode == 0, sender.stderr
    worker.send_signal(signal.SIGTERM)
    wait_for_exit(worker)


def test_children_of_celery_deliver_their_last_tasks(sandbox: Sandbox) -> None:
    # The children do not send by themselves, so that only their shutdown delivers.
    run_celery(sandbox, "run_turn", JOBS, "--max-tasks-per-child", 1, GATI_FLUSH_INTERVAL=3600, GATI_EAGER="false")
    assert sandbox.user_texts() == {f"c{n}": ["1"] for n in range(JOBS)}
    assert sandbox.spooled() == 0
    assert sandbox.duplicates() == []


def test_tasks_of_celery_that_are_killed_after_their_turn_lose_nothing(sandbox: Sandbox) -> None:
    sandbox.server.faults.add(faults.failing(503, times=None))
    run_celery(sandbox, "run_turn_and_hang", 2, "--time-limit", 15, GATI_SHUTDOWN_TIMEOUT=0.5)
    sandbox.server.faults.clear()
    sandbox.run("flush_without_turns")
    assert sandbox.user_texts() == {f"c{n}": ["1"] for n in range(2)}
