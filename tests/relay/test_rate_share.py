from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from gati.relay import rate_share
from gati.relay.rate_share import RateShare


class StepClock:
    """Stands in for the module `time`."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[StepClock]:
    made = StepClock()
    monkeypatch.setattr(rate_share, "time", made)
    yield made
    assert time.monotonic()


def send_for(share: RateShare, clock: StepClock, seconds: float) -> int:
    sent, until = 0, clock.now + seconds
    while clock.now < until:
        share.polled(clock.now, 10.0)
        if share.blocked_until <= clock.now:
            share.spend(clock.now)
            sent += 1
        else:
            clock.now += 0.001
    return sent


def test_relays_send_their_shares_of_the_rate(clock: StepClock):
    share = RateShare(100.0)
    share.share(1, 4)
    assert share.limit == 25.0
    assert send_for(share, clock, 10.0) in range(249, 253)


def test_a_pause_earns_no_burst(clock: StepClock):
    share = RateShare(10.0)
    clock.now += 100.0
    assert send_for(share, clock, 1.0) <= 12


def test_429_halves_the_rate_once_a_second_and_it_grows_again(clock: StepClock):
    share = RateShare(40.0)
    clock.now += 2.0
    share.too_many()
    share.too_many()
    assert share.limit == 20.0
    for _ in range(30):
        clock.now += 1.0
        share.share(1, 1)
    assert share.limit == 40.0


def test_without_a_rate_429_halves_what_was_measured(clock: StepClock):
    share = RateShare()
    assert share.limit is None
    clock.now += 2.0
    for _ in range(100):
        share.spend(clock.now)
    share.too_many()
    assert share.limit == 25.0


def test_nothing_is_sent_when_the_last_poll_is_older_than_the_session(clock: StepClock):
    share = RateShare()
    assert share.blocked_until > clock.now, "before the first poll"
    share.polled(clock.now, 5.0)
    assert share.is_fresh()
    assert share.blocked_until <= clock.now
    clock.now += 5.0
    assert not share.is_fresh()
    assert share.blocked_until > clock.now


def test_retry_after_holds(clock: StepClock):
    share = RateShare(10.0)
    share.polled(clock.now, 100.0)
    share.block(clock.now + 30.0)
    assert share.blocked_until == clock.now + 30.0
