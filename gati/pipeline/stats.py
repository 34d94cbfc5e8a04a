"""Delivery counters, and the public snapshots that are made of them.

Every message is in exactly one place at any time, and moves from one place to the next in one step
under one lock. So every snapshot satisfies::

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

DropKind: TypeAlias = Literal["dropped", "rejected", "paused"]


@dataclass(frozen=True, slots=True)
class Drop:
    """A loss or a pause in delivery, as the `on_drop` callback receives it."""

    reason: str
    """The limit or error, as in `Stats.dropped` and `Stats.turns_dropped` (`spool_full`, `buffer_full`, …), or the
    destination's answer. Contains no content and no keys."""

    kind: DropKind
    """`dropped`: lost for good. `rejected`: refused by the destination and set aside in the spool. `paused`: the
    destination refuses the API key; nothing is lost, and delivery continues once the key works."""

    messages: int
    """Number of messages; of turns if they were lost before they became messages (`buffer_full`, `encode`, `mask`).
    0 if it is unknown, and for `paused`."""

    destination: str
    """Name of the exporter; empty for turns that were lost before they were encoded for one."""

    conversation_id: str | None
    """The conversation, if exactly one is affected and known."""


@dataclass(frozen=True, slots=True)
class Stats:
    """Counters of this process since `init`.

    Counts are messages (events, for a GATI backend) unless the field's description names something
    else. A message with two destinations counts twice.
    """

    recorded: int = 0
    """Messages encoded for a destination, including those taken over from processes that have exited."""

    recovered: int = 0
    """Part of `recorded`: taken over from the spool of processes that have exited."""

    delivered: int = 0
    """Messages that their destination acknowledged."""

    spooled: int = 0
    """Messages on disk, not acknowledged yet. The next process delivers them if this one cannot."""

    pending: int = 0
    """Messages in memory only, not acknowledged yet: the spool is off or cannot be written."""

    rejected: int = 0
    """Messages that the destination refused permanently; kept in the spool's `rejected/` with the reason."""

    dropped: Mapping[str, int] = field(default_factory=dict)
    """Lost messages by reason: `spool_full`, `memory_full`, `spool_lost`, `damaged`, `split`."""

    records: int = 0
    """Records created by callbacks, including refused ones."""

    records_waiting: int = 0
    """Part of `records`: not assembled yet."""

    records_refused: int = 0
    """Part of `records`: refused because the buffer was full or the pipeline was shut down."""

    turns: int = 0
    """Turns, manual events and actions that were assembled."""

    turns_open: int = 0
    """Turns that have started and not ended."""

    sampled_out: int = 0
    """Turns, manual events and ratings that were not delivered, because `sample_rate` leaves out their conversation."""

    outside_conversation: int = 0
    """Root runs that were not delivered, because they belong to no conversation: spans, steps, tools, retrievers, store
    operations and plain runnables outside of `observe.conversation` and of a thread, without a model below."""

    turns_dropped: Mapping[str, int] = field(default_factory=dict)
    """Turns lost before they became messages, by reason: `buffer_full`, `encode`, `mask`."""

    requests: int = 0
    """Attempts to send a request."""

    retries: int = 0
    """Part of `requests`: attempts that failed and were or will be repeated."""

    spool_bytes: int = 0
    """Size of this process's spool files, in bytes."""

    memory_bytes: int = 0
    """Approximate memory of waiting records and requests, in bytes."""

    mask_failures: int = 0
    """Texts that were replaced by a marker because `mask` failed on them."""

    paused: Mapping[str, str] = field(default_factory=dict)
    """Destinations that refuse the API key, with the reason. Messages are kept until the key works."""

    faults: Mapping[str, int] = field(default_factory=dict)
    """Internal errors of gati by place. Each was contained."""

    @property
    def masked_out(self) -> int:
        """Deprecated: use `mask_failures`."""
        warn_renamed("Stats.masked_out", "Stats.mask_failures")
        return self.mask_failures

    @property
    def balanced(self) -> bool:
        """True if every message is accounted for; False is a bug in gati."""
        return self.recorded == (
            self.delivered + self.spooled + self.pending + self.rejected + sum(self.dropped.values())
        )


@dataclass(frozen=True, slots=True)
class FlushResult:
    """Result of `flush`. Truthy if nothing is left to deliver and nothing was lost.

    `delivered`, `rejected` and `dropped` count since the previous flush; the other fields describe
    the state when the flush returned.
    """

    delivered: int = 0
    """Messages that their destination acknowledged."""

    spooled: int = 0
    """Messages on disk, to be delivered by this process or the next."""

    pending: int = 0
    """Messages in memory only, to be delivered by this process."""

    rejected: int = 0
    """Messages that the destination refused permanently."""

    dropped: int = 0
    """Messages lost because of a limit; see `Stats.dropped` for the reasons."""

    turns_open: int = 0
    """Turns that have not ended and were not part of the flush."""

    timed_out: bool = False
    """True if the timeout elapsed first."""

    paused: tuple[str, ...] = ()
    """Destinations that refuse the API key."""

    def __bool__(self) -> bool:
        return not (self.spooled or self.pending or self.rejected or self.dropped or self.timed_out)


class DeliveryCounters:
    """Count the messages in each place. Thread-safe."""

    def __init__(self) -> None:
        # Reentrant: a signal handler may call `stats` while its own thread holds the lock.
        self._lock = threading.RLock()
        self._at: Counter[Place] = Counter()
        self._dropped: Counter[str] = Counter()
        self._turns_dropped: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._flushed: Counter[Place] = Counter()

    def add(self, items: int, place: Place, reason: str = "", *, recovered: bool = False) -> None:
        """Count new messages at `place`; `reason` is required for "dropped"."""
        with self._lock:
            self._counts["recorded"] += items
            self._counts["recovered"] += items if recovered else 0
            self._increment(items, place, reason)

    def move(self, items: int, source: Place, target: Place, reason: str = "") -> None:
        """Move messages from one place to another."""
        with self._lock:
            self._at[source] -= items
            self._increment(items, target, reason)

    def _increment(self, items: int, place: Place, reason: str) -> None:
        self._at[place] += items
        if place == "dropped":
            self._dropped[reason] += items

    def count(self, name: Literal["turns", "requests", "retries", "mask_failures"], by: int = 1) -> None:
        """Increment a plain counter of `Stats`."""
        with self._lock:
            self._counts[name] += by

    def count_dropped_turns(self, turns: int, reason: str) -> None:
        """Count turns that were lost before they became messages."""
        if turns > 0:
            with self._lock:
                self._turns_dropped[reason] += turns

    def stats(self, **others: object) -> Stats:
        """Return a consistent snapshot; `others` are the fields that are not counted here."""
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
        """Return the result of a flush that ends now; the next one counts from here."""
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
