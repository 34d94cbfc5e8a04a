"""However a program exits, its turns are delivered in time and silently, by it or by the next process."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from gati.testing.server import fault_injection as faults
from tests.processes.conftest import Sandbox, wait_for_exit

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX signals")


def test_a_program_that_returns_has_delivered_everything(sandbox: Sandbox) -> None:
    sandbox.run("ended_by_return")
    assert sandbox.user_texts() == {"c": ["1", "2"]}
    assert sandbox.spooled() == 0
    assert sandbox.duplicates() == []


def test_sys_exit_keeps_its_exit_code_and_delivers_everything(sandbox: Sandbox) -> None:
    sandbox.run("ended_by_sys_exit", code=3)
    assert sandbox.user_texts() == {"c": ["1", "2"]}


def test_an_unhandled_exception_is_printed_once_and_everything_is_delivered(sandbox: Sandbox) -> None:
    out, error = wait_for_exit(sandbox.program("ended_by_exception"), code=1)
    assert out == ""
    assert error.startswith("Traceback")
    assert error.endswith("LookupError: the program's own\n")
    assert error.count("Traceback") == 1
    assert "pipeline" not in error
    assert sandbox.user_texts() == {"c": ["1", "2"]}


def test_the_programs_sigterm_handler_runs_and_everything_is_delivered(sandbox: Sandbox) -> None:
    program = sandbox.program("ended_by_sigterm_handler")
    assert program.stdout
    assert json.loads(program.stdout.readline()) == {"ready": True}
    program.send_signal(signal.SIGTERM)
    assert wait_for_exit(program, code=7) == ("", "")
    assert sandbox.user_texts() == {"c": ["1", "2"]}


def test_the_next_process_delivers_the_spool_of_a_killed_one(sandbox: Sandbox) -> None:
    sandbox.server.faults.add(faults.failing(503, times=None))
    program = sandbox.program("ended_by_sigterm")
    assert program.stdout
    assert json.loads(program.stdout.readline()) == {"ready": True}
    program.send_signal(signal.SIGTERM)
    wait_for_exit(program, code=-signal.SIGTERM)
    assert sandbox.spooled() == 6
    sandbox.server.faults.clear()
    sandbox.run("ended_by_return")
    assert sorted(sandbox.user_texts()["c"]) == ["1", "1", "2", "2"]
    assert sandbox.spooled() == 0


def test_exiting_while_threads_run_turns_is_clean(sandbox: Sandbox) -> None:
    sandbox.run("exit_while_threads_run_turns", GATI_SHUTDOWN_TIMEOUT=60)
    user_texts = sandbox.user_texts()
    assert all(texts == [str(n) for n in range(len(texts))] for texts in user_texts.values())
    assert sum(map(len, user_texts.values())) > 10
    assert sandbox.spooled() == 0


def test_a_turn_in_an_exit_hook_is_delivered(sandbox: Sandbox) -> None:
    sandbox.run("turn_at_exit")
    assert sandbox.user_texts() == {"c": ["1"]}


def test_turns_in_exit_hooks_are_delivered_wherever_the_hooks_were_registered(sandbox: Sandbox) -> None:
    sandbox.run("turns_at_exit_and_before")
    assert sandbox.user_texts() == {"c": ["1", "2", "3"]}


LATE = """
import atexit
atexit.register(lambda: late())  # before gati is imported, so it runs after gati's hook
from gati import observe
from tests.processes.program import report, run_turn
def late():
    for text in "34":
        run_turn("c", text)
    stats = observe.stats()
    report(turns=stats.turns, recorded=stats.recorded, refused=stats.records_refused, balanced=stats.balanced)
observe.init()
if {is_used}:
    run_turn("c", "1")
"""


@pytest.mark.parametrize("is_used", [True, False])
def test_turns_in_an_exit_hook_that_runs_after_gatis_are_delivered(sandbox: Sandbox, is_used: bool) -> None:
    out, error = wait_for_exit(sandbox.start("-c", LATE.format(is_used=is_used)))
    turns = 2 + is_used
    assert (json.loads(out), error) == (
        {"turns": turns, "recorded": 3 * turns, "refused": 0, "balanced": True},
        "",
    )
    assert sandbox.user_texts() == {"c": ["1", "3", "4"] if is_used else ["3", "4"]}
    assert not list(sandbox.spool.rglob("*.lock")), "left for the next process to clear up"


def test_turns_in_an_exit_hook_that_runs_after_gatis_survive_an_outage(sandbox: Sandbox) -> None:
    sandbox.server.faults.add(faults.black_hole(times=None))
    program = sandbox.start("-c", LATE.format(is_used=True), GATI_SHUTDOWN_TIMEOUT=1, GATI_TIMEOUT=60)
    began = time.monotonic()
    out, _ = wait_for_exit(program)
    assert time.monotonic() - began < 30, "the exit waited for requests"
    assert json.loads(out) == {"turns": 3, "recorded": 9, "refused": 0, "balanced": True}
    assert sandbox.spooled() == 9
    sandbox.server.faults.clear()
    sandbox.run("ended_by_return")
    assert sorted(sandbox.user_texts()["c"]) == ["1", "1", "2", "3", "4"]


def test_turns_of_threads_that_outlive_the_main_thread_are_delivered(sandbox: Sandbox) -> None:
    sandbox.run("ended_with_a_pool_of_threads")
    assert sandbox.user_texts() == {f"c{n}": ["1"] for n in range(8)}


@pytest.mark.parametrize(
    ("program", "texts"), [("out_of_threads_for_a_while", ["1", "2"]), ("ended_out_of_threads", ["1"])]
)
def test_without_threads_messages_are_sent_at_exit_only(sandbox: Sandbox, program: str, texts: list[str]) -> None:
    assert sandbox.run(program) == [{"requests": 0}]
    assert sandbox.user_texts() == {"c": texts}
    assert sandbox.spooled() == 0


def test_shutdown_may_be_called_twice_and_followed_by_init(sandbox: Sandbox) -> None:
    sandbox.run("shut_down_twice_and_begun_again")
    assert sandbox.user_texts() == {"c": ["1", "2"]}


@pytest.mark.parametrize(
    "fault", [faults.black_hole(times=None), faults.failing(503, times=None)], ids=["hangs", "503"]
)
def test_exit_respects_its_deadline_and_the_next_process_delivers(
    sandbox: Sandbox, fault: faults.InjectedFault
) -> None:
    sandbox.server.faults.add(fault)
    began = time.monotonic()
    _, error = wait_for_exit(sandbox.program("ended_by_return", GATI_SHUTDOWN_TIMEOUT=1, GATI_TIMEOUT=60))
    assert time.monotonic() - began < 30, "the exit waited for a request or a thread"
    assert len(error.splitlines()) <= 1
    assert sandbox.spooled() == 6
    sandbox.server.faults.clear()
    sandbox.run("ended_by_return")
    assert sorted(sandbox.user_texts()["c"]) == ["1", "1", "2", "2"]


def test_a_full_disk_is_logged_once_and_loses_nothing(sandbox: Sandbox) -> None:
    # Without coverage, which would write to the same disk.
    out, error = wait_for_exit(sandbox.program("ended_on_a_full_disk", COVERAGE_PROCESS_CONFIG=""))
    assert json.loads(out) == {"balanced": True}
    assert error == "the spool cannot be used (OSError); requests are kept in memory\n"
    assert sandbox.user_texts() == {"c": ["1", "2", "3"]}
    assert not list(sandbox.spool.rglob("*.part"))


def test_a_program_without_turns_starts_no_thread_and_writes_no_file(sandbox: Sandbox) -> None:
    assert sandbox.run("init_without_turns") == [{"threads": 1}]
    assert not sandbox.spool.exists()
    assert sandbox.server.requests == []


def test_a_process_frozen_after_flush_has_delivered_everything(sandbox: Sandbox) -> None:
    program = sandbox.program("flushed_and_frozen")
    assert program.stdout
    for n in range(2):
        assert json.loads(program.stdout.readline()) == {"delivered": 3}
        os.waitpid(program.pid, os.WUNTRACED)
        assert sandbox.user_texts() == {"c": [str(k) for k in range(n + 1)]}
        program.send_signal(signal.SIGCONT if n == 0 else signal.SIGKILL)
    program.communicate()
    assert sandbox.spooled() == 0
