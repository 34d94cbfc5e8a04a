"""The store's file under attack: deleted, replaced, damaged or foreign, while it is open or before."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import stat
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gati.store import connections, queries, schema
from gati.store.connections import check_is_store
from gati.store.store import Store
from gati.store.store_file import APPLICATION_ID, NotAStoreError
from tests.disks import fill, small_disk
from tests.store.bodies import body, said

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps a file in use from being deleted")


@pytest.fixture
def store(tmp_path: Path) -> Any:
    made = Store(tmp_path / "store.db")
    for number in range(20):
        made.ingest(body("before", said(f"b{number}", "x" * 1000, number)))
    yield made
    made.close()


def delete_all(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink()


def delete_log(path: Path) -> None:
    Path(f"{path}-wal").unlink()


def delete_log_and_index(path: Path) -> None:
    Path(f"{path}-wal").unlink()
    Path(f"{path}-shm").unlink()


def delete_folder(path: Path) -> None:
    shutil.rmtree(path.parent)


def replace_by_store(path: Path) -> None:
    Store(path.with_name("other.db")).close()
    path.with_name("other.db").replace(path)


def copy_store_over(path: Path) -> None:
    Store(path.with_name("other.db")).close()
    path.write_bytes(path.with_name("other.db").read_bytes())


def replace_by_text(path: Path) -> None:
    path.with_name("notes").write_text("my notes\n")
    path.with_name("notes").replace(path)


def overwrite_with_text(path: Path) -> None:
    path.write_text("my notes\n")


def damage(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(100)
        file.write(os.urandom(path.stat().st_size - 100))


def damage_and_truncate_log(path: Path) -> None:
    damage(path)
    os.truncate(f"{path}-wal", 0)


def empty_file(path: Path) -> None:
    os.truncate(path, 0)


def truncate_log(path: Path) -> None:
    os.truncate(f"{path}-wal", 0)


ATTACKS = [
    delete_all, Path.unlink, delete_log, delete_log_and_index, delete_folder, replace_by_store, copy_store_over,
    replace_by_text, overwrite_with_text, damage, damage_and_truncate_log, empty_file, truncate_log,
]  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_what_is_stored_after_an_attack_is_in_the_file_at_the_path(
    store: Store, attack: Callable[[Path], None]
) -> None:
    attack(store.path)
    for number in range(3):
        store.ingest(body(f"after{number}", said("a", "hello", number)))
    with closing(sqlite3.connect(store.path)) as db:
        found = [row[0] for row in db.execute("SELECT external_id FROM conversations WHERE external_id LIKE 'after%'")]
    assert sorted(found) == ["after0", "after1", "after2"]
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600


def test_an_attack_during_a_transaction_is_noticed_at_its_end(store: Store) -> None:
    attacked: list[bool] = []

    def work(db: sqlite3.Connection) -> Any:
        if not attacked:
            attacked.append(True)
            delete_all(store.path)
        return store.ingest_within(db, body("after", said("a", "hello")))

    store.transaction(work)
    with closing(Store(store.path, read_only=True)) as fresh:
        assert [message["content"] for message in queries.wire_messages(fresh)] == ["hello"]


def test_a_damaged_file_is_kept_under_another_name(store: Store) -> None:
    damage_and_truncate_log(store.path)
    damaged = store.path.read_bytes()
    store.ingest(body("after", said("a", "hello")))
    (kept,) = store.path.parent.glob("*.damaged-*[0-9]")
    assert kept.read_bytes() == damaged


def test_pages_are_served_from_a_replaced_file(store: Store) -> None:
    replace_by_store(store.path)
    assert queries.wire_messages(store) == []


def digest(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def foreign_database(path: Path, application_id: int = 0) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE checkpoints (id)")
        db.execute(f"PRAGMA application_id = {application_id}")
        db.commit()


@pytest.mark.parametrize("application_id", [0, 7])
def test_the_database_of_another_program_is_refused_and_not_changed(tmp_path: Path, application_id: int) -> None:
    foreign_database(tmp_path / "app.db", application_id)
    before = digest(tmp_path)
    for read_only in (False, True):
        with pytest.raises(NotAStoreError):
            Store(tmp_path / "app.db", read_only=read_only)
    assert digest(tmp_path) == before


def make_text(path: Path) -> None:
    path.write_text("my notes\n" * 500)


def make_empty(path: Path) -> None:
    path.touch()
    os.utime(path, (0, 0))  # a new one may become a store


@pytest.mark.parametrize("make", [make_text, make_empty, foreign_database, Path.mkdir])
def test_what_is_no_store_is_refused_for_reading_and_not_changed(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "x")
    before = sorted(path.name for path in tmp_path.rglob("*"))
    for look in (lambda path: Store(path, read_only=True), check_is_store):
        with pytest.raises((NotAStoreError, sqlite3.Error)):
            look(tmp_path / "x")
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def make_new(path: Path) -> None:
    path.touch()


def make_with_header(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")


@pytest.mark.parametrize("make", [make_new, make_with_header])
def test_a_reader_waits_for_a_store_that_is_being_created(
    make: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "store.db"
    make(path)

    def create_meanwhile(_: float) -> None:
        with closing(Store(path)) as creator:
            creator.ingest(body("c", said("a", "new")))

    monkeypatch.setattr(connections.time, "sleep", create_meanwhile)
    with closing(Store(path, read_only=True)) as reader:
        assert len(queries.wire_messages(reader)) == 1


def test_reading_leaves_the_folder_as_it_was(store: Store) -> None:
    store.close()
    os.chmod(store.path, 0o400)
    before = digest(store.path.parent)
    with closing(Store(store.path, read_only=True)) as reader:
        assert len(queries.wire_messages(reader)) == 20
        assert digest(store.path.parent) == before
        with pytest.raises(sqlite3.OperationalError):
            reader.ingest(body("c", said("a", "x")))
    assert digest(store.path.parent) == before


def test_a_reader_sees_what_a_running_program_writes(store: Store) -> None:
    store.close()
    with closing(Store(store.path, read_only=True)) as reader:
        assert len(queries.wire_messages(reader)) == 20
        store.ingest(body("c", said("a", "new")))
        assert len(queries.wire_messages(reader)) == 21
        store.ingest(body("c", said("b", "newer", 1)))
        assert len(queries.wire_messages(reader)) == 22


def test_a_reader_that_was_overtaken_by_a_writer_says_so(store: Store) -> None:
    store.close()
    with closing(Store(store.path, read_only=True)) as reader:

        def overtaken() -> None:
            with reader.connections.reading():
                store.ingest(body("c", said("a", "new")))

        with pytest.raises(sqlite3.OperationalError, match="changed while it was read"):
            overtaken()


def test_a_reader_sees_what_a_killed_program_left_in_the_log(store: Store, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in tmp_path.glob("store.db*"):
        shutil.copy(path, copy)
    with closing(Store(copy / "store.db", read_only=True)) as reader:
        assert len(queries.wire_messages(reader)) == 20


def test_a_reader_creates_and_changes_nothing_beside_a_copy_with_a_log_only(store: Store, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("store.db", "store.db-wal"):
        shutil.copy(tmp_path / name, copy)
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    reader = Store(copy / "store.db", read_only=True)
    assert len(queries.wire_messages(reader)) == 20
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before
    reader.close()
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before
    with closing(Store(copy / "store.db")) as writer:
        writer.ingest(body("other", said("z", "Hello")))
        assert len(queries.wire_messages(reader)) == 21
    reader.close()


def test_an_old_store_is_recognized_and_marked(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for migration in schema.MIGRATIONS[:1]:
            migration(db)
        db.execute("PRAGMA user_version = 1")
    check_is_store(path)
    with pytest.raises(NotAStoreError, match="earlier version"):
        Store(path, read_only=True)
    Store(path).close()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID


def test_a_locked_store_is_not_replaced(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_BUSY_SECONDS", 0.01)
    store.close()
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            store.ingest(body("after", said("a", "hello")))
        other.execute("ROLLBACK")
    store.ingest(body("after", said("a", "hello")))
    assert not list(store.path.parent.glob("*.damaged-*"))


def test_a_second_process_does_not_set_aside_the_new_file_of_the_first(store: Store) -> None:
    with closing(Store(store.path)) as second:
        damage_and_truncate_log(store.path)
        store.ingest(body("after1", said("a", "hello")))
        second.ingest(body("after2", said("a", "hello")))
        assert {message["conversation"] for message in queries.wire_messages(second)} == {"after1", "after2"}
    assert len(list(store.path.parent.glob("*.damaged-*[0-9]"))) == 1


@pytest.mark.parametrize("free", [20_000, 1_800_000], ids=["nothing free", "some space free"])
def test_a_full_disk_evicts_no_conversation(free: int, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 12_000_000) as disk, closing(Store(disk / "store.db", 10_000_000)) as store:
        for number in range(100):
            store.ingest(body(f"c{number}", said("a", os.urandom(1000).hex())))
        store.close()
        filler = fill(disk, but=free)
        for _ in range(2):
            with pytest.raises(sqlite3.OperationalError, match=r"full|I/O"):
                store.ingest(body("large", said("a", os.urandom(1_000_000).hex())))
        filler.unlink()
        assert store.evicted_conversations() == 0
        store.ingest(body("large", said("a", os.urandom(1_000_000).hex())))
        assert len(queries.list_conversations(store, limit=200).conversations) == 101


def test_a_store_at_its_limit_on_a_full_disk_evicts_no_conversation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gati.store.store_file.has_disk_space", lambda folder, size: False)

    def write() -> None:
        for number in range(2_000):
            store.ingest(body(f"c{number}", said("a", os.urandom(1000).hex())))

    with closing(Store(tmp_path / "store.db", 2_000_000)) as store:
        with pytest.raises(sqlite3.OperationalError, match="full"):
            write()
        assert store.evicted_conversations() == 0


def test_only_the_newest_copies_of_damaged_files_are_kept(store: Store) -> None:
    (other := store.path.with_name("store.db.damaged-by-me")).write_text("mine")
    for number in range(5):
        damage_and_truncate_log(store.path)
        store.ingest(body(f"after{number}", said("a", "hello")))
    assert len(list(store.path.parent.glob("*.damaged-*[0-9]"))) == 3
    assert other.exists()


@pytest.mark.parametrize("read_only", [False, True])
def test_a_pipe_in_the_stores_place_blocks_nobody(read_only: bool, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "store.db")
    with pytest.raises(NotAStoreError):
        Store(tmp_path / "store.db", read_only=read_only)
