"""Simulated Windows and macOS (`simulated_systems`): everything is delivered, and nothing is logged.

Behaviour of the real systems, such as their errors, virus scanners and file systems, is not covered.
"""

from __future__ import annotations

import json
import os

import pytest

from tests.processes.conftest import Sandbox, wait_for_exit

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="simulates other systems on Linux")

SYSTEMS = ["windows", "macos"]


def run(sandbox: Sandbox, system: str, name: str, *, code: int = 0, says: str = "", **environment: object) -> str:
    out, error = wait_for_exit(
        sandbox.start("-m", "tests.processes.simulated_systems", system, name, **environment), code
    )
    assert (says in error and len(error.splitlines()) == 1) if says else error == "", error
    return out


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize(("name", "code"), [("ended_by_return", 0), ("ended_by_sys_exit", 3)])
def test_a_program_on_another_system_delivers_everything(sandbox: Sandbox, system: str, name: str, code: int) -> None:
    run(sandbox, system, name, code=code)
    assert sandbox.user_texts() == {"c": ["1", "2"]}
    assert sandbox.duplicates() == []
    assert sandbox.spooled() == 0


@pytest.mark.parametrize("system", SYSTEMS)
def test_unsent_messages_wait_in_the_spool_for_the_next_process(sandbox: Sandbox, system: str) -> None:
    unreachable = "http://127.0.0.1:9/api/v1"
    # The spool is keyed by address and key, so the address must stay the same: a dead proxy simulates the outage.
    outage = {"HTTP_PROXY": unreachable, "http_proxy": unreachable, "GATI_SHUTDOWN_TIMEOUT": 5}
    run(sandbox, system, "ended_by_return", says="could not be reached", **outage)
    assert sandbox.user_texts() == {}
    assert sandbox.spooled() > 0
    run(sandbox, system, "ended_by_return", GATI_AGENT_NAME="next")
    assert sandbox.user_texts() == {"c": ["1", "2", "1", "2"]}
    assert sandbox.spooled() == 0


@pytest.mark.parametrize("system", SYSTEMS)
def test_without_a_key_messages_are_kept_in_the_embedded_store(sandbox: Sandbox, system: str) -> None:
    out = run(sandbox, system, "report_stats", GREENFLASH_API_KEY="", GATI_LOCAL=sandbox.folder / "store.db")
    stats = json.loads(out)
    assert stats["faults"] == {}
    assert stats["delivered"] == stats["recorded"] > 0


@pytest.mark.parametrize("system", SYSTEMS)
def test_spawned_processes_deliver_their_turns(sandbox: Sandbox, system: str) -> None:
    run(sandbox, system, "spawned")
    user_texts = sandbox.user_texts()
    assert user_texts["c"] == ["parent"]
    assert sum(len(texts) for texts in user_texts.values()) > 1
    assert sandbox.spooled() == 0
