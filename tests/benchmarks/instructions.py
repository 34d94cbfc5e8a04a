"""What a turn costs in instructions, which are the same on a busy machine: `python -m tests.benchmarks.instructions
ADDRESS`, where valgrind is installed (a package of Debian's). Prints one line of JSON.

Counted is what the whole process executes in user space, sending included; not what the kernel does for it, and nothing
is told of the processor's caches, which is where time goes beyond the count. The garbage collector is off, because its
runs fall as they fall. Two runs of different length are compared, so that the start of the process does not count.
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
    "callbacks": "gati's callbacks, nothing assembled",
    "one": "gati, all delivered, one conversation",
    "own": "gati, all delivered, each its own",
}
COUNTED = ("agent", "chain", "graph")
WARM, SHORT, LONG = 100, 100, 300
"""Turns before the count, and in the two runs that are compared."""
STRETCHED = 50
"""How many times slower a program is under valgrind: gati's waits are made as much longer, so that as many turns as
else are worked on together."""


def main() -> None:
    """Count everything, or be what is counted."""
    address, *run = sys.argv[1:]
    if run:
        part, workload, turns = run
        work(address, part, workload, int(turns))
    else:
        print("\n" + json.dumps(counted(sys.executable, address)), flush=True)


def counted(python: str, address: str) -> dict[str, dict[str, int]] | None:
    """Instructions of a turn: workload → part; None where there is no valgrind."""
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
    """The program that is counted."""
    flush = _start(address, part)
    run = WORKLOADS[workload].make(lambda: {"metadata": {"thread_id": uuid.uuid4().hex if part == "own" else workload}})
    gc.disable()
    for count in (WARM, turns):
        for _ in range(count):
            run()
        flush()
    os._exit(0)  # the interpreter's end is none of the turns'


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
