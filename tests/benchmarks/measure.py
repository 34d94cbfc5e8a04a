"""One contender: `python -m tests.benchmarks.measure CONTENDER ADDRESS SCALE`, in its environment.

Reads names of workloads, a line each, and answers each with a line of JSON: one burst. Before its
first burst a workload is warmed up, delivered, and run once with all the time in the world to
learn what should arrive. Wall time is the calling thread's, over the burst; the CPU time is the
whole process's, until everything is delivered.
"""

from __future__ import annotations

import gc
import itertools
import json
import math
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable
from typing import Any

from tests.benchmarks.contenders import CONTENDERS, Contender, Session
from tests.benchmarks.workloads import WORKLOADS, Configs, Workload


def main() -> None:
    """Measure what is asked for, until nothing more is."""
    name, address, scale = sys.argv[1:]
    contender = CONTENDERS[name]
    session = contender.start(address)
    ready: dict[str, Measured] = {}
    for line in sys.stdin:
        asked = line.strip()
        if asked not in ready:
            ready[asked] = Measured(WORKLOADS[asked], contender, session, address, float(scale))
        print(json.dumps(ready[asked].burst()), flush=True)


class Measured:
    """A workload that is warm; times in seconds for one invocation of it."""

    def __init__(
        self, workload: Workload, contender: Contender, session: Session, address: str, scale: float = 1.0
    ) -> None:
        self._workload, self._session, self._address = workload, session, address
        configs = _configs(contender, session, workload)
        self._run = workload.make(configs)
        self._count = max(1, round(workload.count * scale))
        for _ in range(max(1, min(50, self._count // 10))):
            self._run()
        session.flush()
        _arrived(address)
        (workload.probe or workload.make)(configs)()
        session.flush()
        self._alone = _arrived(address)

    def burst(self) -> dict[str, Any]:
        """Run it `count` times without a pause, and deliver."""
        workload, count, alone = self._workload, self._count, self._alone
        _arrived(self._address)
        times = burst(self._run, count, self._session)
        came = _arrived(self._address)
        turns = count * workload.turns
        # The probe of a conversation has half the turns; in all else it is one invocation.
        expected = alone["items"] * count * (2 if workload.probe else 1)
        return {
            **times,
            "turns": turns,
            "requests": came["requests"],
            "bytes_per_turn": came["bytes"] / turns,
            "wire_bytes_per_turn": came["wire_bytes"] / turns,
            "items_per_turn": came["items"] / turns,
            "expected": expected,
            "arrived": came["items"],
            "faults": came["faults"],
            "fault": came["fault"],
            "growth": came["bytes"] / count / alone["bytes"] if workload.probe and alone["bytes"] else None,
        }


def burst(run: Callable[[], None], count: int, session: Session) -> dict[str, Any]:
    """Run it `count` times without a pause, and deliver; times in seconds for one."""
    gc.collect()
    clock = time.perf_counter
    laps = []
    cpu, own = time.process_time(), time.thread_time()
    began = before = clock()
    for _ in range(count):
        run()
        now = clock()
        laps.append(now - before)
        before = now
    wall, own = clock() - began, time.thread_time() - own
    session.flush()
    delivered, cpu = clock() - began, time.process_time() - cpu
    laps.sort()
    return {
        "wall": wall / count,
        "median": laps[count // 2],
        "p99": laps[math.ceil(count * 0.99) - 1],
        "thread_cpu": own / count,
        "cpu": cpu / count,
        "until_delivered": delivered / count,
    }


def _configs(contender: Contender, session: Session, workload: Workload) -> Configs:
    """The same config for every contender: a conversation's id, and the handlers to attach."""
    # A program that hands over a history of its own has a conversation of its own.
    each = contender.own_conversations or workload.probe is not None
    base, numbers = uuid.uuid4().hex, itertools.count()

    def config() -> dict[str, Any]:
        name = f"{base}-{next(numbers)}" if each else base
        told: dict[str, Any] = {"metadata": {"thread_id": name}}
        if session.handlers:
            told["callbacks"] = session.handlers
        return told

    return config


def _arrived(address: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{address}/sink/count", data=b"", timeout=300) as answer:
        told: dict[str, Any] = json.load(answer)
    return told


if __name__ == "__main__":
    main()
