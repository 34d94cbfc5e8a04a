"""One program alone, with gati, with a neighbour, and with both: everybody must see the same each time.

Each is a process of its own, as what instruments LangChain does not take itself back as a whole:
``python -m tests.coexistence.compare gati openllmetry`` prints in JSON what these two and the program saw.
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
Saw = dict[str, list[str]]
_SWITCHES = ("GATI_", "GREENFLASH_", "LANGSMITH_", "LANGCHAIN_", "LANGFUSE_", "OTEL_", "TRACELOOP_")


def differences(neighbour: str) -> list[str]:
    """What one of them, or the program, sees differently because of the other; empty if nothing."""
    alone, with_gati, with_them, both = watched(), watched(OURS), watched(neighbour), watched(OURS, neighbour)
    assert with_gati[OURS]
    assert with_them[neighbour], "the neighbour saw nothing: it is not set up"
    return [
        *_changes("the program, beside gati", alone["program"], with_gati["program"]),
        *_changes("the program, beside both", with_them["program"], both["program"]),
        *_changes("what the neighbour sees, beside gati", with_them[neighbour], both[neighbour]),
        *_changes("what gati sees, beside the neighbour", with_gati[OURS], both[OURS]),
    ]


@functools.cache
def watched(*names: str) -> Saw:
    """Run the program in a process of its own under these watchers."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(_SWITCHES)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.coexistence.compare", *names],
        cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen: Saw = json.loads(done.stdout.splitlines()[-1])
    return seen


def watch(names: list[str]) -> Saw:
    """Run the program here."""
    from tests.coexistence.program import talk
    from tests.coexistence.tracers import WATCHERS

    with ExitStack() as watching:
        seen = {name: watching.enter_context(WATCHERS[name]()) for name in names}
        outcome = talk([handler for one in seen.values() for handler in one.handlers])
    return {"program": outcome, **{name: one.lines for name, one in seen.items()}}


def _changes(what: str, before: list[str], after: list[str]) -> list[str]:
    found = list(difflib.unified_diff(before, after, "alone", "together", lineterm="", n=0))
    return [what, *found] if found else []


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # the watchers' own
    print(json.dumps(watch(sys.argv[1:])))
