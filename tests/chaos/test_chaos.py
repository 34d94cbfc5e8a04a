"""Kills, stops, forks, disk faults, clock steps and a bad server at random: nothing is lost silently.

The short form runs with fixed seeds. ``nox -s chaos`` runs for `GATI_CHAOS_SECONDS` with a random seed, or with
`GATI_CHAOS_SEED`, and prints it.
"""

from __future__ import annotations

import importlib.util
import os
import random
import sys
from pathlib import Path

import pytest

# Read before the fixture that removes options from the environment.
SEED = int(os.environ.get("GATI_CHAOS_SEED", random.SystemRandom().randrange(10**9)))
SECONDS = float(os.environ.get("GATI_CHAOS_SECONDS", "240"))

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="signals, limits and /proc of Linux"),
    pytest.mark.skipif(importlib.util.find_spec("langchain") is None, reason="needs langchain"),
]


@pytest.mark.parametrize("seed", [1, 2])
def test_a_short_storm_loses_nothing_that_was_safe_and_counts_the_rest(seed: int, tmp_path: Path) -> None:
    from tests.chaos.storm import run_storm

    run_storm(seed, 3.0, tmp_path)


@pytest.mark.chaos
@pytest.mark.timeout(0)
def test_a_long_storm_loses_nothing_that_was_safe_and_counts_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.chaos.storm import run_storm

    with capsys.disabled():
        print(f"\nGATI_CHAOS_SEED={SEED}", flush=True)
        print(run_storm(SEED, SECONDS, tmp_path), flush=True)
