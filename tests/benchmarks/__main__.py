"""Measure gati and other tracers, and write tables and a chart: `python -m tests.benchmarks`.

Creates a virtual environment per contender in a cache folder, and starts a sink and a process per
contender. The processes take turns running the same workload, in an order that changes every round, so
that a disturbance of the machine affects all of them. See `docs/performance.md`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.benchmarks import chart, instructions, report
from tests.benchmarks.contenders import CONTENDERS
from tests.benchmarks.environments import ROOT, SINK, Environments, clean, default_folder
from tests.benchmarks.workloads import WORKLOADS

DOCS = ROOT / "docs"
PUSHED_TURNS = 9_100
"""11 messages per turn, 100,000 in total."""
BEGIN, END = "<!-- made by python -m tests.benchmarks -->", "<!-- end -->"


def main() -> None:
    """Measure and write the results."""
    options = _options()
    environments = Environments(options.environments, install=not options.no_install)
    names = ["none", *(name for name in options.contenders if name != "none")]
    for name in names:
        environments.python(CONTENDERS[name].environment)
    machine = _machine()
    with sink(environments) as address:
        rounds = [
            r
            for number in range(options.sittings)
            for r in _measure_rounds(environments, names, options, address, number)
        ]
        closer = (
            None
            if options.no_closer
            else _measure_gati_alone(environments.python("gati"), environments.python(SINK), address, options.quick)
        )
    folder = DOCS if options.docs else options.out
    if not rounds:
        before = json.loads((folder / "performance.json").read_text("utf-8"))
        rounds, machine = before["rounds"], before["machine"]
    results: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine,
        "versions": _versions(environments, names),
        "closer": closer,
        "rounds": rounds,
    }
    _write(results, folder)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sittings", type=int, default=2, help="number of fresh processes per contender; 0 keeps the previous rounds"
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds per sitting")
    parser.add_argument("--quick", action="store_true", help="one sitting of three rounds, a third as long")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), metavar="NAME")
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS), metavar="NAME")
    parser.add_argument("--docs", action="store_true", help="write the tables and the chart into docs/")
    parser.add_argument("--out", type=Path, default=default_folder() / "results", help="folder for the results")
    parser.add_argument("--environments", type=Path, default=default_folder() / "environments")
    parser.add_argument("--no-closer", action="store_true", help="skip the measurements of gati alone")
    parser.add_argument("--no-install", action="store_true", help="do not install or update anything")
    options = parser.parse_args()
    options.scale = 1.0
    if options.quick:
        options.sittings, options.rounds, options.scale = 1, min(options.rounds, 3), 0.34
    return options


@contextmanager
def sink(environments: Environments) -> Iterator[str]:
    """Run a sink; yield its address."""
    command = [environments.python(SINK), "-m", "tests.benchmarks.sink"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=clean())
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(10)


def _measure_rounds(
    environments: Environments, names: list[str], options: argparse.Namespace, address: str, number: int
) -> list[dict[str, Any]]:
    """Run rounds in the same processes. Each round maps contender → workload → result of `measure`."""
    rounds: list[dict[str, Any]] = [{name: {} for name in names} for _ in range(options.rounds)]
    with ExitStack() as stack:
        measure_by_name = {
            name: stack.enter_context(_contender(environments, name, address, options.scale)) for name in names
        }
        for workload in options.workloads:
            began = time.monotonic()
            for n, results in enumerate(rounds):
                order = list(names)
                random.Random(f"{number} {workload} {n}").shuffle(order)
                for name in order:
                    results[name][workload] = measure_by_name[name](workload)
            took = time.monotonic() - began
            print(f"sitting {number + 1}/{options.sittings} {workload}: {took:.0f} s", file=sys.stderr)
    return rounds


@contextmanager
def _contender(
    environments: Environments, name: str, address: str, scale: float
) -> Iterator[Callable[[str], dict[str, Any]]]:
    """Start the process of a contender; yield a function that runs a workload in it."""
    command = [environments.python(CONTENDERS[name].environment), "-m", "tests.benchmarks.measure", name, address]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [*command, str(scale)],
            cwd=ROOT,
            env=clean(),
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        results = process.stdout

        def ask(workload: str) -> dict[str, Any]:
            print(workload, file=process.stdin, flush=True)
            # Tracers may print other lines.
            answer = next((line for line in results if line.startswith("{")), None)
            if answer is None:
                log.seek(0)
                raise SystemExit(f"{name} failed at {workload}:\n{log.read()[-4000:]}")
            burst: dict[str, Any] = json.loads(answer)
            return burst

        try:
            yield ask
        finally:
            process.stdin.close()
            process.wait(60)


def _measure_gati_alone(python: str, pusher: str, address: str, quick: bool) -> dict[str, Any]:
    """Measure gati alone: single callbacks, and the throughput of `drain` and `push`."""
    print("gati alone", file=sys.stderr)
    results = {
        "micro": _run_json([python, "-m", "tests.benchmarks.micro", address]),
        "switched": _run_json([python, "-m", "tests.benchmarks.on_off", address]),
        "instructions": instructions.counted(python, address),
    }
    for conversations in ("one", "own"):
        turns = 500 if quick else 5000
        with tempfile.TemporaryDirectory() as spool:
            command = [python, "-m", "tests.benchmarks.throughput"]
            _control_sink(address, "refuse")
            subprocess.run(
                [*command, "fill", address, spool, str(turns), conversations], check=True, cwd=ROOT, env=clean()
            )
            _control_sink(address, "take")
            results[f"drain_{conversations}"] = _run_json(
                [*command, "drain", address, spool, str(turns), conversations]
            )
        _control_sink(address, "count")
    results["push"] = _measure_push(python, pusher, address, 500 if quick else PUSHED_TURNS)
    return results


def _measure_push(python: str, pusher: str, address: str, turns: int) -> dict[str, Any]:
    """Measure `gati push` with a newly filled store."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["-m", "tests.benchmarks.throughput"]
        keep = [python, *command, "keep", address, folder, str(turns), "own"]
        subprocess.run(keep, check=True, cwd=ROOT, env=clean())
        results: dict[str, Any] = _run_json([pusher, *command, "push", address, folder, str(turns), "own"])
    _control_sink(address, "count")
    return results


def _control_sink(address: str, what: str) -> None:
    with urllib.request.urlopen(f"{address}/sink/{what}", data=b"", timeout=300):
        pass


def _run_json(command: list[str]) -> Any:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=clean(), timeout=1800, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _versions(environments: Environments, names: list[str]) -> dict[str, str]:
    wanted = {CONTENDERS[name].package: CONTENDERS[name].environment for name in names}
    found = {package: environments.versions(environment)[package] for package, environment in wanted.items()}
    shared = environments.versions("none")
    return {name: shared[name] for name in ("langchain", "langgraph")} | found


def _machine() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "cpu": _cpu(),
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[1] if hasattr(os, "getloadavg") else None,
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _write(results: dict[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "performance.svg").write_text(chart.svg(results["rounds"]), "utf-8")
    (folder / "performance.json").write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    text = report.markdown(results, "performance.svg")
    page = folder / "performance.md"
    if page.exists() and BEGIN in (before := page.read_text("utf-8")):
        head, _, rest = before.partition(BEGIN)
        text = f"{head}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}"
    else:
        text = f"{BEGIN}\n\n{text}\n\n{END}\n"
    page.write_text(text, "utf-8")
    print(f"written: {page}", file=sys.stderr)


if __name__ == "__main__":
    main()
