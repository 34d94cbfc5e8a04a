"""Requests of one conversation that wait are sent together, and what becomes of each stays exact."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gati.exporters.base import DELIVERED, Outcome, PackedRequest, Request, RequestLimits, Verdict
from gati.pipeline.codec import pack, unpack, unpack_lazily
from gati.pipeline.journal import Lines
from gati.pipeline.outbox import Outbox
from gati.pipeline.queued_request import QueuedRequest
from gati.pipeline.request_queue import Limits
from gati.pipeline.retry import Policy
from gati.pipeline.sender import Sender
from gati.pipeline.stats import DeliveryCounters

Texts = Sequence[str]


class Entry:
    """A record of a log."""

    def __init__(self, line: bytes, items: int) -> None:
        self.line, self.items, self.size = line, items, len(line)


class Log:
    """A journal whose entries are single requests, as a relay's."""

    def __init__(self) -> None:
        self.waiting: list[Entry] = []
        self.removed: list[Entry] = []
        self.withdrawn: list[Entry] = []
        self.dead: list[bytes] = []

    def adopt(self, *, everything: bool = False) -> list[Entry]:
        found, self.waiting = self.waiting, []
        return found

    def read(self, entry: Entry) -> Lines:
        return [(unpack_lazily(entry.line), entry.line)]

    def remove(self, entry: Entry) -> bool:
        self.removed.append(entry)
        return True

    def set_aside(self, line: bytes, reason: str, entry: Entry | None) -> bool:
        self.dead.append(line)
        return True

    def withdraw(self, entry: Entry) -> None:
        self.withdrawn.append(entry)

    def close(self) -> None:
        pass


class Destination:
    """Notes the texts of each call, and answers as `answer` says."""

    name, account, durable = "destination", "", False
    join_limits = RequestLimits(10, 10_000)

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.answer: Callable[[list[str]], Outcome] = lambda texts: DELIVERED

    def encode(self, items: Any) -> list[Request]:
        raise NotImplementedError

    def send(self, request: Request) -> Outcome:
        texts = [message["text"] for message in request.body["messages"]]
        assert len(texts) == request.items
        self.calls.append(texts)
        return self.answer(texts)

    def split(self, request: Request) -> tuple[Request, Request] | None:
        return None

    def after_fork(self) -> None:
        pass

    def close(self) -> None:
        pass


def packed(key: str, texts: Texts, **fields: Any) -> Entry:
    items = [orjson.dumps({"text": text}) for text in texts]
    request = PackedRequest.of(
        key, f"{key}-{texts[0]}", "messages", "messages", orjson.dumps({"c": key, **fields})[1:-1], items
    )
    return Entry(pack(request), len(items))


class Relay:
    """An outbox over a log. Everything is sent in the calling thread."""

    def __init__(self, *entries: Entry) -> None:
        self.log, self.destination, self.counters = Log(), Destination(), DeliveryCounters()
        policy = Policy(first=0.0, cap=0.0, probe=0.0, max_failures_among_successes=5)
        self.outbox = Outbox(self.destination, self.counters, None, Limits(), policy, journal=self.log)
        self.sender = Sender(self.outbox, 1, lambda: None)
        self.add(*entries)

    def add(self, *entries: Entry) -> None:
        self.log.waiting += entries
        self.outbox.adopt()
        self.outbox.open()

    def send_one(self) -> list[str]:
        """Make one call; return its texts."""
        queued = self.outbox.next(0)
        assert queued is not None
        self.settle(queued)
        return self.destination.calls[-1]

    def settle(self, queued: QueuedRequest) -> None:
        taken = [queued]
        self.sender._settle(taken, self.sender._attempt(taken))

    def send_all(self) -> list[list[str]]:
        while (queued := self.outbox.next(0)) is not None:
            self.settle(queued)
        return self.destination.calls


def test_requests_that_wait_are_sent_together_in_order() -> None:
    entries = [packed("c", ["1", "2"]), packed("d", ["5"]), packed("c", ["3"]), packed("c", ["4"])]
    relay = Relay(*entries)
    assert relay.send_all() == [["1", "2", "3", "4"], ["5"]]
    assert set(relay.log.removed) == set(entries)
    assert relay.counters.stats().delivered == 5
    assert relay.counters.stats().requests == 2


def test_requests_with_another_envelope_or_above_the_limits_are_sent_alone() -> None:
    relay = Relay(packed("c", ["1"]), packed("c", ["2"], prompt="p"), packed("c", ["3"]), packed("c", ["x"] * 10))
    relay.add(packed("c", ["y" * 6_000]), packed("c", ["z" * 6_000]))
    assert [len(texts) for texts in relay.send_all()] == [1, 1, 1, 10, 1, 1]


@given(st.lists(st.tuples(st.integers(1, 6), st.booleans()), min_size=1, max_size=30))
def test_joined_requests_hold_the_same_items_as_single_ones(requests: list[tuple[int, bool]]) -> None:
    texts = iter(range(10_000))
    entries = [packed("c", [str(next(texts)) for _ in range(count)], flag=flag) for count, flag in requests]
    relay = Relay(*entries)
    calls = relay.send_all()
    assert [text for call in calls for text in call] == [str(n) for n in range(sum(entry.items for entry in entries))]
    assert all(len(call) <= Destination.join_limits.items for call in calls)
    assert relay.log.removed == entries


@pytest.mark.parametrize("verdict", [Verdict.REJECT, Verdict.SPLIT, Verdict.PARTIAL])
def test_of_joined_requests_only_the_refused_one_is_set_aside(verdict: Verdict) -> None:
    entries = [packed("c", ["1"]), packed("c", ["bad"]), packed("c", ["3"])]
    relay = Relay(*entries)

    def answer(texts: list[str]) -> Outcome:
        return Outcome(verdict if len(texts) > 1 else Verdict.REJECT, "HTTP 400") if "bad" in texts else DELIVERED

    relay.destination.answer = answer
    assert relay.send_all() == [["1", "bad", "3"], ["1"], ["bad"], ["3"]]
    assert relay.log.dead == [entries[1].line]
    assert relay.log.removed == entries
    assert (relay.counters.stats().delivered, relay.counters.stats().rejected) == (2, 1)


def test_joined_requests_that_keep_failing_while_others_succeed_are_sent_alone() -> None:
    entries = [packed("c", ["1"]), packed("c", ["bad"]), packed("c", ["3"])]
    relay = Relay(*entries)
    relay.destination.answer = lambda texts: Outcome(Verdict.RETRY, "HTTP 500") if "bad" in texts else DELIVERED
    for number in range(40):
        relay.add(packed(f"other{number}", [str(number)]))
        relay.send_one()
        if not relay.log.dead:
            relay.send_one()
    relay.send_all()
    assert relay.log.dead == [entries[1].line]
    assert set(entries) <= set(relay.log.removed)
    failed = [texts for texts in relay.destination.calls if "bad" in texts]
    assert failed.count(["bad"]) == 6, "the first failure, and five since which others succeeded"
    assert failed[:-6] == [["1", "bad", "3"]] * 3


def test_requests_that_failed_together_are_sent_together_again_after_an_outage() -> None:
    relay = Relay(packed("c", ["1"]), packed("c", ["2"]))
    relay.destination.answer = lambda texts: Outcome(Verdict.RETRY, "no answer")
    assert relay.send_one() == relay.send_one() == ["1", "2"]
    relay.destination.answer = lambda texts: Outcome(Verdict.PAUSE, "HTTP 401")
    assert relay.send_one() == ["1", "2"]
    relay.destination.answer = lambda texts: DELIVERED
    relay.add(packed("c", ["3"]))
    assert relay.send_one() == ["1", "2", "3"]
    assert relay.counters.stats().delivered == 3


@pytest.mark.parametrize("verdict", [Verdict.OK, Verdict.RETRY, Verdict.REJECT])
def test_joined_requests_that_are_withdrawn_in_flight_are_not_sent_again(verdict: Verdict) -> None:
    entries = [packed("c", ["1"]), packed("c", ["2"])]
    relay = Relay(*entries)

    def answer(texts: list[str]) -> Outcome:
        relay.outbox.withdraw(lambda entry: True)
        return Outcome(verdict)

    relay.destination.answer = answer
    assert relay.send_all() == [["1", "2"]]
    delivered = verdict is Verdict.OK
    assert relay.log.removed == (entries if delivered else [])
    assert relay.log.withdrawn == ([] if delivered else entries)
    assert relay.counters.stats().delivered == (2 if delivered else 0)
    assert relay.outbox.in_flight == 0


def test_only_one_of_two_requests_that_failed_together_is_withdrawn() -> None:
    entries = [packed("c", ["1"]), packed("c", ["2"])]
    relay = Relay(*entries)

    def answer(texts: list[str]) -> Outcome:
        if len(texts) == 2:
            relay.outbox.withdraw(lambda entry: entry is entries[0])
            return Outcome(Verdict.RETRY)
        return DELIVERED

    relay.destination.answer = answer
    assert relay.send_all() == [["1", "2"], ["2"]]
    assert (relay.log.withdrawn, relay.log.removed) == (entries[:1], entries[1:])


def test_a_line_that_was_read_is_packed_as_it_was() -> None:
    line = packed("c", ["1"]).line
    request = unpack_lazily(line)
    assert pack(request) is line
    assert isinstance(request, PackedRequest)
    request.max_items = request.max_bytes = 1_000
    other = unpack_lazily(packed("c", ["2"]).line)
    assert isinstance(other, PackedRequest)
    other.max_items = 1
    assert request.join(other)
    assert unpack(pack(request)).body == {"c": "c", "messages": [{"text": "1"}, {"text": "2"}]}
