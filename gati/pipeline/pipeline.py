"""The pipeline of a process: takes records, delivers messages, never blocks the program."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

from gati.pipeline import internal_errors, process_hooks
from gati.pipeline.buffer import Buffer
from gati.pipeline.internal_errors import guard, log

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gati.exporters.base import Exporter
    from gati.pipeline.engine import Engine
    from gati.pipeline.retry import Policy
    from gati.pipeline.stats import FlushResult, Stats
    from gati.pipeline.worker import TurnAssembler, Worker
    from gati.settings import Settings


class Pipeline:
    """Owns the buffer and, in each process, the worker's thread and the engine behind it.

    Creates no thread and no file before the first record or flush; then the worker's thread loads the
    engine. Starts again, empty, in a forked child. Delivers within `Settings.shutdown_timeout` when the
    process exits.
    """

    def __init__(
        self,
        assembler: Callable[[], TurnAssembler],
        exporters: Sequence[Exporter],
        *,
        options: Settings,
        policy: Policy | None = None,
    ) -> None:
        """`assembler` creates an assembler, one in each process."""
        self._make_assembler = assembler
        self._exporters = list(exporters)
        self._options = options
        self._policy = policy
        self._buffer = Buffer(options.buffer_max_bytes // 2, on_wakeup=self._on_wakeup)
        self.put = self._buffer.put
        """Take a record. Never blocks, never raises."""
        self._inherited_engines: list[Engine] = []
        self._closed = False
        self._reset()
        process_hooks.register(self)

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._engine: Engine | None = None
        self._start_lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._exit_deadline: float | None = None

    def _ensure_engine(self) -> Engine:
        if (ready := self._engine) is not None:
            return ready
        with process_hooks.fork_lock:
            if self._engine is None:
                from gati.pipeline.engine import Engine  # late: in the worker's thread, not in the user's `init`

                engine = Engine(self._buffer, self._make_assembler(), self._exporters, self._options, self._policy)
                if self._engine is None:  # a signal handler may have created one meanwhile
                    self._engine = engine
            return self._engine

    @property
    def _worker(self) -> Worker:
        return self._ensure_engine().worker

    # The user's thread

    def _on_wakeup(self) -> None:
        """Wake or start the worker. Called by the buffer, in the middle of a callback."""
        engine = self._engine
        if self._thread is not None:
            if engine is not None:
                engine.worker.wake()
        elif not self._closed and not self._ensure_worker():
            self._deliver_at_exit(self._options.shutdown_timeout)

    def _ensure_worker(self) -> bool:
        """Start the worker unless it runs; return False if the interpreter starts no more threads."""
        # Do not wait for the lock: the thread that holds it starts the worker.
        if not self._start_lock.acquire(blocking=False):
            return True
        try:
            if self._thread is not None:
                return True
            process_hooks.register_exit_hook()  # even if the thread cannot be started
            self._thread = thread = threading.Thread(target=self._run_worker, name="gati-worker", daemon=True)
            self._buffer.idle = False  # the worker looks into the buffer before it sleeps
            try:
                thread.start()
            except BaseException as error:
                self._thread, self._buffer.idle = None, True
                if isinstance(error, RuntimeError):  # at the interpreter's exit, or out of threads
                    return False
                raise
            return True
        finally:
            self._start_lock.release()

    def _run_worker(self) -> None:
        """Body of the worker's thread."""
        try:
            with guard("engine"):
                self._ensure_engine().worker.run()
        finally:
            # Without an engine, starting a thread for each record would only fail again.
            self._thread, self._buffer.idle = None, self._engine is not None

    def _deliver_at_exit(self, patience: float) -> None:
        """Deliver in the calling thread, because the interpreter is exiting and starts no more threads.

        Since Python 3.12 an exit hook that is registered now is not called either, so each record may be
        the last. All calls together take at most `patience` seconds.
        """
        # A program that is only out of threads continues, and must not wait for a send.
        if not threading.main_thread().is_alive() and self._start_lock.acquire(blocking=False):
            try:
                if self._exit_deadline is None:
                    self._exit_deadline = time.monotonic() + patience
                with guard("exit"):
                    self._ensure_engine().deliver_in_this_thread(self._exit_deadline)
            finally:
                self._start_lock.release()

    # Flush and shutdown

    def flush(self, timeout: float) -> FlushResult:
        """Deliver everything recorded so far; return after at most `timeout` seconds."""
        if self._closed or threading.current_thread().name.startswith("gati-"):
            return self._flush_result(timed_out=False)
        return self._deliver(self._ensure_engine(), timeout, final=False)

    async def aflush(self, timeout: float) -> FlushResult:
        """Do the same as `flush`, without blocking the event loop."""
        import asyncio  # late: programs without an event loop need not load it

        if self._closed or not self._ensure_worker():
            return self._flush_result(timed_out=False)
        worker = self._worker
        flush = worker.request_flush()
        timed_out = False
        try:
            await asyncio.wait_for(asyncio.wrap_future(flush.done), timeout)
        except TimeoutError:
            timed_out = True
        finally:
            worker.cancel_flush(flush)
        return self._flush_result(timed_out)

    def shutdown(self, timeout: float) -> FlushResult:
        """Refuse further records, deliver within `timeout` seconds and leave the rest in the spool.

        Does nothing if called again.
        """
        if self._closed:
            return self._flush_result(timed_out=False)
        self._closed = True
        self._buffer.close()
        result = self._flush_result(timed_out=False)
        if self._thread is not None or len(self._buffer):
            result = self._deliver(self._ensure_engine(), timeout, final=True)
        if self._engine is not None:
            self._engine.close(self._thread)
        for exporter in self._exporters:
            with guard("exporter.close"):
                exporter.close()
        if result.pending:
            log.emit("lost_at_exit", "%d messages were not delivered and are not on disk", result.pending)
        return result

    def _deliver(self, engine: Engine, timeout: float, final: bool) -> FlushResult:
        until = time.monotonic() + timeout
        alive = self._ensure_worker()
        flush = engine.worker.request_flush(final=final)
        if not alive:
            engine.deliver_in_this_thread(until)
        timed_out = False
        try:
            flush.done.result(max(0.0, until - time.monotonic()))
        except TimeoutError:
            timed_out = True
        finally:
            engine.worker.cancel_flush(flush)
        return self._flush_result(timed_out)

    def _flush_result(self, timed_out: bool) -> FlushResult:
        from gati.pipeline.stats import FlushResult  # late, to keep `init` cheap; as in `stats`

        engine = self._engine
        if engine is None:
            return FlushResult(timed_out=timed_out)
        return engine.counters.flush_result(
            turns_open=engine.worker.assembler.open_turns, timed_out=timed_out, paused=tuple(engine.paused)
        )

    def at_exit(self) -> None:
        """Shut down within the configured timeout. Called when the process exits."""
        self.shutdown(self._options.shutdown_timeout)

    def after_fork_in_child(self) -> None:
        """Start again, empty: queued records and requests belong to the parent. May be called repeatedly."""
        if self._pid == os.getpid():
            return
        internal_errors.reset()
        if self._engine is not None:
            # Keep a reference to the parent's objects: their finalizers must not run in the child.
            self._inherited_engines.append(self._engine)
            self._engine.abandon()
        self._buffer.clear()
        self._reset()
        if process_hooks.lacks_own_modules():  # nothing can be recorded: refuse and count it
            self._closed = True
            self._buffer.close()
        for exporter in self._exporters:
            with guard("exporter.after_fork"):
                exporter.after_fork()

    def stats(self) -> Stats:
        """Return the counters of this process."""
        from gati.pipeline.stats import Stats

        buffer, engine = self._buffer, self._engine
        refused, waiting = buffer.refused, len(buffer)
        records = buffer.taken + waiting + refused
        if engine is None:
            return Stats(
                records=records, records_waiting=waiting, records_refused=refused, faults=internal_errors.counts()
            )
        outboxes = engine.outboxes
        return engine.counters.stats(
            records=records,
            records_waiting=waiting,
            records_refused=refused,
            turns_open=engine.worker.assembler.open_turns,
            sampled_out=engine.worker.assembler.sampled_out,
            outside_conversation=engine.worker.assembler.outside_conversation,
            spool_bytes=sum(outbox.disk_bytes for outbox in outboxes),
            memory_bytes=buffer.bytes + sum(outbox.memory_bytes for outbox in outboxes),
            paused=engine.paused,
            faults=internal_errors.counts(),
        )
