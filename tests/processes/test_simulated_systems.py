"""Other systems, played by taking away what they lack (`elsewhere`): the same words arrive, nothing is said.

This cannot show what only the real system shows: its own errors, its virus scanner, its file system.
"""

from __future__ import annotations

import json
import os

import pytest

from tests.processes.conftest import World, ended

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="plays other systems on Linux")

SYSTEMS = ["windows", "macos"]


def run(world: World, system: str, name: str, *, code: int = 0, says: str = "", **environment: object) -> str:
    out, error = ended(world.start("-m", "tests.processes.simulated_systems", system, name, **environment), code)
    assert (says in error and len(error.splitlines()) == 1) if says else error == "", error
    return out


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize(("name", "code"), [("ended_by_return", 0), ("ended_by_sys_exit", 3)])
def test_a_program_on_another_system_delivers_everything(world: World, system: str, name: str, code: int) -> None:
    run(world, system, name, code=code)
    assert world.held() == {"c": ["1", "2"]}
    assert world.sent_twice() == []
    assert world.waiting() == 0


@pytest.mark.parametrize("system", SYSTEMS)
def test_unsent_messages_wait_in_the_spool_for_the_next_process(world: World, system: str) -> None:
    nobody = "http://127.0.0.1:9/api/v1"
    # The account is one of address and key, so the address must be the same later: a proxy stands in for the outage.
    outage = {"HTTP_PROXY": nobody, "http_proxy": nobody, "GATI_SHUTDOWN_TIMEOUT": 5}
    run(world, system, "ended_by_return", says="could not be reached", **outage)
    assert world.held() == {}
    assert world.waiting() > 0
    run(world, system, "ended_by_return", GATI_AGENT_NAME="next")
    assert world.held() == {"c": ["1", "2", "1", "2"]}
    assert world.waiting() == 0


@pytest.mark.parametrize("system", SYSTEMS)
def test_without_a_key_messages_are_kept_in_the_embedded_store(world: World, system: str) -> None:
    out = run(world, system, "told_stats", GREENFLASH_API_KEY="", GATI_LOCAL=world.folder / "store.db")
    stats = json.loads(out)
    assert stats["faults"] == {}
    assert stats["delivered"] == stats["recorded"] > 0


@pytest.mark.parametrize("system", SYSTEMS)
def test_spawned_processes_deliver_their_turns(world: World, system: str) -> None:
    run(world, system, "spawned")
    held = world.held()
    assert held["c"] == ["parent"]
    assert sum(len(texts) for texts in held.values()) > 1
    assert world.waiting() == 0
