"""Processes that run a job and end without exit hooks: a finished turn is on disk before the job returns."""

from __future__ import annotations

import os

import pytest

from gati.testing.server import fault_injection as faults
from tests.optional import needs
from tests.processes.conftest import Sandbox, wait_for_exit

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

MODULE = "tests.processes.job_endings"
PRODUCT = {"GATI_PRODUCT_ID": "00000000-0000-4000-8000-000000000001"}


def run_while_nothing_can_be_sent(sandbox: Sandbox, *arguments: object) -> int:
    """Run a program; return the number of messages that it left on disk."""
    sandbox.server.faults.add(faults.failing(503, times=None))
    _, error = wait_for_exit(sandbox.start("-m", MODULE, *arguments, GATI_SHUTDOWN_TIMEOUT=0.2, **PRODUCT))
    assert [line for line in error.splitlines() if "could not be reached" not in line] == []
    sandbox.server.faults.clear()
    return sandbox.spooled()


def deliver(sandbox: Sandbox) -> dict[str, list[str]]:
    """Let the next process deliver what waits on disk."""
    sandbox.run("flush_without_turns", **PRODUCT)
    assert sandbox.spooled() == 0
    assert sandbox.duplicates() == []
    return sandbox.user_texts()


def test_turns_are_on_disk_before_their_job_ends_by_os_exit(sandbox: Sandbox) -> None:
    works = ["invoke", "thread", "run_async", "stream_async", "span", "rate", "two_turns", "batch"]
    run_while_nothing_can_be_sent(sandbox, *works, "--leave")
    texts = {name: sorted(set(found)) for name, found in deliver(sandbox).items()}
    assert texts == {**{work: ["1"] for work in works}, "two_turns": ["1", "2"], "batch": ["1", "2"]}
    assert [sent.body["rating"] for sent in sandbox.server.requests if "ratings" in sent.path] == [1]


def test_turns_that_fail_or_are_cut_off_are_on_disk_before_their_job_ends(sandbox: Sandbox) -> None:
    run_while_nothing_can_be_sent(sandbox, "fail", "cut_off", "--leave")
    sandbox.run("flush_without_turns", **PRODUCT)
    users = [m for m in sandbox.server.messages() if m["messageType"] == "user_message"]
    assert {m["conversation"]: m["content"] for m in users} == {"fail": "1", "cut_off": "1"}


def test_an_asynchronous_job_of_rq_2_is_on_disk_before_it_ends(sandbox: Sandbox) -> None:
    needs("rq")
    run_while_nothing_can_be_sent(sandbox, "run_until_complete", "--leave")
    assert deliver(sandbox) == {"run_until_complete": ["1"]}


def test_the_parent_delivers_at_its_exit_what_its_children_left(sandbox: Sandbox) -> None:
    out, error = wait_for_exit(sandbox.start("-m", MODULE, "invoke", "run_async"))
    assert out + error == ""
    # A child that ends while it sends leaves a request that the server has: the parent sends it again, and the server
    # recognizes it by its ids. So messages count once here, requests may count twice.
    assert sandbox.user_texts() == {"invoke": ["1"], "run_async": ["1", "1"]}
    assert sandbox.spooled() == 0


def test_a_parent_with_a_turn_of_its_own_delivers_what_its_children_left(sandbox: Sandbox) -> None:
    out, error = wait_for_exit(sandbox.start("-m", MODULE, "--own", "invoke", "run_async"))
    assert out + error == ""
    assert sandbox.user_texts() == {"parent": ["1"], "invoke": ["1"], "run_async": ["1", "1"]}
    assert sandbox.spooled() == 0


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_turns_of_a_pool_that_is_terminated_are_on_disk(sandbox: Sandbox, method: str) -> None:
    run_while_nothing_can_be_sent(sandbox, "pooled", method)
    assert deliver(sandbox) == {"1": ["1"], "2": ["1"], "3": ["1"]}
