"""Pytest plugin (`-p tests.third_party.plugin`): gati watches the tests that run and delivers what it saw.

Reads `GATI_FOREIGN_SERVER` (address of a strict local Greenflash) and writes to the file
`GATI_FOREIGN_REPORT` what it found wrong when the session ends.
"""

from __future__ import annotations

import gc
import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

_logged: list[str] = []
_left_open: list[str] = []


_CASSETTES = "CannotOverwriteExistingCassetteException"
"""While one of their recordings (vcrpy) is played, all HTTP of the process is refused that is not in it: gati's is
tried again later."""


class _Listener(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if _CASSETTES not in (message := record.getMessage()):
            _logged.append(f"{record.levelname} {message}")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Begin to watch before the first test."""
    logging.getLogger("gati").addHandler(_Listener())
    # Not the root's: their tests count log lines there.
    logging.getLogger("gati").propagate = False
    from gati import observe

    observe.init(
        agent_name="foreign",
        api_key="gf_test_key",
        base_url=os.environ["GATI_FOREIGN_SERVER"],
        spool=False,
        auto_inject=True,
        flush_interval=0.2,
        turn_timeout=5,
        shutdown_timeout=60,
    )


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Any:
    """Note which tests leave runs open that did not begin before them."""
    from gati.langchain.current import current

    recorder = current.recorder
    before = set(recorder.open_runs) if recorder is not None else set()
    yield
    after = set(recorder.open_runs) if recorder is not None else set()
    if after - before:
        # A stream that a test lets go ends when the garbage collector finds it; a bare handler hears of it then, too.
        gc.collect()
        after = set(recorder.open_runs) if recorder is not None else set()
    if after - before:
        _left_open.append(item.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Deliver everything and tell what was wrong."""
    from gati import observe

    flushed = observe.flush(timeout=120)
    stats = observe.stats()
    report = {
        "recorded": stats.recorded,
        "turns": stats.turns,
        "turns_open": stats.turns_open,
        "delivered": stats.delivered,
        "rejected": stats.rejected,
        "dropped": dict(stats.dropped),
        "turns_dropped": dict(stats.turns_dropped),
        "faults": dict(stats.faults),
        "balanced": stats.balanced,
        "timed_out": flushed.timed_out,
        "logged": sorted(set(_logged)),
        "left_open": _left_open,
    }
    Path(os.environ["GATI_FOREIGN_REPORT"]).write_text(json.dumps(report, indent=1))
    observe.shutdown(timeout=60)
