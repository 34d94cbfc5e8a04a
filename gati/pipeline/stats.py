"""Delivery counters, and the public snapshots that are made of them.

Every message is in exactly one place at any time, and moves from one place to the next in one step. So does
every turn until it becomes messages. So every snapshot satisfies::

    recorded == delivered + published + spooled + pending + rejected + sum(dropped.values())
    turns_begun == turns_open + turns_waiting + turns_encoded + sum(turns_dropped.values())
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from gati._deprecation import warn_renamed

Place: TypeAlias = Literal["delivered", "published", "spooled", "pending", "rejected", "dropped"]

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
    """Number of messages; of turns if they were lost before they became messages (the reasons of
    `Stats.turns_dropped`). 0 if it is unknown, and for `paused`."""

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

    published: int = 0
    """Messages that a queue acknowledged. A relay delivers them; see `gati relay status`."""

    spooled: int = 0
    """Messages on disk, not acknowledged yet. The next process delivers them if this one cannot."""

    pending: int = 0
    """Messages in memory only, not acknowledged yet: the spool is off or cannot be written."""

    rejected: int = 0
    """Messages that the destination refused permanently; kept in the spool's `rejected/` with the reason, unless it
    did not say which ones."""

    dropped: Mapping[str, int] = field(default_factory=dict)
    """Lost messages by reason: `spool_full`, `memory_full`, `spool_lost`, `damaged`, `split`, `internal_error`, and
    `shutdown` for those that were in memory only when the pipeline was shut down."""

    records: int = 0
    """Records created by callbacks, including refused ones."""

    records_waiting: int = 0
    """Part of `records`: not assembled yet."""

    records_refused: int = 0
    """Part of `records`: refused because the buffer was full or the pipeline was shut down, or left in the buffer
    when a shutdown timed out."""

    turns: int = 0
    """Turns (their parts, if they are delivered in parts), manual events and actions that were assembled."""

    turns_begun: int = 0
    """Turns (or their parts), manual events and actions that were assembled, are being assembled, or were lost before that."""

    turns_open: int = 0
    """Part of `turns_begun`: turns that have started and not ended."""

    turns_waiting: int = 0
    """Part of `turns_begun`: assembled, and being masked or encoded."""

    turns_encoded: int = 0
    """Part of `turns_begun`: encoded as messages for every destination."""

    sampled_out: int = 0
    """Turns, manual events and ratings that were not delivered, because `sample_rate` leaves out their conversation."""

    outside_conversation: int = 0
    """Root runs that were not delivered, because they belong to no conversation: spans, steps, retrievers, store operations
    and plain runnables outside of `observe.conversation` and of a thread, without a model or a tool below."""

    turns_dropped: Mapping[str, int] = field(default_factory=dict)
    """Part of `turns_begun`: lost before they became messages, by reason. `buffer_full`: records of the turn were
    refused. `assembler`, `internal_error`: an error in gati. `mask`: the turn could not be masked. `encode`: at
    least one destination could not encode it. `shutdown`: a shutdown timed out before the turn was processed."""

    requests: int = 0
    """Attempts to send a request."""

    retries: int = 0
    """Part of `requests`: attempts that failed and were or will be repeated."""

    spool_bytes: int = 0
    """Size of this process's spool files, in bytes."""

    memory_bytes: int = 0
    """Size of waiting records, of the records of open turns, and of waiting requests, in bytes."""

    journal_bytes: int = 0
    """Size of the journal, which keeps records that are not in the spool yet from being lost with the process; 0 if there
    is none. `gati doctor` says why."""

    journal_lost: int = 0
    """Records that are not in the journal because it was full, or because they were too large."""

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
        """True if every message and every turn is accounted for; False is a bug in gati."""
        messages = self.delivered + self.published + self.spooled + self.pending + self.rejected
        messages += sum(self.dropped.values())
        turns = self.turns_open + self.turns_waiting + self.turns_encoded + sum(self.turns_dropped.values())
        return (self.recorded, self.turns_begun) == (messages, turns)


@dataclass(frozen=True, slots=True)
class FlushResult:
    """Result of `flush`. Truthy if nothing is left to deliver and nothing was lost since the previous flush.

    `delivered`, `published`, `rejected`, `dropped`, `turns_dropped`, `records_refused` and `faults` count since the
    previous flush; the other fields describe the state when the flush returned.
    """

    delivered: int = 0
    """Messages that their destination acknowledged."""

    published: int = 0
    """Messages that a queue acknowledged. A relay delivers them."""

    spooled: int = 0
    """Messages on disk, to be delivered by this process or the next."""

    pending: int = 0
    """Messages in memory only, to be delivered by this process."""

    rejected: int = 0
    """Messages that the destination refused permanently."""

    dropped: int = 0
    """Messages lost because of a limit; see `Stats.dropped` for the reasons."""

    turns_dropped: int = 0
    """Turns lost before they became messages; see `Stats.turns_dropped` for the reasons."""

    records_refused: int = 0
    """Records refused because the buffer was full or the pipeline was shut down."""

    faults: int = 0
    """Internal errors of gati that may have lost a part of a turn; see `Stats.faults` for the places."""

    turns_open: int = 0
    """Turns that have not ended and were not part of the flush."""

    timed_out: bool = False
    """True if the timeout elapsed first."""

    paused: tuple[str, ...] = ()
    """Destinations that refuse the API key."""

    def __bool__(self) -> bool:
        left = self.spooled or self.pending or self.timed_out
        lost = self.rejected or self.dropped or self.turns_dropped or self.records_refused or self.faults
        return not (left or lost)


PlainCount: TypeAlias = Literal["requests", "retries", "mask_failures"]


class DeliveryCounters:
    """Count the messages and the assembled turns in each place. Thread-safe.

    Writers replace one immutable mapping under a lock. Readers take no lock: a thread of the program that is
    interrupted while it reads must not stop a writer.
    """

    def __init__(self, faults: int = 0) -> None:
        """`faults` is the number of internal errors before the first flush counts them."""
        self._lock = threading.RLock()
        self._counts: Mapping[tuple[str, str], int] = {}
        self._flushed: Mapping[tuple[str, str], int] = {("", "faults"): faults}
        self._are_turns_abandoned = False

    def go_on(self) -> DeliveryCounters:
        """Return counters that begin with these numbers, for a pipeline that begins again after its shutdown.

        It takes over what lies on disk, and counts it again.
        """
        later = DeliveryCounters()
        counts = later._counts = self._counts
        later._flushed = self._flushed
        spooled = counts.get(("at", "spooled"), 0)
        recovered = min(spooled, counts.get(("", "recovered"), 0))
        later._change((("at", "spooled"), -spooled), (("", "recorded"), -spooled), (("", "recovered"), -recovered))
        return later

    def add(self, items: int, place: Place, reason: str = "", *, recovered: bool = False) -> None:
        """Count new messages at `place`; `reason` is required for "dropped"."""
        self._change(
            (("", "recorded"), items),
            (("", "recovered"), items if recovered else 0),
            *_at(place, reason, items),
        )

    def move(self, items: int, source: Place, target: Place, reason: str = "") -> None:
        """Move messages from one place to another."""
        self._change((("at", source), -items), *_at(target, reason, items))

    def withdraw(self, items: int, source: Place) -> None:
        """Count messages that were taken over as if they had not been, because another process delivers them."""
        self._change((("at", source), -items), (("", "recorded"), -items), (("", "recovered"), -items))

    def count(self, name: PlainCount, by: int = 1) -> None:
        """Increment a plain counter of `Stats`."""
        self._change((("", name), by))

    def count_turns(self, *, begun: int, opened: int = 0, assembled: int = 0, **lost: int) -> None:
        """Count changes in the assembler.

        Args:
            begun: turns that began.
            opened: turns that began, less those that ended.
            assembled: turns that were assembled and wait for being masked and encoded.
            lost: turns that were lost before they were assembled, by reason.
        """
        self._change_turns(
            (("turns", "begun"), begun),
            (("turns", "open"), opened),
            (("turns", "assembled"), assembled),
            (("turns", "waiting"), assembled),
            *((("turns_dropped", reason), turns) for reason, turns in lost.items()),
        )

    def move_turns(self, turns: int, target: Literal["encoded", "dropped"], reason: str = "") -> None:
        """Move waiting turns on; `reason` is required for "dropped"."""
        place = ("turns", "encoded") if target == "encoded" else ("turns_dropped", reason)
        self._change_turns((("turns", "waiting"), -turns), (place, turns))

    def abandon_turns(self, unread: int, reason: str) -> int:
        """Count all turns that have not become messages as dropped, and ignore all later changes of turns.

        Args:
            unread: turns in the buffer, which the assembler has not seen.
            reason: the reason for `Stats.turns_dropped`.

        Returns:
            The number of turns that were lost.
        """
        with self._lock:
            opened, waiting = (self._counts.get(("turns", place), 0) for place in ("open", "waiting"))
            lost = opened + waiting + unread
            self._change(
                (("turns", "begun"), unread),
                (("turns", "open"), -opened),
                (("turns", "waiting"), -waiting),
                (("turns_dropped", reason), lost),
            )
            self._are_turns_abandoned = True
        return lost

    def _change_turns(self, *changes: tuple[tuple[str, str], int]) -> None:
        with self._lock:
            if not self._are_turns_abandoned:
                self._change(*changes)

    def _change(self, *changes: tuple[tuple[str, str], int]) -> None:
        with self._lock:
            counts = dict(self._counts)
            for key, by in changes:
                counts[key] = counts.get(key, 0) + by
            self._counts = counts

    def stats(self, **others: object) -> Stats:
        """Return a consistent snapshot; `others` are the fields that are not counted here."""
        counts = Counter(self._counts)
        return Stats(
            recorded=counts["", "recorded"],
            recovered=counts["", "recovered"],
            delivered=counts["at", "delivered"],
            published=counts["at", "published"],
            spooled=counts["at", "spooled"],
            pending=counts["at", "pending"],
            rejected=counts["at", "rejected"],
            dropped=_by_reason(counts, "dropped"),
            turns=counts["turns", "assembled"],
            turns_begun=counts["turns", "begun"],
            turns_open=counts["turns", "open"],
            turns_waiting=counts["turns", "waiting"],
            turns_encoded=counts["turns", "encoded"],
            turns_dropped=_by_reason(counts, "turns_dropped"),
            requests=counts["", "requests"],
            retries=counts["", "retries"],
            mask_failures=counts["", "mask_failures"],
            **others,  # type: ignore[arg-type]  # each of these fields has a type of its own
        )

    def flush_result(
        self,
        *,
        records_refused: int = 0,
        faults: int = 0,
        turns_open: int | None = None,
        timed_out: bool,
        paused: tuple[str, ...],
    ) -> FlushResult:
        """Return the result of a flush that ends now; the next one counts from here.

        Args:
            records_refused: refused records since the start, as in `Stats`.
            faults: internal errors since the start that may have lost something.
            turns_open: turns that have not ended; default: as counted.
            timed_out: whether the flush took too long.
            paused: destinations that refuse the key.
        """
        now = Counter({**self._counts, ("", "refused"): records_refused, ("", "faults"): faults})
        before, self._flushed = Counter(self._flushed), now
        turns_dropped = sum(_by_reason(now, "turns_dropped").values()) - sum(
            _by_reason(before, "turns_dropped").values()
        )
        return FlushResult(
            delivered=now["at", "delivered"] - before["at", "delivered"],
            published=now["at", "published"] - before["at", "published"],
            spooled=now["at", "spooled"],
            pending=now["at", "pending"],
            rejected=now["at", "rejected"] - before["at", "rejected"],
            dropped=now["at", "dropped"] - before["at", "dropped"],
            turns_dropped=turns_dropped,
            records_refused=records_refused - before["", "refused"],
            faults=max(0, faults - before["", "faults"]),
            turns_open=now["turns", "open"] if turns_open is None else turns_open,
            timed_out=timed_out,
            paused=paused,
        )


def _at(place: Place, reason: str, items: int) -> list[tuple[tuple[str, str], int]]:
    """Return the changes of the counts when messages arrive at a place."""
    changes: list[tuple[tuple[str, str], int]] = [(("at", place), items)]
    return [*changes, (("dropped", reason), items)] if place == "dropped" else changes


def _by_reason(counts: Mapping[tuple[str, str], int], name: str) -> dict[str, int]:
    return {reason: number for (kind, reason), number in counts.items() if kind == name and number}
