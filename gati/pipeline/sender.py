"""Threads that carry requests to one destination; started when there is something to carry."""

from __future__ import annotations

import importlib
import math
import threading
import time
from typing import TYPE_CHECKING

from gati.exporters.base import Outcome, Verdict
from gati.pipeline import process_hooks
from gati.pipeline.codec import unpack
from gati.pipeline.internal_errors import guard, report

if TYPE_CHECKING:
    from collections.abc import Callable

    from gati.pipeline.ordered_queue import QueuedRequest
    from gati.pipeline.outbox import Outbox

IDLE_SECONDS = 30.0
"""A sender with nothing to do ends after this time."""

SLEEP_RATIO = 2.0
"""So many times as long as they worked our threads rest: a program that never pauses keeps the
interpreter for the most part."""

MAX_SLEEP_SECONDS = 0.05
"""Seconds; a first send loads the SDK, which is no reason to rest for long."""

TARGET_LAG_SECONDS = 5.0
"""What is ready should be sent within this time; as many threads as that takes."""

BEHIND_RATIO = 2
"""When it would take so many times `connections` threads, there is no rest any more."""


_INTERNAL_ERROR = Outcome(Verdict.RETRY, "internal error")


class Sender:
    """At most `connections` threads that empty an outbox.

    A send may block for its whole timeout, so nothing else happens in these threads. Each of them
    competes with the program for the interpreter: so there are only as many as it takes to send what
    there is within some seconds, and together they rest more than they work, unless somebody waits or
    they fall behind. One that is held up for longer than `patience` seconds does not count.
    """

    def __init__(self, outbox: Outbox, connections: int, on_settled: Callable[[], None], patience: float = 1.0) -> None:
        self.outbox = outbox
        self.could_send_more = False
        """Whether more threads would send than do: to be looked at again after `patience`."""
        self._connections = connections
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
        """Start as many threads as there is work for; `urgent`: somebody waits from now on.
        False if the interpreter starts no more.
        """
        if urgent:
            self._urgent.set()
        return self._start_threads()

    def clear_urgency(self) -> None:
        """Nobody waits any more."""
        self._urgent.clear()

    def _start_threads(self) -> bool:
        ready = self.outbox.sendable()
        with self._lock:
            wanted = min(self._threads_needed(ready), self._connections)
            name = f"gati-sender-{self.outbox.exporter.name}"
            for _ in range(wanted - len(self._threads)):
                thread = threading.Thread(target=self._run, name=name, daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # at the interpreter's exit, or out of threads
                    self.could_send_more = True
                    return bool(self._threads)
                self._threads.add(thread)
            self.could_send_more = ready > 0 and len(self._threads) < self._connections
        return True

    def _threads_needed(self, ready: int) -> int:
        """How many threads there should be, with those that are busy."""
        if not ready or self._urgent.is_set():
            return len(self._busy_since) + ready
        needed = ready * self._mean_seconds / TARGET_LAG_SECONDS
        self._behind = needed > BEHIND_RATIO * self._connections
        now = time.monotonic()
        return max(1, math.ceil(needed)) + sum(now - began > self._patience for began in self._busy_since.values())

    def join(self, until: float) -> None:
        """Wait for the threads of a closed outbox, except for those in the middle of a send."""
        with self._lock:
            threads = self._threads - self._busy_since.keys()
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _run(self) -> None:
        me = threading.current_thread()
        try:
            while (queued := self.outbox.next(IDLE_SECONDS)) is not None:
                began, worked = time.monotonic(), time.thread_time()
                with self._lock:
                    self._busy_since[me] = began
                outcome, rest = _INTERNAL_ERROR, 0.0
                try:
                    self._start_threads()
                    outcome = self._attempt(queued)
                    self._mean_seconds += (time.monotonic() - began - self._mean_seconds) / 8
                    rest = SLEEP_RATIO * len(self._busy_since) * (time.thread_time() - worked)
                finally:
                    # First: a shutdown that hears of the last delivery waits for all who are through with their send.
                    with self._lock:
                        del self._busy_since[me]
                    self.outbox.settle(queued, outcome)
                    self._notify()
                if self._retire_if_superfluous(me):
                    return
                if not self._behind:
                    self._urgent.wait(min(rest, MAX_SLEEP_SECONDS))
        finally:
            with self._lock:
                self._threads.discard(me)

    def _retire_if_superfluous(self, me: threading.Thread) -> bool:
        """Whether the others suffice; then this one is out."""
        ready = self.outbox.sendable()
        with self._lock:
            spare = bool(ready) and len(self._threads) > self._threads_needed(ready)
            if spare:
                self._threads.discard(me)
            return spare

    def send(self, queued: QueuedRequest) -> None:
        """Make one attempt and tell the outbox."""
        outcome = _INTERNAL_ERROR
        try:
            outcome = self._attempt(queued)
        finally:
            self.outbox.settle(queued, outcome)

    def _attempt(self, queued: QueuedRequest) -> Outcome:
        if not self._prepared:
            self._prepare()
        try:
            return self.outbox.exporter.send(unpack(queued.data))
        except Exception as error:  # noqa: BLE001 - an exporter promises not to raise; a broken promise must cost no message
            report(f"exporter.{self.outbox.exporter.name}.send", error)
            return Outcome(Verdict.RETRY, type(error).__name__)

    def _notify(self) -> None:
        """Tell whoever waits for a flush."""
        with guard("flush"):
            self._on_settled()

    def _prepare(self) -> None:
        """Have everything loaded that a send needs, before a fork can come in between."""
        with guard("exporter.prepare"), process_hooks.fork_lock:
            importlib.import_module("encodings.idna")  # loaded by the first connection otherwise
            if not self._prepared and (prepare := getattr(self.outbox.exporter, "prepare", None)):
                prepare()
        self._prepared = True

    def send_here(self, until: float) -> None:
        """Send from the calling thread, when no other can be started any more."""
        while time.monotonic() < until and (queued := self.outbox.next(0)) is not None:
            self.send(queued)
            self._notify()
