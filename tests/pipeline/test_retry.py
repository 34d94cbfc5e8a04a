from __future__ import annotations

import random

import pytest

from gati.exporters.base import Outcome, Verdict
from gati.pipeline.retry import CircuitBreaker, Policy, RateBudget

RETRY = Outcome(Verdict.RETRY, "503")
PAUSE = Outcome(Verdict.PAUSE, "401")


@pytest.mark.parametrize(("failures", "longest"), [(1, 0.5), (2, 1.0), (4, 4.0), (8, 30.0), (10_000, 30.0)])
def test_delays_are_jittered_and_double_up_to_the_cap(failures: int, longest: float) -> None:
    delays = [Policy().delay(failures) for _ in range(500)]
    assert 0 <= min(delays) < longest * 0.1
    assert longest * 0.9 < max(delays) <= longest


@pytest.mark.parametrize(
    ("asked", "least", "most"), [(0, 0, 0), (2, 2, 2.2), (60, 60, 61), (86_400, 300, 301), (-5, 0, 0)]
)
def test_a_delay_set_by_the_server_is_honoured_and_capped(asked: float, least: float, most: float) -> None:
    assert all(least <= Policy().delay(1, asked) <= most for _ in range(100))


def test_a_delay_of_nan_is_ignored() -> None:
    assert Policy().delay(1, float("nan")) <= 0.5


def test_the_programs_random_numbers_are_not_affected() -> None:
    random.seed(1)
    expected = [random.random() for _ in range(3)]
    random.seed(1)
    Policy().delay(3)
    assert [random.random() for _ in range(3)] == expected


def test_one_failure_blocks_no_other_request() -> None:
    breaker = CircuitBreaker()
    breaker.record_failure(RETRY, 100.0)
    assert breaker.healthy
    assert breaker.blocked_until == 0


def test_two_failures_without_a_success_block_all_requests() -> None:
    breaker = CircuitBreaker(Policy(first=10.0))
    breaker.record_failure(RETRY, 100.0)
    breaker.record_failure(RETRY, 100.0)
    assert not breaker.healthy
    assert breaker.blocked_until > 100.0
    assert breaker.record_success()
    assert breaker.healthy
    assert breaker.blocked_until == 0


def test_a_delay_set_by_the_server_blocks_all_requests_and_is_not_skipped() -> None:
    breaker = CircuitBreaker()
    breaker.record_failure(Outcome(Verdict.RETRY, "429", 20.0), 100.0)
    breaker.record_failure(RETRY, 100.0)
    breaker.retry_now()
    assert breaker.blocked_until >= 120.0


def test_a_refused_key_is_probed() -> None:
    breaker = CircuitBreaker()
    breaker.record_failure(PAUSE, 100.0)
    assert (breaker.paused, breaker.blocked_until) == ("401", 130.0)
    breaker.retry_now()
    assert breaker.blocked_until == 0
    assert breaker.record_success()
    assert not breaker.paused


def test_the_first_delay_is_the_policys_first(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(Policy, "delay", lambda _, failures, retry_after=None: float(asked.append(failures) or 10.0))
    breaker = CircuitBreaker()
    for _ in range(3):
        breaker.record_failure(RETRY, 100.0)
    assert asked == [1, 2]


def test_our_own_delay_can_be_skipped_and_follows_the_servers() -> None:
    breaker = CircuitBreaker()
    breaker.retry_now()
    breaker.record_failure(Outcome(Verdict.RETRY, "429", 20.0), 100.0)
    breaker.record_failure(RETRY, 200.0)  # that time is over: from now on the delays are gati's own
    assert 200.0 <= breaker.blocked_until <= 200.5
    breaker.retry_now()
    assert breaker.blocked_until < 200.0


def test_a_success_resets_everything_but_the_servers_delay() -> None:
    breaker = CircuitBreaker()
    breaker.record_failure(Outcome(Verdict.RETRY, "429", 20.0), 100.0)
    breaker.record_failure(PAUSE, 100.0)
    breaker.record_success()
    assert (breaker.failures, breaker.retry_at, breaker.paused) == (0, 0.0, "")
    assert breaker.blocked_until >= 120.0


def test_a_success_may_ask_for_a_delay() -> None:
    breaker = CircuitBreaker()
    breaker.record_retry_after(Outcome(Verdict.OK, retry_after=20.0), 100.0)
    assert breaker.healthy
    assert breaker.blocked_until >= 120.0


def test_outboxes_that_share_a_budget_wait_together() -> None:
    budget = RateBudget()
    first, second = CircuitBreaker(budget=budget), CircuitBreaker(budget=budget)
    first.record_failure(Outcome(Verdict.RETRY, "429", 20.0), 100.0)
    second.record_success()
    assert second.blocked_until == first.blocked_until >= 120.0
    assert second.healthy


def test_a_pause_needs_no_reason() -> None:
    breaker = CircuitBreaker()
    breaker.record_failure(Outcome(Verdict.PAUSE), 100.0)
    assert breaker.paused == "refused"
    assert not breaker.healthy


def test_the_defaults_suit_a_service_on_the_internet() -> None:
    assert Policy() == Policy(first=0.5, cap=30.0, retry_after_cap=300.0, probe=30.0, max_failures_among_successes=20)


def test_a_longer_delay_set_by_the_server_is_kept() -> None:
    breaker = CircuitBreaker()
    breaker.record_failure(Outcome(Verdict.RETRY, "429", 20.0), 100.0)
    blocked_until = breaker.blocked_until
    breaker.record_failure(Outcome(Verdict.RETRY, "429", 1.0), 100.0)
    assert breaker.blocked_until == blocked_until
    breaker.record_failure(Outcome(Verdict.RETRY, "429", 0.0), 500.0)
    assert breaker.blocked_until == 500.0


def test_a_delay_set_by_the_server_is_jittered() -> None:
    delays = [Policy().delay(1, 100.0) for _ in range(200)]
    assert min(delays) >= 100.0
    assert 100.5 < max(delays) <= 101.0
    assert len(set(delays)) > 100


@pytest.mark.parametrize(("asked", "blocked"), [(20.0, 130.0), (120.0, 220.0)])
def test_a_refused_key_waits_for_the_longer_of_both_delays(asked: float, blocked: float) -> None:
    breaker = CircuitBreaker()
    breaker.record_failure(PAUSE._replace(retry_after=asked), 100.0)
    assert blocked <= breaker.blocked_until <= blocked + 1.0
    assert not breaker.healthy


def test_record_success_returns_true_after_an_outage() -> None:
    breaker = CircuitBreaker()
    assert not breaker.record_success()
    breaker.record_failure(RETRY, 100.0)
    assert not breaker.record_success()
    breaker.record_failure(PAUSE, 100.0)
    assert breaker.record_success()


def test_only_the_second_failure_of_this_machine_in_a_row_is_an_obstruction() -> None:
    breaker = CircuitBreaker()
    seen = [breaker.obstructed]
    for outcome in (RETRY, RETRY._replace(local_fault=True), RETRY):
        breaker.record_failure(outcome, 100.0)
        seen.append(breaker.obstructed)
    breaker.record_success()
    for _ in range(2):
        breaker.record_failure(RETRY._replace(local_fault=True), 100.0)
        seen.append(breaker.obstructed)
    assert seen == [False, False, True, False, False, True]
