"""An outbox over a journal that is no spool: entries are taken over, read, removed, set aside and withdrawn."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from gati.exporters.base import DELIVERED, Outcome, Request, Verdict
from gati.pipeline.codec import pack
from gati.pipeline.journal import Lines
from gati.pipeline.outbox import Outbox
from gati.pipeline.request_queue import Limits
from gati.pipeline.retry import Policy
from gati.pipeline.stats import DeliveryCounters
from tests.pipeline.kit import FakeExporter


@dataclass(eq=False)
class Entry:
    request: Request
    lane: int = 0
    items: int = 1
    size: int = 10


@dataclass
class MemoryJournal:
    entries: list[Entry]
    removed: list[Entry] = field(default_factory=list)
    withdrawn: list[Entry] = field(default_factory=list)
    aside: list[tuple[str, Entry]] = field(default_factory=list)
    is_closed: bool = False
    fails: bool = False

    def adopt(self, *, everything: bool = False) -> list[Entry]:
        taken, self.entries = self.entries, []
        return taken

    def read(self, entry: Entry) -> Lines | None:
        if self.fails:
            raise OSError
        return [(entry.request, pack(entry.request))]

    def remove(self, entry: Entry) -> bool:
        self.removed.append(entry)
        return True

    def set_aside(self, line: bytes, reason: str, entry: Entry) -> bool:
        if not self.fails:
            self.aside.append((reason, entry))
        return not self.fails

    def withdraw(self, entry: Entry) -> None:
        self.withdrawn.append(entry)

    def close(self) -> None:
        self.is_closed = True


def entry(key: str, number: int, lane: int = 0) -> Entry:
    return Entry(Request(key, {"n": number}, 1, f"{key}-{number}"), lane)


class Setup:
    def __init__(self, *entries: Entry) -> None:
        self.entries = entries
        self.journal = MemoryJournal(list(entries))
        self.counters = DeliveryCounters()
        policy = Policy(first=0.001, cap=0.001, max_failures_among_successes=2)
        self.outbox = Outbox(FakeExporter(), self.counters, None, Limits(), policy, journal=self.journal)
        assert self.outbox.adopt() == len(entries)
        self.outbox.open()

    @property
    def counted(self) -> tuple[int, int, int]:
        stats = self.counters.stats()
        assert stats.balanced
        return stats.delivered, stats.spooled, stats.rejected


def test_entries_are_removed_when_they_are_delivered():
    setup = Setup(entry("a", 1), entry("b", 1), entry("a", 2))
    sent = []
    while (queued := setup.outbox.next(0)) is not None:
        sent.append(queued.turn_id)
        setup.outbox.settle(queued, DELIVERED)
    assert sent == ["a-1", "b-1", "a-2"]
    assert setup.journal.removed == [setup.entries[0], setup.entries[1], setup.entries[2]]
    assert setup.counted == (3, 0, 0)
    setup.outbox.close()
    assert setup.journal.is_closed


def test_what_is_withdrawn_is_neither_delivered_nor_dropped_nor_sent():
    first, second, other, waiting = entry("a", 1, 0), entry("a", 2, 0), entry("b", 1, 1), entry("c", 1, 0)
    setup = Setup(first, second, other, waiting)
    queued = setup.outbox.next(0)
    assert queued is not None
    setup.outbox.withdraw(lambda found: getattr(found, "lane", None) == 0)
    assert {id(found) for found in setup.journal.withdrawn} == {id(second), id(waiting)}
    remaining = setup.outbox.next(0)
    assert remaining is not None
    assert remaining.ordering_key == "b"
    setup.outbox.settle(remaining, DELIVERED)
    setup.outbox.settle(queued, DELIVERED)
    assert setup.outbox.next(0) is None
    assert setup.journal.removed == [other, first]
    assert setup.counted == (2, 0, 0)


@pytest.mark.parametrize("verdict", [Verdict.RETRY, Verdict.PAUSE])
def test_a_failed_attempt_of_a_withdrawn_entry_is_not_repeated(verdict: Verdict):
    setup = Setup(entry("a", 1))
    queued = setup.outbox.next(0)
    assert queued is not None
    setup.outbox.withdraw(lambda _: True)
    assert setup.journal.withdrawn == []
    setup.outbox.settle(queued, Outcome(verdict, "down"))
    assert setup.journal.withdrawn == [setup.entries[0]]
    assert setup.journal.removed == []
    assert setup.counted == (0, 0, 0)


def test_the_rest_of_a_withdrawn_request_is_left_to_others():
    whole = Entry(Request("a", {}, 3, "a-1"), items=3)
    setup = Setup()
    setup.journal.entries = [whole]
    setup.outbox.adopt()
    setup.outbox.open()
    queued = setup.outbox.next(0)
    assert queued is not None
    setup.outbox.withdraw(lambda _: True)
    rest = Request("a", {}, 1, "a-1", omissions=1)
    setup.outbox.settle(queued, Outcome(Verdict.PARTIAL, rest=rest))
    assert setup.journal.withdrawn == [whole]
    assert setup.counted == (2, 0, 0)


def test_a_key_may_be_owned_again_while_its_old_request_is_in_flight():
    setup = Setup(entry("a", 1), entry("a", 2))
    queued = setup.outbox.next(0)
    assert queued is not None
    setup.outbox.withdraw(lambda _: True)
    setup.journal.entries = [entry("a", 2)]
    setup.outbox.adopt()
    assert setup.outbox.next(0) is None, "one request of a key at a time"
    setup.outbox.settle(queued, DELIVERED)
    again = setup.outbox.next(0)
    assert again is not None
    assert again.turn_id == "a-2"


def test_a_refused_request_stays_until_the_journal_has_set_it_aside():
    setup = Setup(entry("a", 1))
    queued = setup.outbox.next(0)
    assert queued is not None
    setup.journal.fails = True
    setup.outbox.settle(queued, Outcome(Verdict.REJECT, "HTTP 400"))
    assert setup.journal.removed == []
    setup.journal.fails = False
    setup.outbox.maintain(urgent=True)
    assert setup.journal.aside == [("HTTP 400", setup.entries[0])]
    assert setup.journal.removed == [setup.entries[0]]


def test_an_entry_that_cannot_be_read_now_is_withdrawn_like_others():
    setup = Setup(entry("a", 1))
    setup.journal.fails = True
    assert setup.outbox.next(0) is None
    setup.outbox.withdraw(lambda _: True)
    assert setup.journal.withdrawn == [setup.entries[0]]
    assert setup.counted == (0, 0, 0)
