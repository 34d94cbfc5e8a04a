"""The pipeline as its owner sees it: records in, messages delivered, nothing in the way."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import TimeoutError as FutureTimeout
from typing import TYPE_CHECKING

from gati.pipeline import faults, life
from gati.pipeline.buffer import Tally
from gati.pipeline.engine import Engine, spool_folder
from gati.pipeline.faults import guard, log
from gati.pipeline.stats import FlushResult, Stats

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gati.exporters.base import Exporter
    from gati.pipeline.retry import Policy
    from gati.pipeline.worker import Assembler, Worker
    from gati.settings import Settings
    from gati.trace.records import Record

__all__ = ["Pipeline", "spool_folder"]


class Pipeline:
    """Owns the engine of this process.

    Makes no thread and no file before the first record (or flush). In a forked child it starts
    again, empty. Its hook for the process's exit delivers within `Settings.shutdown_timeout`.
    """

    def __init__(
        self,
        assembler: Callable[[], Assembler],
        exporters: Sequence[Exporter],
        *,
        options: Settings,
        policy: Policy | None = None,
    ) -> None:
        """`assembler` makes a new assembler: one in each process."""
        self._make_assembler = assembler
        self._exporters = list(exporters)
        self._options = options
        self._policy = policy
        self._kept: list[Engine] = []
        self._pid = os.getpid()
        self._engine: Engine | None = None
        self._closed = False
        self._late = Tally()
        life.watch(self)

    def _begin(self) -> Engine:
        with life.steady:
            if self._engine is None:
                engine = Engine(self._make_assembler(), self._exporters, self._options, self._policy)
                if self._engine is None:  # a signal handler may have left a record meanwhile
                    self._engine = engine
            return self._engine

    @property
    def _worker(self) -> Worker:
        return self._begin().worker

    # The user's thread

    def put(self, record: Record) -> None:
        """Take a record. Never blocks, never raises."""
        if self._closed:
            self._late.add()
            return
        engine = self._engine or self._begin()
        pressing = engine.buffer.put(record)
        worker = engine.worker
        if worker.idle or pressing:
            worker.ring()
        elif not worker.running and not engine.ensure_worker():
            engine.deliver_last(self._options.shutdown_timeout)

    # Flush and end

    def flush(self, timeout: float) -> FlushResult:
        """Deliver what was recorded so far; returns after `timeout` seconds at the latest."""
        if self._closed or threading.current_thread().name.startswith("gati-"):
            return self._result(timed_out=False)
        return self._deliver(self._begin(), timeout, final=False)

    async def aflush(self, timeout: float) -> FlushResult:
        """As `flush`, without blocking the event loop."""
        import asyncio  # late: programs without an event loop need not load it

        if self._closed or not self._begin().ensure_worker():
            return self._result(timed_out=False)
        worker = self._worker
        ticket = worker.ask()
        timed_out = False
        try:
            await asyncio.wait_for(asyncio.wrap_future(ticket.done), timeout)
        except (TimeoutError, asyncio.TimeoutError):
            timed_out = True
        finally:
            worker.cancel(ticket)
        return self._result(timed_out)

    def shutdown(self, timeout: float) -> FlushResult:
        """Take no more records, deliver what there is within `timeout` seconds, leave the rest in
        the spool. A second call changes nothing.
        """
        if self._closed:
            return self._result(timed_out=False)
        self._closed = True
        engine, result = self._engine, FlushResult()
        if engine is not None:
            if engine.worker.running or len(engine.buffer):
                result = self._deliver(engine, timeout, final=True)
            engine.close()
        for exporter in self._exporters:
            with guard("exporter.close"):
                exporter.close()
        if result.pending:
            log.tell("lost_at_exit", "%d messages were not delivered and are not on disk", result.pending)
        return result

    def _deliver(self, engine: Engine, timeout: float, final: bool) -> FlushResult:
        until = time.monotonic() + timeout
        alive = engine.ensure_worker()
        ticket = engine.worker.ask(final=final)
        if not alive:
            engine.deliver_here(until)
        timed_out = False
        try:
            ticket.done.result(max(0.0, until - time.monotonic()))
        except (TimeoutError, FutureTimeout):
            timed_out = True
        finally:
            engine.worker.cancel(ticket)
        return self._result(timed_out)

    def _result(self, timed_out: bool) -> FlushResult:
        engine = self._engine
        if engine is None:
            return FlushResult(timed_out=timed_out)
        return engine.ledger.flushed(
            turns_open=engine.worker.assembler.open_turns, timed_out=timed_out, paused=tuple(engine.paused)
        )

    def at_exit(self) -> None:
        """The process ends: deliver what can be delivered within its deadline."""
        self.shutdown(self._options.shutdown_timeout)

    def after_fork_in_child(self) -> None:
        """Start again, empty: everything that waited belongs to the parent. Harmless if repeated."""
        if self._pid == os.getpid():
            return
        self._pid = os.getpid()
        faults.reset()
        if self._engine is not None:
            # The parent's objects stay referenced: their finalizers must not run in the child.
            self._kept.append(self._engine)
            self._engine.forget()
            self._engine = None
        self._late = Tally()
        for exporter in self._exporters:
            with guard("exporter.after_fork"):
                exporter.after_fork()

    def stats(self) -> Stats:
        """What became of everything so far, in this process."""
        late, engine = self._late.read(), self._engine
        if engine is None:
            return Stats(records=late, records_refused=late, faults=faults.counts())
        buffer, outboxes = engine.buffer, engine.outboxes
        refused, waiting = buffer.refused + late, len(buffer)
        return engine.ledger.stats(
            records=buffer.taken + waiting + refused,
            records_waiting=waiting,
            records_refused=refused,
            turns_open=engine.worker.assembler.open_turns,
            spool_bytes=sum(outbox.disk_bytes for outbox in outboxes),
            memory_bytes=buffer.bytes + sum(outbox.memory_bytes for outbox in outboxes),
            paused=engine.paused,
            faults=faults.counts(),
        )
