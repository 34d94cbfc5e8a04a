"""The short form; ``python -m tests.soak --minutes 60`` is the long one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gati import observe
from gati.pipeline import faults
from tests.servers import greenflash_server
from tests.soak.soak import Soak, leaks

pytestmark = pytest.mark.skipif(os.name != "posix", reason="reads /proc")


def test_after_thousands_of_turns_everything_is_as_small_as_after_hundreds(tmp_path: Path) -> None:
    faults.reset()
    with greenflash_server() as server:
        soak = Soak(server, tmp_path)
        soak.talk(500)
        before = soak.reading()
        soak.talk(2_000)
        after = soak.reading()
        observe.shutdown()
    assert leaks(after) == {}
    assert after.threads <= before.threads + 4  # senders come and go
    # What a turn may leave behind for ever would show: 2,000 turns of 1 kB are 2 MB.
    assert after.rss - before.rss < 40_000_000
