"""What waits for one destination: on disk, in memory, in lanes.

Bodies stay in memory as far as the budget reaches; what comes after is left on disk and read when
its turn has come, so memory does not grow with an outage.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gati.exporters.base import Exporter, Outcome, Request, Verdict
from gati.pipeline.codec import pack, unpack
from gati.pipeline.disk import Disk
from gati.pipeline.faults import guard, log
from gati.pipeline.lanes import FOREVER, PARCEL_BYTES, Batch, Lanes, Parcel
from gati.pipeline.retry import Hold, Policy

if TYPE_CHECKING:
    from gati.pipeline.spool import Spool
    from gati.pipeline.stats import Ledger

BATCH_BYTES = 256 * 1024
"""A file of the spool is closed when it has this size."""

DROPPED_TURNS = 10_000
"""Turns remembered as dropped, so that what comes later of them is dropped, too."""


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
        self._is_open = False
        self._ledger = ledger
        self._limits = limits
        self._disk = Disk(spool, limits.disk)
        self._lanes = Lanes()
        self._resident: OrderedDict[Batch, None] = OrderedDict()
        self._backlog: deque[Batch] = deque()
        self._epoch = 0
        self._outstanding: Counter[int] = Counter()
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
        batch = Batch(0, sum(request.items for request, _ in lines), size)
        with self.changed:
            refused = "" if self._room_on_disk(size) else "spool_full"
        if not refused and self._disk.could_hold(size):
            # Outside the lock: a slow disk may hold up this thread, not the senders.
            batch.file = self._disk.write([line for _, line in lines], batch.items)
        with self.changed:
            if not refused and batch.file is None and not self._room_in_memory(size + PARCEL_BYTES * len(lines)):
                refused = "memory_full"
            if refused:
                self._ledger.enter(batch.items, "dropped", refused)
                for request, _ in lines:
                    self._drop_turn(request.lane, request.turn, refused)
                return
            self._ledger.enter(batch.items, batch.place)
            self._expect(batch)
            if not batch.file or not (self._backlog or self._too_much(size + PARCEL_BYTES * len(lines))):
                self._load(batch, lines)
            else:
                self._backlog.append(batch)
            self.changed.notify_all()

    def _expect(self, batch: Batch) -> None:
        batch.epoch = self._epoch
        self._outstanding[batch.epoch] += 1
        if batch.file:
            self._disk.used += batch.file.size

    def _too_much(self, size: int) -> bool:
        return bool(self._resident) and self._lanes.memory + size > self._limits.memory

    def adopt(self) -> int:
        """Take over what dead processes left for this account; returns the number of messages."""
        files = self._disk.adopt()
        with self.changed:
            for file in files:
                batch = Batch(0, file.items, file.size, file)
                self._ledger.enter(file.items, "spooled", recovered=True)
                self._expect(batch)
                self._backlog.append(batch)
            self.changed.notify_all()
        return sum(file.items for file in files)

    def _load(self, batch: Batch, lines: Iterable[tuple[Request, bytes]]) -> None:
        self._resident[batch] = None
        for request, line in lines:
            parcel = Parcel(request.lane, request.turn, request.items, line, batch)
            batch.parcels.append(parcel)
            self._lanes.add(parcel)

    def _page_in(self) -> None:
        """Read what is next on disk, as far as memory reaches."""
        while self._backlog and not self._too_much(self._backlog[0].size + PARCEL_BYTES):
            self._read(self._backlog.popleft())

    def _read(self, batch: Batch) -> None:
        requests = self._disk.read(batch.file) if batch.file else None
        if requests is None:
            self._ledger.move(batch.items, "spooled", "dropped", "spool_lost")
            self._finish(batch)
            return
        found = sum(request.items for request, _ in requests)
        if found < batch.items:
            self._ledger.move(batch.items - found, "spooled", "dropped", "damaged")
        elif found > batch.items:
            self._ledger.enter(found - batch.items, "spooled", recovered=True)
        batch.complete = batch.complete and found == batch.items
        batch.items = found
        self._load(batch, requests)
        for request, _ in requests:
            if reason := self._dropped_turns.get(request.turn):
                self._drop_turn(request.lane, request.turn, reason)
        if not requests:
            self._finish(batch)

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
                waiting = self._is_open and bool(self._lanes or self._backlog)
                if now >= until and (idle == 0 or not waiting):
                    return None
                self.changed.wait(max(0.001, wait if waiting else until - now))
        return None

    def _pick(self, now: float) -> tuple[Parcel | None, float]:
        if not self._is_open:
            return None, FOREVER
        if now < self.hold.until:
            return None, self.hold.until - now
        if self._lanes.under_way and not self.hold.well:
            return None, FOREVER
        self._page_in()
        self._is_open = bool(self._lanes)
        return self._lanes.pick(now)

    def open(self) -> None:
        """Let senders take what there is; it closes by itself when there is nothing more."""
        with self.changed:
            self._is_open = True
            self.changed.notify_all()

    def sendable(self) -> int:
        """How many requests could be under way beside those that are."""
        with self.changed:
            if self.closed or not self._is_open or not (self._lanes or self._backlog):
                return 0
            # One sender waits even if nothing may go yet.
            free = max(1, self._lanes.ready) if self.hold.well else 1
            return free if self.hold.well else max(0, free - self._lanes.under_way)

    def settle(self, parcel: Parcel, outcome: Outcome) -> None:
        """What became of a request that `next` gave out."""
        with self.changed:
            self._lanes.arrived(parcel)
            self._ledger.count("requests")
            verdict = outcome.verdict
            if verdict in (Verdict.RETRY, Verdict.PAUSE):
                self._retry(parcel, outcome)
            else:
                self._answered()
                if verdict is Verdict.OK:
                    self._wins += 1
                    self._ledger.move(parcel.items, parcel.batch.place, "delivered")
                    self._done(parcel)
                elif verdict is Verdict.REJECT or not self._split(parcel):
                    self._set_aside(parcel, outcome.reason)
            self.changed.notify_all()

    def _answered(self) -> None:
        """The destination is there, whatever it says of this request."""
        if self.hold.succeeded():
            log.tell(f"back:{self.exporter.name}", "%s answers again", self.exporter.name, level=logging.INFO)
            self._lanes.release()

    def _retry(self, parcel: Parcel, outcome: Outcome) -> None:
        now, name, reason = time.monotonic(), self.exporter.name, outcome.reason
        self._ledger.count("retries")
        self.hold.failed(outcome, now)
        if outcome.verdict is Verdict.PAUSE:
            log.tell(f"paused:{name}", "%s refuses the key (%s); everything is kept until it works", name, reason)
            self._lanes.again(parcel)
            return
        log.tell(f"retry:{name}", "%s could not be reached or is busy (%s); trying again", name, reason)
        parcel.attempts += 1
        parcel.strikes += 0 <= parcel.wins < self._wins
        parcel.wins = self._wins
        if parcel.strikes >= self.policy.strikes:
            self._set_aside(parcel, f"gave up after {parcel.attempts} attempts: {reason}")
        else:
            self._lanes.later(parcel, now + self.policy.delay(parcel.attempts, outcome.retry_after))

    def _split(self, parcel: Parcel) -> bool:
        halves: Sequence[Request] | None = None
        with guard("exporter.split"):
            halves = self.exporter.split(unpack(parcel.data))
        if not halves:
            return False
        batch = parcel.batch
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
        self._lanes.replace(parcel, parts)
        return True

    def _set_aside(self, parcel: Parcel, reason: str) -> None:
        name = self.exporter.name
        log.tell(f"rejected:{name}", "%s refused %d messages: %s", name, parcel.items, reason)
        if not self.closed:
            self._disk.set_aside(parcel.data, reason)
        self._ledger.move(parcel.items, parcel.batch.place, "rejected")
        self._done(parcel)

    def _done(self, parcel: Parcel) -> None:
        self._lanes.done(parcel)
        self._take_out(parcel)

    def _take_out(self, parcel: Parcel) -> None:
        batch = parcel.batch
        batch.parcels.remove(parcel)
        batch.items -= parcel.items
        batch.complete = False
        if not batch.parcels:
            self._finish(batch)

    def _finish(self, batch: Batch) -> None:
        self._resident.pop(batch, None)
        self._outstanding[batch.epoch] -= 1
        if not self._outstanding[batch.epoch]:
            del self._outstanding[batch.epoch]
        if batch.file:
            self._disk.used -= batch.file.size
            self._disk.remove(batch.file)

    # Limits; whole turns go

    def _room_on_disk(self, size: int) -> bool:
        """Make room by dropping what is oldest; False if it must be the newcomer. A disk that
        cannot be used, or that others fill, leaves the decision to memory.
        """
        while self._disk.usable and self._disk.could_hold(size) and self._disk.excess(size) > 0:
            _tell_limit("spool_full")
            if self._limits.drop_newest or not self._drop_oldest(on_disk=True):
                return False
        return True

    def _room_in_memory(self, size: int) -> bool:
        while self._lanes.memory + size > self._limits.memory:
            _tell_limit("memory_full")
            if size > self._limits.memory:
                return False
            if self._limits.drop_newest or not self._drop_oldest(on_disk=False):
                return False
        return True

    def _drop_oldest(self, on_disk: bool) -> bool:
        """Drop the turns of the oldest batch that is not under way; False if there is none."""
        reason = "spool_full" if on_disk else "memory_full"
        for batch in itertools.chain(self._resident, self._backlog):
            if batch.under_way or bool(batch.file) is not on_disk:
                continue
            if batch in self._resident:
                turns = [(parcel.lane, parcel.turn) for parcel in batch.parcels]
            else:
                # Read once more for its turns: what else there is of them must go, too.
                requests = (self._disk.read(batch.file) if batch.file else None) or []
                turns = [(request.lane, request.turn) for request, _ in requests]
                self._backlog.remove(batch)
                self._ledger.move(batch.items, "spooled", "dropped", reason)
                self._finish(batch)
            for lane, turn in turns:
                self._drop_turn(lane, turn, reason)
            return True
        return False

    def _drop_turn(self, lane: str, turn: str, reason: str) -> None:
        """Drop what waits of a turn, and remember it for what is still to come."""
        self._dropped_turns[turn] = reason
        if len(self._dropped_turns) > DROPPED_TURNS:
            self._dropped_turns.popitem(last=False)
        for parcel in self._lanes.take_turn(lane, turn):
            self._ledger.move(parcel.items, parcel.batch.place, "dropped", reason)
            self._take_out(parcel)

    # Flush and end

    def new_epoch(self) -> int:
        """The number of all that was accepted so far; what comes now gets the next."""
        with self.changed:
            self._epoch += 1
            return self._epoch - 1

    def hurry(self) -> None:
        """Somebody waits: try at once what waits for another attempt."""
        with self.changed:
            if not self.hold.asked:
                self.hold.hurry()
                self._lanes.release()
            self.changed.notify_all()

    def quiet(self, epoch: int) -> bool:
        """True if nothing of the epoch or before is outstanding, or the key is refused."""
        with self.changed:
            if not any(number <= epoch for number in self._outstanding):
                return True
            return bool(self.hold.paused) and not self._lanes.under_way and time.monotonic() < self.hold.until

    @property
    def disk_bytes(self) -> int:
        return self._disk.used

    @property
    def memory_bytes(self) -> int:
        return self._lanes.memory

    def close(self) -> None:
        """Give back what is left: files say what remains, and have no owner any more."""
        with self.changed:
            if not self.closed:
                self.closed = True
                for batch in self._resident:
                    if batch.file and not batch.complete:
                        self._disk.rewrite(batch.file, [parcel.data for parcel in batch.parcels], batch.items)
                self._disk.close()
                self.changed.notify_all()

    def forget(self) -> None:
        """In a forked child: all of this is the parent's."""
        self._disk.forget()


def _tell_limit(reason: str) -> None:
    log.tell(reason, "a limit is reached (%s): whole turns are dropped and counted", reason)


def _batches(requests: Iterable[Request]) -> Iterator[list[tuple[Request, bytes]]]:
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
