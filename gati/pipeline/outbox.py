"""What waits for one destination, as its senders and the worker share it.

It has the lock, decides with the retry policy what may go, and learns what became of it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gati.exporters.base import Exporter, Outcome, Request, Verdict
from gati.pipeline.codec import unpack
from gati.pipeline.internal_errors import guard, log
from gati.pipeline.ordered_queue import FOREVER, Batch, Parcel
from gati.pipeline.request_queue import Limits, Lines, Stock, batches
from gati.pipeline.retry import Hold, Policy

if TYPE_CHECKING:
    from gati.pipeline.spool import Spool
    from gati.pipeline.stats import Ledger


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
        self._spool = spool
        self._stock = Stock(ledger, spool, limits)
        self._lanes = self._stock.lanes
        self._wins = 0

    # What comes in; called by the worker

    def accept(self, requests: Sequence[Request]) -> None:
        """Store requests, on disk if that can be, and put them in their lanes."""
        for lines in batches(requests):
            with self.changed:
                kept = self._stock.wanted(lines)
            if kept:
                self._store(kept)

    def _store(self, lines: Lines) -> None:
        batch = Batch(sum(request.items for request, _ in lines), sum(len(line) + 1 for _, line in lines))
        with self.changed:
            refused = "" if self._stock.room_on_disk(batch.size) else "spool_full"
        if not refused and self._stock.disk.could_hold(batch.size):
            # Outside the lock: a slow disk may hold up this thread, not the senders.
            batch.file = self._stock.disk.write([line for _, line in lines], batch.items)
        with self.changed:
            self._stock.add(batch, lines, refused)
            self.changed.notify_all()

    def adopt(self) -> int:
        """Take over what dead processes left for this account; returns the number of messages."""
        with self.changed:
            adopted = self._stock.adopt()
            self.changed.notify_all()
        return adopted

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
                waiting = self._is_open and bool(self._stock)
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
        self._stock.page_in()
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
            if self.closed or not self._is_open or not self._stock:
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
                    self._stock.done(parcel)
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
        self._stock.replace(parcel, halves)
        return True

    def _set_aside(self, parcel: Parcel, reason: str) -> None:
        name = self.exporter.name
        log.tell(f"rejected:{name}", "%s refused %d messages: %s", name, parcel.items, reason)
        if not self.closed:
            self._stock.disk.set_aside(parcel.data, reason)
        self._ledger.move(parcel.items, parcel.batch.place, "rejected")
        self._stock.done(parcel)

    # Flush and end

    def new_epoch(self) -> int:
        """The number of all that was accepted so far; what comes now gets the next."""
        with self.changed:
            return self._stock.new_epoch()

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
            if not self._stock.outstanding(epoch):
                return True
            return bool(self.hold.paused) and not self._lanes.under_way and time.monotonic() < self.hold.until

    @property
    def disk_bytes(self) -> int:
        return self._stock.disk.used

    @property
    def memory_bytes(self) -> int:
        return self._lanes.memory

    def close(self) -> None:
        """Give back what is left. What is under way may still be settled."""
        with self.changed:
            if not self.closed:
                self.closed = True
                self._stock.close()
                self.changed.notify_all()

    def forget(self) -> None:
        """In a forked child: all of this is the parent's."""
        if self._spool is not None:
            self._spool.forget()
