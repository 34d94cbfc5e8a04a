"""However a program ends: all that it said is delivered, at once or by the next, in time and in silence."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from gati.testing.server import fault_injection as faults
from tests.processes.conftest import World, ended

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX signals")


def test_a_program_that_returns_has_delivered_all(world: World) -> None:
    world.run("ended_by_return")
    assert world.held() == {"c": ["1", "2"]}
    assert world.waiting() == 0
    assert world.sent_twice() == []


def test_sys_exit_keeps_its_code_and_delivers_all(world: World) -> None:
    world.run("ended_by_sys_exit", code=3)
    assert world.held() == {"c": ["1", "2"]}


def test_an_unhandled_exception_is_shown_as_ever_and_all_is_delivered(world: World) -> None:
    out, error = ended(world.program("ended_by_exception"), code=1)
    assert out == ""
    assert error.startswith("Traceback")
    assert error.endswith("LookupError: the program's own\n")
    assert error.count("Traceback") == 1
    assert "pipeline" not in error
    assert world.held() == {"c": ["1", "2"]}


def test_a_handler_of_sigterm_is_the_program_s_own_and_all_is_delivered(world: World) -> None:
    program = world.program("ended_by_sigterm_handler")
    assert program.stdout
    assert json.loads(program.stdout.readline()) == {"ready": True}
    program.send_signal(signal.SIGTERM)
    assert ended(program, code=7) == ("", "")
    assert world.held() == {"c": ["1", "2"]}


def test_what_a_killed_program_had_on_disk_is_delivered_by_the_next(world: World) -> None:
    world.server.faults.add(faults.failing(503, times=None))
    program = world.program("ended_by_sigterm")
    assert program.stdout
    assert json.loads(program.stdout.readline()) == {"ready": True}
    program.send_signal(signal.SIGTERM)
    ended(program, code=-signal.SIGTERM)
    assert world.waiting() == 6
    world.server.faults.clear()
    world.run("ended_by_return")
    assert sorted(world.held()["c"]) == ["1", "1", "2", "2"]
    assert world.waiting() == 0


def test_an_exit_in_the_middle_of_talk_is_clean(world: World) -> None:
    world.run("ended_while_others_talk")
    held = world.held()
    assert all(texts == [str(n) for n in range(len(texts))] for texts in held.values())
    assert sum(map(len, held.values())) > 10
    assert world.waiting() == 0


def test_words_at_the_very_end_are_delivered(world: World) -> None:
    world.run("first_word_at_exit")
    assert world.held() == {"c": ["1"]}


def test_threads_that_outlive_the_main_one_are_delivered(world: World) -> None:
    world.run("ended_with_a_pool_of_threads")
    assert world.held() == {f"c{n}": ["1"] for n in range(8)}


@pytest.mark.parametrize(
    ("program", "texts"), [("out_of_threads_for_a_while", ["1", "2"]), ("ended_out_of_threads", ["1"])]
)
def test_a_program_that_is_out_of_threads_waits_for_no_send_before_its_end(
    world: World, program: str, texts: list[str]
) -> None:
    assert world.run(program) == [{"requests": 0}]
    assert world.held() == {"c": texts}
    assert world.waiting() == 0


def test_shutdown_twice_and_a_new_beginning(world: World) -> None:
    world.run("shut_down_twice_and_begun_again")
    assert world.held() == {"c": ["1", "2"]}


@pytest.mark.parametrize(
    "fault", [faults.black_hole(times=None), faults.failing(503, times=None)], ids=["hangs", "503"]
)
def test_an_exit_does_not_wait_longer_than_its_deadline_and_the_next_delivers(
    world: World, fault: faults.InjectedFault
) -> None:
    world.server.faults.add(fault)
    began = time.monotonic()
    _, error = ended(world.program("ended_by_return", GATI_SHUTDOWN_TIMEOUT=1, GATI_TIMEOUT=60))
    assert time.monotonic() - began < 30, "neither the request's 60 seconds nor a thread may hold it up"
    assert len(error.splitlines()) <= 1
    assert world.waiting() == 6
    world.server.faults.clear()
    world.run("ended_by_return")
    assert sorted(world.held()["c"]) == ["1", "1", "2", "2"]


def test_a_full_disk_is_told_once_and_loses_nothing(world: World) -> None:
    # Coverage is not measured: it would write on that disk, too.
    out, error = ended(world.program("ended_on_a_full_disk", COVERAGE_PROCESS_CONFIG=""))
    assert json.loads(out) == {"balanced": True}
    assert error == "the spool cannot be used (OSError); requests are kept in memory\n"
    assert world.held() == {"c": ["1", "2", "3"]}
    assert not list(world.spool.rglob("*.part"))


def test_a_program_that_says_nothing_leaves_no_trace(world: World) -> None:
    assert world.run("nothing_said") == [{"threads": 1}]
    assert not world.spool.exists()
    assert world.server.requests == []


def test_a_function_that_is_frozen_after_its_flush_has_delivered(world: World) -> None:
    program = world.program("flushed_and_frozen")
    assert program.stdout
    for n in range(2):
        assert json.loads(program.stdout.readline()) == {"delivered": 3}
        os.waitpid(program.pid, os.WUNTRACED)
        assert world.held() == {"c": [str(k) for k in range(n + 1)]}
        program.send_signal(signal.SIGCONT if n == 0 else signal.SIGKILL)
    program.communicate()
    assert world.waiting() == 0
