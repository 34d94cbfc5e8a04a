"""Forked processes: each delivers its own turns, once."""

from __future__ import annotations

import os

import pytest

from tests.processes.conftest import Sandbox

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

CHILDREN = {f"child {n}": ["child"] for n in range(3)}


def test_children_forked_before_the_first_turn_deliver_their_turns(sandbox: Sandbox) -> None:
    sandbox.run("forked_before_use")
    assert sandbox.user_texts() == {"c": ["parent again"], **CHILDREN}
    assert sandbox.duplicates() == []


@pytest.mark.parametrize("name", ["forked_after_use", "forked_and_flushed"])
def test_children_forked_after_the_first_turn_deliver_only_their_own(sandbox: Sandbox, name: str) -> None:
    sandbox.run(name)
    assert sandbox.user_texts() == {"c": ["parent", "parent again"], **CHILDREN}
    assert sandbox.duplicates() == []
    assert sandbox.spooled() == 0


def test_children_forked_while_another_thread_sends_deliver_their_turns(sandbox: Sandbox) -> None:
    sandbox.run("forked_while_another_thread_sends")
    user_texts = sandbox.user_texts()
    parent = user_texts.pop("parent")
    assert parent == [str(n) for n in range(len(parent))]
    assert user_texts == {f"child {n}": ["child"] for n in range(10)}
    assert sandbox.duplicates() == []


def test_a_child_forked_during_a_turn_delivers_its_own(sandbox: Sandbox) -> None:
    sandbox.run("forked_in_the_middle_of_a_turn")
    user_texts = sandbox.user_texts()
    assert user_texts.pop("c") == ["parent"]
    assert list(user_texts.values()) == [["child"]]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_children_deliver_their_turns(sandbox: Sandbox, method: str) -> None:
    sandbox.run("multiprocessed", method)
    assert sandbox.user_texts() == {"c": ["parent"], "child 0": ["child"], "child 1": ["child"]}


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_process_pool_delivers_its_turns(sandbox: Sandbox, method: str) -> None:
    sandbox.run("pooled", method)
    assert sandbox.user_texts() == {"c": ["parent"], **{f"child {n}": ["child"] for n in range(6)}}
