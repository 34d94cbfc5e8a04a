"""gati switched on and off in one process, burst by burst: `python -m tests.benchmarks.on_off ADDRESS`.

Two processes differ by more than their tracer: where their memory lies, and when the machine was fast. Here both
sides are the same process within a tenth of a second, so that the ratio of each pair is worth more; the price is
that bursts are short, and that there is nobody to compare with. Prints one line of JSON.
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
    """Measure what `COUNTS` names, all turns in one conversation and each in its own."""
    session = CONTENDERS["gati"].start(sys.argv[1])
    told = {
        name: {whose: pairs(WORKLOADS[name], count, session, own) for whose, own in (("one", False), ("own", True))}
        for name, count in COUNTS.items()
    }
    print("\n" + json.dumps(told), flush=True)


def pairs(workload: Workload, count: int, session: Session, own: bool) -> dict[str, list[float]]:
    """Wall and CPU time with gati against those without, for each pair of bursts."""
    run = workload.make(lambda: {"metadata": {"thread_id": uuid.uuid4().hex if own else workload.name}})
    for _ in range(3 * count):
        run()
    session.flush()
    ratios: dict[str, list[float]] = {"wall": [], "cpu": []}
    for number in range(PAIRS):
        # Which of the two comes first changes from pair to pair.
        told = {on: _switched(on, run, count, session) for on in ((False, True), (True, False))[number % 2]}
        for what, values in ratios.items():
            values.append(told[True][what] / told[False][what])
    return ratios


def _switched(on: bool, run: Callable[[], None], count: int, session: Session) -> dict[str, Any]:
    from gati.langchain import injection

    (injection.switch_on if on else injection.switch_off)()
    return burst(run, count, session)


if __name__ == "__main__":
    main()
