"""Run one program alone, with gati, with another tracer and with both, and compare what each recorded.

Each run is a separate process, because instrumentation of LangChain cannot be undone completely.
``python -m tests.coexistence.compare gati openllmetry`` prints as JSON what both recorded and the output of the program.
"""

from __future__ import annotations

import difflib
import functools
import json
import os
import subprocess
import sys
import warnings
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OURS = "gati"
Recorded = dict[str, list[str]]
_SWITCHES = ("GATI_", "GREENFLASH_", "LANGSMITH_", "LANGCHAIN_", "LANGFUSE_", "OTEL_", "TRACELOOP_")


def differences(tracer: str) -> list[str]:
    """Return what gati, the other tracer or the program do differently when both are active."""
    alone, with_gati, with_tracer, both = (
        record_in_process(),
        record_in_process(OURS),
        record_in_process(tracer),
        record_in_process(OURS, tracer),
    )
    assert with_gati[OURS]
    assert with_tracer[tracer], "the other tracer recorded nothing: it is not set up"
    return [
        *_changes("program with gati", alone["program"], with_gati["program"]),
        *_changes("program with both", with_tracer["program"], both["program"]),
        *_changes("other tracer with gati", with_tracer[tracer], both[tracer]),
        *_changes("gati with the other tracer", with_gati[OURS], both[OURS]),
    ]


@functools.cache
def record_in_process(*names: str) -> Recorded:
    """Run the program in a separate process with these tracers."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(_SWITCHES)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.coexistence.compare", *names],
        cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    recording: Recorded = json.loads(done.stdout.splitlines()[-1])
    return recording


def record(names: list[str]) -> Recorded:
    """Run the program in this process with these tracers."""
    from tests.coexistence.program import run_program
    from tests.coexistence.tracers import TRACERS

    with ExitStack() as stack:
        recording = {name: stack.enter_context(TRACERS[name]()) for name in names}
        outcome = run_program([handler for item in recording.values() for handler in item.handlers])
    return {"program": outcome, **{name: item.lines for name, item in recording.items()}}


def _changes(what: str, before: list[str], after: list[str]) -> list[str]:
    found = list(difflib.unified_diff(before, after, "alone", "together", lineterm="", n=0))
    return [what, *found] if found else []


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # warnings of the tracers
    print(json.dumps(record(sys.argv[1:])))
