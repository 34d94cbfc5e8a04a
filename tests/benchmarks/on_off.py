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

from tests.benchmarks.contenders import Session, start_gati
from tests.benchmarks.measure import burst
from tests.benchmarks.workloads import WORKLOADS, Workload

PAIRS = 60
COUNTS = {"agent": 15, "chain": 100, "graph": 20, "concurrent": 1, "long_result": 15}
"""Invocations in a burst: about 50 ms."""
LONG = ("concurrent", "long_result")
"""Workloads that are measured in one conversation only."""


def main() -> None:
    """Measure the workloads in `COUNTS` under default limits, in one conversation and in separate conversations.

    Arguments: the sink's address, then names of workloads and the number of pairs, if not all.
    """
    address, *more = sys.argv[1:]
    session = start_gati(address)
    number = next((int(word) for word in more if word.isdigit()), PAIRS)
    names = [name for name in COUNTS if name in more] or list(COUNTS)
    results = {
        name: {
            conversations: pairs(WORKLOADS[name], COUNTS[name], session, own, number)
            for conversations, own in (("one", False), ("own", True))
            if not own or name not in LONG
        }
        for name in names
    }
    print("\n" + json.dumps(results), flush=True)


def pairs(workload: Workload, count: int, session: Session, own: bool, number: int = PAIRS) -> dict[str, list[float]]:
    """Return the ratios of wall and CPU time with gati to those without, for each pair of bursts."""
    run = workload.make(lambda: {"metadata": {"thread_id": uuid.uuid4().hex if own else workload.name}})
    for _ in range(3 * count):
        run()
    session.flush()
    ratios: dict[str, list[float]] = {"wall": [], "cpu": []}
    for pair in range(number):
        # Alternate which of the two runs first.
        results = {on: _run_burst(on, run, count, session) for on in ((False, True), (True, False))[pair % 2]}
        for what, values in ratios.items():
            values.append(results[True][what] / results[False][what])
    return ratios


def _run_burst(on: bool, run: Callable[[], None], count: int, session: Session) -> dict[str, Any]:
    from gati.langchain import injection

    (injection.switch_on if on else injection.switch_off)()
    return burst(run, count, session)


if __name__ == "__main__":
    main()
