"""Counters that tell the truth about what became of everything.

Every message is in exactly one place at every moment, and a move from one place to the next is
one step under one lock. So this holds whenever it is read::

    recorded == delivered + spooled + pending + rejected + sum(dropped.values())
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from gati._deprecation import warn_renamed

Place: TypeAlias = Literal["delivered", "spooled", "pending", "rejected", "dropped"]


@dataclass(frozen=True, slots=True)
class Stats:
    """What happened so far in this process. Counts are messages (of a GATI backend: events)
    unless the field says otherwise; one that goes to two destinations counts twice.
    """

    recorded: int = 0
    """Messages made for a destination, with those taken over from dead processes."""

    recovered: int = 0
    """Of `recorded`: taken over from the spool of processes that are no more."""

    delivered: int = 0
    """Acknowledged by their destination."""

    spooled: int = 0
    """On disk and not acknowledged yet; the next process delivers them if this one cannot."""

    pending: int = 0
    """In memory only and not acknowledged yet: the spool is off, or cannot be written."""

    rejected: int = 0
    """Refused by the destination for good, set aside in the spool's `rejected/` with the reason."""

    dropped: Mapping[str, int] = field(default_factory=dict)
    """Given up for a limit, by reason: `spool_full`, `memory_full`, `spool_lost`, `damaged`."""

    records: int = 0
    """Records that callbacks left, refused ones included."""

    records_waiting: int = 0
    """Of `records`: still to be assembled."""

    records_refused: int = 0
    """Of `records`: refused because the buffer was full or the pipeline was shut down."""

    turns: int = 0
    """Turns, and things told by hand, that were assembled."""

    turns_open: int = 0
    """Turns that have begun and not ended."""

    turns_dropped: Mapping[str, int] = field(default_factory=dict)
    """Turns given up before they became messages, by reason: `buffer_full`, `encode`, `fork`."""

    requests: int = 0
    """Attempts to send."""

    retries: int = 0
    """Of `requests`: those that failed and were or will be repeated."""

    spool_bytes: int = 0
    """Size of this process's files in the spool."""

    memory_bytes: int = 0
    """Roughly the memory that waiting records and requests hold."""

    mask_failures: int = 0
    """Texts dropped because `mask` failed on them."""

    paused: Mapping[str, str] = field(default_factory=dict)
    """Destinations that refuse our key, with the reason; everything is kept for them."""

    faults: Mapping[str, int] = field(default_factory=dict)
    """Faults inside gati, by place. Each was contained."""

    @property
    def masked_out(self) -> int:
        """Deprecated: use `mask_failures`."""
        warn_renamed("Stats.masked_out", "Stats.mask_failures")
        return self.mask_failures

    @property
    def balanced(self) -> bool:
        """True if every message is accounted for; anything else is a fault of gati's."""
        return self.recorded == (
            self.delivered + self.spooled + self.pending + self.rejected + sum(self.dropped.values())
        )


@dataclass(frozen=True, slots=True)
class FlushResult:
    """What a flush achieved. `delivered`, `rejected` and `dropped` count since the flush before;
    the others are as things stand. Truthy if nothing is left to deliver and nothing was given up.
    """

    delivered: int = 0
    """Messages acknowledged."""

    spooled: int = 0
    """Messages on disk that are still to be delivered, by this process or the next."""

    pending: int = 0
    """Messages in memory only that are still to be delivered."""

    rejected: int = 0
    """Messages refused for good by their destination."""

    dropped: int = 0
    """Messages given up for a limit; `Stats.dropped` has the reasons."""

    turns_open: int = 0
    """Turns that have not ended and so are not part of this."""

    timed_out: bool = False
    """True if the time was over before all was delivered or given up."""

    paused: tuple[str, ...] = ()
    """Destinations that refuse our key."""

    def __bool__(self) -> bool:
        return not (self.spooled or self.pending or self.rejected or self.dropped or self.timed_out)


class DeliveryCounters:
    """Where every message is. All methods may be called from any thread."""

    def __init__(self) -> None:
        # Reentrant: a signal handler may ask for the stats while its thread is in here.
        self._lock = threading.RLock()
        self._at: Counter[Place] = Counter()
        self._dropped: Counter[str] = Counter()
        self._turns_dropped: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._flushed: Counter[Place] = Counter()

    def add(self, items: int, place: Place, reason: str = "", *, recovered: bool = False) -> None:
        """New messages stand at `place`; `reason` says why if that is "dropped"."""
        with self._lock:
            self._counts["recorded"] += items
            self._counts["recovered"] += items if recovered else 0
            self._arrive(items, place, reason)

    def move(self, items: int, source: Place, target: Place, reason: str = "") -> None:
        """Messages go from one place to another."""
        with self._lock:
            self._at[source] -= items
            self._arrive(items, target, reason)

    def leave(self, items: int, source: Place, *, recovered: bool = False) -> None:
        """Messages were handed to another process, which counts them from now on."""
        with self._lock:
            self._at[source] -= items
            self._counts["recorded"] -= items
            self._counts["recovered"] -= items if recovered else 0

    def _arrive(self, items: int, place: Place, reason: str) -> None:
        self._at[place] += items
        if place == "dropped":
            self._dropped[reason] += items

    def count(self, name: Literal["turns", "requests", "retries", "mask_failures"], by: int = 1) -> None:
        """Raise one of the plain counters of `Stats`."""
        with self._lock:
            self._counts[name] += by

    def count_dropped_turns(self, turns: int, reason: str) -> None:
        """Turns were given up before they became messages."""
        if turns > 0:
            with self._lock:
                self._turns_dropped[reason] += turns

    def stats(self, **others: object) -> Stats:
        """One consistent reading; `others` are fields that are known elsewhere."""
        with self._lock:
            at, counts = self._at, self._counts
            return Stats(
                recorded=counts["recorded"],
                recovered=counts["recovered"],
                delivered=at["delivered"],
                spooled=at["spooled"],
                pending=at["pending"],
                rejected=at["rejected"],
                dropped={k: v for k, v in self._dropped.items() if v},
                turns=counts["turns"],
                turns_dropped=dict(self._turns_dropped),
                requests=counts["requests"],
                retries=counts["retries"],
                mask_failures=counts["mask_failures"],
                **others,  # type: ignore[arg-type]  # each of these fields has a type of its own
            )

    def flush_result(self, *, turns_open: int, timed_out: bool, paused: tuple[str, ...]) -> FlushResult:
        """The result of a flush that ends now; the next one counts from here."""
        with self._lock:
            at, before = Counter(self._at), self._flushed
            self._flushed = at
        return FlushResult(
            delivered=at["delivered"] - before["delivered"],
            spooled=at["spooled"],
            pending=at["pending"],
            rejected=at["rejected"] - before["rejected"],
            dropped=at["dropped"] - before["dropped"],
            turns_open=turns_open,
            timed_out=timed_out,
            paused=paused,
        )
