"""Threads that carry requests to one destination; started when there is something to carry."""

from __future__ import annotations

import importlib
import math
import threading
import time
from typing import TYPE_CHECKING

from gati.exporters.base import Outcome, Verdict
from gati.pipeline import life
from gati.pipeline.codec import unpack
from gati.pipeline.faults import guard, note

if TYPE_CHECKING:
    from collections.abc import Callable

    from gati.pipeline.lanes import Parcel
    from gati.pipeline.outbox import Outbox

IDLE_SECONDS = 30.0
"""A sender with nothing to do ends after this time."""


class Sender:
    """At most `connections` threads that empty an outbox.

    A send may block for its whole timeout, so nothing else happens in these threads. Each of them
    competes with the program for the interpreter: so there are only as many as it takes to send what
    there is within `patience` seconds, unless somebody waits.
    """

    def __init__(self, outbox: Outbox, connections: int, settled: Callable[[], None], patience: float = 1.0) -> None:
        self.outbox = outbox
        self.spares = False
        """Whether more threads could send than do: to be looked at again after `patience`."""
        self._connections = connections
        self._settled = settled
        self._patience = patience
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._began: dict[threading.Thread, float] = {}
        self._mean = 0.0
        self._hurried = False
        self._prepared = False

    def wake(self, hurry: bool = False) -> bool:
        """Start as many threads as there is work for; `hurry`: until all is sent, somebody waits.
        False if the interpreter starts no more.
        """
        ready = self.outbox.sendable()
        self._hurried = hurry or (self._hurried and ready > 0)
        return self._start(ready)

    def _start(self, ready: int) -> bool:
        with self._lock:
            able, wanted = len(self._threads) - len(self._began), ready
            if ready and not self._hurried:
                wanted = max(1, math.ceil(ready * self._mean / self._patience))
                now = time.monotonic()
                able += sum(now - began < self._patience for began in self._began.values())  # others are stuck
            name = f"gati-sender-{self.outbox.exporter.name}"
            for _ in range(min(wanted - able, self._connections - len(self._threads))):
                thread = threading.Thread(target=self._run, name=name, daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # at the interpreter's exit, or out of threads
                    return bool(self._threads)
                self._threads.add(thread)
            self.spares = ready > 0 and len(self._threads) < self._connections
        return True

    def join(self, until: float) -> None:
        """Wait for the threads of a closed outbox, except for those in the middle of a send."""
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            if len(self._began) < len(self._threads):
                thread.join(max(0.0, until - time.monotonic()))

    def _run(self) -> None:
        me = threading.current_thread()
        try:
            while (parcel := self.outbox.next(IDLE_SECONDS)) is not None:
                began = time.monotonic()
                with self._lock:
                    self._began[me] = began
                try:
                    self._start(self.outbox.sendable())
                    self.carry(parcel)
                finally:
                    with self._lock:
                        del self._began[me]
                        self._mean += (time.monotonic() - began - self._mean) / 8
        finally:
            with self._lock:
                self._threads.discard(me)

    def carry(self, parcel: Parcel) -> None:
        """Make one attempt and tell the outbox and whoever waits for a flush."""
        if not self._prepared:
            self._prepare()
        outcome = Outcome(Verdict.RETRY, "internal fault")
        try:
            outcome = self.outbox.exporter.send(unpack(parcel.data))
        except Exception as error:  # noqa: BLE001 - an exporter promises not to raise; a broken promise must cost no message
            note(f"exporter.{self.outbox.exporter.name}.send", error)
            outcome = Outcome(Verdict.RETRY, type(error).__name__)
        finally:
            self.outbox.settle(parcel, outcome)
            with guard("flush"):
                self._settled()

    def _prepare(self) -> None:
        """Have everything loaded that a send needs, before a fork can come in between."""
        with guard("exporter.prepare"), life.steady:
            importlib.import_module("encodings.idna")  # loaded by the first connection otherwise
            if not self._prepared and (prepare := getattr(self.outbox.exporter, "prepare", None)):
                prepare()
        self._prepared = True

    def carry_here(self, until: float) -> None:
        """Send from the calling thread, when no other can be started any more."""
        while time.monotonic() < until and (parcel := self.outbox.next(0)) is not None:
            self.carry(parcel)
