"""What an outbox holds, on disk and in memory, and the limits of both. Not thread-safe: the outbox has the lock.

Bodies stay in memory as far as the budget reaches; what comes after is left on disk and read when
its turn has come, so memory does not grow with an outage.
"""

from __future__ import annotations

import itertools
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from gati.exporters.base import Request
from gati.pipeline.codec import pack
from gati.pipeline.internal_errors import log
from gati.pipeline.ordered_queue import REQUEST_OVERHEAD_BYTES, Batch, OrderedQueue, QueuedRequest
from gati.pipeline.quota_spool import QuotaSpool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gati.pipeline.spool import Spool
    from gati.pipeline.stats import DeliveryCounters

BATCH_BYTES = 256 * 1024
"""A file of the spool is closed when it has this size."""

LOADED_BYTES = 4 * 1024**2
"""Of what is on disk, so much stays in memory as well, so that a send need not read it again."""

DROPPED_TURNS = 10_000
"""Turns remembered as dropped, so that what comes later of them is dropped, too."""

Lines: TypeAlias = "list[tuple[Request, bytes]]"
"""Requests, each with what `codec.pack` made of it."""


class Limits(NamedTuple):
    """Bounds of one outbox, in bytes."""

    memory: int = 16 * 1024**2
    disk: int = 256 * 1024**2
    drop_newest: bool = False


class RequestQueue:
    """Batches in the order of their coming: the first ones in lanes, the others on disk only."""

    def __init__(self, counters: DeliveryCounters, spool: Spool | None, limits: Limits) -> None:
        self.spool = QuotaSpool(spool, limits.disk)
        self.ordered = OrderedQueue()
        self._counters = counters
        self._limits = limits
        self._loaded: OrderedDict[Batch, None] = OrderedDict()
        self._backlog: deque[Batch] = deque()
        self._epoch = 0
        self._outstanding: Counter[int] = Counter()
        self._dropped_turns: OrderedDict[str, str] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self.ordered or self._backlog)

    # Coming in

    def without_dropped_turns(self, lines: Lines) -> Lines:
        """Without what belongs to turns that were dropped."""
        kept = []
        for request, line in lines:
            if reason := self._dropped_turns.get(request.turn_id):
                self._counters.add(request.items, "dropped", reason)
            else:
                kept.append((request, line))
        return kept

    def add(self, batch: Batch, lines: Lines, refused: str = "") -> None:
        """Take a batch in; without a file it must find room in memory. `refused`: why it cannot be."""
        memory = batch.size + REQUEST_OVERHEAD_BYTES * len(lines)
        if not refused and batch.file is None and not self._make_memory_space(memory):
            refused = "memory_full"
        if refused:
            self._counters.add(batch.items, "dropped", refused)
            for request, _ in lines:
                self._drop_turn(request.ordering_key, request.turn_id, refused)
            return
        self._counters.add(batch.items, batch.place)
        self._track(batch)
        if batch.file and (self._backlog or self._exceeds_memory(memory)):
            self._backlog.append(batch)
        else:
            self._load(batch, lines)

    def adopt(self) -> int:
        """Take over what dead processes left; returns the number of messages."""
        files = self.spool.adopt()
        for file in files:
            batch = Batch(file.items, file.size, file)
            self._counters.add(file.items, "spooled", recovered=True)
            self._track(batch)
            self._backlog.append(batch)
        return sum(file.items for file in files)

    def _track(self, batch: Batch) -> None:
        batch.epoch = self._epoch
        self._outstanding[batch.epoch] += 1
        if batch.file:
            self.spool.used_bytes += batch.file.size

    def _exceeds_memory(self, size: int) -> bool:
        return bool(self._loaded) and self.ordered.memory + size > min(LOADED_BYTES, self._limits.memory)

    def _load(self, batch: Batch, lines: Iterable[tuple[Request, bytes]]) -> None:
        self._loaded[batch] = None
        for request, line in lines:
            queued = QueuedRequest(request.ordering_key, request.turn_id, request.items, line, batch)
            batch.requests.append(queued)
            self.ordered.add(queued)

    def load_from_disk(self) -> None:
        """Read what is next on disk, as far as memory reaches."""
        while self._backlog and not self._exceeds_memory(self._backlog[0].size + REQUEST_OVERHEAD_BYTES):
            self._read(self._backlog.popleft())

    def _read(self, batch: Batch) -> None:
        requests = self.spool.read(batch.file) if batch.file else None
        if requests is None:
            self._counters.move(batch.items, "spooled", "dropped", "spool_lost")
            self._finish(batch)
            return
        found = sum(request.items for request, _ in requests)
        if found < batch.items:
            self._counters.move(batch.items - found, "spooled", "dropped", "damaged")
        elif found > batch.items:
            self._counters.add(found - batch.items, "spooled", recovered=True)
        batch.intact = batch.intact and found == batch.items
        batch.items = found
        self._load(batch, requests)
        for request, _ in requests:
            if reason := self._dropped_turns.get(request.turn_id):
                self._drop_turn(request.ordering_key, request.turn_id, reason)
        if not requests:
            self._finish(batch)

    # Going out

    def remove(self, queued: QueuedRequest) -> None:
        """Delivered or set aside."""
        self.ordered.remove(queued)
        self._remove_from_batch(queued)

    def replace(self, queued: QueuedRequest, halves: Sequence[Request]) -> None:
        """Its halves stand where it stood."""
        batch = queued.batch
        parts = [QueuedRequest(queued.ordering_key, half.turn_id, half.items, pack(half), batch) for half in halves]
        lost = queued.items - sum(part.items for part in parts)
        if lost > 0:
            self._counters.move(lost, batch.place, "dropped", "split")
        elif lost < 0:
            self._counters.add(-lost, batch.place)
        batch.items -= lost
        batch.intact = False
        at = batch.requests.index(queued)
        batch.requests[at : at + 1] = parts
        self.ordered.replace(queued, parts)

    def _remove_from_batch(self, queued: QueuedRequest) -> None:
        batch = queued.batch
        batch.requests.remove(queued)
        batch.items -= queued.items
        batch.intact = False
        if not batch.requests:
            self._finish(batch)

    def _finish(self, batch: Batch) -> None:
        self._loaded.pop(batch, None)
        self._outstanding[batch.epoch] -= 1
        if not self._outstanding[batch.epoch]:
            del self._outstanding[batch.epoch]
        if batch.file:
            self.spool.used_bytes -= batch.file.size
            self.spool.remove(batch.file)

    def close(self) -> None:
        """Give back what is left: files say what remains, and have no owner any more."""
        for batch in self._loaded:
            if batch.file and not batch.intact:
                self.spool.rewrite(batch.file, [queued.data for queued in batch.requests], batch.items)
        self.spool.close()

    # Epochs, by which a flush knows what it waits for

    def new_epoch(self) -> int:
        """The number of all that came so far; what comes now gets the next."""
        self._epoch += 1
        return self._epoch - 1

    def outstanding(self, epoch: int) -> bool:
        """True if something of the epoch or before is still here."""
        return any(number <= epoch for number in self._outstanding)

    # Limits; whole turns go

    def make_disk_space(self, size: int) -> bool:
        """Make room by dropping what is oldest; False if it must be the newcomer. A disk that
        cannot be used, or that others fill, leaves the decision to memory.
        """
        while self.spool.usable and self.spool.could_hold(size) and self.spool.excess_bytes(size) > 0:
            _log_limit("spool_full")
            if self._limits.drop_newest or not self._drop_oldest_batch(on_disk=True):
                return False
        return True

    def _make_memory_space(self, size: int) -> bool:
        while self.ordered.memory + size > self._limits.memory:
            _log_limit("memory_full")
            if size > self._limits.memory:
                return False
            if self._limits.drop_newest or not self._drop_oldest_batch(on_disk=False):
                return False
        return True

    def _drop_oldest_batch(self, on_disk: bool) -> bool:
        """Drop the turns of the oldest batch that is not under way; False if there is none."""
        reason = "spool_full" if on_disk else "memory_full"
        for batch in itertools.chain(self._loaded, self._backlog):
            if batch.in_flight or bool(batch.file) is not on_disk:
                continue
            if batch in self._loaded:
                turns = [(queued.ordering_key, queued.turn_id) for queued in batch.requests]
            else:
                # Read once more for its turns: what else there is of them must go, too.
                requests = (self.spool.read(batch.file) if batch.file else None) or []
                turns = [(request.ordering_key, request.turn_id) for request, _ in requests]
                self._backlog.remove(batch)
                self._counters.move(batch.items, "spooled", "dropped", reason)
                self._finish(batch)
            for key, turn in turns:
                self._drop_turn(key, turn, reason)
            return True
        return False

    def _drop_turn(self, key: str, turn: str, reason: str) -> None:
        """Drop what waits of a turn, and remember it for what is still to come."""
        self._dropped_turns[turn] = reason
        if len(self._dropped_turns) > DROPPED_TURNS:
            self._dropped_turns.popitem(last=False)
        for queued in self.ordered.remove_turn(key, turn):
            self._counters.move(queued.items, queued.batch.place, "dropped", reason)
            self._remove_from_batch(queued)


def _log_limit(reason: str) -> None:
    log.emit(reason, "a limit is reached (%s): whole turns are dropped and counted", reason)


def batch_requests(requests: Iterable[Request]) -> Iterator[list[tuple[Request, bytes]]]:
    """Share files among requests. What the destination cannot recognise as a repetition stands
    alone, so that its file is gone as soon as it was delivered.
    """
    together: list[tuple[Request, bytes]] = []
    size = 0
    for request in requests:
        line = pack(request)
        if request.endpoint != "messages":
            if together:  # what came first goes first: a rating follows the turn that it rates
                yield together
                together, size = [], 0
            yield [(request, line)]
            continue
        if together and size + len(line) > BATCH_BYTES:
            yield together
            together, size = [], 0
        together.append((request, line))
        size += len(line)
    if together:
        yield together
