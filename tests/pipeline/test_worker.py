"""How the background thread shares the interpreter; what it does with records is told in `test_pipeline.py`."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from gati.exporters.base import Request
from gati.pipeline import process_hooks, worker
from gati.pipeline.buffer import Buffer
from gati.pipeline.stats import DeliveryCounters


class RecordingOutbox(list[str]):
    """An outbox that tells which requests it takes."""

    def accept(self, requests: Sequence[Request]) -> None:
        for request in requests:
            self.append(request.turn_id)


def test_the_interpreter_is_handed_on_between_the_requests_that_are_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    told = RecordingOutbox()
    monkeypatch.setattr(worker, "SLICE_SECONDS", -1.0)  # each slice is over at once
    monkeypatch.setattr(process_hooks, "yielding_sleep", lambda seconds: told.append("rest"))
    sender: Any = SimpleNamespace(outbox=told)
    assembler: Any = None
    working = worker.Worker(Buffer(1_000_000), assembler, [sender], DeliveryCounters(), interval=1.0)
    working._encoded[0] = [Request(ordering_key="c", body={}, items=1, turn_id=f"turn {n}") for n in range(3)]
    working._store(at_least=1)
    assert told[:6] == ["turn 0", "rest", "turn 1", "rest", "turn 2", "rest"]
