"""How fast a spool is drained: `python -m tests.benchmarks.throughput fill|drain ADDRESS SPOOL TURNS one|own`.

`fill` watches agents while the sink refuses everything, and leaves them in the spool; `drain` is
a second process that takes them over and delivers them through the SDK. In gati's environment.
"""

from __future__ import annotations

import json
import sys
import time
import uuid
from typing import Any

from gati import observe


def main() -> None:
    """Do what the command line says; prints one line of JSON."""
    what, address, spool, turns, whose = sys.argv[1:]
    options: dict[str, Any] = {"api_key": "gf_benchmark", "base_url": f"{address}/api/v1", "spool_dir": spool}
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
