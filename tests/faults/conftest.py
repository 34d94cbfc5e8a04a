"""Shorten the times of the retry policy, and check the delivery counters after every test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gati import observe
from gati.pipeline import internal_errors
from gati.pipeline.retry import Policy
from tests.faults.chat_driver import PRODUCT
from tests.servers import API_KEY, LocalServer

Init = Callable[..., None]


@pytest.fixture(autouse=True)
def _short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = Policy(first=0.02, cap=0.1, retry_after_cap=0.3, probe=0.1)
    monkeypatch.setattr("gati.pipeline.outbox.Policy", lambda: quick)
    internal_errors.reset()


@pytest.fixture
def init(tmp_path: Path) -> Iterator[Init]:
    """Return `observe.init` for a local server, with a temporary spool."""

    small: list[int] = []

    def begin(server: LocalServer | str, **options: Any) -> None:
        small.extend([options["buffer_max_bytes"]] if "buffer_max_bytes" in options else [])
        url = server if isinstance(server, str) else server.url
        given = {"api_key": API_KEY, "product_id": PRODUCT, "flush_interval": 0.05, "timeout": 1.0, "local": False}
        observe.init(**{"agent_name": "talker", "base_url": url, "spool_dir": tmp_path / "spool", **given, **options})

    yield begin
    stats = observe.stats()
    assert stats.balanced, stats
    assert stats.records == stats.records_waiting + stats.records_refused or stats.turns
    # Steps for which a small buffer has no space are left out of open turns, and counted.
    assert stats.faults.keys() <= ({"open_turn"} if small else set())
    observe.shutdown(timeout=5.0)
