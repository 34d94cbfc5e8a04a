"""Switch gati on and off in one process, burst by burst: `python -m tests.benchmarks.on_off ADDRESS`.

Two processes differ by more than their tracer, such as memory layout and the load of the machine. Here, both sides
of a pair run in the same process within a tenth of a second, so their ratio is more precise. In exchange, bursts are
short, and other tracers cannot be compared. Prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Callable
from typing import Any

from tests.benchmarks.contenders import CONTENDERS, Session
from tests.benchmarks.measure import burst
from tests.benchmarks.workloads import WORKLOADS, Workload

PAIRS = 60
COUNTS = {"agent": 15, "chain": 100, "graph": 20}
"""Invocations in a burst: about 50 ms."""


def main() -> None:
    """Measure the workloads in `COUNTS`, in one conversation and in separate conversations."""
    session = CONTENDERS["gati"].start(sys.argv[1])
    results = {
        name: {
            conversations: pairs(WORKLOADS[name], count, session, own)
            for conversations, own in (("one", False), ("own", True))
        }
        for name, count in COUNTS.items()
    }
    print("\n" + json.dumps(results), flush=True)


def pairs(workload: Workload, count: int, session: Session, own: bool) -> dict[str, list[float]]:
    """Return the ratios of wall and CPU time with gati to those without, for each pair of bursts."""
    run = workload.make(lambda: {"metadata": {"thread_id": uuid.uuid4().hex if own else workload.name}})
    for _ in range(3 * count):
        run()
    session.flush()
    ratios: dict[str, list[float]] = {"wall": [], "cpu": []}
    for number in range(PAIRS):
        # Alternate which of the two runs first.
        results = {on: _run_burst(on, run, count, session) for on in ((False, True), (True, False))[number % 2]}
        for what, values in ratios.items():
            values.append(results[True][what] / results[False][what])
    return ratios


def _run_burst(on: bool, run: Callable[[], None], count: int, session: Session) -> dict[str, Any]:
    from gati.langchain import injection

    (injection.switch_on if on else injection.switch_off)()
    return burst(run, count, session)


if __name__ == "__main__":
    main()
