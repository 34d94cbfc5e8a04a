"""Soak tests: a short one, and a long one with ``GATI_SOAK_SECONDS=14400 nox -s soak`` or ``python -m tests.soak``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gati import observe
from gati.pipeline import internal_errors
from tests.servers import greenflash_server
from tests.soak.runner import Soak, leaks, soak_for

# Read before the fixture that removes options from the environment.
SECONDS = float(os.environ.get("GATI_SOAK_SECONDS", "600"))

pytestmark = pytest.mark.skipif(os.name != "posix", reason="reads /proc")


@pytest.mark.timeout(300)  # most of a minute on an idle machine
def test_memory_does_not_grow_over_thousands_of_turns(tmp_path: Path) -> None:
    internal_errors.reset()
    with greenflash_server() as server:
        soak = Soak(server, tmp_path)
        soak.run_turns(500)
        before = soak.reading()
        soak.run_turns(2_000)
        after = soak.reading()
        observe.shutdown()
    assert leaks(after) == {}
    assert after.threads <= before.threads + 4  # senders come and go
    # Detects a leak of 20 kB per turn.
    assert after.rss - before.rss < 40_000_000


@pytest.mark.soak
def test_memory_does_not_grow_over_hours(tmp_path: Path) -> None:
    internal_errors.reset()
    first, *others = soak_for(tmp_path, SECONDS)
    assert [leaked for reading in others if (leaked := leaks(reading))] == []
    # The caches of conversations have reached their bounds by the middle.
    middle = others[len(others) // 2]
    assert others[-1].rss - middle.rss < 60_000_000
    assert others[-1].threads <= first.threads + 4
