"""Measure one contender in its environment: `python -m tests.benchmarks.measure CONTENDER ADDRESS SCALE`.

Reads names of workloads from stdin, one per line, runs a burst of each, and prints the result as a line of
JSON. Before the first burst, a workload is warmed up and then run once without time pressure, to learn
how much should arrive. Wall time is that of the calling thread during the burst. CPU time is that of the
process until everything is delivered.
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
    """Measure each requested workload until stdin is closed."""
    name, address, scale = sys.argv[1:]
    contender = CONTENDERS[name]
    session = contender.start(address)
    ready: dict[str, Measured] = {}
    for line in sys.stdin:
        workload_name = line.strip()
        if workload_name not in ready:
            ready[workload_name] = Measured(WORKLOADS[workload_name], contender, session, address, float(scale))
        print(json.dumps(ready[workload_name].burst()), flush=True)


class Measured:
    """A warmed-up workload. Times are seconds per invocation."""

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
        self._single_run = _arrived(address)

    def burst(self) -> dict[str, Any]:
        """Run it `count` times without a pause, and wait for delivery."""
        workload, count, single_run = self._workload, self._count, self._single_run
        _arrived(self._address)
        times = burst(self._run, count, self._session)
        received = _arrived(self._address)
        turns = count * workload.turns
        # The probe of a conversation has half the turns; otherwise it is one invocation.
        expected = single_run["items"] * count * (2 if workload.probe else 1)
        return {
            **times,
            "turns": turns,
            "requests": received["requests"],
            "bytes_per_turn": received["bytes"] / turns,
            "wire_bytes_per_turn": received["wire_bytes"] / turns,
            "items_per_turn": received["items"] / turns,
            "expected": expected,
            "arrived": received["items"],
            "faults": received["faults"],
            "fault": received["fault"],
            "growth": received["bytes"] / count / single_run["bytes"]
            if workload.probe and single_run["bytes"]
            else None,
        }


def burst(run: Callable[[], None], count: int, session: Session) -> dict[str, Any]:
    """Call `run` `count` times without a pause, and wait for delivery. Times are seconds per call."""
    gc.collect()
    clock = time.perf_counter
    laps = []
    collected = _collections()
    cpu, own = time.process_time(), time.thread_time()
    began = before = clock()
    for _ in range(count):
        run()
        now = clock()
        laps.append(now - before)
        before = now
    wall, own = clock() - began, time.thread_time() - own
    collections = [now - before for now, before in zip(_collections(), collected, strict=True)]
    session.flush()
    delivered, cpu = clock() - began, time.process_time() - cpu
    laps.sort()
    return {
        "wall": wall / count,
        "median": laps[count // 2],
        "p99": laps[math.ceil(count * 0.99) - 1],
        "p999": laps[math.ceil(count * 0.999) - 1],
        "collections": sum(collections),
        "full_collections": collections[-1],
        "thread_cpu": own / count,
        "cpu": cpu / count,
        "until_delivered": delivered / count,
    }


def _collections() -> list[int]:
    """Return how often the garbage collector has run, by generation."""
    return [generation["collections"] for generation in gc.get_stats()]


def _configs(contender: Contender, session: Session, workload: Workload) -> Configs:
    """Return a function that creates configs with a conversation id and the handlers of the contender."""
    # A program that passes its own history needs a new conversation each time.
    each = contender.own_conversations or workload.probe is not None
    base, numbers = uuid.uuid4().hex, itertools.count()

    def config() -> dict[str, Any]:
        name = f"{base}-{next(numbers)}" if each else base
        result: dict[str, Any] = {"metadata": {"thread_id": name}}
        if session.handlers:
            result["callbacks"] = session.handlers
        return result

    return config


def _arrived(address: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{address}/sink/count", data=b"", timeout=300) as answer:
        result: dict[str, Any] = json.load(answer)
    return result


if __name__ == "__main__":
    main()
