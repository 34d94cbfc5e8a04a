"""Queue of one outbox in memory and in its journal, with the limits of both. Not thread-safe: the outbox holds the lock.

Requests stay in memory as far as the budget allows. Later batches are on disk only and are loaded when it
is their turn, so memory does not grow with an outage.

No method does a file operation. The outbox reads `next_to_read` and removes the files of `finished`, without the lock.
"""

from __future__ import annotations

import itertools
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from gati.exporters.base import Request
from gati.pipeline.codec import pack
from gati.pipeline.internal_errors import log
from gati.pipeline.ordered_queue import OrderedQueue
from gati.pipeline.queued_request import REQUEST_OVERHEAD_BYTES, Batch, QueuedRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gati.pipeline.drop_callback import DropNotifier
    from gati.pipeline.journal import JournalEntry, Lines
    from gati.pipeline.stats import DeliveryCounters, Place

BATCH_BYTES = 256 * 1024
"""Size at which a spool file is complete."""

LOADED_BYTES = 4 * 1024**2
"""Amount of spooled data that also stays in memory, so that sending it need not read it again."""

DROPPED_TURNS = 10_000
"""Number of dropped turns to remember, so that their later requests are dropped as well."""

MAX_READS = 3
"""Failed reads after which a file waits aside, so that others can be delivered."""


class Limits(NamedTuple):
    """Limits of one outbox, in bytes. `loaded` is the part of `memory` for requests that are also in the journal."""

    memory: int = 16 * 1024**2
    disk: int = 256 * 1024**2
    drop_newest: bool = False
    loaded: int = LOADED_BYTES

    @property
    def batch_bytes(self) -> int:
        """Size at which a spool file is complete. Several files fit in a small quota."""
        return min(BATCH_BYTES, self.disk // 8)


class RequestQueue:
    """Batches in order of arrival: the first ones loaded into `ordered`, the backlog on disk only."""

    def __init__(self, counters: DeliveryCounters, limits: Limits, destination: str, drops: DropNotifier) -> None:
        self.ordered = OrderedQueue()
        self.used_bytes = 0
        """Size of this process's files."""
        self.finished: list[Batch] = []
        """Batches whose files are to be removed; then call `forget`."""
        self._counters = counters
        self._limits = limits
        self._destination = destination
        self._drops = drops
        self._loaded: OrderedDict[Batch, None] = OrderedDict()
        self._backlog: deque[Batch] = deque()
        self._held: OrderedDict[Batch, None] = OrderedDict()
        """The batches of the backlog that are in memory only."""
        self._held_bytes = 0
        self._reading: Batch | None = None
        self._unreadable: list[Batch] = []
        self._epoch = 0
        self._outstanding: Counter[int] = Counter()
        self._dropped_turns: OrderedDict[str, str] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self.ordered or self._backlog or self._reading)

    @property
    def backlog(self) -> int:
        """Number of batches that are not loaded."""
        return len(self._backlog)

    @property
    def memory(self) -> int:
        """Approximate size of the requests in memory, in bytes."""
        return self.ordered.memory + self._held_bytes

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

    def count_lost(self, lines: Lines) -> None:
        """Count requests that an internal error has lost before they were queued."""
        for request, line in lines:
            self._count_dropped(request.items, "internal_error", line or None)

    def add(self, batch: Batch, lines: Lines, refused: str = "") -> None:
        """Queue a batch; without a file it must fit in memory. `refused` is the limit for which to drop it, if any."""
        memory = batch.size + REQUEST_OVERHEAD_BYTES * len(lines)
        if not refused and batch.entry is None and not self._make_memory_space(memory):
            refused = "memory_full"
        if refused:
            for request, line in lines:
                self._count_dropped(request.items, refused, line)
                self._drop_turn(request.ordering_key, request.turn_id, refused)
            return
        self._counters.add(batch.items, batch.place)
        self._track(batch)
        if batch.entry:
            self.used_bytes += batch.entry.size
        if self._backlog or self._reading or (batch.entry and self._exceeds_memory(memory)):
            self._backlog.append(batch)
            if batch.entry is None:  # it must not overtake earlier requests of its conversations
                batch.set_requests(lines)
                self._held[batch] = None
                self._held_bytes += batch.memory
        else:
            batch.set_requests(lines)
            self._load(batch)

    def add_adopted(self, entries: Iterable[JournalEntry]) -> int:
        """Queue entries that were taken over; return the number of messages."""
        messages = 0
        for entry in entries:
            batch = Batch(entry.items, entry.size, entry)
            self._counters.add(entry.items, "spooled", recovered=True)
            self._track(batch)
            self.used_bytes += entry.size
            self._backlog.append(batch)
            messages += entry.items
        return messages

    def _track(self, batch: Batch) -> None:
        batch.epoch = self._epoch
        self._outstanding[self._epoch] += 1

    def forget(self, batch: Batch) -> None:
        """Let no flush wait for the batch any more."""
        if batch.epoch is not None:
            self._outstanding[batch.epoch] -= 1
            if not self._outstanding[batch.epoch]:
                del self._outstanding[batch.epoch]
            batch.epoch = None

    def _exceeds_memory(self, size: int) -> bool:
        return bool(self._loaded) and self.ordered.memory + size > min(self._limits.loaded, self._limits.memory)

    def _load(self, batch: Batch) -> None:
        self._loaded[batch] = None
        for queued in batch.requests:
            self.ordered.add(queued)

    def _load_from_backlog(self, batch: Batch) -> None:
        """Load a batch that was in the backlog, without requests of turns that were dropped meanwhile."""
        self._load(batch)
        for key, turn_id in {(queued.ordering_key, queued.turn_id): None for queued in batch.requests}:
            if reason := self._dropped_turns.get(turn_id):
                self._drop_turn(key, turn_id, reason)
        if not batch.requests and not batch.done:
            self._finish(batch)

    def _release(self, batch: Batch) -> None:
        """Count a batch no longer as held in memory behind others."""
        del self._held[batch]
        self._held_bytes -= batch.memory

    # Reading from disk: one file at a time, to keep their order

    def next_to_read(self) -> Batch | None:
        """Take the next batch of the backlog, if memory allows. `read_done` or `read_failed` must follow."""
        if self._reading:
            return None
        while self._backlog and self._backlog[0] in self._held:
            batch = self._backlog.popleft()
            self._release(batch)
            self._load_from_backlog(batch)
        if not self._backlog:
            return None
        if self._exceeds_memory(self._backlog[0].size + REQUEST_OVERHEAD_BYTES):
            return None
        self._reading = self._backlog.popleft()
        return self._reading

    def read_done(self, batch: Batch, requests: Lines | None) -> None:
        """Load what was read from a file; None if the file is gone."""
        self._reading = None
        if batch.withdrawn:
            self._withdraw_batch(batch)
            return
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
        batch.set_requests(requests)
        self._load_from_backlog(batch)

    def read_failed(self, batch: Batch, *, again: bool) -> None:
        """Keep a batch whose file cannot be read now.

        Args:
            batch: the batch that `next_to_read` returned.
            again: the cause has nothing to do with this file, so the others wait as well.
        """
        self._reading = None
        batch.failed_reads += 1
        if batch.withdrawn:
            self._withdraw_batch(batch)
        elif again or batch.failed_reads < MAX_READS:
            self._backlog.appendleft(batch)
        else:
            self._unreadable.append(batch)
            self.forget(batch)

    def retry_unreadable(self) -> None:
        """Let the files that could not be read be tried again, after those that wait."""
        for batch in self._unreadable:
            batch.failed_reads = MAX_READS - 1
            self._track(batch)
        self._backlog.extend(self._unreadable)
        self._unreadable.clear()

    # Writing to disk what is in memory only

    def in_memory(self) -> list[Batch]:
        """Return the batches without a file, oldest first."""
        return [*(batch for batch in self._loaded if batch.entry is None), *self._held]

    def saved(self, batch: Batch, entry: JournalEntry, items: int) -> None:
        """Record that a batch of memory was written to a file with this number of messages."""
        if not batch.done:
            self._counters.move(batch.items, "pending", "spooled")
            self.used_bytes += entry.size
            batch.intact = batch.items == items
        batch.entry = entry
        if batch in self._held:
            self._release(batch)
            batch.requests.clear()
        if batch.done:
            self.finished.append(batch)

    def with_file(self) -> list[Batch]:
        """Return the loaded batches with a file."""
        return [batch for batch in self._loaded if batch.entry]

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
        batch.done = True
        if batch.entry:
            self.used_bytes -= batch.entry.size
            self.finished.append(batch)
        else:
            self.forget(batch)

    # Withdrawal: others deliver what is not in flight

    def withdraw(self, condition: Callable[[JournalEntry], bool]) -> None:
        """Remove all batches for whose entry the condition holds. Requests in flight stay until they are answered."""
        waiting = [*self._backlog, *self._unreadable]
        batches = [batch for batch in (*waiting, *self._loaded) if batch.entry and condition(batch.entry)]
        if self._reading and self._reading.entry and condition(self._reading.entry):
            self._reading.withdrawn = True
        gone = set(batches)
        self._backlog = deque(batch for batch in self._backlog if batch not in gone)
        self._unreadable = [batch for batch in self._unreadable if batch not in gone]
        keys: set[str] = set()
        for batch in batches:
            batch.withdrawn = True
            keys.update(queued.ordering_key for queued in batch.requests)
            if batch not in self._loaded:
                self._withdraw_batch(batch)
        for key in keys:
            for queued in self.ordered.remove_where(key, lambda queued: queued.batch.withdrawn):
                self._leave(queued, queued.items)

    def withdraw_attempted(self, queued: QueuedRequest, items: int) -> None:
        """Leave the items of a request that were not delivered to others, after its last attempt here failed."""
        self.ordered.remove(queued)
        self._leave(queued, items)

    def withdraw_joined(self, members: Sequence[QueuedRequest]) -> None:
        """Leave those of requests that failed together to others which others deliver."""
        if any(queued.batch.withdrawn for queued in members):
            for queued in self.ordered.remove_where(members[0].ordering_key, lambda queued: queued.batch.withdrawn):
                self._leave(queued, queued.items)

    def _leave(self, queued: QueuedRequest, items: int) -> None:
        self._counters.withdraw(items, queued.batch.place)
        queued.batch.incomplete = True
        self._remove_from_batch(queued)

    def _withdraw_batch(self, batch: Batch) -> None:
        """Leave a batch that is not loaded to others."""
        self._counters.withdraw(batch.items, batch.place)
        batch.incomplete = True
        self._finish(batch)

    # Epochs: a flush waits until nothing up to its epoch is outstanding

    def new_epoch(self) -> int:
        """Return the current epoch and begin the next."""
        self._epoch += 1
        return self._epoch - 1

    def outstanding(self, epoch: int) -> bool:
        """Return True if a batch up to the epoch is still queued."""
        return any(number <= epoch for number in self._outstanding)

    # Limits: whole turns are dropped

    def oldest_on_disk(self) -> Batch | None:
        """Return the oldest batch with a file and without a request in flight, to be dropped; None if there is none.

        One that is not loaded is taken from the backlog: `drop` or `keep` must follow.
        """
        for batch in itertools.chain(self._loaded, self._backlog):
            if batch.entry and not batch.in_flight:
                if batch not in self._loaded:
                    self._backlog.remove(batch)
                return batch
        return None

    def keep(self, batch: Batch) -> None:
        """Put back a batch that `oldest_on_disk` returned."""
        if batch not in self._loaded:
            self._backlog.appendleft(batch)

    def drop(self, batch: Batch, requests: Lines, reason: str) -> None:
        """Drop the turns of a batch, those of `requests` if it is not loaded: also their requests in other batches."""
        turns = [(queued.ordering_key, queued.turn_id) for queued in batch.requests]
        if batch not in self._loaded:
            turns = [(request.ordering_key, request.turn_id) for request, _ in requests]
            one_conversation = len({key for key, _ in turns}) == 1
            self._count_dropped(batch.items, reason, requests[0][1] if one_conversation else None, source="spooled")
            self._finish(batch)
        for key, turn_id in turns:
            self._drop_turn(key, turn_id, reason)

    def give_up_memory(self, reason: str) -> int:
        """Count what is in memory only as dropped, except requests in flight; return the number of messages.

        Nothing is sent after that.
        """
        lost = [queued for batch in self.in_memory() for queued in batch.requests if not queued.in_flight]
        for queued in lost:
            self._count_dropped(queued.items, reason, queued.data, source="pending")
        return sum(queued.items for queued in lost)

    def _make_memory_space(self, size: int) -> bool:
        while self.memory + size > self._limits.memory:
            log_limit("memory_full")
            if size > self._limits.memory or self._limits.drop_newest:
                return False
            oldest = next((batch for batch in self._loaded if not batch.entry and not batch.in_flight), None)
            if oldest is None and (oldest := next(iter(self._held), None)) is not None:
                self._backlog.remove(oldest)
                self._release(oldest)
                self._load_from_backlog(oldest)
            if oldest is None:
                return False
            if not oldest.done:
                self.drop(oldest, [], "memory_full")
        return True

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


def log_limit(reason: str) -> None:
    """Log that a limit was reached."""
    log.emit(reason, "limit reached (%s): dropping whole turns", reason)


def batch_requests(packed: Iterable[tuple[Request, bytes]], batch_bytes: int = BATCH_BYTES) -> Iterator[Lines]:
    """Group requests and their lines into spool files.

    A request that its destination cannot deduplicate gets a file of its own, which is removed as soon as
    it was delivered.
    """
    together: Lines = []
    size = 0
    for request, line in packed:
        if request.endpoint != "messages":
            if together:  # keep the order: a rating follows the turn that it rates
                yield together
                together, size = [], 0
            yield [(request, line)]
            continue
        if together and size + len(line) > batch_bytes:
            yield together
            together, size = [], 0
        together.append((request, line))
        size += len(line)
    if together:
        yield together
