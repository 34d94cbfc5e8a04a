"""Files that a process was killed while it wrote them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from gati.pipeline.owner_lock import close_lock_file, create_locked
from gati.pipeline.unfinished_files import FORGOTTEN_SECONDS, remove_unfinished, unfinished_journals


@pytest.fixture
def account(tmp_path: Path) -> Path:
    for name in ("journals", "rejected"):
        (tmp_path / "account" / name).mkdir(parents=True)
    return tmp_path / "account"


def test_unfinished_journals_of_killed_processes_are_removed(account: Path) -> None:
    left, running = account / "journals" / ".aaaaaaaaaaaa.part", account / "journals" / ".bbbbbbbbbbbb.part"
    finished = account / "journals" / "cccccccccccc.journal"
    left.touch()
    finished.touch()
    fd = create_locked(running)
    try:
        assert list(unfinished_journals(account)) == [left]
        remove_unfinished(account.parent)
        assert set((account / "journals").iterdir()) == {running, finished}
    finally:
        close_lock_file(fd)


@pytest.mark.parametrize("place", ["account", "account/rejected", "prompts"])
def test_other_unfinished_files_are_removed_once_they_are_old(account: Path, place: str) -> None:
    folder = account.parent / place
    folder.mkdir(exist_ok=True)
    new, old, finished = folder / ".a-new.part", folder / ".a-old.part", folder / "old.json"
    for path in (new, old, finished):
        path.touch()
    long_ago = time.time() - 2 * FORGOTTEN_SECONDS
    os.utime(old, (long_ago, long_ago))
    os.utime(finished, (long_ago, long_ago))
    remove_unfinished(account.parent)
    assert {path for path in folder.iterdir() if path.is_file()} == {new, finished}


def test_a_spool_that_does_not_exist_is_left_as_it_is(tmp_path: Path) -> None:
    remove_unfinished(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []
