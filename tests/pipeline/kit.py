"""A fake assembler and a fake exporter, for tests of the pipeline alone."""

from __future__ import annotations

import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from gati.exporters.base import DELIVERED, Outcome, Request, Verdict
from gati.pipeline import worker
from gati.pipeline.pipeline import Pipeline
from gati.pipeline.retry import Policy
from gati.settings import Settings
from gati.trace.records import Gap, RunEnded, RunStarted

QUICK = Policy(first=0.01, cap=0.05, retry_after_cap=0.3, probe=0.05, max_failures_among_successes=3)
DOWN = Outcome(Verdict.RETRY, "down")


class FakeAssembler:
    """Makes each root run a turn: its name is the conversation, its input the text."""

    def __init__(self) -> None:
        self.open: dict[uuid.UUID, RunStarted] = {}
        self.turns_begun = 0

    @property
    def sampled_out(self) -> int:
        return 0

    @property
    def open_bytes(self) -> int:
        return 0

    @property
    def open_turns(self) -> int:
        return len(self.open)

    @property
    def outside_conversation(self) -> int:
        return 0

    @property
    def memory_bytes(self) -> int:
        return 0

    @property
    def has_leftovers(self) -> bool:
        return False

    def is_open(self, run: bytes) -> bool:
        return bool(self.open)

    def load(self) -> None:
        pass

    def feed(self, records: Iterable[Any]) -> list[Any]:
        done = []
        for record in records:
            if type(record) is RunStarted:
                self.open[record.run_id] = record
                self.turns_begun += 1
            elif type(record) is RunEnded and record.run_id in self.open:
                done.append(self.open.pop(record.run_id))
            elif type(record) is Gap:
                self.open.clear()
        return done

    def tick(self, now: int) -> list[Any]:
        return []

    def finish_cut_off(self) -> list[Any]:
        return []

    def drain(self) -> list[Any]:
        done = list(self.open.values())
        self.open.clear()
        return done


class FakeExporter:
    """Keeps the texts it receives. Answers with `answers` in order, then with the result of `answer`."""

    durable = False

    def __init__(self, name: str = "fake", account: str = "a1") -> None:
        self.name = name
        self.account = account
        self.answers: deque[Outcome] = deque()
        self.answer: Callable[[Request], Outcome] = lambda request: DELIVERED
        self.texts: dict[str, list[str]] = {}
        self.attempts = 0
        self.in_flight: set[str] = set()
        self.most_in_flight = 0
        self.overtaken = False
        self.closed = 0
        self.gate = threading.Event()
        self.gate.set()
        self._lock = threading.Lock()

    def encode(self, items: Any) -> list[Request]:
        return [
            Request(run.name, {"messages": [{"content": run.inputs}]}, 1, str(run.run_id), run.metadata["endpoint"])
            if run.metadata
            else Request(run.name, {"messages": [{"content": run.inputs}]}, 1, str(run.run_id))
            for run in items
        ]

    def send(self, request: Request) -> Outcome:
        with self._lock:
            self.attempts += 1
            self.overtaken |= request.ordering_key in self.in_flight
            self.in_flight.add(request.ordering_key)
            self.most_in_flight = max(self.most_in_flight, len(self.in_flight))
        self.gate.wait()
        outcome = self.answers.popleft() if self.answers else self.answer(request)
        with self._lock:
            self.in_flight.discard(request.ordering_key)
            if outcome.verdict is Verdict.OK:
                texts = self.texts.setdefault(request.ordering_key, [])
                texts += [message["content"] for message in request.body["messages"]]
        return outcome

    def split(self, request: Request) -> tuple[Request, Request] | None:
        messages = request.body["messages"]
        if len(messages) < 2:
            return None
        middle = len(messages) // 2
        first, second = (
            Request(request.ordering_key, {"messages": half}, len(half), request.turn_id)
            for half in (messages[:middle], messages[middle:])
        )
        return first, second

    def after_fork(self) -> None:
        pass

    def close(self) -> None:
        self.closed += 1

    @property
    def total(self) -> int:
        return sum(map(len, self.texts.values()))


def record_turn(pipeline: Pipeline, conversation: str, text: str, endpoint: str | None = None) -> None:
    """Record one turn."""
    run_id = uuid.uuid4()
    metadata = {"endpoint": endpoint} if endpoint else None
    pipeline.put(RunStarted(run_id, None, "chain", conversation, time.perf_counter_ns(), text, metadata=metadata))
    pipeline.put(RunEnded(run_id, time.perf_counter_ns()))


def options(spool_dir: Path, **changes: Any) -> Settings:
    return Settings(
        **{"spool_dir": spool_dir, "flush_interval": 0.02, "shutdown_timeout": 5.0, "eager": False, **changes}
    )


@contextmanager
def running(
    spool_dir: Path,
    *destinations: FakeExporter,
    patience: float = 5.0,
    assembler: Callable[[], FakeAssembler] = FakeAssembler,
    spool_seconds: float = 3600.0,
    **changes: Any,
) -> Iterator[Pipeline]:
    """Run a pipeline; shut it down after the block within `patience` seconds, and check that its counters balance.

    Its rounds are `flush_interval` apart, unless `spool_seconds` is less.
    """
    with mock.patch.object(worker, "SPOOL_SECONDS", spool_seconds):
        yield from _running(spool_dir, destinations, patience, assembler, changes)


def _running(
    spool_dir: Path,
    destinations: tuple[FakeExporter, ...],
    patience: float,
    assembler: Callable[[], FakeAssembler],
    changes: dict[str, Any],
) -> Iterator[Pipeline]:
    pipeline = Pipeline(assembler, destinations, options=options(spool_dir, **changes), policy=QUICK)
    try:
        yield pipeline
    finally:
        for destination in destinations:
            destination.gate.set()
        pipeline.shutdown(patience)
        assert pipeline.stats().balanced, pipeline.stats()


@contextmanager
def out_of_threads() -> Iterator[None]:
    """Let every start of a thread fail, by requesting an impossible stack size."""
    before = threading.stack_size(1 << 60)
    try:
        yield
    finally:
        threading.stack_size(before)


def wait_until(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    """Wait until other threads make the condition true. The limit is for a busy machine."""
    end = time.monotonic() + seconds
    while True:
        begun = time.monotonic()
        if condition():
            return
        now = time.monotonic()
        if now > end:
            raise AssertionError("timeout")
        # A condition that takes long must not take the interpreter from the threads that it waits for.
        time.sleep(max(0.002, 2 * (now - begun)))


def spool_files(spool_dir: Path) -> list[Path]:
    return sorted(spool_dir.glob("*/ready/*.jsonl"))
