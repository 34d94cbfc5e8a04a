"""Programs are killed, and the next process delivers every turn that had ended, and the others as unfinished."""

from __future__ import annotations

import os
import signal
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

from gati.pipeline.record_journal.journal import MIN_JOURNAL_BYTES
from gati.pipeline.recovery import spool_status
from tests.processes.conftest import Sandbox, wait_for_exit

pytestmark = pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="there are no journals")

PROGRAMS = "tests.processes.killed_programs"


def journals(sandbox: Sandbox) -> list[Path]:
    return list(sandbox.spool.glob("*/journals/*.journal"))


def kill_after(program: subprocess.Popen[str], lines: int) -> dict[str, int]:
    """Kill a program once it has reported so many turns; return the number of turns by name that it has reported."""
    assert program.stdout
    turns: dict[str, int] = defaultdict(int)
    for number, line in enumerate(program.stdout):
        name, turn = line.split()
        assert int(turn) == turns[name]
        turns[name] += 1
        if number == lines:
            os.killpg(program.pid, signal.SIGKILL)
    program.communicate()
    return turns


@pytest.mark.parametrize("name", ["threads_without_a_pause", "tasks_without_a_pause"])
def test_no_turn_is_lost_that_had_ended(sandbox: Sandbox, name: str) -> None:
    reported: dict[str, dict[str, int]] = {}
    for life, lines in enumerate((40, 170, 90)):
        program = sandbox.start("-m", PROGRAMS, name, GATI_FLUSH_INTERVAL=0.4, GATI_AGENT_NAME=f"life-{life}")
        for conversation, count in kill_after(program, lines).items():
            reported.setdefault(conversation, {})[f"life-{life}"] = count
    assert journals(sandbox)
    sandbox.run("flush_without_turns")
    assert journals(sandbox) == []
    texts = sandbox.user_texts()
    for conversation, lives in reported.items():
        for turn in range(max(lives.values())):
            # The last turn of a life may be there although it was not reported.
            assert texts[conversation].count(str(turn)) >= sum(turn < count for count in lives.values())


def run_until_killed(sandbox: Sandbox, name: str, **environment: object) -> str:
    out, _ = wait_for_exit(sandbox.start("-m", PROGRAMS, name, **environment), -signal.SIGKILL)
    return out


def test_the_next_process_removes_a_journal_that_was_never_finished(sandbox: Sandbox) -> None:
    run_until_killed(sandbox, "dies_while_it_creates_its_journal")
    (status,) = spool_status(sandbox.spool)
    assert (status.unfinished, status.journals) == (1, 0)
    assert status.size_bytes >= MIN_JOURNAL_BYTES
    sandbox.run("flush_without_turns")
    assert list(sandbox.spool.glob("*/journals/*")) == []
    (status,) = spool_status(sandbox.spool)
    assert (status.unfinished, status.size_bytes) == (0, 0)


def test_a_turn_that_had_not_ended_arrives_as_unfinished_with_what_was_recorded(sandbox: Sandbox) -> None:
    run_until_killed(sandbox, "killed_in_the_middle_of_a_turn")
    sandbox.run("flush_without_turns")
    messages = [message for message in sandbox.server.messages() if message["conversation"] == "c"]
    assert [m["content"] for m in messages if m["messageType"] == "user_message"] == ["before", "How is the weather?"]
    assert any("I look at the weather." in str(message) for message in messages)
    assert any("Sunny in Berlin." in str(message) for message in messages)
    assert any("unfinished" in str(message) for message in messages)


def test_text_that_was_streamed_before_the_kill_arrives(sandbox: Sandbox) -> None:
    run_until_killed(sandbox, "killed_in_the_middle_of_a_stream")
    sandbox.run("flush_without_turns")
    assert any("This " in str(message) for message in sandbox.server.messages() if message["conversation"] == "c")


def test_nothing_is_lost_by_an_exit_without_hooks(sandbox: Sandbox) -> None:
    wait_for_exit(sandbox.start("-m", PROGRAMS, "ended_by_os_exit", GATI_FLUSH_INTERVAL=60))
    sandbox.run("flush_without_turns")
    assert sandbox.user_texts()["c"] == [str(number) for number in range(50)]


def test_a_normal_end_leaves_no_journal(sandbox: Sandbox) -> None:
    out, error = wait_for_exit(sandbox.start("-m", PROGRAMS, "ended_normally"))
    assert error == ""
    assert out == '{"journals": 0}\n'


def test_a_full_journal_counts_its_losses_and_keeps_turns_from_before(sandbox: Sandbox) -> None:
    out = run_until_killed(
        sandbox, "killed_with_a_full_journal", GATI_BUFFER_MAX_BYTES=4 * 1024**2, GATI_FLUSH_INTERVAL=60
    )
    assert '"lost": 0' not in out
    sandbox.run("flush_without_turns")
    assert sandbox.user_texts()["c"] == [str(number) for number in range(5)]


def test_a_crash_during_the_recovery_loses_nothing(sandbox: Sandbox) -> None:
    run_until_killed(sandbox, "killed_in_the_middle_of_a_turn")
    run_until_killed(sandbox, "killed_while_it_recovers")
    assert len(journals(sandbox)) == 2  # the second is that of the process that died while it recovered
    sandbox.run("flush_without_turns")
    assert journals(sandbox) == []
    assert sandbox.user_texts()["c"] == ["before", "How is the weather?"]


def test_status_names_journals_and_drain_recovers_them(sandbox: Sandbox) -> None:
    run_until_killed(sandbox, "killed_in_the_middle_of_a_turn")
    assert [account.journals for account in spool_status(sandbox.spool)] == [1]
    wait_for_exit(sandbox.start("-c", "from gati.cli import main; main()", "drain"))
    assert [account.journals for account in spool_status(sandbox.spool)] == [0]
    assert sandbox.user_texts()["c"] == ["before", "How is the weather?"]


def test_the_journal_is_off_where_the_options_say_so(sandbox: Sandbox) -> None:
    wait_for_exit(sandbox.start("-m", PROGRAMS, "ended_by_os_exit", GATI_JOURNAL=False))
    assert journals(sandbox) == []
