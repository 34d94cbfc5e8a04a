"""How fast a spool is drained, and a store is pushed:
`python -m tests.benchmarks.throughput fill|drain|keep|push ADDRESS FOLDER TURNS one|own`.

`fill` watches agents while the sink refuses everything, and leaves them in the spool; `drain` is
a second process that takes them over and delivers them through the SDK. `keep` watches agents with
the embedded store as the destination; `push` runs `gati push` on it. In gati's environment, `push`
in the sink's, which has the command line.
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
    """Do what the command line says; prints one line of JSON."""
    what, address, spool, turns, whose = sys.argv[1:]
    options: dict[str, Any] = {"api_key": "gf_benchmark", "base_url": f"{address}/api/v1", "spool_dir": spool}
    store = Path(spool) / "studio.db"
    if what == "push":
        print("\n" + json.dumps(_push(address, store)), flush=True)
        return
    if what == "keep":
        observe.init(agent_name="benchmark", local=store, local_max_bytes=4 * 1024**3, spool_dir=spool)
        _talk(int(turns), whose == "own")
        observe.shutdown(timeout=600.0)
        return
    if what == "fill":
        observe.init(agent_name="benchmark", **options)
        _talk(int(turns), whose == "own")
        observe.shutdown(timeout=5.0)
        return
    observe.init(agent_name="benchmark", auto_inject=False, **options)
    wall, cpu = time.perf_counter(), time.process_time()
    result = observe.flush(timeout=600.0)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    told = {"messages": observe.stats().delivered, "wall": wall, "cpu": cpu, "timed_out": result.timed_out}
    print("\n" + json.dumps(told), flush=True)


def _push(address: str, store: Path) -> dict[str, Any]:
    """The command as a user runs it, its start included."""
    own = {"GREENFLASH_API_KEY": "gf_benchmark", "GREENFLASH_BASE_URL": f"{address}/api/v1"}
    command = [str(Path(sys.executable).parent / "gati"), "push", "--store", str(store), "--json"]
    wall = time.perf_counter()
    done = subprocess.run(command, env={**os.environ, **own}, capture_output=True, text=True, check=True)
    wall, spent = time.perf_counter() - wall, resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"messages": json.loads(done.stdout)["delivered"], "wall": wall, "cpu": spent.ru_utime + spent.ru_stime}


def _talk(turns: int, own: bool) -> None:
    from tests.benchmarks.workloads import agent

    one = uuid.uuid4().hex
    run = agent(lambda: {"metadata": {"thread_id": uuid.uuid4().hex if own else one}})
    for number in range(turns):
        run()
        if number % 200 == 199:
            time.sleep(0.2)  # a burst without a pause would fill the buffer, and that is not what is measured


if __name__ == "__main__":
    main()
