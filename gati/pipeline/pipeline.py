"""The pipeline as its owner sees it: records in, messages delivered, nothing in the way."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gati.pipeline import faults, life
from gati.pipeline.buffer import Buffer, Tally
from gati.pipeline.faults import guard, log
from gati.pipeline.outbox import Limits, Outbox
from gati.pipeline.sender import Sender
from gati.pipeline.spool import Spool
from gati.pipeline.stats import FlushResult, Ledger, Stats
from gati.pipeline.worker import Assembler, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gati.exporters.base import Exporter
    from gati.pipeline.retry import Policy
    from gati.settings import Settings
    from gati.trace.records import Record

JOIN_SECONDS = 0.2
"""Idle threads end at once when told; one that is in the middle of a send is left behind."""


class Pipeline:
    """Buffer, worker, outboxes and senders of one process.

    Makes no thread and no file before the first record (or flush). In a forked child it starts
    again, empty. Its atexit hook delivers within `Settings.shutdown_timeout`.
    """

    def __init__(
        self,
        assembler: Callable[[], Assembler],
        exporters: Sequence[Exporter],
        *,
        options: Settings,
        policy: Policy | None = None,
    ) -> None:
        """`assembler` makes a new assembler: one now, one in each forked child."""
        self._make_assembler = assembler
        self._exporters = list(exporters)
        self._options = options
        self._policy = policy
        self._kept: list[object] = []
        self._prepare()
        life.watch(self)

    def _prepare(self) -> None:
        options = self._options
        self._pid = os.getpid()
        self._start_lock = threading.Lock()
        self._closed = False
        self._late = Tally()
        self._thread: threading.Thread | None = None
        self._ledger = Ledger()
        # Half of the memory is for records, half for requests; each destination has its share.
        self._buffer = Buffer(options.buffer_max_bytes // 2)
        limits = Limits(
            memory=options.buffer_max_bytes // 2 // max(1, len(self._exporters)),
            disk=options.spool_max_bytes,
            drop_newest=options.on_full == "newest",
        )
        self._outboxes = [
            Outbox(exporter, self._ledger, self._spool(exporter), limits, self._policy) for exporter in self._exporters
        ]
        self._senders = [Sender(outbox, options.connections, self._settled) for outbox in self._outboxes]
        self._worker = Worker(
            self._buffer,
            self._make_assembler(),
            self._senders,
            self._ledger,
            interval=options.flush_interval,
            mask=options.mask,
        )

    def _spool(self, exporter: Exporter) -> Spool | None:
        if not self._options.spool or exporter.durable:
            return None
        return Spool(spool_folder(self._options.spool_dir), exporter.name, exporter.account)

    def _settled(self) -> None:
        self._worker.settled()

    # The user's thread

    def put(self, record: Record) -> None:
        """Take a record. Never blocks, never raises."""
        if self._closed:
            self._late.add()
            return
        pressing = self._buffer.put(record)
        worker = self._worker
        if worker.idle or pressing:
            worker.ring()
        elif not worker.running:
            self._ensure_worker()

    def _ensure_worker(self) -> bool:
        """Start the worker unless it runs. False if the interpreter starts no more threads."""
        # Not waited for: whoever holds it starts the thread.
        if not self._start_lock.acquire(blocking=False):
            return True
        try:
            if self._worker.running:
                return True
            self._thread = thread = threading.Thread(target=self._worker.run, name="gati-worker", daemon=True)
            self._worker.running = True
            try:
                thread.start()
            except BaseException as error:
                self._worker.running = False
                if isinstance(error, RuntimeError):  # at the interpreter's exit, or out of threads
                    return False
                raise
            life.hear_exit()
            return True
        finally:
            self._start_lock.release()

    # Flush and end

    def flush(self, timeout: float) -> FlushResult:
        """Deliver what was recorded so far; returns after `timeout` seconds at the latest."""
        return self._wait_for_delivery(timeout, final=False)

    async def aflush(self, timeout: float) -> FlushResult:
        """As `flush`, without blocking the event loop."""
        import asyncio  # late: programs without an event loop need not load it

        if self._closed or not self._ensure_worker():
            return self._result(timed_out=False)
        ticket = self._worker.ask()
        timed_out = False
        try:
            await asyncio.wait_for(asyncio.wrap_future(ticket.done), timeout)
        except (TimeoutError, asyncio.TimeoutError):
            timed_out = True
        finally:
            self._worker.cancel(ticket)
        return self._result(timed_out)

    def shutdown(self, timeout: float) -> FlushResult:
        """Take no more records, deliver what there is within `timeout` seconds, leave the rest in
        the spool. A second call changes nothing.
        """
        if self._closed:
            return self._result(timed_out=False)
        self._closed = True
        if not self._worker.running and not len(self._buffer):
            self._close()
            return self._result(timed_out=False)
        result = self._wait_for_delivery(timeout, final=True)
        self._close()
        if result.pending:
            log.tell("lost_at_exit", "%d messages were not delivered and are not on disk", result.pending)
        return result

    def _wait_for_delivery(self, timeout: float, final: bool) -> FlushResult:
        if (self._closed and not final) or threading.current_thread().name.startswith("gati-"):
            return self._result(timed_out=False)
        until = time.monotonic() + timeout
        alive = self._ensure_worker()
        ticket = self._worker.ask(final=final)
        if not alive:
            self._deliver_here(until)
        timed_out = False
        try:
            ticket.done.result(max(0.0, until - time.monotonic()))
        except (TimeoutError, FutureTimeout):
            timed_out = True
        finally:
            self._worker.cancel(ticket)
        return self._result(timed_out)

    def _deliver_here(self, until: float) -> None:
        """The interpreter starts no more threads: this one does the work."""
        self._worker.turn()
        for sender in self._senders:
            sender.carry_here(until)

    def _result(self, timed_out: bool) -> FlushResult:
        return self._ledger.flushed(
            turns_open=self._worker.assembler.open_turns, timed_out=timed_out, paused=tuple(self._paused())
        )

    def _close(self) -> None:
        self._worker.stopped = True
        self._worker.ring()
        for outbox in self._outboxes:
            with guard("outbox.close"):
                outbox.close()
        until = time.monotonic() + JOIN_SECONDS
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(JOIN_SECONDS)
        for sender in self._senders:
            sender.join(until)
        for exporter in self._exporters:
            with guard("exporter.close"):
                exporter.close()

    def at_exit(self) -> None:
        """The process ends: deliver what can be delivered within its deadline."""
        self.shutdown(self._options.shutdown_timeout)

    def after_fork_in_child(self) -> None:
        """Start again, empty: everything that waited belongs to the parent. Harmless if repeated."""
        if self._pid == os.getpid():
            return
        # The parent's objects stay referenced: their finalizers must not run in the child.
        self._kept.append((self._worker, self._senders, self._buffer))
        faults.reset()
        closed = self._closed
        for outbox in self._outboxes:
            outbox.forget()
        for exporter in self._exporters:
            with guard("exporter.after_fork"):
                exporter.after_fork()
        self._prepare()
        self._closed = closed

    def stats(self) -> Stats:
        """What became of everything so far, in this process."""
        late, refused = self._late.read(), self._buffer.refused
        waiting = len(self._buffer)
        others: dict[str, Any] = {
            "records": self._buffer.taken + waiting + refused + late,
            "records_waiting": waiting,
            "records_refused": refused + late,
            "turns_open": self._worker.assembler.open_turns,
            "spool_bytes": sum(outbox.disk_bytes for outbox in self._outboxes),
            "memory_bytes": self._buffer.bytes + sum(outbox.memory_bytes for outbox in self._outboxes),
            "paused": self._paused(),
            "faults": faults.counts(),
        }
        return self._ledger.stats(**others)

    def _paused(self) -> dict[str, str]:
        return {outbox.exporter.name: outbox.hold.paused for outbox in self._outboxes if outbox.hold.paused}


def spool_folder(configured: Path | None) -> Path:
    """Where the spool is: as configured, else in the user's data folder."""
    if configured is not None:
        return Path(configured)
    import platformdirs  # late: only programs that spool need it

    return platformdirs.user_data_path("gati", appauthor=False) / "spool"
