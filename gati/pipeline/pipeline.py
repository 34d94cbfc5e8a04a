"""The pipeline of a process: takes records, delivers messages, never blocks the program.

Threads of the program take no lock here, do no file operation and call no function of the user: they only
ask the worker's thread and wait for it for a limited time. So a hung disk, log handler or mask cannot keep
the program from ending, and an interrupt (Ctrl-C) at any line leaves a pipeline that works.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from gati._context import is_own_thread, mark_own_thread
from gati.pipeline import gc_pause, internal_errors, process_hooks
from gati.pipeline.buffer import Buffer
from gati.pipeline.filesystem import is_eager, spool_folder
from gati.pipeline.flushes import Flushes, FlushRequest
from gati.pipeline.internal_errors import contain, guard, log
from gati.pipeline.limited_exporter import is_own, with_time_limit
from gati.pipeline.spool_file import FileOrigin
from gati.pipeline.stats import FlushResult, Stats
from gati.pipeline.turn_saves import TurnSaves

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gati.exporters.base import Exporter
    from gati.pipeline.engine import Engine
    from gati.pipeline.record_journal.recovery import AssemblerFactory
    from gati.pipeline.retry import Policy
    from gati.pipeline.stats import DeliveryCounters
    from gati.pipeline.turn_assembler import TurnAssembler
    from gati.pipeline.worker import Worker
    from gati.settings import Settings

START_SECONDS = 1.0
"""Time after which another record starts the worker again, if its thread does not run by then."""

CLOSE_SECONDS = 0.5
"""Time that a shutdown waits, after its timeout, for the worker to release the spool's files."""

LOG_SECONDS = 0.2
"""Time that a flush waits, within its timeout, for log lines to be written."""


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
        make_recovering: AssemblerFactory | None = None,
        renew_exporters: Callable[[], Sequence[Exporter]] | None = None,
    ) -> None:
        """`assembler` creates an assembler, one in each process.

        `make_recovering` creates one for the records of a process that was killed. There is a journal only with it.
        `renew_exporters` returns exporters to use after those have been closed, for turns in exit hooks that run after
        gati's own. Without it, their records are refused.
        """
        self._make_recovering = make_recovering
        self._make_assembler = assembler
        self._exporters = list(exporters)
        self._options = options
        self._policy = policy
        self._renew_exporters = renew_exporters
        self._buffer = Buffer(options.buffer_max_bytes // 2, on_wakeup=self._on_wakeup, reopen=self._reopen)
        self.put = self._buffer.put
        """Take a record. Never blocks, never raises."""
        self.saves = TurnSaves(self._save, has_spool=options.spool)
        self._inherited_engines: list[Engine] = []
        self._inherited = False
        """True in a forked child: the exporters have connections of the parent."""
        self._closed = False
        self._reset()
        process_hooks.register(self)

    def _reset(self) -> None:
        self._exiting_thread: int | None = None
        """The thread that runs the exit hooks, once gati's own has run."""
        self._counters: DeliveryCounters | None = None
        self._before = Stats()
        """What was counted before the exit, as far as it is not in `_counters`."""
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._forks_before = process_hooks.forks()
        self.saves.reset()
        self._engine: Engine | None = None
        self._files = FileOrigin()
        self._flushes = Flushes()
        self._running = threading.Lock()
        """Held by the worker's thread. A second thread that was started by mistake ends at once."""
        self._thread: threading.Thread | None = None
        self._starting_until = 0.0
        self._exit_deadline: float | None = None
        self._final: FlushRequest | None = None
        self._ended = FlushRequest()
        """Resolved when everything is closed."""
        self._retired: Callable[[], bool] | None = None

    # The worker's thread

    def _run_worker(self) -> None:
        """Body of the worker's thread."""
        if not self._running.acquire(blocking=False):
            return
        try:
            mark_own_thread()
            self._thread = threading.current_thread()
            self._buffer.idle = False  # the worker looks into the buffer before it sleeps
            with contain("engine"):
                if self._is_unused():
                    self._end_unused()
                    return
                self._start_journal()
                self._worker.run()
                if self._is_finished():
                    self._end(self._ensure_engine())
        finally:
            # Without an engine, starting a thread for each record would only fail again.
            self._buffer.idle = self._engine is not None
            self._running.release()

    def _start_journal(self) -> None:
        """Create the journal before anything that takes longer: turns that have ended are safe from then on."""
        if self._make_recovering is None or self._final is not None or self._engine is not None:
            return
        with process_hooks.fork_lock, gc_pause.gc_paused():
            from gati.pipeline.record_journal.start import start_journal  # late, like the engine

        start_journal(self._buffer, self._options, self._exporters, self._files)

    def preload(self) -> None:
        """Import what the first delivery needs if turns are sent as soon as they end. Connects to nothing.

        The worker would do it too, but a turn that ends before that would have to wait, and could be lost with its container.
        Does nothing in a program that uses gevent, for the reason in `engine`.
        """
        if not is_eager(self._options) or "gevent" in sys.modules:
            return
        with guard("preload"), process_hooks.fork_lock, gc_pause.gc_paused():
            import gati.pipeline.engine
            import gati.pipeline.record_journal.start  # noqa: F401 - only to load them

            self._make_assembler().load()
            for exporter in filter(is_own, self._exporters):
                exporter.encode([])
                if prepare := getattr(exporter, "prepare", None):
                    prepare()

    def _ensure_engine(self) -> Engine:
        if self._engine is None:
            with process_hooks.fork_lock, gc_pause.gc_paused():
                from gati.pipeline.engine import Engine  # late: in the worker's thread, not in the user's `init`

                self._engine = Engine(
                    self._buffer,
                    self._make_assembler(),
                    self._exporters,
                    self._options,
                    self._policy,
                    self._flushes,
                    self._is_finished,
                    self._make_recovering,
                    self._files,
                    self._counters,
                    inherited=self._inherited,
                )
                self._counters = self._engine.counters
        return self._engine

    @property
    def _worker(self) -> Worker:
        return self._ensure_engine().worker

    def _is_finished(self) -> bool:
        """Return True if the pipeline was shut down and has delivered everything, or the time for that is over."""
        if self._retired is not None and self._final is None and self._is_idle() and self._retired():
            self.finish(self._options.shutdown_timeout)
        final = self._final
        if final is None:
            return False
        return final.is_resolved or (final.epochs is not None and time.monotonic() >= final.until)

    def _is_idle(self) -> bool:
        return not len(self._buffer) and (self._engine is None or not self._engine.worker.assembler.open_turns)

    def _is_unused(self) -> bool:
        """Return True if the pipeline was shut down, recorded nothing, and no child left files. May look at the disk."""
        if self._final is None or self._engine is not None or len(self._buffer):
            return False
        if not self._has_forked():
            return True
        from gati.pipeline.spool import has_files  # late, like the engine

        folder = spool_folder(self._options.spool_dir)
        return folder is None or not any(has_files(folder, exporter) for exporter in self._exporters)

    def _end_unused(self) -> None:
        for exporter in self._exporters:
            with contain("exporter.close"):
                with_time_limit(exporter, self._options.timeout, inherited=self._inherited).close()
        self._ended.resolve()

    def _has_forked(self) -> bool:
        """Return True if children may have left files that they could not deliver."""
        return self._options.spool and process_hooks.forks() != self._forks_before

    def _end(self, engine: Engine) -> None:
        """Release everything. Called once the pipeline is finished, in the thread that did its work."""
        engine.close()
        self._count_lost_turns(engine)
        self._ended.resolve()

    # The user's thread

    def _on_wakeup(self) -> None:
        """Wake or start the worker. Called by the buffer, in the middle of a callback."""
        if self._running.locked():
            if (engine := self._engine) is not None:
                engine.worker.wake()
        elif not self._closed and not self._ensure_worker():
            self._deliver_at_exit(self._options.shutdown_timeout)

    def _ensure_worker(self, urgent: bool = False) -> bool:
        """Start the worker unless it runs; return False if the interpreter starts no more threads.

        Args:
            urgent: do not rely on another thread that is just starting it.
        """
        if self._running.locked():
            return True
        now = time.monotonic()
        if now < self._starting_until and not urgent:
            return True
        self._starting_until = now + START_SECONDS
        try:
            process_hooks.register_exit_hook()  # even if the thread cannot be started
            self.saves.decide()
            threading.Thread(target=self._run_worker, name="gati-worker", daemon=True).start()
        except BaseException as error:  # also if interrupted: the next call may start the worker
            self._starting_until = 0.0
            if isinstance(error, RuntimeError):  # at the interpreter's exit, or out of threads
                return False
            raise
        return True

    def _deliver_at_exit(self, patience: float) -> None:
        """Deliver in the calling thread, because the interpreter is exiting and starts no more threads.

        Since Python 3.12 an exit hook that is registered now is not called either, so each record may be
        the last. All calls together take at most `patience` seconds.
        """
        # A program that is only out of threads continues, and must not wait for a send.
        if not threading.main_thread().is_alive():
            if self._exit_deadline is None:
                self._exit_deadline = time.monotonic() + _rest_of_exit(patience)
            self._deliver_here(self._exit_deadline)

    def _deliver_here(self, until: float) -> None:
        """Do the worker's work in the calling thread."""
        if not self._running.acquire(blocking=False):
            return
        try:
            with guard("exit"):
                if self._is_unused():
                    self._end_unused()
                    return
                engine = self._ensure_engine()
                engine.deliver_in_this_thread(until)
                if self._final is not None:
                    self._end(engine)
        finally:
            self._running.release()

    # Flush and shutdown

    def flush(self, timeout: float) -> FlushResult:
        """Deliver everything recorded so far; return after at most `timeout` seconds."""
        if self._closed or is_own_thread.get():
            return self._flush_result(timed_out=False)
        until = time.monotonic() + timeout
        flush = FlushRequest()
        try:
            self._request(flush, until)
            resolved = flush.wait(until - time.monotonic())
        finally:
            self._withdraw(flush)
        log.writer.drain(min(LOG_SECONDS, until - time.monotonic()))
        return self._flush_result(timed_out=not resolved)

    async def aflush(self, timeout: float) -> FlushResult:
        """Do the same as `flush`, without blocking the event loop."""
        import asyncio  # late: programs without an event loop need not load it

        if self._closed or is_own_thread.get():
            return self._flush_result(timed_out=False)
        loop = asyncio.get_running_loop()
        resolved = asyncio.Event()
        flush = FlushRequest()
        flush.on_resolved = lambda: loop.call_soon_threadsafe(resolved.set)
        try:
            if not self._start(flush):
                return self._flush_result(timed_out=False)
            await asyncio.wait_for(resolved.wait(), timeout)
        except TimeoutError:
            pass
        finally:
            self._withdraw(flush)
        return self._flush_result(timed_out=not flush.is_resolved)

    def shutdown(self, timeout: float) -> FlushResult:
        """Refuse further records, deliver within `timeout` seconds and leave the rest in the spool.

        A second call waits for the first one, if that was interrupted, and does nothing else.
        """
        until = time.monotonic() + timeout
        self.finish(timeout)
        return self.wait_until_ended(until)

    def finish(self, timeout: float) -> None:
        """Begin a shutdown that delivers for at most `timeout` seconds, and return at once.

        A later call can only shorten the time.
        """
        until = time.monotonic() + timeout
        self._closed = True
        self._buffer.close()
        final = self._final
        if final is None:
            final = self._final = FlushRequest(final=True, until=until)
        final.until = min(final.until, until)
        if self._has_work():
            if final not in self._flushes and not final.is_resolved:
                self._flushes.add(final)
            self._wake()
        elif not self._ended.is_resolved:  # nothing was ever recorded
            if all(map(is_own, self._exporters)):
                self._end_unused()
            else:  # `close` of a user's exporter may hang
                self._ensure_worker(urgent=True)

    def _has_work(self) -> bool:
        """Return False if nothing was ever recorded, and no child left files."""
        return self._running.locked() or self._engine is not None or bool(len(self._buffer)) or self._has_forked()

    def wait_until_ended(self, until: float) -> FlushResult:
        """Wait for the shutdown that `finish` began, until a monotonic time and a little longer."""
        if not self._ended.is_resolved and threading.current_thread() is not self._thread:
            if not self._ensure_worker(urgent=True):
                self._deliver_here(until)
            if self._ended.wait(until + CLOSE_SECONDS - time.monotonic()) and (thread := self._thread) is not None:
                thread.join(CLOSE_SECONDS)  # it has nothing left to do
        if not self._ended.is_resolved and (engine := self._engine) is not None:
            engine.worker.stopped = True
            self._count_lost_turns(engine)
        final = self._final
        result = self._flush_result(timed_out=final is not None and not final.is_resolved and self._engine is not None)
        lost = result.pending
        if (engine := self._engine) is not None:
            lost += engine.counters.stats().dropped.get("shutdown", 0)
        if lost:
            log.emit("lost_at_exit", "%d messages were not delivered and are not on disk", lost)
        log.writer.drain(LOG_SECONDS)
        return result

    def retire(self, is_done: Callable[[], bool]) -> None:
        """Shut down in the background as soon as all turns have ended and `is_done` returns True."""
        self._retired = is_done
        if self._running.locked():
            self._wake()
        elif not len(self._buffer) and is_done() and not self._has_forked():
            self.finish(0.0)
        else:
            self._ensure_worker(urgent=True)

    @property
    def would_lose(self) -> bool:
        """True if a pipeline that retires would lose something if it ended now: an open turn, or what no disk has."""
        if self._ended.is_resolved:
            return False
        if self._running.locked() and not self._buffer.idle:  # the worker has records that nothing counts yet
            return True
        if self._counters is not None and self._counters.stats().pending:
            return True
        return self._final is None and not (self._is_idle() and (self._retired is None or self._retired()))

    def _count_lost_turns(self, engine: Engine) -> None:
        """Count what a shutdown that timed out leaves behind."""
        unread = self._buffer.discard()
        lost = engine.counters.abandon_turns(unread, "shutdown")
        if lost:
            engine.drops.add("dropped", "shutdown", lost)
            log.emit("lost_at_shutdown", "%d turns were lost, because the shutdown timed out", lost)

    def _request(self, flush: FlushRequest, until: float) -> None:
        if not self._start(flush):
            self._deliver_here(until)

    def _save(self, seconds: float, load_until: float) -> None:
        """Wait until all items that are complete are on disk, for `seconds`; longer while modules are loaded.

        Args:
            seconds: the longest wait.
            load_until: monotonic time until which the wait is repeated while modules are loaded.
        """
        if self._exiting_thread is not None:  # no later hook does it
            self.shutdown(_rest_of_exit(self._options.shutdown_timeout))
            return
        flush = FlushRequest(to_disk=True)
        try:
            again = self._start(flush)
            while again:
                again = self._is_loading() and time.monotonic() < load_until
                if flush.wait(seconds):
                    return
        finally:
            self._flushes.remove(flush)

    def _is_loading(self) -> bool:
        return self._engine is None or self._engine.worker.is_loading

    def _start(self, flush: FlushRequest) -> bool:
        """Hand a flush to the worker; return False if the interpreter starts no more threads."""
        self._flushes.add(flush)
        if not self._ensure_worker(urgent=True):
            return False
        self._wake()
        return True

    def _wake(self) -> None:
        if (engine := self._engine) is not None:
            engine.worker.wake()

    def _withdraw(self, flush: FlushRequest) -> None:
        self._flushes.remove(flush)
        if (engine := self._engine) is not None:
            engine.worker.clear_urgency()

    def _flush_result(self, timed_out: bool) -> FlushResult:
        refused, engine = self._before.records_refused + self._buffer.refused, self._engine
        if engine is None:
            return FlushResult(timed_out=timed_out, records_refused=refused)
        return engine.counters.flush_result(
            records_refused=refused, faults=internal_errors.losses(), timed_out=timed_out, paused=tuple(engine.paused)
        )

    # Process hooks

    def at_exit(self) -> None:
        """Shut down within the configured timeout. Called when the process exits."""
        if self._pid != os.getpid():
            return
        rest = _rest_of_exit(self._options.shutdown_timeout)
        if self._has_work():
            self.shutdown(rest)
        self._exiting_thread = threading.get_ident()
        self.saves.activate()
        log.writer.let_go()

    def _reopen(self) -> bool:
        """Record again after the exit's shutdown, for an exit hook that runs later; return False if that is not possible.

        Nothing runs after the last hook, so each of its turns is delivered before the call that ends it returns. Turns of
        other threads have been cut off, and end with the process.
        """
        if self._exiting_thread != threading.get_ident() or self._renew_exporters is None or self._running.locked():
            return False
        with guard("exit"):
            exporters = list(self._renew_exporters())
            self._before = self.stats()
            self._counters = self._counters and self._counters.go_on()
            self._exporters = exporters
            self._begin()
            self.saves.activate()
            self._buffer.reopen()
            self._closed = False
            return True
        return False

    def after_fork_in_child(self) -> None:
        """Start again, empty: queued records and requests belong to the parent. May be called repeatedly."""
        if self._pid == os.getpid():
            return
        global _exit_began
        _exit_began = None
        gc_pause.after_fork_in_child()
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
        self._inherited = True
        for exporter in filter(is_own, self._exporters):  # the others when they are used: theirs may hang
            with guard("exporter.after_fork"):
                exporter.after_fork()

    def stats(self) -> Stats:
        """Return the counters of this process."""
        buffer, engine, before = self._buffer, self._engine, self._before
        waiting, refused = len(buffer), before.records_refused + buffer.refused
        records = before.records + buffer.taken + waiting + buffer.refused
        if engine is None:
            return replace(
                before,
                records=records,
                records_waiting=waiting,
                records_refused=refused,
                faults=internal_errors.counts(),
            )
        outboxes, journal = engine.outboxes, buffer.journal
        return engine.counters.stats(
            records=records,
            records_waiting=waiting,
            records_refused=refused,
            sampled_out=before.sampled_out + engine.worker.assembler.sampled_out,
            outside_conversation=before.outside_conversation + engine.worker.assembler.outside_conversation,
            spool_bytes=sum(outbox.disk_bytes for outbox in outboxes),
            memory_bytes=buffer.bytes
            + engine.worker.assembler.memory_bytes
            + sum(outbox.memory_bytes for outbox in outboxes),
            journal_bytes=journal.size if journal is not None else 0,
            journal_lost=journal.lost.read() if journal is not None else 0,
            paused=engine.paused,
            faults=internal_errors.counts(),
        )


_exit_began: float | None = None


def _rest_of_exit(timeout: float) -> float:
    """Return the remainder of `timeout` since the process began to exit: several pipelines share it."""
    global _exit_began
    now = time.monotonic()
    if _exit_began is None:
        _exit_began = now
    return max(0.0, _exit_began + timeout - now)
