"""The embedded store keeps what it was given: through kills, locks and replaced files, in whole programs."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gati import observe
from gati.exporters.greenflash.encoder import GreenflashEncoder
from gati.exporters.local import LocalExporter
from gati.settings import Settings
from gati.store import connections, queries
from gati.store.store import Store
from gati.store.store_file import NotAStoreError
from gati.testing import ScriptedChatModel

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs signals, and files that can be replaced")

PROGRAM = """
import sys
from gati import observe
from gati.testing import ScriptedChatModel
observe.init(local=sys.argv[1], spool_dir=sys.argv[2], flush_interval=3600.0)
for number in range(3):
    with observe.conversation(f"c{number}"):
        ScriptedChatModel(replies=["x"]).invoke("hello")
print("done", flush=True)
sys.stdin.read()
"""


def talk(conversation: str) -> None:
    with observe.conversation(conversation):
        ScriptedChatModel(replies=["x"]).invoke("hello")


def stored(path: Path) -> set[str]:
    with closing(Store(path, read_only=True)) as store:
        return {str(message["conversation"]) for message in queries.wire_messages(store)}


def is_stored(path: Path, conversations: set[str]) -> bool:
    try:
        return path.exists() and stored(path) == conversations
    except (NotAStoreError, sqlite3.Error):  # the program is just creating it
        return False


def wait_until(condition: Any, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_killed_program_has_stored_its_turns_whatever_its_flush_interval_is(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    command = [sys.executable, "-c", PROGRAM, str(path), str(tmp_path / "spool")]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"done\n"
        wait_until(lambda: is_stored(path, {"c0", "c1", "c2"}))
        program.send_signal(signal.SIGKILL)
    assert stored(path) == {"c0", "c1", "c2"}


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(connections, "_BUSY_SECONDS", 0.05)
    path = tmp_path / "store.db"
    observe.init(local=path, spool_dir=tmp_path / "spool", flush_interval=0.05, shutdown_timeout=0.2)
    talk("before")
    assert observe.flush(30.0)
    yield path
    observe.shutdown(1.0)


def test_turns_wait_in_the_spool_while_the_store_is_locked(path: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        talk("locked")
        assert not observe.flush(1.0)
        assert observe.stats().spooled == 3
        observe.shutdown(0.1)
        other.execute("ROLLBACK")
    observe.init(local=path, spool_dir=tmp_path / "spool")
    talk("later")
    assert observe.flush(30.0)
    assert stored(path) == {"before", "locked", "later"}


def test_turns_wait_in_the_spool_while_another_programs_database_is_in_the_stores_place(path: Path) -> None:
    with closing(sqlite3.connect(path.with_name("app.db"))) as other:
        other.execute("CREATE TABLE checkpoints (id)")
    content = path.with_name("app.db").read_bytes()
    path.with_name("app.db").replace(path)
    talk("after")
    assert not observe.flush(1.0)
    assert (observe.stats().spooled, path.read_bytes()) == (3, content)
    path.unlink()
    assert observe.flush(30.0)
    assert stored(path) == {"after"}


def test_a_folder_in_the_stores_place_loses_nothing(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink()
    path.mkdir()
    talk("after")
    assert not observe.flush(1.0)
    path.rmdir()
    assert observe.flush(30.0)
    assert stored(path) == {"after"}


def test_a_relative_path_stays_the_same_when_the_program_changes_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    exporter = LocalExporter("store.db", 1024**2, GreenflashEncoder(Settings()))
    monkeypatch.chdir(tmp_path)
    assert exporter.store_path == tmp_path / "a" / "store.db"
    other = LocalExporter("store.db", 1024**2, GreenflashEncoder(Settings()))
    assert other.account != exporter.account
    assert os.path.isabs(other.store_path)


def test_a_flush_does_not_wait_for_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    observe.init(local=tmp_path / "file" / "store.db", spool_dir=tmp_path / "spool")
    ScriptedChatModel(replies=["hello"]).invoke("hi")
    result = observe.flush(timeout=600.0)  # longer than this test may take
    assert (result.spooled, result.timed_out, bool(result)) == (3, False, False)
    (tmp_path / "file").unlink()
    assert observe.flush(timeout=60.0).delivered == 3
