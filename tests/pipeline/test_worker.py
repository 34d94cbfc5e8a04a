"""How the worker yields the interpreter. `test_pipeline.py` tests how it processes records."""

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
    """A list that records the turn of each accepted request."""

    def accept(self, requests: Sequence[Request]) -> None:
        for request in requests:
            self.append(request.turn_id)


def test_the_worker_yields_the_interpreter_between_stored_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    log = RecordingOutbox()
    monkeypatch.setattr(worker, "SLICE_SECONDS", -1.0)  # every slice ends at once
    monkeypatch.setattr(process_hooks, "yielding_sleep", lambda seconds: log.append("yield"))
    sender: Any = SimpleNamespace(outbox=log)
    assembler: Any = None
    working = worker.Worker(Buffer(1_000_000), assembler, [sender], DeliveryCounters(), interval=1.0)
    working._encoded[0] = [Request(ordering_key="c", body={}, items=1, turn_id=f"turn {n}") for n in range(3)]
    working._store(at_least=1)
    assert log[:6] == ["turn 0", "yield", "turn 1", "yield", "turn 2", "yield"]
