"""The background thread: assembles records into items, encodes items as requests, fills the outboxes."""

from __future__ import annotations

import itertools
import math
import threading
import time
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from gati.pipeline import mask, process_hooks
from gati.pipeline.drop_callback import DropNotifier
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
"""Interval at which the worker looks for turns that timed out and for spool files of processes that have exited."""

LULL_SECONDS = 0.025
"""A program that records nothing for this long is waiting for something, so this is the time to work."""

SPOOL_SECONDS = 0.5
"""Longest time from a record to its processing, in a program that never pauses. A process that is killed loses the
records of this time and those being processed."""

EAGER_SECONDS = 0.05
"""Longest time from a record to its processing if a turn must be sent as soon as it ends."""

SLICE_SECONDS = 0.001
"""The worker yields the interpreter at least this often."""

MIN_YIELD_SECONDS = 0.00005
"""Shortest sleep that really lets a waiting thread run. A sleep of 0 often returns at once."""

RECORDS_AT_ONCE = 64
"""Records to assemble before looking for items to encode."""

ITEMS_AT_ONCE = 100
"""Items to encode together, so that those of one conversation can share a request."""

REQUESTS_AT_ONCE = 500
"""Requests to write to disk together. Normally this is a whole round."""


class TurnAssembler(Protocol):
    """Assembles records into items. Used by one thread only."""

    @property
    def open_turns(self) -> int:
        """Number of turns that have started and were not returned yet. Also read from other threads."""
        ...

    @property
    def sampled_out(self) -> int:
        """Number of items that were not returned because of the sample rate."""
        ...

    @property
    def outside_conversation(self) -> int:
        """Number of root runs that were not returned, because they belong to no conversation."""
        ...

    def feed(self, records: Iterable[Record]) -> list[Item]:
        """Process records and return completed items. A `Gap` drops all open turns.

        After an exception the remaining records are passed to the next call, which also returns the
        items that were completed before the exception.
        """
        ...

    def tick(self, now_ns: int) -> list[Item]:
        """Return open turns whose timeout has passed, as unfinished. `now_ns` is `time.perf_counter_ns`."""
        ...

    def settle(self) -> list[Item]:
        """Return turns that have ended and only wait for the end of runs below them."""
        ...

    def drain(self) -> list[Item]:
        """Return all open turns, as unfinished."""
        ...


class _YieldingList(list[T]):
    """A list that yields the interpreter after each of its elements was processed."""

    def __init__(self, elements: list[T], yield_interpreter: Callable[[], None]) -> None:
        super().__init__(elements)
        self._yield_interpreter = yield_interpreter

    def __iter__(self) -> Iterator[T]:
        for element in super().__iter__():
            yield element
            self._yield_interpreter()


class FlushRequest:
    """A flush that a caller waits for."""

    def __init__(self, final: bool) -> None:
        self.final = final
        self.done: Future[bool] = Future()
        self.epochs: list[int] | None = None
        """Epoch of each sender's outbox, once it holds all records from before the flush."""


class Worker:
    """Owns the assembler. `run` is the body of the thread, `run_once` one round of it."""

    def __init__(
        self,
        buffer: Buffer,
        assembler: TurnAssembler,
        senders: list[Sender],
        counters: DeliveryCounters,
        *,
        interval: float,
        eager: bool = False,
        mask: Mask | None = None,
        drops: DropNotifier | None = None,
    ) -> None:
        self.assembler = assembler
        self.stopped = False
        self._buffer = buffer
        self._senders = senders
        self._counters = counters
        self._drops = drops or DropNotifier()
        self._interval = interval
        self._max_gather_seconds = min(interval, EAGER_SECONDS if eager else SPOOL_SECONDS)
        self._next_send = 0.0
        self._unsent = False
        self._mask = mask
        # A plain lock as an event: releasing it is a single C call, which is safe in a signal handler.
        self._wakeup = threading.Lock()
        self._wakeup.acquire()
        self._flushes: list[FlushRequest] = []
        self._flushes_lock = threading.RLock()
        self._encoded: list[list[Request]] = [[] for _ in senders]
        self._slice_began = 0.0

    # Called from other threads

    def wake(self) -> None:
        """Wake the worker; never blocks."""
        self._buffer.idle = False  # one wake-up is enough
        try:
            self._wakeup.release()
        except RuntimeError:  # already awake
            pass

    def request_flush(self, *, final: bool = False) -> FlushRequest:
        """Request a flush; `FlushRequest.done` is resolved when everything that can be delivered was delivered."""
        flush = FlushRequest(final)
        with self._flushes_lock:
            self._flushes.append(flush)
        self.wake()
        return flush

    def cancel_flush(self, flush: FlushRequest) -> bool:
        """Remove a flush that was resolved or timed out; return False if it was removed already."""
        with self._flushes_lock:
            if flush not in self._flushes:
                return False
            self._flushes.remove(flush)
            if not self._flushes:
                for sender in self._senders:
                    sender.clear_urgency()
            return True

    def resolve_flushes(self) -> None:
        """Resolve the flushes whose requests have all been delivered, rejected or dropped."""
        with self._flushes_lock:
            flushes = [(flush, flush.epochs) for flush in self._flushes if flush.epochs is not None]
        for flush, epochs in flushes:
            settled = all(sender.outbox.is_settled(epoch) for sender, epoch in zip(self._senders, epochs, strict=True))
            # Several threads may get here at once; only the one that removes the flush resolves it.
            if settled and self.cancel_flush(flush) and flush.done.set_running_or_notify_cancel():
                flush.done.set_result(True)

    # The thread

    def run(self) -> None:
        """Until stopped: wait for records or a wake-up, gather until the program pauses, process."""
        for sender in self._senders:
            sender.warm_up()
        while not self.stopped:
            with guard("worker"):
                self._wait()
                self.run_once()

    def _wait(self) -> None:
        if self._has_new_flushes():
            return
        # Open turns may time out, so look at them regularly; without any, only housekeeping needs a wake-up.
        patience = max(self._interval, 1.0) if self.assembler.open_turns else HOUSEKEEPING_SECONDS
        if self._unsent:
            patience = min(patience, self._next_send - time.monotonic())
        patience = max(0.001, min(patience, self._next_maintenance() - time.monotonic()))
        self._buffer.idle = True
        if not len(self._buffer):  # else a record came before `put` could see the flag
            self._wakeup.acquire(timeout=patience)
        self._buffer.idle = False
        self._wakeup.acquire(blocking=False)  # the round that follows handles this wake-up
        if not self._has_new_flushes() and not self.stopped:
            self._gather()

    def _gather(self) -> None:
        """Wait until the program pauses. Until then it has the interpreter to itself, and larger rounds cost less."""
        until, seen = time.monotonic() + self._max_gather_seconds, 0
        while (length := len(self._buffer)) > seen:
            seen, left = length, until - time.monotonic()
            if left <= 0 or self._wakeup.acquire(timeout=min(LULL_SECONDS, left)):
                return

    def _has_new_flushes(self) -> bool:
        with self._flushes_lock:
            return any(flush.epochs is None for flush in self._flushes)

    def run_once(self) -> None:
        """Do one round: housekeeping, all records in the buffer, then the requested flushes."""
        self._slice_began = time.perf_counter()
        now = time.monotonic()
        with self._flushes_lock:
            flushes = [flush for flush in self._flushes if flush.epochs is None]
        if now >= self._next_maintenance():
            self._maintain_spools()
        self._process_buffer()
        self._finish(self._call_assembler("assembler.tick", lambda: self.assembler.tick(time.perf_counter_ns())))
        if flushes:
            self._finish(self._call_assembler("assembler.settle", self.assembler.settle))
        if any(flush.final for flush in flushes):
            self._finish(self._call_assembler("assembler.drain", self.assembler.drain))
        self._store(at_least=1)
        if flushes:
            self._maintain_spools(urgent=True)
        for flush in flushes:
            flush.epochs = [sender.outbox.new_epoch() for sender in self._senders]
        if flushes or now >= self._next_send:
            self._next_send, self._unsent = now + self._interval, False
            # `_flushes` no longer has those that have timed out meanwhile.
            self._send(self._senders, urgent=bool(flushes and self._flushes))
        elif self._unsent:
            self._send([sender for sender in self._senders if sender.eager], urgent=False)
        if flushes:
            self.resolve_flushes()

    def _next_maintenance(self) -> float:
        return min((sender.outbox.next_maintenance for sender in self._senders), default=math.inf)

    def _maintain_spools(self, *, urgent: bool = False) -> None:
        for sender in self._senders:
            with guard("spool.adopt"):
                self._unsent |= sender.outbox.maintain(urgent=urgent) > 0

    def _send(self, senders: Iterable[Sender], urgent: bool) -> None:
        for sender in senders:
            sender.outbox.open()
            if urgent:
                sender.outbox.retry_now()
            if not sender.wake(urgent):
                sender.send_in_this_thread(time.monotonic() + self._interval)
            self._unsent |= sender.could_send_more

    def _process_buffer(self) -> None:
        """Assemble the records that are in the buffer now; later ones are for the next round."""
        done: list[Item] = []
        left = len(self._buffer)
        while left > 0:
            left -= RECORDS_AT_ONCE
            records = self._take_records(min(RECORDS_AT_ONCE, RECORDS_AT_ONCE + left))
            while (record := next(records, None)) is not None:
                # The assembler reads on from `record`. An exception loses one record; the rest is passed again.
                done += self._call_assembler(
                    "assembler.feed", partial(self.assembler.feed, itertools.chain((record,), records))
                )
            if len(done) >= ITEMS_AT_ONCE:
                self._finish(done)
                done = []
        self._finish(done)

    def _take_records(self, most: int) -> Iterator[Record]:
        """Yield up to `most` records from the buffer."""
        for _ in range(most):
            self._yield_interpreter()
            record = self._buffer.take()
            if record is None:
                return
            if type(record) is Gap:
                open_turns = self.assembler.open_turns
                self._counters.count_dropped_turns(open_turns, "buffer_full")
                self._drops.add("dropped", "buffer_full", open_turns)
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
            self._drops.add("dropped", "encode", 1, sender.outbox.exporter.name, items[0])
            return []
        # Encode one by one, so that one bad item does not lose the others.
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
            self._drops.add("dropped", "mask", len(items) - len(masked))
        return masked

    def _yield_interpreter(self) -> None:
        """Sleep briefly after each time slice, so that other threads need not request the interpreter."""
        worked = time.perf_counter() - self._slice_began
        if worked > SLICE_SECONDS:
            urgent = self._flushes or self._buffer.backpressure
            # A slice that took much longer was mostly spent waiting for the interpreter.
            process_hooks.yielding_sleep(MIN_YIELD_SECONDS if urgent else SLEEP_RATIO * min(worked, 4 * SLICE_SECONDS))
            self._slice_began = time.perf_counter()
