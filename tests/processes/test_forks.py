"""Copies of a process: each delivers what it said itself, once."""

from __future__ import annotations

import os

import pytest

from tests.processes.conftest import World

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

CHILDREN = {f"child {n}": ["child"] for n in range(3)}


def test_children_forked_before_the_first_turn_deliver_their_turns(world: World) -> None:
    world.run("forked_before_use")
    assert world.held() == {"c": ["parent again"], **CHILDREN}
    assert world.sent_twice() == []


@pytest.mark.parametrize("name", ["forked_after_use", "forked_and_flushed"])
def test_children_forked_after_the_first_turn_deliver_only_their_own(world: World, name: str) -> None:
    world.run(name)
    assert world.held() == {"c": ["parent", "parent again"], **CHILDREN}
    assert world.sent_twice() == []
    assert world.waiting() == 0


def test_children_forked_while_another_thread_sends_deliver_their_turns(world: World) -> None:
    world.run("forked_while_another_thread_sends")
    held = world.held()
    parent = held.pop("parent")
    assert parent == [str(n) for n in range(len(parent))]
    assert held == {f"child {n}": ["child"] for n in range(10)}
    assert world.sent_twice() == []


def test_a_child_forked_during_a_turn_delivers_its_own(world: World) -> None:
    world.run("forked_in_the_middle_of_a_turn")
    held = world.held()
    assert held.pop("c") == ["parent"]
    assert list(held.values()) == [["child"]]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_children_deliver_their_turns(world: World, method: str) -> None:
    world.run("multiprocessed", method)
    assert world.held() == {"c": ["parent"], "child 0": ["child"], "child 1": ["child"]}


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_process_pool_delivers_its_turns(world: World, method: str) -> None:
    world.run("pooled", method)
    assert world.held() == {"c": ["parent"], **{f"child {n}": ["child"] for n in range(6)}}
