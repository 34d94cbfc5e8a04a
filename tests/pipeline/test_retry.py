from __future__ import annotations

import random

import pytest

from gati.exporters.base import Outcome, Verdict
from gati.pipeline.retry import CircuitBreaker, Policy

RETRY = Outcome(Verdict.RETRY, "503")
PAUSE = Outcome(Verdict.PAUSE, "401")


@pytest.mark.parametrize(("failures", "longest"), [(1, 0.5), (2, 1.0), (4, 4.0), (8, 30.0), (10_000, 30.0)])
def test_a_wait_is_anything_up_to_twice_the_one_before_and_never_above_the_cap(failures: int, longest: float) -> None:
    delays = [Policy().delay(failures) for _ in range(500)]
    assert 0 <= min(delays) < longest * 0.1
    assert longest * 0.9 < max(delays) <= longest


@pytest.mark.parametrize(
    ("asked", "least", "most"), [(0, 0, 0), (2, 2, 2.2), (60, 60, 61), (86_400, 300, 301), (-5, 0, 0)]
)
def test_the_server_s_own_wait_is_honoured_and_capped(asked: float, least: float, most: float) -> None:
    assert all(least <= Policy().delay(1, asked) <= most for _ in range(100))


def test_a_wait_that_is_no_number_is_none() -> None:
    assert Policy().delay(1, float("nan")) <= 0.5


def test_the_program_s_random_numbers_stay_as_they_are() -> None:
    random.seed(1)
    expected = [random.random() for _ in range(3)]
    random.seed(1)
    Policy().delay(3)
    assert [random.random() for _ in range(3)] == expected


def test_one_failure_holds_nobody_else() -> None:
    breaker = CircuitBreaker()
    breaker.record_failure(RETRY, 100.0)
    assert breaker.healthy
    assert breaker.blocked_until == 0


def test_two_failures_without_a_success_hold_all() -> None:
    breaker = CircuitBreaker(Policy(first=10.0))
    breaker.record_failure(RETRY, 100.0)
    breaker.record_failure(RETRY, 100.0)
    assert not breaker.healthy
    assert breaker.blocked_until > 100.0
    assert breaker.record_success()
    assert breaker.healthy
    assert breaker.blocked_until == 0


def test_a_time_named_by_the_server_holds_all_at_once_and_no_hurry_shortens_it() -> None:
    breaker = CircuitBreaker()
    breaker.record_failure(Outcome(Verdict.RETRY, "429", 20.0), 100.0)
    breaker.record_failure(RETRY, 100.0)
    breaker.retry_now()
    assert breaker.blocked_until >= 120.0


def test_a_refused_key_is_tried_again_now_and_then() -> None:
    breaker = CircuitBreaker()
    breaker.record_failure(PAUSE, 100.0)
    assert (breaker.paused, breaker.blocked_until) == ("401", 130.0)
    breaker.retry_now()
    assert breaker.blocked_until == 0
    assert breaker.record_success()
    assert not breaker.paused


def test_the_first_wait_of_all_is_the_policys_first(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(Policy, "delay", lambda _, failures, retry_after=None: float(asked.append(failures) or 10.0))
    breaker = CircuitBreaker()
    for _ in range(3):
        breaker.record_failure(RETRY, 100.0)
    assert asked == [1, 2]


def test_a_time_of_our_own_can_be_hurried_and_outlasts_no_time_that_a_server_named() -> None:
    breaker = CircuitBreaker()
    breaker.retry_now()
    breaker.record_failure(Outcome(Verdict.RETRY, "429", 20.0), 100.0)
    breaker.record_failure(RETRY, 200.0)  # that time is over: from now on the waits are ours
    assert 200.0 <= breaker.blocked_until <= 200.5
    assert not breaker.server_set_delay
    breaker.retry_now()
    assert breaker.blocked_until == 0


def test_after_a_success_nothing_is_left_of_what_was() -> None:
    breaker = CircuitBreaker()
    breaker.record_failure(Outcome(Verdict.RETRY, "429", 20.0), 100.0)
    breaker.record_success()
    assert breaker == CircuitBreaker()


def test_a_refusal_without_words_is_one_all_the_same() -> None:
    breaker = CircuitBreaker()
    breaker.record_failure(Outcome(Verdict.PAUSE), 100.0)
    assert breaker.paused == "refused"
    assert not breaker.healthy


def test_the_defaults_suit_a_service_on_the_internet() -> None:
    assert Policy() == Policy(first=0.5, cap=30.0, retry_after_cap=300.0, probe=30.0, max_failures_among_successes=20)


def test_a_longer_wait_that_a_server_asked_for_stays() -> None:
    breaker = CircuitBreaker()
    breaker.record_failure(Outcome(Verdict.RETRY, "429", 20.0), 100.0)
    until = breaker.blocked_until
    breaker.record_failure(Outcome(Verdict.RETRY, "429", 1.0), 100.0)
    assert breaker.blocked_until == until
    breaker.record_failure(Outcome(Verdict.RETRY, "429", 0.0), 500.0)
    assert breaker.blocked_until == 500.0
    assert breaker.server_set_delay
    breaker.record_failure(RETRY, 500.0)  # that time is over at this very moment
    assert not breaker.server_set_delay


def test_a_wait_asked_for_is_spread_so_that_not_all_come_at_once() -> None:
    waits = [Policy().delay(1, 100.0) for _ in range(200)]
    assert min(waits) >= 100.0
    assert 100.5 < max(waits) <= 101.0
    assert len(set(waits)) > 100


def test_a_refused_key_is_no_time_that_the_server_named() -> None:
    breaker = CircuitBreaker()
    breaker.record_failure(Outcome(Verdict.RETRY, "429", 20.0), 100.0)
    breaker.record_failure(PAUSE, 100.0)
    assert not breaker.server_set_delay
    assert breaker.blocked_until == 130.0
    assert not breaker.healthy


def test_to_succeed_says_whether_the_destination_was_away() -> None:
    breaker = CircuitBreaker()
    assert not breaker.record_success()
    breaker.record_failure(RETRY, 100.0)
    assert not breaker.record_success()
    breaker.record_failure(PAUSE, 100.0)
    assert breaker.record_success()
