"""Every kind of fault of the disk, with a real server: afterwards the server has every message exactly once, in order."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gati import observe
from gati.pipeline import quota_spool
from gati.testing.server import fault_injection as faults
from tests.faults.chat_driver import ChatDriver
from tests.faults.conftest import Init
from tests.servers import LocalServer

Fault = Callable[[pytest.MonkeyPatch, Path], object]


def _raises(number: int) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, "simulated")

    return fail


def _writes_fail(number: int) -> Fault:
    return lambda patch, _: patch.setattr("gati.pipeline.spool.write_atomically", _raises(number))


def _reads_fail(number: int) -> Fault:
    return lambda patch, _: patch.setattr("gati.pipeline.spool.read_regular", _raises(number))


def _removals_fail(number: int) -> Fault:
    return lambda patch, _: patch.setattr("gati.pipeline.spool.Spool.remove", _raises(number))


def _clock_steps_back(patch: pytest.MonkeyPatch, _: Path) -> None:
    now = time.time_ns
    steps = iter(range(10_000))
    patch.setattr("gati.pipeline.spool.time.time_ns", lambda: now() - next(steps) * 3_600_000_000_000)


def _folder_is_removed(_: pytest.MonkeyPatch, spool: Path) -> None:
    shutil.rmtree(spool)


def _hostile_files(_: pytest.MonkeyPatch, spool: Path) -> None:
    ready = next(spool.glob("*/ready"))
    (ready / "0000000000000001-aaaaaaaaaaaa-000001-0.bbbbbbbbbbbb.jsonl").symlink_to("/dev/zero")
    (ready / "9999999999999999-aaaaaaaaaaaa-000002-0.bbbbbbbbbbbb.jsonl").write_bytes(b"\x00" * 1000)
    os.mkfifo(ready / "0000000000000003-aaaaaaaaaaaa-000003-0.bbbbbbbbbbbb.jsonl")


DISK: dict[str, Fault] = {
    "no space": _writes_fail(errno.ENOSPC),
    "writes without descriptors": _writes_fail(errno.EMFILE),
    "writes with I/O errors": _writes_fail(errno.EIO),
    "a read-only disk": _writes_fail(errno.EROFS),
    "reads without descriptors": _reads_fail(errno.EMFILE),
    "reads with I/O errors": _reads_fail(errno.EIO),
    "reads without permission": _reads_fail(errno.EACCES),
    "files that cannot be removed": _removals_fail(errno.EACCES),
    "a clock that steps back": _clock_steps_back,
    "a removed folder": _folder_is_removed,
    "hostile files": _hostile_files,
}


@contextmanager
def disk_fault(name: str, spool: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        DISK[name](patch, spool)
        yield


@pytest.mark.skipif(os.name != "posix", reason="POSIX files")
@pytest.mark.parametrize("restart", [False, True], ids=["same process", "next process"])
@pytest.mark.parametrize("name", DISK)
def test_after_a_disk_fault_every_message_was_delivered_exactly_once(
    name: str, restart: bool, init: Init, greenflash: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quota_spool, "FIRST_RETRY_SECONDS", 0.01)
    greenflash.faults.add(faults.failing(503, times=None))
    init(greenflash)
    chat = ChatDriver()
    chat.turns(conversations=2, each=1, word="before")
    observe.flush(timeout=0.3)
    with disk_fault(name, tmp_path / "spool"):
        chat.turns(conversations=2, each=2, word="meanwhile")
        observe.flush(timeout=0.3)
    chat.turns(conversations=2, each=1, word="after")
    if restart:
        observe.shutdown(timeout=0.3)
        greenflash.faults.clear()
        init(greenflash)
    greenflash.faults.clear()
    assert observe.flush(timeout=20.0)
    chat.check_delivered(greenflash)
    assert observe.stats().dropped == {}
