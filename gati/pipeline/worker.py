"""The background thread: assembles records into items, encodes items as requests, fills the outboxes."""

from __future__ import annotations

import itertools
import math
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from gati.exporters.base import OpenRequests, PackedRequest
from gati.pipeline import process_hooks
from gati.pipeline.drop_callback import DropNotifier
from gati.pipeline.flushes import Flushes
from gati.pipeline.gc_pause import gc_paused
from gati.pipeline.internal_errors import contain
from gati.pipeline.limited_exporter import LimitedExporter, is_own
from gati.pipeline.limited_mask import LimitedMask
from gati.pipeline.listeners import report_counts, report_items
from gati.pipeline.record_journal.upkeep import JournalUpkeep
from gati.pipeline.sender import SLEEP_RATIO
from gati.trace.records import FirstToken, Gap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from gati.events import Item
    from gati.exporters.base import Request
    from gati.pipeline.buffer import Buffer
    from gati.pipeline.sender import Sender
    from gati.pipeline.stats import DeliveryCounters
    from gati.pipeline.turn_assembler import TurnAssembler
    from gati.settings import Mask
    from gati.trace.record_codec import PackedRecord
    from gati.trace.records import Record

T = TypeVar("T")

HOUSEKEEPING_SECONDS = 30.0
"""Interval at which the worker looks for turns that timed out and for spool files of processes that have exited."""

LULL_SECONDS = 0.025
"""A program that records nothing for this long is waiting for something, so this is the time to work."""

SPOOL_SECONDS = 0.5
"""Longest time from a record to its processing, in a program that never pauses. A process that is killed loses the
records of this time and those being processed."""

EAGER_SECONDS = 0.02
"""Longest time from a record to its processing if a turn must be sent as soon as it ends. Processing takes as long again."""

LOAD_RETRY_SECONDS = 0.05
"""Time after which modules that could not be imported are tried again, while records wait in the buffer."""

SLICE_SECONDS = 0.001
"""The worker yields the interpreter at least this often."""

MIN_YIELD_SECONDS = 0.00005
"""Shortest sleep that really lets a waiting thread run. A sleep of 0 often returns at once."""

RECORDS_AT_ONCE = 64
"""Records to assemble before looking for items to encode."""

REQUESTS_AT_ONCE = 500
"""Requests to write to disk together. Normally this is a whole round."""

BYTES_AT_ONCE = 1024**2
"""Bytes of requests to write to disk together, whatever their number."""


class _YieldingList(list[T]):
    """A list that yields the interpreter after each of its elements was processed."""

    def __init__(self, elements: list[T], yield_interpreter: Callable[[], None]) -> None:
        super().__init__(elements)
        self._yield_interpreter = yield_interpreter

    def __iter__(self) -> Iterator[T]:
        for element in super().__iter__():
            yield element
            self._yield_interpreter()


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
        flushes: Flushes | None = None,
        mask: Mask | None = None,
        drops: DropNotifier | None = None,
        should_finish: Callable[[], bool] = lambda: False,
    ) -> None:
        """`should_finish` is asked in each round; once it returns True, `run` returns."""
        self.assembler = assembler
        self.stopped = False
        self._should_finish = should_finish
        self._buffer = buffer
        self._senders = senders
        self._upkeep = JournalUpkeep(buffer, assembler, [sender.outbox for sender in senders])
        self._counters = counters
        self._drops = drops or DropNotifier()
        self._interval = interval
        self._eager = eager
        self._max_gather_seconds = min(interval, EAGER_SECONDS if eager else SPOOL_SECONDS)
        self._next_send = 0.0
        self._unsent = False
        self._mask = LimitedMask(mask) if mask is not None else None
        # A plain lock as an event: releasing it is a single C call, which is safe in a signal handler.
        self._wakeup = threading.Lock()
        self._wakeup.acquire()
        self._flushes = Flushes() if flushes is None else flushes
        self._is_loaded = False
        self._can_assemble = False
        self._has_assembled = False
        self._assembled: list[Item] = []
        """Items that wait for being masked and encoded."""
        self._begun = self._open = self._refused = 0
        """Turns that were begun, are open and were refused, as counted last."""
        self._torn = 0
        """Turns that were torn since then."""
        self._encoded: list[list[Request]] = [[] for _ in senders]
        """Requests that wait for being stored, for each sender."""
        self._joinable: list[OpenRequests] = [OpenRequests() for _ in senders]
        self._encoded_bytes = 0
        self._slice_began = 0.0

    # Called from other threads

    def wake(self) -> None:
        """Wake the worker; never blocks."""
        try:
            self._buffer.idle = False  # one wake-up is enough
            self._wakeup.release()
        except RuntimeError:  # already awake
            pass
        except BaseException:  # interrupted (Ctrl-C): the next record has to wake the worker
            self._buffer.idle = True
            raise

    @property
    def is_loading(self) -> bool:
        """True until modules are loaded: those that convert the first item, and those that send it."""
        return not self._has_assembled or any(sender.is_loading for sender in self._senders)

    def resolve_flushes(self) -> None:
        """Resolve the flushes whose requests have all been delivered, rejected or dropped."""
        for flush in self._flushes.begun():
            epochs = flush.epochs or ()
            settled = all(sender.outbox.is_settled(epoch) for sender, epoch in zip(self._senders, epochs, strict=True))
            # Several threads may get here at once; only the one that removes the flush resolves it.
            if settled and self._flushes.remove(flush):
                flush.resolve()
                if flush.final:
                    self.wake()
        self.clear_urgency()

    def clear_urgency(self) -> None:
        """Let the senders sleep again if no flush waits any more."""
        if not self._flushes:
            for sender in self._senders:
                sender.clear_urgency()

    # The thread

    def run(self) -> None:
        """Until stopped: wait for records or a wake-up, gather until the program pauses, process."""
        for sender in self._senders:
            sender.warm_up()
        if self._eager:
            self._load()
        while not self.stopped and not self._should_finish():
            with contain("worker"):
                self._wait()
                self.run_once()

    def _wait(self) -> None:
        if self._flushes.new():
            return
        self._buffer.idle = True
        if not len(self._buffer):  # else a record came before `put` could see the flag
            self._wakeup.acquire(timeout=self._patience())
        self._buffer.idle = False
        self._wakeup.acquire(blocking=False)  # the round that follows handles this wake-up
        if not self._flushes.new() and not self.stopped:
            self._gather()

    def _patience(self) -> float:
        """Return the seconds to wait for a wake-up."""
        # Open turns may time out, so look at them regularly; without any, only housekeeping needs a wake-up.
        patience = max(self._interval, 1.0) if self.assembler.open_turns else HOUSEKEEPING_SECONDS
        if self._unsent:
            patience = min(patience, self._next_send - time.monotonic())
        for flush in self._flushes.begun():
            if flush.final:  # it ends in time even if nothing is delivered
                patience = min(patience, flush.until - time.monotonic())
        return max(0.001, min(patience, self._next_maintenance() - time.monotonic()))

    def _gather(self) -> None:
        """Wait until the program pauses. Until then it has the interpreter to itself, and larger rounds cost less."""
        until, seen = time.monotonic() + self._max_gather_seconds, 0
        while (length := len(self._buffer)) > seen:
            seen, left = length, until - time.monotonic()
            if left <= 0 or self._wakeup.acquire(timeout=min(LULL_SECONDS, left)):
                return

    def run_once(self) -> None:
        """Do one round: housekeeping, all records in the buffer, then the requested flushes."""
        self._slice_began = time.perf_counter()
        if len(self._buffer) and not self._load():
            self._wakeup.acquire(timeout=LOAD_RETRY_SECONDS)
            return
        now = time.monotonic()
        requested = self._flushes.new()
        flushes = [flush for flush in requested if not flush.to_disk]
        if now >= self._next_maintenance() and len(requested) == len(flushes):
            self._maintain_spools()
        self._upkeep.begin_round()
        self._process_buffer()
        self._assemble("assembler.tick", lambda: self.assembler.tick(time.perf_counter_ns()))
        if flushes:
            self._assemble("assembler.finish_cut_off", self.assembler.finish_cut_off)
        if any(flush.final for flush in flushes):
            self._assemble("assembler.drain", self.assembler.drain)
        self._finish()
        self._store(at_least=1)
        self._upkeep.end_round()
        for flush in requested:
            if flush.to_disk and self._flushes.remove(flush):
                flush.resolve()
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
        report_counts()
        if flushes:
            self.resolve_flushes()

    def _next_maintenance(self) -> float:
        return min((sender.outbox.next_maintenance for sender in self._senders), default=math.inf)

    def _maintain_spools(self, *, urgent: bool = False) -> None:
        for sender in self._senders:
            with contain("spool.adopt"):
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
        left = len(self._buffer)
        while left > 0 or (self._buffer.ends_with_gap and not len(self._buffer)):
            left -= RECORDS_AT_ONCE
            records = self._take_records(max(1, min(RECORDS_AT_ONCE, RECORDS_AT_ONCE + left)))
            while (record := next(records, None)) is not None:
                # The assembler reads on from `record`. An exception loses one record; the rest is passed again.
                self._assemble("assembler.feed", partial(self.assembler.feed, itertools.chain((record,), records)))
                # Whatever waits, waits as bytes: containers that survive make the garbage collector stop the program.
                self._finish()

    def _take_records(self, most: int) -> Iterator[PackedRecord | Record]:
        """Yield up to `most` records from the buffer."""
        for _ in range(most):
            self._yield_interpreter()
            record = self._buffer.take()
            if record is None:
                return
            if type(record) is Gap or type(record) is FirstToken:
                self._upkeep.take(record)
            if type(record) is Gap:
                self._count_torn_turns()
            yield record

    def _count_torn_turns(self) -> None:
        """Count the turns of which the buffer refused a record. The assembler drops them at the gap."""
        refused = self._buffer.refused_turns - self._refused
        torn = self.assembler.open_turns
        self._refused += refused
        self._torn += torn
        self._counters.count_turns(begun=refused, buffer_full=refused)
        self._drops.add("dropped", "buffer_full", torn + refused)

    def _assemble(self, place: str, function: Callable[[], list[Item]]) -> None:
        with contain(place), process_hooks.fork_lock, self._loading():
            items = function()
            self._buffer.reserve(self.assembler.open_bytes)
            self._assembled += items
            self._has_assembled |= bool(items)
            self._count_turns(len(items))

    def _load(self) -> bool:
        """Import what assembling and encoding need. Return False if that fails now: records stay in the buffer."""
        if not self._can_assemble:
            with contain("worker.load"), process_hooks.fork_lock, self._loading():
                self.assembler.load()
                for sender in self._senders:
                    exporter = sender.outbox.exporter
                    if is_own(exporter):
                        exporter.encode([])
                self._can_assemble = True
        return self._can_assemble

    def _loading(self) -> AbstractContextManager[None]:
        """Return a context for code that imports modules until the first turn has passed."""
        return nullcontext() if self._is_loaded else gc_paused()

    def _count_turns(self, assembled: int) -> None:
        """Count what the assembler has begun and returned. What is neither open nor returned is lost."""
        begun, opened = self.assembler.turns_begun, self.assembler.open_turns
        new, self._begun = begun - self._begun, begun
        more, self._open = opened - self._open, opened
        torn, self._torn = self._torn, 0
        lost = new - more - assembled - torn
        self._counters.count_turns(begun=new, opened=more, assembled=assembled, buffer_full=torn, assembler=lost)
        if lost > 0:
            self._drops.add("dropped", "assembler", lost)

    def _finish(self) -> None:
        """Mask finished items once, encode them for each destination and hand the requests to the outboxes."""
        if not self._assembled:
            return
        items, self._assembled = self._assembled, []
        report_items(items)
        try:
            if self._mask is not None:
                items = self._masked(items, self._mask)
            lost: set[int] = set()
            for sender, encoded, opened in zip(self._senders, self._encoded, self._joinable, strict=True):
                self._add_requests(encoded, opened, self._encode(sender, items, lost))
                self._yield_interpreter()
        except BaseException:  # also if interrupted: the turns are counted as lost
            self._drop_turns(len(items), "internal_error")
            raise
        self._counters.move_turns(len(lost), "dropped", "encode")
        self._counters.move_turns(len(items) - len(lost), "encoded")
        self._is_loaded = True
        self._store(at_least=1 if self._encoded_bytes > BYTES_AT_ONCE else REQUESTS_AT_ONCE)

    def _add_requests(self, encoded: list[Request], opened: OpenRequests, requests: list[Request]) -> None:
        """Add requests to those that wait. Turns of one conversation share requests."""
        for request in requests:
            if isinstance(request, PackedRequest) and request.content is not None:
                self._encoded_bytes += len(request.content)
            if not opened.add(request):
                encoded.append(request)

    def _drop_turns(self, turns: int, reason: str, destination: str = "", item: Item | None = None) -> None:
        self._counters.move_turns(turns, "dropped", reason)
        self._drops.add("dropped", reason, turns, destination, item)

    def _store(self, at_least: int) -> None:
        """Hand requests to the outboxes, which write them to disk."""
        if at_least == 1:
            self._encoded_bytes = 0
        for n, sender in enumerate(self._senders):
            if len(self._encoded[n]) >= at_least:
                requests, self._encoded[n] = self._encoded[n], []
                self._joinable[n].clear()
                self._unsent = True
                with contain("outbox.accept"):
                    sender.outbox.accept(_YieldingList(requests, self._yield_interpreter))
                self._yield_interpreter()

    def _encode(self, sender: Sender, items: list[Item], lost: set[int]) -> list[Request]:
        """Return the requests of the items; add the ids of those that cannot be encoded to `lost`."""
        exporter = sender.outbox.exporter
        # The lock is for gati's own exporters, which import modules when they encode for the first time.
        lock = nullcontext() if isinstance(exporter, LimitedExporter) else process_hooks.fork_lock
        with contain("exporter.encode"), lock, self._loading():
            return exporter.encode(_YieldingList(items, self._yield_interpreter)) if items else []
        if len(items) == 1:
            lost.add(id(items[0]))
            self._drops.add("dropped", "encode", 1, exporter.name, items[0])
            return []
        # Encode one by one, so that one bad item does not lose the others.
        return [request for item in items for request in self._encode(sender, [item], lost)]

    def _masked(self, items: list[Item], mask: LimitedMask) -> list[Item]:
        """Return masked copies. An item that cannot be masked is dropped: it must not leave the process."""
        masked = mask.apply(items)
        if failures := sum(one.failures for one in masked):
            self._counters.count("mask_failures", failures)
        kept = [one.item for one in masked if one.item is not None]
        if len(kept) < len(items):
            self._drop_turns(len(items) - len(kept), "mask")
        self._yield_interpreter()
        return kept

    def _yield_interpreter(self) -> None:
        """Sleep briefly after each time slice, so that other threads need not request the interpreter."""
        worked = time.perf_counter() - self._slice_began
        if worked > SLICE_SECONDS:
            urgent = self._flushes or self._buffer.backpressure
            # A slice that took much longer was mostly spent waiting for the interpreter.
            process_hooks.yielding_sleep(MIN_YIELD_SECONDS if urgent else SLEEP_RATIO * min(worked, 4 * SLICE_SECONDS))
            self._slice_began = time.perf_counter()
