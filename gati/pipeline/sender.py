"""Threads that send the requests of one outbox; started when there is something to send."""

from __future__ import annotations

import importlib
import math
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gati._context import mark_own_thread
from gati.exporters.base import Outcome, Verdict
from gati.pipeline import process_hooks
from gati.pipeline.gc_pause import gc_paused
from gati.pipeline.internal_errors import guard, report
from gati.pipeline.joining import joined_request

if TYPE_CHECKING:
    from collections.abc import Callable

    from gati.exporters.base import Request
    from gati.pipeline.outbox import Outbox
    from gati.pipeline.queued_request import QueuedRequest

IDLE_SECONDS = 30.0
"""A sender thread without anything to send ends after this time."""

SLEEP_RATIO = 2.0
"""Our threads sleep this many times as long as they worked, so that a program that never pauses keeps
the interpreter most of the time."""

MAX_SLEEP_SECONDS = 0.05
"""Longest sleep after a send. Without it, the first send, which loads the SDK, would be followed by a long one."""

TARGET_LAG_SECONDS = 5.0
"""Start as many threads as it takes to send everything that is ready within this time."""

BEHIND_RATIO = 2
"""Stop sleeping when it would take more than this many times `connections` threads."""


MAX_REQUESTS = 100
"""Most requests of one call of `Exporter.send_many`."""

MAX_BYTES = 1_000_000
"""Size from which no more requests are added to a call of `Exporter.send_many`."""

_INTERNAL_ERROR = Outcome(Verdict.RETRY, "internal error")
_NO_OUTCOMES: Sequence[Outcome] = ()


class Sender:
    """Empty an outbox with at most `connections` threads.

    A send may block for its whole timeout, so these threads do nothing else. Each of them competes with
    the program for the interpreter. Therefore there are only as many as it takes to send everything within
    some seconds, and together they sleep longer than they work, unless a flush waits or they fall behind.
    A thread whose send takes longer than `patience` seconds is not counted.
    """

    def __init__(
        self,
        outbox: Outbox,
        connections: int,
        on_settled: Callable[[], None],
        patience: float = 1.0,
        *,
        eager: bool = False,
    ) -> None:
        """Create no thread yet.

        Args:
            outbox: the requests to send.
            connections: maximum number of threads.
            on_settled: called after each attempt, in the thread that made it.
            patience: seconds after which a busy thread is not counted.
            eager: send each request at once.
        """
        self.outbox = outbox
        self.eager = eager
        self.could_send_more = False
        """True if more threads could send something: check again after `patience`."""
        self._send_many: Callable[[Sequence[Request]], Sequence[Outcome]] | None
        self._send_many = getattr(outbox.exporter, "send_many", None)
        self._connections = connections if self._send_many is None else 1
        self._on_settled = on_settled
        self._patience = patience
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._busy_since: dict[threading.Thread, float] = {}
        self._mean_seconds = 0.0
        self._behind = False
        self._urgent = threading.Event()
        self._prepared = False

    def wake(self, urgent: bool = False) -> bool:
        """Start as many threads as there is work for; return False if the interpreter starts no more.

        Args:
            urgent: a flush waits, so use all connections and do not sleep until `clear_urgency`.
        """
        if urgent:
            self._urgent.set()
        return self._start_threads()

    def warm_up(self) -> None:
        """Load what a send needs before the first turn ends, if requests are to be sent at once."""
        if self.eager and not self.outbox.exporter.durable and not self.outbox.spools_only:
            with self._lock:
                self._start_thread()

    @property
    def is_loading(self) -> bool:
        """True while a thread loads what a send needs, during which the interpreter is busy."""
        return bool(self._threads) and not self._prepared

    def clear_urgency(self) -> None:
        """Called when no flush waits any more."""
        self._urgent.clear()

    def _start_threads(self) -> bool:
        ready = self.outbox.sendable()
        with self._lock:
            needed = min(self._threads_needed(ready), self._connections)
            for _ in range(needed - len(self._threads)):
                if not self._start_thread():
                    self.could_send_more = True
                    return bool(self._threads)
            self.could_send_more = ready > 0 and len(self._threads) < self._connections
        return True

    def _start_thread(self) -> bool:
        thread = threading.Thread(target=self._run, name=f"gati-sender-{self.outbox.exporter.name}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # at the interpreter's exit, or out of threads
            return False
        self._threads.add(thread)
        return True

    def _threads_needed(self, ready: int) -> int:
        """Return the number of threads needed, including busy ones."""
        if not ready or self.eager or self._urgent.is_set():
            return len(self._busy_since) + ready
        needed = ready * self._mean_seconds / TARGET_LAG_SECONDS
        self._behind = needed > BEHIND_RATIO * self._connections
        now = time.monotonic()
        return max(1, math.ceil(needed)) + sum(now - since > self._patience for since in self._busy_since.values())

    def join(self, until: float) -> None:
        """Wait for the threads of a closed outbox, except for those in the middle of a send."""
        with self._lock:
            threads = self._threads - self._busy_since.keys()
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _run(self) -> None:
        me = threading.current_thread()
        mark_own_thread()
        try:
            if self.eager and not self._prepared:
                self._prepare()
            while (queued := self.outbox.next(IDLE_SECONDS)) is not None:
                started, cpu_started = time.monotonic(), time.thread_time()
                with self._lock:
                    self._busy_since[me] = started
                taken, outcomes, sleep = self._with_more(queued), _NO_OUTCOMES, 0.0
                try:
                    self._start_threads()
                    outcomes = self._attempt(taken)
                    self._mean_seconds += (time.monotonic() - started - self._mean_seconds) / 8
                    sleep = SLEEP_RATIO * len(self._busy_since) * (time.thread_time() - cpu_started)
                finally:
                    # Before `settle`: a shutdown that the last delivery wakes joins every thread that is not busy,
                    # so this one must not count as busy then.
                    with self._lock:
                        del self._busy_since[me]
                    self._settle(taken, outcomes)
                    self._notify()
                if self._retire_if_superfluous(me):
                    return
                if not self._behind and not self.eager:
                    self._urgent.wait(min(sleep, MAX_SLEEP_SECONDS))
        finally:
            with self._lock:
                self._threads.discard(me)

    def _retire_if_superfluous(self, me: threading.Thread) -> bool:
        """Remove this thread from the set and return True if the others suffice."""
        ready = self.outbox.sendable()
        with self._lock:
            superfluous = bool(ready) and len(self._threads) > self._threads_needed(ready)
            if superfluous:
                self._threads.discard(me)
            return superfluous

    def _with_more(self, queued: QueuedRequest) -> list[QueuedRequest]:
        """Return a request, and those that can be sent in the same call."""
        if self._send_many is None:
            return [queued]
        return [queued, *self.outbox.more(MAX_REQUESTS - 1, MAX_BYTES - len(queued.data))]

    def _attempt(self, taken: Sequence[QueuedRequest]) -> Sequence[Outcome]:
        """Make one attempt, and return the outcomes."""
        if not self._prepared:
            self._prepare()
        try:
            if self._send_many is None:
                return [self.outbox.exporter.send(joined_request(taken[0]))]
            return self._send_many([joined_request(queued) for queued in taken])
        except Exception as error:  # noqa: BLE001 - an exporter promises not to raise; if it does, the message must not be lost
            report(f"exporter.{self.outbox.exporter.name}.send", error)
            return [Outcome(Verdict.RETRY, type(error).__name__)] * len(taken)

    def _settle(self, taken: Sequence[QueuedRequest], outcomes: Sequence[Outcome]) -> None:
        """Record the outcomes of a call. A request without one is sent again."""
        failed = False
        for number, queued in enumerate(taken):
            outcome = outcomes[number] if number < len(outcomes) else _INTERNAL_ERROR
            self.outbox.settle(queued, outcome, failed_together=failed)
            failed = failed or outcome.verdict in (Verdict.RETRY, Verdict.PAUSE)

    def _notify(self) -> None:
        with guard("flush"):
            self._on_settled()

    def _prepare(self) -> None:
        """Load everything that a send needs while no fork can happen."""
        with guard("exporter.prepare"), process_hooks.fork_lock, gc_paused():
            importlib.import_module("encodings.idna")  # otherwise the first connection loads it
            if not self._prepared and (prepare := getattr(self.outbox.exporter, "prepare", None)):
                prepare()
        self._prepared = True

    def send_in_this_thread(self, until: float) -> None:
        """Send from the calling thread, because the interpreter starts no more threads."""
        while time.monotonic() < until and (queued := self.outbox.next(0)) is not None:
            taken, outcomes = self._with_more(queued), _NO_OUTCOMES
            try:
                outcomes = self._attempt(taken)
            finally:
                self._settle(taken, outcomes)
            self._notify()
