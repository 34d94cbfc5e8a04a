"""Queue of one outbox in memory and on disk, with the limits of both. Not thread-safe: the outbox holds the lock.

Requests stay in memory as far as the budget allows. Later batches are on disk only and are loaded when it
is their turn, so memory does not grow with an outage.
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

    from gati.pipeline.drop_callback import DropNotifier
    from gati.pipeline.spool import Spool
    from gati.pipeline.stats import DeliveryCounters, Place

BATCH_BYTES = 256 * 1024
"""Size at which a spool file is complete."""

LOADED_BYTES = 4 * 1024**2
"""Amount of spooled data that also stays in memory, so that sending it need not read it again."""

DROPPED_TURNS = 10_000
"""Number of dropped turns to remember, so that their later requests are dropped as well."""

Lines: TypeAlias = "list[tuple[Request, bytes]]"
"""Requests, each with its line as packed by `codec.pack`."""


class Limits(NamedTuple):
    """Limits of one outbox, in bytes."""

    memory: int = 16 * 1024**2
    disk: int = 256 * 1024**2
    drop_newest: bool = False


class RequestQueue:
    """Batches in order of arrival: the first ones loaded into `ordered`, the backlog on disk only."""

    def __init__(
        self, counters: DeliveryCounters, spool: Spool | None, limits: Limits, destination: str, drops: DropNotifier
    ) -> None:
        self.spool = QuotaSpool(spool, limits.disk)
        self.ordered = OrderedQueue()
        self._counters = counters
        self._limits = limits
        self._destination = destination
        self._drops = drops
        self._loaded: OrderedDict[Batch, None] = OrderedDict()
        self._backlog: deque[Batch] = deque()
        self._epoch = 0
        self._outstanding: Counter[int] = Counter()
        self._dropped_turns: OrderedDict[str, str] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self.ordered or self._backlog)

    # Incoming requests

    def without_dropped_turns(self, lines: Lines) -> Lines:
        """Return the requests that do not belong to a dropped turn; count the others as dropped."""
        kept = []
        for request, line in lines:
            if reason := self._dropped_turns.get(request.turn_id):
                self._count_dropped(request.items, reason, line)
            else:
                kept.append((request, line))
        return kept

    def add(self, batch: Batch, lines: Lines, refused: str = "") -> None:
        """Queue a batch; without a file it must fit in memory. `refused` is the limit for which to drop it, if any."""
        memory = batch.size + REQUEST_OVERHEAD_BYTES * len(lines)
        if not refused and batch.file is None and not self._make_memory_space(memory):
            refused = "memory_full"
        if refused:
            for request, line in lines:
                self._count_dropped(request.items, refused, line)
                self._drop_turn(request.ordering_key, request.turn_id, refused)
            return
        self._counters.add(batch.items, batch.place)
        self._track(batch)
        if batch.file and (self._backlog or self._exceeds_memory(memory)):
            self._backlog.append(batch)
        else:
            self._load(batch, lines)

    def adopt(self) -> int:
        """Take over files of processes that have exited; return the number of messages."""
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
        """Load the next batches of the backlog, as far as memory allows."""
        while self._backlog and not self._exceeds_memory(self._backlog[0].size + REQUEST_OVERHEAD_BYTES):
            self._read(self._backlog.popleft())

    def _read(self, batch: Batch) -> None:
        requests = self.spool.read(batch.file) if batch.file else None
        if requests is None:
            self._count_dropped(batch.items, "spool_lost", source="spooled")
            self._finish(batch)
            return
        readable = sum(request.items for request, _ in requests)
        if readable < batch.items:
            self._count_dropped(batch.items - readable, "damaged", source="spooled")
        elif readable > batch.items:
            self._counters.add(readable - batch.items, "spooled", recovered=True)
        batch.intact = batch.intact and readable == batch.items
        batch.items = readable
        self._load(batch, requests)
        for request, _ in requests:
            if reason := self._dropped_turns.get(request.turn_id):
                self._drop_turn(request.ordering_key, request.turn_id, reason)
        if not requests:
            self._finish(batch)

    # Outgoing requests

    def remove(self, queued: QueuedRequest) -> None:
        """Remove a request that was delivered or set aside."""
        self.ordered.remove(queued)
        self._remove_from_batch(queued)

    def replace(
        self, queued: QueuedRequest, halves: Sequence[Request], *, delivered: int = 0, due: float | None = None
    ) -> list[QueuedRequest]:
        """Replace a request by its halves, or by what remains of it; return the new ones.

        Args:
            queued: The request.
            halves: What replaces it.
            delivered: Number of its items that were delivered, and were counted by the caller.
            due: Monotonic time at which to send them; None for at once.
        """
        batch = queued.batch
        parts = [QueuedRequest(queued.ordering_key, half.turn_id, half.items, pack(half), batch) for half in halves]
        lost = queued.items - delivered - sum(part.items for part in parts)
        if lost > 0:
            self._count_dropped(lost, "split", queued.data, source=batch.place)
        elif lost < 0:
            self._counters.add(-lost, batch.place)
        batch.items -= lost + delivered
        batch.intact = False
        at = batch.requests.index(queued)
        batch.requests[at : at + 1] = parts
        self.ordered.replace(queued, parts, due)
        return parts

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
        """Rewrite files of which only a part remains, and release all files for the next process."""
        for batch in self._loaded:
            if batch.file and not batch.intact:
                self.spool.rewrite(batch.file, [queued.data for queued in batch.requests], batch.items)
        self.spool.close()

    # Epochs: a flush waits until nothing up to its epoch is outstanding

    def new_epoch(self) -> int:
        """Return the current epoch and begin the next."""
        self._epoch += 1
        return self._epoch - 1

    def outstanding(self, epoch: int) -> bool:
        """Return True if a batch up to the epoch is still queued."""
        return any(number <= epoch for number in self._outstanding)

    # Limits: whole turns are dropped

    def make_disk_space(self, size: int) -> bool:
        """Drop the oldest batches until `size` bytes fit on disk; return False if the new batch must be dropped.

        A disk that cannot be used, or that other processes fill, does not count: then memory's limit applies.
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
        """Drop the turns of the oldest batch without a request in flight; return False if there is none."""
        reason = "spool_full" if on_disk else "memory_full"
        for batch in itertools.chain(self._loaded, self._backlog):
            if batch.in_flight or bool(batch.file) is not on_disk:
                continue
            if batch in self._loaded:
                turns = [(queued.ordering_key, queued.turn_id) for queued in batch.requests]
            else:
                # Read once more for its turns: their requests in other batches must be dropped as well.
                requests = (self.spool.read(batch.file) if batch.file else None) or []
                turns = [(request.ordering_key, request.turn_id) for request, _ in requests]
                self._backlog.remove(batch)
                one_conversation = len({key for key, _ in turns}) == 1
                self._count_dropped(batch.items, reason, requests[0][1] if one_conversation else None, source="spooled")
                self._finish(batch)
            for key, turn_id in turns:
                self._drop_turn(key, turn_id, reason)
            return True
        return False

    def _drop_turn(self, key: str, turn_id: str, reason: str) -> None:
        """Drop the queued requests of a turn, and remember it for later ones."""
        self._dropped_turns[turn_id] = reason
        if len(self._dropped_turns) > DROPPED_TURNS:
            self._dropped_turns.popitem(last=False)
        for queued in self.ordered.remove_turn(key, turn_id):
            self._count_dropped(queued.items, reason, queued.data, source=queued.batch.place)
            self._remove_from_batch(queued)

    def _count_dropped(
        self, items: int, reason: str, line: bytes | None = None, *, source: Place | None = None
    ) -> None:
        """Count dropped messages, and queue a call of `on_drop`.

        `line` is the dropped request, if it is a single one; `source` is the place that counted the
        messages before, None for new ones.
        """
        if source is None:
            self._counters.add(items, "dropped", reason)
        else:
            self._counters.move(items, source, "dropped", reason)
        self._drops.add("dropped", reason, items, self._destination, line)


def _log_limit(reason: str) -> None:
    log.emit(reason, "limit reached (%s): dropping whole turns", reason)


def batch_requests(requests: Iterable[Request]) -> Iterator[list[tuple[Request, bytes]]]:
    """Group requests into spool files.

    A request that its destination cannot deduplicate gets a file of its own, which is removed as soon as
    it was delivered.
    """
    together: list[tuple[Request, bytes]] = []
    size = 0
    for request in requests:
        line = pack(request)
        if request.endpoint != "messages":
            if together:  # keep the order: a rating follows the turn that it rates
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
