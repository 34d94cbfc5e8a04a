"""Count the instructions of a turn, which do not depend on the load of the machine:
`python -m tests.benchmarks.instructions ADDRESS`. Requires valgrind. Prints one line of JSON.

Counts what the whole process executes in user space, including sending. Excludes the kernel and the effects of
processor caches. The garbage collector is disabled, because its runs are irregular. The difference between two runs of
different length excludes the start of the process.
"""

from __future__ import annotations

import gc
import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tests.benchmarks.contenders import CONTENDERS
from tests.benchmarks.environments import ROOT, clean
from tests.benchmarks.workloads import WORKLOADS

PARTS = {
    "none": "no tracing",
    "dispatch": "a handler that does nothing",
    "callbacks": "gati's callbacks only",
    "one": "gati, everything delivered, one conversation",
    "own": "gati, everything delivered, separate conversations",
}
COUNTED = ("agent", "chain", "graph")
WARM, SHORT, LONG = 100, 100, 300
"""Number of turns to warm up, and in the two runs that are compared."""
STRETCHED = 50
"""Slow-down under valgrind. gati's intervals are extended by the same factor, so that batches keep their size."""


def main() -> None:
    """Count everything, or run one program to be counted."""
    address, *run = sys.argv[1:]
    if run:
        part, workload, turns = run
        work(address, part, workload, int(turns))
    else:
        print("\n" + json.dumps(counted(sys.executable, address)), flush=True)


def counted(python: str, address: str) -> dict[str, dict[str, int]] | None:
    """Return the instructions per turn: workload → part. None without valgrind."""
    if shutil.which("valgrind") is None:
        return None
    runs = [(workload, part, turns) for workload in COUNTED for part in PARTS for turns in (SHORT, LONG)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        totals = dict(zip(runs, pool.map(lambda run: _total(python, address, *run), runs), strict=True))
    return {
        workload: {
            part: (totals[workload, part, LONG] - totals[workload, part, SHORT]) // (LONG - SHORT) for part in PARTS
        }
        for workload in COUNTED
    }


def _total(python: str, address: str, workload: str, part: str, turns: int) -> int:
    valgrind = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    command = [*valgrind, python, "-m", "tests.benchmarks.instructions", address, part, workload, str(turns)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=clean(), timeout=1800, check=False)
    found = re.search(r"I +refs: +([\d,]+)", done.stderr)
    if done.returncode or found is None:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-4000:]}")
    return int(found[1].replace(",", ""))


def work(address: str, part: str, workload: str, turns: int) -> None:
    """Run the program to be counted."""
    flush = _start(address, part)
    run = WORKLOADS[workload].make(lambda: {"metadata": {"thread_id": uuid.uuid4().hex if part == "own" else workload}})
    gc.disable()
    for count in (WARM, turns):
        for _ in range(count):
            run()
        flush()
    os._exit(0)  # skip the shutdown of the interpreter


def _start(address: str, part: str) -> Callable[[], object]:
    if part == "none":
        return lambda: None
    from gati.langchain.current import current
    from gati.pipeline import worker

    worker.SPOOL_SECONDS *= STRETCHED
    worker.LULL_SECONDS *= STRETCHED
    session = CONTENDERS["gati"].start(address)
    recorder = current.recorder
    assert recorder is not None
    if part == "dispatch":
        current.recorder = None
    elif part == "callbacks":
        recorder.put = lambda record: None
    return session.flush


if __name__ == "__main__":
    main()
