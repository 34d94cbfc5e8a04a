"""The background thread: records become items, items requests, requests files and requests."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from gati.pipeline import mask, process_hooks
from gati.pipeline.internal_errors import guard
from gati.pipeline.sender import SLEEP_RATIO
from gati.trace.records import Gap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from gati.events import Item
    from gati.exporters.base import Request
    from gati.pipeline.buffer import Buffer
    from gati.pipeline.sender import Sender
    from gati.pipeline.stats import DeliveryCounters
    from gati.settings import Mask
    from gati.trace.records import Record

T = TypeVar("T")

HOUSEKEEPING_SECONDS = 30.0
"""Time between two looks for turns that went silent and for files of dead processes."""

LULL_SECONDS = 0.025
"""A program that records nothing for so long waits for somebody: the time to work."""

SPOOL_SECONDS = 0.5
"""Longest time from a record to the work on it, in a program that never pauses. What a process that is killed
had said within it, and what is just being worked on, is lost."""

SLICE_SECONDS = 0.001
"""The worker hands the interpreter on after this time at the latest."""

MIN_YIELD_SECONDS = 0.00005
"""Shortest rest: long enough that a waiting thread really gets its turn. A sleep of 0 often comes straight back."""

RECORDS_AT_ONCE = 64
"""Records that are assembled between two looks for items to encode."""

ITEMS_AT_ONCE = 100
"""Items that are encoded together, so that those of one conversation can share a request."""

REQUESTS_AT_ONCE = 500
"""Requests that go to disk together. Normally these are all of one round."""


class TurnAssembler(Protocol):
    """What makes items of records. Used by one thread only."""

    @property
    def open_turns(self) -> int:
        """Turns that have begun and not been returned. Read from other threads, too."""
        ...

    def feed(self, records: Iterable[Record]) -> list[Item]:
        """Take records in; return what is complete. A `Gap` drops all open turns. After a fault the
        rest of the records is fed anew, and what was complete before it is returned then.
        """
        ...

    def tick(self, now_ns: int) -> list[Item]:
        """Return open turns that went silent too long ago, as unfinished. `now_ns` is
        `time.perf_counter_ns`.
        """
        ...

    def settle(self) -> list[Item]:
        """Return turns that ended and only wait for what was cut off below."""
        ...

    def drain(self) -> list[Item]:
        """Return all open turns, as unfinished."""
        ...


class _YieldingList(list[T]):
    """Things with a pause after each that was worked on, so that whoever reads them all holds up nobody."""

    def __init__(self, things: list[T], pause: Callable[[], None]) -> None:
        super().__init__(things)
        self._pause = pause

    def __iter__(self) -> Iterator[T]:
        for thing in super().__iter__():
            yield thing
            self._pause()


class FlushRequest:
    """One flush that somebody waits for."""

    def __init__(self, final: bool) -> None:
        self.final = final
        self.done: Future[bool] = Future()
        self.epochs: list[int] | None = None
        """An epoch for each sender, once all records of before the flush are in their outboxes."""


class Worker:
    """Owns the assembler. `run` is the thread's body; `turn` is one round of it."""

    def __init__(
        self,
        buffer: Buffer,
        assembler: TurnAssembler,
        senders: list[Sender],
        counters: DeliveryCounters,
        *,
        interval: float,
        mask: Mask | None = None,
    ) -> None:
        self.assembler = assembler
        self.stopped = False
        self._buffer = buffer
        self._senders = senders
        self._counters = counters
        self._interval = interval
        self._max_gather_seconds = min(interval, SPOOL_SECONDS)
        self._next_send = 0.0
        self._unsent = False
        self._mask = mask
        # A plain lock as a bell: to release it is one C call, which a signal handler may make, too.
        self._wakeup = threading.Lock()
        self._wakeup.acquire()
        self._flushes: list[FlushRequest] = []
        self._flushes_lock = threading.RLock()
        self._next_housekeeping = 0.0
        self._encoded: list[list[Request]] = [[] for _ in senders]
        self._slice_began = 0.0

    # Called by others

    def wake(self) -> None:
        """Wake the worker; never blocks."""
        self._buffer.idle = False  # one ring is enough
        try:
            self._wakeup.release()
        except RuntimeError:  # it rings already
            pass

    def request_flush(self, *, final: bool = False) -> FlushRequest:
        """Ask for a flush; `FlushRequest.done` is resolved when all that can be delivered is."""
        flush = FlushRequest(final)
        with self._flushes_lock:
            self._flushes.append(flush)
        self.wake()
        return flush

    def cancel_flush(self, flush: FlushRequest) -> bool:
        """Nobody waits for it any more; False if that is known already."""
        with self._flushes_lock:
            if flush not in self._flushes:
                return False
            self._flushes.remove(flush)
            if not self._flushes:
                for sender in self._senders:
                    sender.clear_urgency()
            return True

    def resolve_flushes(self) -> None:
        """Something was delivered or given up: resolve the flushes that waited for it."""
        with self._flushes_lock:
            flushes = [(flush, flush.epochs) for flush in self._flushes if flush.epochs is not None]
        for flush, epochs in flushes:
            quiet = all(sender.outbox.is_settled(epoch) for sender, epoch in zip(self._senders, epochs, strict=True))
            # Several threads may see it at once; the one that takes it out tells.
            if quiet and self.cancel_flush(flush) and flush.done.set_running_or_notify_cancel():
                flush.done.set_result(True)

    # The thread

    def run(self) -> None:
        """Until stopped: wait for records or a bell, gather until the program pauses, work."""
        while not self.stopped:
            with guard("worker"):
                self._wait()
                self.run_once()

    def _wait(self) -> None:
        if self._has_new_flushes():
            return
        # Open turns are looked after now and then; without any there is no reason to wake up.
        patience = max(self._interval, 1.0) if self.assembler.open_turns else HOUSEKEEPING_SECONDS
        if self._unsent:
            patience = max(0.001, min(patience, self._next_send - time.monotonic()))
        self._buffer.idle = True
        if not len(self._buffer):  # else a record slipped in before it could see the flag
            self._wakeup.acquire(timeout=patience)
        self._buffer.idle = False
        self._wakeup.acquire(blocking=False)  # whatever it rang for is looked at now
        if not self._has_new_flushes() and not self.stopped:
            self._gather()

    def _gather(self) -> None:
        """Wait for the program to pause: until then the interpreter is its own, and what is done at once costs less."""
        until, seen = time.monotonic() + self._max_gather_seconds, 0
        while (length := len(self._buffer)) > seen:
            seen, left = length, until - time.monotonic()
            if left <= 0 or self._wakeup.acquire(timeout=min(LULL_SECONDS, left)):
                return

    def _has_new_flushes(self) -> bool:
        with self._flushes_lock:
            return any(flush.epochs is None for flush in self._flushes)

    def run_once(self) -> None:
        """One round: housekeeping, everything in the buffer, then the flushes that were asked for."""
        self._slice_began = time.perf_counter()
        now = time.monotonic()
        with self._flushes_lock:
            flushes = [flush for flush in self._flushes if flush.epochs is None]
        if now >= self._next_housekeeping:
            self._next_housekeeping = now + HOUSEKEEPING_SECONDS
            for sender in self._senders:
                with guard("spool.adopt"):
                    self._unsent |= sender.outbox.adopt() > 0
        self._process_buffer()
        self._finish(self._call_assembler("assembler.tick", lambda: self.assembler.tick(time.perf_counter_ns())))
        if flushes:
            self._finish(self._call_assembler("assembler.settle", self.assembler.settle))
        if any(flush.final for flush in flushes):
            self._finish(self._call_assembler("assembler.drain", self.assembler.drain))
        self._store(at_least=1)
        for flush in flushes:
            flush.epochs = [sender.outbox.new_epoch() for sender in self._senders]
        if flushes or now >= self._next_send:
            self._next_send, self._unsent = now + self._interval, False
            self._send(urgent=bool(flushes and self._flushes))  # who has given up waiting is in no urgent
        if flushes:
            self.resolve_flushes()

    def _send(self, urgent: bool) -> None:
        for sender in self._senders:
            sender.outbox.open()
            if urgent:
                sender.outbox.retry_now()
            if not sender.wake(urgent):
                sender.send_here(time.monotonic() + self._interval)
            self._unsent |= sender.could_send_more

    def _process_buffer(self) -> None:
        """Assemble what is in the buffer now; what comes meanwhile is for the next round."""
        done: list[Item] = []
        left = len(self._buffer)
        while left > 0:
            left -= RECORDS_AT_ONCE
            records = self._take_records(min(RECORDS_AT_ONCE, RECORDS_AT_ONCE + left))
            while (record := next(records, None)) is not None:
                # The assembler reads on from there; a fault costs one record, and the rest is fed anew.
                done += self._call_assembler(
                    "assembler.feed", partial(self.assembler.feed, itertools.chain((record,), records))
                )
            if len(done) >= ITEMS_AT_ONCE:
                self._finish(done)
                done = []
        self._finish(done)

    def _take_records(self, most: int) -> Iterator[Record]:
        """Records from the buffer, as they are asked for."""
        for _ in range(most):
            self._yield_interpreter()
            record = self._buffer.take()
            if record is None:
                return
            if type(record) is Gap:
                self._counters.count_dropped_turns(self.assembler.open_turns, "buffer_full")
            yield record

    @staticmethod
    def _call_assembler(place: str, function: Callable[[], list[Item]]) -> list[Item]:
        with guard(place), process_hooks.fork_lock:
            return function()
        return []

    def _finish(self, items: list[Item]) -> None:
        """Mask finished items once, encode them for each destination and hand the requests to the outboxes."""
        if not items:
            return
        self._counters.count("turns", len(items))
        if self._mask is not None:
            items = self._masked(items, self._mask)
        for sender, encoded in zip(self._senders, self._encoded, strict=True):
            encoded += self._encode(sender, items)
            self._yield_interpreter()
        self._store(at_least=REQUESTS_AT_ONCE)

    def _store(self, at_least: int) -> None:
        """Hand requests to the outboxes, which write them to disk."""
        for n, sender in enumerate(self._senders):
            if len(self._encoded[n]) >= at_least:
                requests, self._encoded[n] = self._encoded[n], []
                self._unsent = True
                with guard("outbox.accept"):
                    sender.outbox.accept(_YieldingList(requests, self._yield_interpreter))
                self._yield_interpreter()

    def _encode(self, sender: Sender, items: list[Item]) -> list[Request]:
        encode = sender.outbox.exporter.encode
        with guard("exporter.encode"), process_hooks.fork_lock:
            return encode(_YieldingList(items, self._yield_interpreter))
        if len(items) == 1:
            self._counters.count_dropped_turns(1, "encode")
            return []
        # One bad item must not cost the others.
        return [request for item in items for request in self._encode(sender, [item])]

    def _masked(self, items: list[Item], function: Mask) -> list[Item]:
        """Return masked copies. An item that cannot be masked is dropped: it must not leave the process."""
        masked: list[Item] = []
        for item in items:
            masking = mask.Masking(function)
            with guard("mask"):
                masked.append(masking.item(item))
            if masking.failures:
                self._counters.count("mask_failures", masking.failures)
            self._yield_interpreter()
        if len(masked) < len(items):
            self._counters.count_dropped_turns(len(items) - len(masked), "mask")
        return masked

    def _yield_interpreter(self) -> None:
        """Let other threads run before they have to ask for it."""
        worked = time.perf_counter() - self._slice_began
        if worked > SLICE_SECONDS:
            pressed = self._flushes or self._buffer.backpressure
            # What took longer than a few slices was mostly spent waiting for the interpreter.
            process_hooks.yielding_sleep(MIN_YIELD_SECONDS if pressed else SLEEP_RATIO * min(worked, 4 * SLICE_SECONDS))
            self._slice_began = time.perf_counter()
