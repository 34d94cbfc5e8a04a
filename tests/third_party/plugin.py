"""Pytest plugin (`-p tests.third_party.plugin`) that runs gati during the tests and delivers what it recorded.

Reads `FOREIGN_SERVER` (address of a strict local Greenflash server) and writes statistics and errors
to the file `FOREIGN_REPORT` at the end of the session.
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
"""Raised by vcrpy for every request that is not in the cassette being played, including gati's. gati retries later."""


class _Listener(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        from gati._api.runtime import MISSING_CONVERSATION_ID

        if record.msg == MISSING_CONVERSATION_ID:  # these tests have no conversations
            return
        if _CASSETTES not in (message := record.getMessage()):
            _logged.append(f"{record.levelname} {message}")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Start gati before the first test."""
    logging.getLogger("gati").addHandler(_Listener())
    # Do not propagate: some tests count the log lines of the root logger.
    logging.getLogger("gati").propagate = False
    from gati import observe

    observe.init(
        agent_name="foreign",
        api_key="gf_test_key",
        base_url=os.environ["FOREIGN_SERVER"],
        spool=False,
        auto_inject=True,
        flush_interval=0.2,
        turn_timeout=5,
        shutdown_timeout=60,
    )


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Any:
    """Record which tests leave runs open that they started."""
    from gati.langchain.current import current

    recorder = current.recorder
    before = set(recorder.open_runs) if recorder is not None else set()
    yield
    after = set(recorder.open_runs) if recorder is not None else set()
    if after - before:
        # An abandoned stream ends when it is garbage-collected, for any handler.
        gc.collect()
        after = set(recorder.open_runs) if recorder is not None else set()
    if after - before:
        _left_open.append(item.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Deliver everything and write the report."""
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
    Path(os.environ["FOREIGN_REPORT"]).write_text(json.dumps(report, indent=1))
    observe.shutdown(timeout=60)
