"""Files that are locked as long as their process lives."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from gati.pipeline import owner_lock
from gati.pipeline.owner_lock import close_lock_file, create_locked, is_locked_file, remove_dead

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows removes no open file")


def test_files_of_exited_processes_are_removed_and_others_stay(tmp_path: Path) -> None:
    left, mine, folder, link = (tmp_path / name for name in ("left", "mine", "folder", "link"))
    close_lock_file(create_locked(left))
    folder.mkdir()
    link.symlink_to(mine)
    fd = create_locked(mine)
    try:
        remove_dead([left, mine, folder, link, tmp_path / "missing"])
        assert set(tmp_path.iterdir()) == {mine, folder, link}
    finally:
        close_lock_file(fd)
    remove_dead([mine])
    assert not mine.exists()


def test_a_file_is_created_once(tmp_path: Path) -> None:
    fd = create_locked(tmp_path / "file")
    with pytest.raises(FileExistsError):
        create_locked(tmp_path / "file")
    close_lock_file(fd)


def test_a_file_is_not_removed_between_its_creation_and_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, done = tmp_path / "file", threading.Event()

    def remove() -> None:
        while not done.is_set():
            remove_dead([path])

    remover = threading.Thread(target=remove)

    def is_locked_file_and_waits(fd: int, path: Path) -> bool:
        found = is_locked_file(fd, path)
        if threading.current_thread() is remover:
            time.sleep(0.0005)  # gives the creating thread the time to replace the file before it is removed
        return found

    monkeypatch.setattr(owner_lock, "is_locked_file", is_locked_file_and_waits)
    remover.start()
    try:
        for _ in range(1_000):
            fd = create_locked(path)
            assert is_locked_file(fd, path)
            path.unlink()
            close_lock_file(fd)
    finally:
        done.set()
        remover.join()


def test_a_file_that_another_process_keeps_locked_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner_lock, "_LOCK_SECONDS", 0.0)
    monkeypatch.setattr(owner_lock, "try_lock", lambda fd: False)
    with pytest.raises(BlockingIOError):
        create_locked(tmp_path / "file")
