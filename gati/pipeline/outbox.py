"""What waits for one destination: on disk, in memory, in lanes.

A lane (a conversation) has at most one request under way, and its requests go in order. Bodies
stay in memory as far as the budget reaches; what comes after is left on disk and read when its
turn has come, so memory does not grow with an outage.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gati.exporters.base import Exporter, Outcome, Request, Verdict
from gati.pipeline.codec import pack, unpack
from gati.pipeline.faults import guard, log
from gati.pipeline.retry import Hold, Policy

if TYPE_CHECKING:
    from gati.pipeline.spool import Spool, SpoolFile
    from gati.pipeline.stats import Ledger, Place

BATCH_BYTES = 256 * 1024
"""A file of the spool is closed when it has this size."""

PARCEL_BYTES = 400
"""What a request in memory costs beside its bytes."""

SPOOL_PAUSE = 30.0
"""Seconds until a spool that could not be written is tried again."""

DROPPED_TURNS = 10_000
"""Turns remembered as dropped, so that what comes later of them is dropped, too."""


@dataclass(slots=True, eq=False)
class Parcel:
    """One request on its way. `data` is what `codec.pack` made of it."""

    lane: str
    turn: str
    items: int
    data: bytes
    batch: Batch
    attempts: int = 0
    strikes: int = 0
    wins: int = -1
    """Successes of the whole outbox when this one last failed."""
    under_way: bool = False


@dataclass(slots=True, eq=False)
class Batch:
    """Requests that share a file, or, without one, only a place in memory."""

    epoch: int
    items: int
    size: int
    file: SpoolFile | None = None
    parcels: list[Parcel] = field(default_factory=list)
    under_way: int = 0
    complete: bool = True
    """False once something of it was delivered or set aside, so that its file says too much."""

    @property
    def place(self) -> Place:
        return "spooled" if self.file else "pending"


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one outbox, in bytes."""

    memory: int = 16 * 1024**2
    disk: int = 256 * 1024**2
    drop_newest: bool = False


class Outbox:
    """Thread-safe. `changed` is notified whenever a sender may have something to do."""

    def __init__(
        self, exporter: Exporter, ledger: Ledger, spool: Spool | None, limits: Limits, policy: Policy | None = None
    ) -> None:
        self.exporter = exporter
        self.policy = policy or Policy()
        self.hold = Hold(self.policy)
        self.changed = threading.Condition(threading.RLock())
        self.closed = False
        self._ledger = ledger
        self._spool = spool
        self._spool_again = 0.0
        self._limits = limits
        self._disk = 0
        self._foreign = 0
        self._memory = 0
        self._epoch = 0
        self._outstanding: Counter[int] = Counter()
        self._resident: OrderedDict[Batch, None] = OrderedDict()
        self._backlog: deque[Batch] = deque()
        self._lanes: dict[str, deque[Parcel]] = {}
        self._ready: deque[str] = deque()
        self._later: list[tuple[float, int, str]] = []
        self._tick = itertools.count()
        self._under_way = 0
        self._wins = 0
        self._dropped_turns: OrderedDict[str, str] = OrderedDict()

    # What comes in; called by the worker

    def accept(self, requests: Sequence[Request]) -> None:
        """Store requests, on disk if that can be, and put them in their lanes."""
        for lines in _batches(requests):
            kept = []
            for request, line in lines:
                if reason := self._dropped_turns.get(request.turn):
                    self._ledger.enter(request.items, "dropped", reason)
                else:
                    kept.append((request, line))
            if kept:
                self._store(kept)

    def _store(self, lines: list[tuple[Request, bytes]]) -> None:
        size = sum(len(line) + 1 for _, line in lines)
        batch = Batch(self._epoch, sum(request.items for request, _ in lines), size)
        refused = ""
        with self.changed:
            if self._spool_usable() and not self._room_on_disk(size):
                refused = "spool_full"
        if not refused:
            # Outside the lock: a slow disk may hold up this thread, not the senders.
            batch.file = self._write(batch, [line for _, line in lines])
        with self.changed:
            batch.epoch = self._epoch
            if not refused and batch.file is None and not self._room_in_memory(size):
                refused = "memory_full"
            if refused:
                self._ledger.enter(batch.items, "dropped", refused)
                for request, _ in lines:
                    self._drop_turn(request.lane, request.turn, refused)
                return
            self._ledger.enter(batch.items, batch.place)
            self._outstanding[batch.epoch] += 1
            if batch.file and (self._backlog or self._memory + _weight(batch, len(lines)) > self._limits.memory):
                self._backlog.append(batch)
            else:
                self._load(batch, [(request, line) for request, line in lines])
            self.changed.notify_all()

    def _spool_usable(self) -> bool:
        return self._spool is not None and time.monotonic() >= self._spool_again

    def _write(self, batch: Batch, lines: list[bytes]) -> SpoolFile | None:
        if self._spool is None or not self._spool_usable():
            return None
        try:
            file = self._spool.write(lines, batch.items)
        except OSError as error:
            self.spool_failed(error)
            return None
        with self.changed:
            self._disk += file.size
        return file

    def spool_failed(self, error: OSError) -> None:
        """The disk is full, read-only or gone: keep to memory for a while."""
        self._spool_again = time.monotonic() + SPOOL_PAUSE
        log.tell("spool", "the spool cannot be used (%s); what waits is kept in memory", type(error).__name__)

    def adopt(self) -> int:
        """Take over what dead processes left for this account; returns the number of messages."""
        if self._spool is None or not self._spool_usable():
            return 0
        try:
            files = self._spool.adopt()
            everything = sum(file.size for file in self._spool.files())
        except OSError as error:
            self.spool_failed(error)
            return 0
        with self.changed:
            for file in files:
                self._disk += file.size
                self._ledger.enter(file.items, "spooled", recovered=True)
                self._outstanding[self._epoch] += 1
                self._backlog.append(Batch(self._epoch, file.items, file.size, file))
            self._foreign = max(0, everything - self._disk)
            if files:
                self.changed.notify_all()
        return sum(file.items for file in files)

    def _load(self, batch: Batch, lines: Iterable[tuple[Request, bytes]]) -> None:
        self._resident[batch] = None
        for request, line in lines:
            self._enqueue(Parcel(request.lane, request.turn, request.items, line, batch))

    def _enqueue(self, parcel: Parcel) -> None:
        parcel.batch.parcels.append(parcel)
        self._memory += len(parcel.data) + PARCEL_BYTES
        lane = self._lanes.get(parcel.lane)
        if lane is None:
            self._lanes[parcel.lane] = deque([parcel])
            self._ready.append(parcel.lane)
        else:
            lane.append(parcel)

    def _page_in(self) -> None:
        """Read what is next on disk, as far as memory reaches."""
        while self._backlog:
            batch = self._backlog[0]
            if self._resident and self._memory + _weight(batch, 1) > self._limits.memory:
                return
            self._backlog.popleft()
            self._page_in_one(batch)

    def _page_in_one(self, batch: Batch) -> None:
        assert self._spool is not None and batch.file is not None
        try:
            lines = self._spool.read(batch.file)
        except OSError:
            self._ledger.move(batch.items, "spooled", "dropped", "spool_lost")
            log.tell("spool_lost", "a file of the spool is gone or cannot be read; its messages are lost")
            self._finish(batch)
            return
        requests = []
        for line in lines:
            try:
                requests.append((unpack(line), line))
            except (ValueError, KeyError, TypeError):
                continue
        found = sum(request.items for request, _ in requests)
        if found != batch.items:
            self._damaged(batch, lines, found)
        kept = []
        for request, line in requests:
            if reason := self._dropped_turns.get(request.turn):
                self._ledger.move(request.items, "spooled", "dropped", reason)
                batch.complete = False
            else:
                kept.append((request, line))
        self._load(batch, kept)
        if not kept:
            self._finish(batch)

    def _damaged(self, batch: Batch, lines: list[bytes], found: int) -> None:
        assert self._spool is not None and batch.file is not None
        if found < batch.items:
            self._ledger.move(batch.items - found, "spooled", "dropped", "damaged")
        else:
            self._ledger.enter(found - batch.items, "spooled", recovered=True)
        log.tell("damaged", "a file of the spool was damaged; what could be read of it is delivered")
        batch.items, batch.complete = found, False
        try:
            self._spool.set_aside_damaged(batch.file, lines, self._limits.disk // 10)
        except OSError as error:
            self.spool_failed(error)

    # What goes out; called by senders

    def next(self, idle: float) -> Parcel | None:
        """The next request that may be sent; waits for it. None after `idle` seconds with nothing
        to send at all, or once closed.
        """
        until = time.monotonic() + idle
        with self.changed:
            while not self.closed:
                now = time.monotonic()
                parcel, wait = self._pick(now)
                if parcel is not None:
                    return parcel
                if now >= until and (idle == 0 or not (self._lanes or self._backlog)):
                    return None
                self.changed.wait(max(0.001, min(wait, until - now) if now < until else wait))
        return None

    def sendable(self) -> int:
        """How many further senders would have something to do now."""
        with self.changed:
            if self.closed or time.monotonic() < self.hold.until:
                return 0
            lanes = len(self._ready) or (1 if self._backlog or self._later else 0)
            return lanes if self.hold.well else min(1, lanes) - min(1, self._under_way)

    def _pick(self, now: float) -> tuple[Parcel | None, float]:
        if now < self.hold.until:
            return None, self.hold.until - now
        if self._under_way and not self.hold.well:
            return None, 3600.0
        self._page_in()
        while self._later and self._later[0][0] <= now:
            self._ready.append(heapq.heappop(self._later)[2])
        while self._ready:
            # A lane may have been emptied by a drop while it stood here, or stand here twice.
            lane = self._lanes.get(self._ready.popleft())
            if lane and not lane[0].under_way:
                parcel = lane[0]
                parcel.under_way = True
                parcel.batch.under_way += 1
                self._under_way += 1
                return parcel, 0.0
        return None, self._later[0][0] - now if self._later else 3600.0

    def settle(self, parcel: Parcel, outcome: Outcome) -> None:
        """What became of a request that `next` gave out."""
        with self.changed:
            parcel.under_way = False
            parcel.batch.under_way -= 1
            self._under_way -= 1
            self._ledger.count("requests")
            verdict = outcome.verdict
            if verdict is Verdict.OK:
                self._succeeded(parcel)
            elif verdict is Verdict.SPLIT:
                self._split(parcel, outcome)
            elif verdict is Verdict.REJECT:
                self._answered()
                self._reject(parcel, outcome.reason)
            else:
                self._retry(parcel, outcome)
            self.changed.notify_all()

    def _succeeded(self, parcel: Parcel) -> None:
        self._wins += 1
        self._answered()
        self._ledger.move(parcel.items, parcel.batch.place, "delivered")
        self._done(parcel)

    def _answered(self) -> None:
        """The destination is there, whatever it says of this request."""
        if self.hold.succeeded():
            log.tell(f"back:{self.exporter.name}", "%s answers again", self.exporter.name, level=logging.INFO)
            self._ready.extend(lane for _, _, lane in sorted(self._later))
            self._later.clear()

    def _retry(self, parcel: Parcel, outcome: Outcome) -> None:
        now = time.monotonic()
        name = self.exporter.name
        self._ledger.count("retries")
        self.hold.failed(outcome, now)
        if outcome.verdict is Verdict.PAUSE:
            log.tell(
                f"paused:{name}", "%s refuses the key (%s); everything is kept until it works", name, outcome.reason
            )
            self._ready.append(parcel.lane)
            return
        log.tell(f"retry:{name}", "%s could not be reached or is busy (%s); trying again", name, outcome.reason)
        if parcel.wins >= 0 and self._wins > parcel.wins:
            parcel.strikes += 1
        parcel.wins = self._wins
        parcel.attempts += 1
        if parcel.strikes >= self.policy.strikes:
            self._reject(parcel, f"gave up after {parcel.attempts} attempts: {outcome.reason}")
            return
        due = now + self.policy.delay(parcel.attempts, outcome.retry_after)
        heapq.heappush(self._later, (due, next(self._tick), parcel.lane))

    def _split(self, parcel: Parcel, outcome: Outcome) -> None:
        self._answered()
        halves = None
        with guard("exporter.split"):
            halves = self.exporter.split(unpack(parcel.data))
        if not halves:
            self._reject(parcel, outcome.reason)
            return
        batch, lane = parcel.batch, self._lanes[parcel.lane]
        parts = [Parcel(parcel.lane, half.turn, half.items, pack(half), batch) for half in halves]
        lost = parcel.items - sum(part.items for part in parts)
        if lost > 0:
            self._ledger.move(lost, batch.place, "dropped", "split")
        elif lost < 0:
            self._ledger.enter(-lost, batch.place)
        batch.items -= lost
        batch.complete = False
        at = batch.parcels.index(parcel)
        batch.parcels[at : at + 1] = parts
        self._memory += sum(len(part.data) + PARCEL_BYTES for part in parts) - len(parcel.data) - PARCEL_BYTES
        lane.popleft()
        lane.extendleft(reversed(parts))
        self._ready.appendleft(parcel.lane)

    def _reject(self, parcel: Parcel, reason: str) -> None:
        log.tell(
            f"rejected:{self.exporter.name}", "%s refused %d messages: %s", self.exporter.name, parcel.items, reason
        )
        if self._spool is not None and not self.closed:
            try:
                self._spool.set_aside(parcel.data, reason, self._limits.disk // 10)
            except OSError as error:
                self.spool_failed(error)
        self._ledger.move(parcel.items, parcel.batch.place, "rejected")
        self._done(parcel)

    def _done(self, parcel: Parcel) -> None:
        """The first of its lane is delivered or set aside."""
        lane = self._lanes[parcel.lane]
        lane.popleft()
        if lane:
            self._ready.append(parcel.lane)
        else:
            del self._lanes[parcel.lane]
        self._take_out(parcel)

    def _take_out(self, parcel: Parcel) -> None:
        batch = parcel.batch
        batch.parcels.remove(parcel)
        batch.items -= parcel.items
        batch.complete = False
        self._memory -= len(parcel.data) + PARCEL_BYTES
        if not batch.parcels:
            self._finish(batch)

    def _finish(self, batch: Batch) -> None:
        self._resident.pop(batch, None)
        self._outstanding[batch.epoch] -= 1
        if not self._outstanding[batch.epoch]:
            del self._outstanding[batch.epoch]
        if batch.file and self._spool is not None:
            self._disk -= batch.file.size
            try:
                self._spool.remove(batch.file)
            except OSError as error:
                self.spool_failed(error)

    # Limits; whole turns go

    def _room_on_disk(self, size: int) -> bool:
        """Make room by dropping what is oldest; False if it must be the newcomer."""
        limit = self._limits.disk - self._foreign
        if size > limit:
            return False
        while self._disk + size > limit:
            if self._limits.drop_newest or not self._drop_oldest(on_disk=True):
                return False
        return True

    def _room_in_memory(self, size: int) -> bool:
        if size > self._limits.memory:
            return False
        while self._memory + size > self._limits.memory:
            if self._limits.drop_newest or not self._drop_oldest(on_disk=False):
                return False
        return True

    def _drop_oldest(self, on_disk: bool) -> bool:
        reason = "spool_full" if on_disk else "memory_full"
        log.tell(reason, "a limit is reached (%s): whole turns are dropped and counted", reason)
        for batch in itertools.chain(self._resident, self._backlog):
            if batch.under_way or bool(batch.file) is not on_disk:
                continue
            if batch not in self._resident:
                self._backlog.remove(batch)
                self._ledger.move(batch.items, "spooled", "dropped", reason)
                self._finish(batch)
                return True
            for parcel in list(batch.parcels):
                self._drop_turn(parcel.lane, parcel.turn, reason)
            return True
        return False

    def _drop_turn(self, lane_name: str, turn: str, reason: str) -> None:
        """Drop what waits of a turn, and remember it for what is still to come."""
        self._dropped_turns[turn] = reason
        if len(self._dropped_turns) > DROPPED_TURNS:
            self._dropped_turns.popitem(last=False)
        lane = self._lanes.get(lane_name)
        if lane is None:
            return
        for parcel in [p for p in lane if p.turn == turn]:
            if parcel.under_way:
                continue  # its answer decides
            lane.remove(parcel)
            self._ledger.move(parcel.items, parcel.batch.place, "dropped", reason)
            self._take_out(parcel)
        if not lane:
            del self._lanes[lane_name]

    # Flush and end

    def new_epoch(self) -> int:
        """What is accepted from now on does not concern a flush that begins now."""
        with self.changed:
            self._epoch += 1
            return self._epoch - 1

    def hurry(self) -> None:
        """Somebody waits: try at once what waits for another attempt."""
        with self.changed:
            if not self.hold.asked:
                self.hold.hurry()
                self._ready.extend(lane for _, _, lane in sorted(self._later))
                self._later.clear()
            self.changed.notify_all()

    def quiet(self, epoch: int) -> bool:
        """True if nothing of the epoch or before is outstanding, or none of it can go now."""
        with self.changed:
            if not any(number <= epoch for number in self._outstanding):
                return True
            return bool(self.hold.paused) and not self._under_way and time.monotonic() < self.hold.until

    @property
    def disk_bytes(self) -> int:
        return self._disk

    @property
    def memory_bytes(self) -> int:
        return self._memory

    def close(self) -> None:
        """Give back what is left: files say what remains, and have no owner any more."""
        with self.changed:
            if self.closed:
                return
            self.closed = True
            self.changed.notify_all()
            if self._spool is None or not self._spool.is_open:
                return
            for batch in list(self._resident):
                if batch.file and not batch.complete and batch.parcels:
                    with guard("spool.rewrite"):
                        lines = [parcel.data for parcel in batch.parcels]
                        batch.file = self._spool.rewrite(batch.file, lines, batch.items)
            with guard("spool.close"):
                self._spool.close()

    def forget(self) -> None:
        """In a forked child: all of this is the parent's."""
        if self._spool is not None:
            self._spool.forget()


def _weight(batch: Batch, parcels: int) -> int:
    return batch.size + parcels * PARCEL_BYTES


def _batches(requests: Iterable[Request]) -> Iterator[list[tuple[Request, bytes]]]:
    """Share files among requests. What the destination cannot recognise as a repetition stands
    alone, so that its file is gone as soon as it was delivered.
    """
    together: list[tuple[Request, bytes]] = []
    size = 0
    for request in requests:
        line = pack(request)
        if request.endpoint != "messages":
            yield [(request, line)]
            continue
        if together and size + len(line) > BATCH_BYTES:
            yield together
            together, size = [], 0
        together.append((request, line))
        size += len(line)
    if together:
        yield together
