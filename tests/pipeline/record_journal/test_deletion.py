"""Deletion covers what processes that were killed have left in journals."""

from __future__ import annotations

import os
import time

import pytest

from gati.cli.deleted_requests import DeletedRequests
from gati.pipeline.record_journal.deletion import remove_from_journals
from gati.store.deletion import Target
from tests.pipeline.record_journal.test_recovery import Killed, chat, killed, recover, spool

__all__ = ["killed", "spool"]

pytestmark = pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="there are no journals")


def remove(killed: Killed, target: Target, *, count_only: bool = False) -> int:
    return remove_from_journals(killed.spool.folder, DeletedRequests(target), set(), count_only=count_only)


def conversations(killed: Killed) -> list[str]:
    return [turn.conversation.id for turn in recover(killed.spool)]


def test_the_turns_of_a_conversation_are_removed_and_their_bytes_overwritten(killed: Killed) -> None:
    chat("a private text", "c1")
    killed.take(store=True)
    chat("another private text", "c1")
    chat("what c1 is not", "c10")
    killed.die()
    assert remove(killed, Target("conversation", "c1"), count_only=True) == 2
    assert b"private" in killed.path.read_bytes()
    assert remove(killed, Target("conversation", "c1")) == 2
    assert b"private" not in killed.path.read_bytes()
    assert conversations(killed) == ["c10"]


def test_the_turns_of_a_user_are_removed(killed: Killed) -> None:
    chat("Hi", "c1")
    killed.die()
    assert remove(killed, Target("user", "bob")) == 0
    assert remove(killed, Target("user", "ada")) == 1
    assert conversations(killed) == []


def test_turns_from_before_a_time_are_removed(killed: Killed) -> None:
    chat("Hi", "c1")
    now = time.time_ns() // 1000
    chat("Hi", "c2")
    killed.die()
    assert remove(killed, Target("before", at=now - 60_000_000)) == 0
    assert remove(killed, Target("before", at=now)) == 1
    assert conversations(killed) == ["c2"]


def test_the_journal_of_a_running_process_stays(killed: Killed) -> None:
    chat("Hi", "c1")
    assert remove(killed, Target("conversation", "c1")) == 0
    killed.die()
    assert conversations(killed) == ["c1"]


def test_a_journal_that_was_never_finished_is_removed(killed: Killed) -> None:
    part = killed.path.with_name(".aaaaaaaaaaaa.part")
    part.write_bytes(b"options of a killed process")
    assert remove(killed, Target("user", "bob"), count_only=True) == 0
    assert part.exists()
    assert remove(killed, Target("user", "bob")) == 0
    assert not part.exists()


def test_a_damaged_journal_is_removed_if_it_contains_the_id(killed: Killed) -> None:
    chat("Hi", "the-conversation")
    killed.journal.memory[:8] = b"damaged!"
    killed.die()
    assert remove(killed, Target("conversation", "another")) == 0
    assert remove(killed, Target("conversation", "the-conversation")) == 1
    assert conversations(killed) == []


def test_a_file_with_links_in_several_accounts_is_counted_once(killed: Killed) -> None:
    chat("Hi", "c1")
    killed.die()
    other = killed.spool.folder.parent / "other" / "journals"
    other.mkdir(parents=True)
    os.link(killed.path, other / killed.path.name)
    seen: set[int] = set()
    selection = DeletedRequests(Target("conversation", "c1"))
    assert [remove_from_journals(path, selection, seen) for path in (killed.spool.folder, other.parent)] == [1, 0]
