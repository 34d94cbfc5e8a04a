"""Measure how fast a spool is drained and a store is pushed:
`python -m tests.benchmarks.throughput fill|drain|keep|push ADDRESS FOLDER TURNS one|own`.

`fill` records agents while the sink rejects everything, so that they stay in the spool. `drain` is a second
process that delivers them. `keep` records agents into the embedded store, and `push` runs `gati push` on
it. Run in gati's environment; `push` in the sink's, which has the command line installed.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from gati import observe


def main() -> None:
    """Run the command; print one line of JSON."""
    what, address, spool, turns, conversations = sys.argv[1:]
    options: dict[str, Any] = {"api_key": "gf_benchmark", "base_url": f"{address}/api/v1", "spool_dir": spool}
    store = Path(spool) / "studio.db"
    if what == "push":
        print("\n" + json.dumps(_push(address, store)), flush=True)
        return
    if what == "keep":
        observe.init(agent_name="benchmark", local=store, local_max_bytes=4 * 1024**3, spool_dir=spool)
        _run_turns(int(turns), conversations == "own")
        observe.shutdown(timeout=600.0)
        return
    if what == "fill":
        observe.init(agent_name="benchmark", **options)
        _run_turns(int(turns), conversations == "own")
        observe.shutdown(timeout=5.0)
        return
    observe.init(agent_name="benchmark", auto_inject=False, **options)
    wall, cpu = time.perf_counter(), time.process_time()
    result = observe.flush(timeout=600.0)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    measured = {"messages": observe.stats().delivered, "wall": wall, "cpu": cpu, "timed_out": result.timed_out}
    print("\n" + json.dumps(measured), flush=True)


def _push(address: str, store: Path) -> dict[str, Any]:
    """Run the command as a user would, including its start."""
    own = {"GREENFLASH_API_KEY": "gf_benchmark", "GREENFLASH_BASE_URL": f"{address}/api/v1"}
    command = [str(Path(sys.executable).parent / "gati"), "push", "--store", str(store), "--json"]
    wall = time.perf_counter()
    done = subprocess.run(command, env={**os.environ, **own}, capture_output=True, text=True, check=True)
    wall, spent = time.perf_counter() - wall, resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"messages": json.loads(done.stdout)["delivered"], "wall": wall, "cpu": spent.ru_utime + spent.ru_stime}


def _run_turns(turns: int, own: bool) -> None:
    from tests.benchmarks.workloads import agent

    one = uuid.uuid4().hex
    run = agent(lambda: {"metadata": {"thread_id": uuid.uuid4().hex if own else one}})
    for number in range(turns):
        run()
        if number % 200 == 199:
            time.sleep(0.2)  # without pauses, the buffer would fill up


if __name__ == "__main__":
    main()
