"""Disks that fail and recover: only success removes a file, and what is in memory goes to disk again."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gati.exporters.base import DELIVERED, Outcome, Request, Verdict
from gati.pipeline import orphans, safe_files, spool_keeper
from gati.pipeline.codec import unpack
from gati.pipeline.outbox import Outbox
from gati.pipeline.request_queue import Limits
from gati.pipeline.spool import Spool, SpoolFile
from gati.pipeline.stats import DeliveryCounters, Stats
from tests.pipeline.kit import FakeExporter, spool_files

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX files")


def request(text: str, conversation: str = "c", turn: str | None = None) -> Request:
    return Request(conversation, {"messages": [{"content": text}]}, 1, turn or f"turn {text}")


class Process:
    """An outbox with a spool, as one process has it."""

    def __init__(self, root: Path, account: str = "a1", **limits: int) -> None:
        self.counters = DeliveryCounters()
        self.spool = Spool(root, "fake", account)
        self.exporter = FakeExporter()
        self.outbox = Outbox(self.exporter, self.counters, self.spool, Limits(**limits))

    def accept(self, *texts: str) -> None:
        for text in texts:
            self.outbox.accept([request(text)])

    def send(self) -> list[str]:
        """Send what can be sent now; return the texts in order."""
        sent = []
        self.outbox.open()
        self.outbox.retry_now()
        while (queued := self.outbox.next(0)) is not None:
            outcome = self.exporter.send(unpack(queued.data))
            sent.append(queued.turn_id.removeprefix("turn "))
            self.outbox.settle(queued, outcome)
        return sent

    @property
    def stats(self) -> Stats:
        stats = self.counters.stats()
        assert stats.balanced, stats
        return stats


def leave(root: Path, *texts: str) -> None:
    """Leave one file for each text, as a process that exits."""
    process = Process(root)
    process.accept(*texts)
    process.outbox.close()


ERRORS = [errno.EMFILE, errno.ENFILE, errno.EIO, errno.EACCES, errno.ENOMEM, errno.ESTALE]


@pytest.mark.parametrize("number", ERRORS, ids=errno.errorcode.get)
def test_a_file_that_cannot_be_read_stays_and_is_delivered_later(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(tmp_path, "1", "2", "3")
    process = Process(tmp_path)
    assert process.outbox.adopt() == 3

    def fail(*_: object) -> bytes:
        raise OSError(number, "simulated")

    with monkeypatch.context() as patch:
        patch.setattr("gati.pipeline.spool.read_regular", fail)
        for _ in range(20):
            assert process.send() == []
    assert len(spool_files(tmp_path)) == 3
    assert process.stats.spooled == 3
    process.outbox.adopt()
    assert process.send() == ["1", "2", "3"]
    assert spool_files(tmp_path) == []


def test_one_file_that_cannot_be_read_does_not_block_others_or_a_flush(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(tmp_path, "bad", "good")
    process = Process(tmp_path)
    process.outbox.adopt()
    read = Spool.read

    def fail(self: Spool, file: SpoolFile) -> list[bytes]:
        if file.number == 1:
            raise OSError(errno.EIO, "simulated")
        return read(self, file)

    monkeypatch.setattr(Spool, "read", fail)
    epoch = process.outbox.new_epoch()
    sent = [text for _ in range(4) for text in process.send()]
    assert sent == ["good"]
    assert process.outbox.is_settled(epoch)
    assert process.stats.spooled == 1


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EIO, errno.EMFILE, errno.EDQUOT, errno.EROFS], ids=errno.errorcode.get
)
def test_what_is_in_memory_goes_to_disk_once_the_disk_works(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Process(tmp_path)
    process.accept("before")

    def fail(*_: object) -> None:
        raise OSError(number, "simulated")

    with monkeypatch.context() as patch:
        patch.setattr("gati.pipeline.spool.write_atomically", fail)
        process.accept("1", "2")
        process.outbox.maintain(urgent=True)
        assert process.stats.pending == 2
    process.accept("3")
    process.outbox.maintain(urgent=True)
    assert (process.stats.pending, process.stats.spooled) == (0, 4)
    process.outbox.close()
    heir = Process(tmp_path)
    heir.outbox.adopt()
    assert heir.send() == ["before", "1", "2", "3"]


@pytest.mark.parametrize("saved", [False, True], ids=["in memory", "written later"])
def test_what_is_in_memory_does_not_overtake_files_that_were_not_read_yet(
    tmp_path: Path, saved: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(tmp_path, "1", "2")
    process = Process(tmp_path)
    process.outbox.adopt()
    process.accept("3")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "simulated")

    with monkeypatch.context() as patch:
        patch.setattr("gati.pipeline.spool.write_atomically", fail)
        process.accept("4", "5")
    assert process.stats.pending == 2
    assert process.outbox.memory_bytes > 0
    if saved:
        process.outbox.maintain(urgent=True)
        assert process.stats.pending == 0
    process.accept("6")
    assert process.send() == ["1", "2", "3", "4", "5", "6"]
    assert process.outbox.memory_bytes == 0
    assert spool_files(tmp_path) == []


def test_what_waits_in_memory_behind_files_is_dropped_at_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(tmp_path, "1")
    process = Process(tmp_path, memory=2_000)
    process.outbox.adopt()

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "simulated")

    with monkeypatch.context() as patch:
        patch.setattr("gati.pipeline.spool.write_atomically", fail)
        process.accept(*map(str, range(2, 12)))
        assert process.outbox.memory_bytes <= 2_000
    dropped = process.stats.dropped["memory_full"]
    assert process.send() == ["1", *map(str, range(2 + dropped, 12))]


def test_what_is_in_memory_goes_to_disk_at_the_latest_at_the_shutdown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Process(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "simulated")))
        process.accept("1", "2")
    process.outbox.close()
    assert process.stats.spooled == 2
    heir = Process(tmp_path)
    heir.outbox.adopt()
    assert heir.send() == ["1", "2"]


def test_a_removed_folder_is_created_again_with_what_is_in_memory(tmp_path: Path) -> None:
    process = Process(tmp_path / "spool")
    process.accept("1")
    shutil.rmtree(tmp_path / "spool")
    process.accept("2")
    assert len(spool_files(tmp_path / "spool")) == 1
    process.outbox.close()
    heir = Process(tmp_path / "spool")
    heir.outbox.adopt()
    assert heir.send() == ["1", "2"]


def test_files_of_a_process_whose_folder_was_removed_are_not_taken_from_it(tmp_path: Path) -> None:
    process = Process(tmp_path / "spool")
    process.accept("1")
    shutil.rmtree(tmp_path / "spool")
    process.accept("2")
    assert Process(tmp_path / "spool").outbox.adopt() == 0


def test_an_error_halfway_through_adopting_loses_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(tmp_path, "1", "2", "3", "4")
    process = Process(tmp_path)
    rename, calls = os.rename, []

    def fail(source: object, target: object) -> None:
        calls.append(source)
        if len(calls) == 3:
            raise MemoryError
        rename(source, target)  # type: ignore[arg-type]  # the paths are of any type

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", fail)
        with pytest.raises(MemoryError):
            process.outbox.adopt()
    assert process.outbox.adopt() == 4
    assert process.send() == ["1", "2", "3", "4"]


def test_a_file_that_cannot_be_renamed_is_adopted_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(tmp_path, "1", "2", "3")
    process = Process(tmp_path)
    rename = os.rename

    def fail(source: object, target: object) -> None:
        if "-000002-" in str(source):
            raise PermissionError(errno.EACCES, "simulated")
        rename(source, target)  # type: ignore[arg-type]  # the paths are of any type

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", fail)
        assert process.outbox.adopt() == 2
    assert process.outbox.adopt() == 1
    assert process.send() == ["1", "3", "2"]


def test_no_files_are_adopted_after_the_outbox_was_closed(tmp_path: Path) -> None:
    leave(tmp_path, "1")
    process = Process(tmp_path)
    process.outbox.close()
    assert process.outbox.adopt() == 0
    assert process.spool.adopt(), "even a call that had begun leaves the files to others"
    assert Process(tmp_path).outbox.adopt() == 1


def test_what_is_stored_after_the_outbox_was_closed_belongs_to_the_next_process(tmp_path: Path) -> None:
    process = Process(tmp_path)
    process.outbox.close()
    process.accept("late")
    assert process.stats.spooled == 1
    assert Process(tmp_path).outbox.adopt() == 1


def test_a_rejected_request_stays_in_its_file_until_it_is_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Process(tmp_path)
    process.exporter.answer = lambda _: Outcome(Verdict.REJECT, "no")
    process.accept("bad")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "simulated")

    with monkeypatch.context() as patch:
        patch.setattr(Spool, "set_aside", fail)
        process.send()
        assert process.stats.rejected == 1
        assert len(spool_files(tmp_path)) == 1
    process.outbox.maintain(urgent=True)
    assert spool_files(tmp_path) == []
    assert len(list(tmp_path.glob("*/rejected/*.json"))) == 1


def test_a_batch_larger_than_a_part_of_the_quota_is_written_in_several_files(tmp_path: Path) -> None:
    process = Process(tmp_path, disk=100_000)
    process.outbox.accept([request("x" * 4_000, f"c{n}", f"turn {n}") for n in range(20)])
    assert process.stats.spooled == 20
    assert len(spool_files(tmp_path)) > 4
    assert all(path.stat().st_size <= 13_000 for path in spool_files(tmp_path))


def test_files_keep_their_order_when_the_clock_steps_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(range(1_800_000_000_000_000_000, 0, -3_600_000_000_000))
    monkeypatch.setattr("gati.pipeline.spool.time.time_ns", lambda: next(times))
    texts = [str(n) for n in range(12)]
    leave(tmp_path, *texts[:6])
    process = Process(tmp_path)
    process.outbox.adopt()
    process.accept(*texts[6:])
    process.outbox.close()
    heir = Process(tmp_path)
    heir.outbox.adopt()
    assert heir.send() == texts


def test_files_of_an_earlier_version_keep_their_order_after_a_clock_step(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "fake", "a1")
    spool.open()
    for number, created in enumerate([3, 1, 2], start=1):
        name = f"{created:016d}-aaaaaaaaaaaa-{number:06d}-1.bbbbbbbbbbbb.jsonl"
        (spool.ready / name).write_bytes(b"{}\n")
    assert [file.number for file in spool.files()] == [1, 2, 3]
    assert [file.number for file in spool.adopt()] == [1, 2, 3]


def _outsider(path: Path) -> Path:
    secret = path / "outside.txt"
    secret.write_bytes(b'{"lane":"c","turn":"t","items":1,"endpoint":"messages","body":{"messages":["secret"]}}\n')
    return secret


@posix
@pytest.mark.parametrize("kind", ["fifo", "link", "device", "folder", "dangling", "endless"])
def test_what_is_not_a_file_is_set_aside_as_damaged(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safe_files, "MAX_FILE_BYTES", 100_000)
    secret = _outsider(tmp_path)
    root = tmp_path / "spool"
    leave(root, "1", "2")
    path = spool_files(root)[0]
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "endless":
        with path.open("wb") as file:
            file.truncate(1 << 40)
    else:
        path.symlink_to({"link": secret, "device": "/dev/zero", "dangling": "/nowhere"}[kind])
    process = Process(root)
    process.outbox.adopt()
    assert process.send() == ["2"]
    assert (process.stats.delivered, dict(process.stats.dropped)) == (1, {"damaged": 1})
    assert spool_files(root) == []
    assert secret.exists()
    assert len(list(root.glob("*/rejected/*.damaged"))) == 1


@pytest.mark.parametrize(
    "change",
    [
        b'"items":1e308', b'"items":-5', b'"items":true', b'"items":"1"', b'"items":999999999999999999999', b'"items":null',
        b'"items":1.5', b'"items":100000',
    ],
)  # fmt: skip
def test_a_number_of_messages_that_cannot_be_true_makes_a_line_damaged(tmp_path: Path, change: bytes) -> None:
    leave(tmp_path, "1", "2")
    path = spool_files(tmp_path)[0]
    path.write_bytes(path.read_bytes().replace(b'"items":1', change))
    process = Process(tmp_path)
    process.outbox.adopt()
    assert process.send() == ["2"]
    assert (process.stats.recorded, dict(process.stats.dropped)) == (2, {"damaged": 1})


@pytest.mark.parametrize(
    "name",
    [
        "9999999999999999-aaaaaaaaaaaa-000001-1.bbbbbbbbbbbb.jsonl",
        "1795741309682031-aaaaaaaaaaaa-999999999999999999999999-1.bbbbbbbbbbbb.jsonl",
        "1795741309682031-aaaaaaaaaaaa-000001-99999999999999999999.bbbbbbbbbbbb.jsonl",
        "1795741309682031-aaaaaaaaaaaa-000001-999999.bbbbbbbbbbbb.jsonl",
        "\u0661795741309682031-aaaaaaaaaaaa-000001-1.bbbbbbbbbbbb.jsonl",
        "copy of something.jsonl",
    ],
)
def test_numbers_in_a_name_are_not_trusted_but_its_content_is_delivered(tmp_path: Path, name: str) -> None:
    leave(tmp_path, "1")
    path = spool_files(tmp_path)[0]
    path.rename(path.with_name(name))
    process = Process(tmp_path)
    process.outbox.adopt()
    assert process.send() == ["1"]
    assert process.stats.recorded == process.stats.delivered == 1
    process.accept("2")
    assert all(SpoolFile.parse(path.name) for path in spool_files(tmp_path))
    assert process.send() == ["2"]


@posix
def test_a_link_in_the_way_of_a_file_that_is_written_is_not_followed(tmp_path: Path) -> None:
    secret = _outsider(tmp_path)
    before = secret.read_bytes()
    process = Process(tmp_path / "spool")
    process.spool.open()
    next_file = process.spool.reserve(1)
    (process.spool.ready / f".{process.spool.owner}-{next_file.name}.part").symlink_to(secret)
    process.spool.write([b"{}"], 1, next_file)
    assert secret.read_bytes() == before


@posix
@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_what_is_not_a_lock_does_not_stop_adoption(tmp_path: Path, kind: str) -> None:
    leave(tmp_path, "1")
    owner = SpoolFile.parse(spool_files(tmp_path)[0].name)
    assert owner
    path = next(tmp_path.glob("*/owners")) / f"{owner.owner}.lock"
    if kind == "link":
        path.symlink_to("/dev/null")
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    assert Process(tmp_path).outbox.adopt() == 1


def test_a_large_folder_is_adopted_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(tmp_path, *map(str, range(25)))
    monkeypatch.setattr("gati.pipeline.spool.Spool.adopt.__defaults__", (10,))
    process = Process(tmp_path)
    sent = []
    while process.outbox.adopt():
        sent += process.send()
    assert sent == [str(n) for n in range(25)]


def test_a_scan_looks_at_the_sizes_of_a_sample_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Process(tmp_path)
    other.accept(*map(str, range(100)))
    exact = sum(path.stat().st_size for path in spool_files(tmp_path))
    monkeypatch.setattr(orphans, "SAMPLE_FILES", 10)
    looks, lstat = [], os.lstat

    def count(path: object) -> os.stat_result:
        looks.append(path)
        return lstat(path)  # type: ignore[arg-type]  # the paths are of any type

    process = Process(tmp_path)
    process.spool.open()
    monkeypatch.setattr(os, "lstat", count)
    process.spool.adopt()
    assert len(looks) <= 12
    assert abs(process.spool.other_bytes - exact) < exact / 2
    assert spool_keeper.MAX_BACKLOG >= 1_000


def test_no_file_operation_runs_under_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(tmp_path, "0")
    process = Process(tmp_path, memory=3_000, disk=3_000)
    held = []
    for name in ("write", "read", "remove", "adopt", "set_aside", "rewrite", "mark_key", "close", "open"):
        original = getattr(Spool, name)

        def look(self: Spool, *args: object, _original: object = original, **kwargs: object) -> object:
            held.append(process.outbox.changed._is_owned())  # type: ignore[attr-defined]  # not part of the declared type
            return _original(self, *args, **kwargs)  # type: ignore[operator]  # any method

        monkeypatch.setattr(Spool, name, look)
    answers = iter([DELIVERED, Outcome(Verdict.REJECT, "no")])
    process.exporter.answer = lambda _: next(answers, DELIVERED)
    process.outbox.adopt()
    process.accept(*(f"{n} " + "x" * 700 for n in range(6)))
    process.send()
    process.outbox.maintain(urgent=True)
    process.outbox.close()
    assert held
    assert not any(held)
    assert process.stats.balanced


@given(st.sets(st.binary(min_size=1, max_size=6), max_size=300), st.integers(0, 310), st.integers(1, 50))
def test_the_oldest_files_are_found_without_sorting_all(names: set[bytes], limit: int, sample: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(orphans, "SAMPLE_FILES", sample)
        assert sorted(orphans._smallest(limit, list(names))) == sorted(names)[:limit]
