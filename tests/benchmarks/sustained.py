"""Compare gati with no tracing in an agent that never pauses: `python -m tests.benchmarks.sustained [TURNS [RUNS]]`.

Runs both in the current environment, in fresh processes that alternate, and prints medians as JSON: how often the
garbage collector ran, and the times of single turns, in milliseconds and relative to no tracing. Counts do not depend
on other load on the machine; ratios hardly.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from typing import Any

from tests.benchmarks.environments import ROOT, clean
from tests.benchmarks.workloads import WORKLOADS

NAMES = ("none", "gati")
TIMES = ("median", "p99", "p999", "cpu")


def main() -> None:
    """Measure and print."""
    turns, runs = (int(word) for word in (sys.argv[1:] + ["5000", "5"][len(sys.argv) - 1 :])[:2])
    sink = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.sink"], cwd=ROOT, stdout=subprocess.PIPE, text=True, env=clean()
    )
    assert sink.stdout is not None
    try:
        address = sink.stdout.readline().strip()
        rounds = [{name: _run(name, address, turns) for name in NAMES} for _ in range(runs)]
    finally:
        sink.terminate()
        sink.wait(10)
    print(json.dumps(summary(rounds), indent=1))


def summary(rounds: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Return the medians of all runs."""
    results: dict[str, Any] = {"runs": len(rounds), "turns": rounds[0]["none"]["turns"]}
    for name in NAMES:
        for what in ("collections", "full_collections"):
            results[f"{what}, {name}"] = statistics.median(r[name][what] for r in rounds)
    for what in TIMES:
        results[f"{what}, ms, none"] = 1000 * statistics.median(r["none"][what] for r in rounds)
        results[f"{what}, ratio"] = statistics.median(r["gati"][what] / r["none"][what] for r in rounds)
    results["lost"] = sum(r["gati"]["expected"] - r["gati"]["arrived"] for r in rounds)
    return results


def _run(name: str, address: str, turns: int) -> dict[str, Any]:
    scale = turns / WORKLOADS["sustained"].count
    command = [sys.executable, "-m", "tests.benchmarks.measure", name, address, str(scale)]
    done = subprocess.run(
        command, cwd=ROOT, env=clean(), input="sustained\n", capture_output=True, text=True, check=True, timeout=1800
    )
    result: dict[str, Any] = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    return result


if __name__ == "__main__":
    main()
