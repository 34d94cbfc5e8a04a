"""Removing requests from a spool: files of exited processes are rewritten, those of running ones stay."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import orjson

from gati.exporters.base import Request
from gati.pipeline.codec import pack
from gati.pipeline.recovery import drain_spool
from gati.pipeline.spool import Spool
from gati.pipeline.spool_deletion import remove_requests
from tests.pipeline.kit import QUICK, FakeExporter


class Secrets:
    """Removes requests with the text "secret", and the first of two items."""

    def keep(self, request: Request) -> Request | None:
        if request.ordering_key == "two" and request.items == 2:
            return dataclasses.replace(request, items=1, body={"texts": ["second"], "text": "second"})
        return None if "secret" in request.body["texts"] else request

    def mentions(self, data: bytes) -> bool:
        return b"secret" in data


def line(key: str, *texts: str) -> bytes:
    return pack(Request(key, {"texts": list(texts), "text": texts[0]}, len(texts), "turn"))


def write(root: Path, *lines: bytes, items: int, close: bool = True) -> Spool:
    spool = Spool(root, "fake", "a1")
    spool.write(lines, items)
    if close:
        spool.close()
    return spool


def content(root: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file())


def test_files_of_exited_processes_are_rewritten_and_delivered_by_the_next_one(tmp_path: Path) -> None:
    write(tmp_path, line("a", "secret"), line("b", "plain"), line("two", "first", "second"), items=4)
    write(tmp_path, line("a", "secret"), items=1)
    found = remove_requests(tmp_path, Secrets())
    assert (found.messages, found.running) == (3, 0)
    assert b"secret" not in content(tmp_path)
    assert b"first" not in content(tmp_path)
    (left,) = Spool(tmp_path, "fake", "a1").files()
    assert left.items == 2
    exporter = FakeExporter()
    assert drain_spool(tmp_path, [exporter], policy=QUICK).delivered == 2


def test_counting_changes_no_file(tmp_path: Path) -> None:
    write(tmp_path, line("a", "secret"), items=1)
    before = content(tmp_path)
    assert remove_requests(tmp_path, Secrets(), count_only=True).messages == 1
    assert content(tmp_path) == before


def test_files_of_a_running_process_stay_and_are_counted(tmp_path: Path) -> None:
    spool = write(tmp_path, line("a", "secret"), items=1, close=False)
    assert remove_requests(tmp_path, Secrets()).running == 1
    assert len(spool.files()) == 1
    spool.close()
    assert remove_requests(tmp_path, Secrets()).messages == 1
    assert spool.files() == []


def test_while_another_process_takes_files_over_they_count_as_running(tmp_path: Path) -> None:
    write(tmp_path, line("a", "secret"), items=1)
    other = Spool(tmp_path, "fake", "a1")
    other.open()
    assert other._adopting.acquire(other.folder)
    assert remove_requests(tmp_path, Secrets()).running == 1
    other.close()
    assert remove_requests(tmp_path, Secrets()).messages == 1


def test_refused_requests_damaged_files_and_unfinished_writes_are_cleaned(tmp_path: Path) -> None:
    spool = write(tmp_path, line("a", "plain"), items=1)
    for text in (line("a", "secret"), line("b", "plain"), line("two", "first", "second")):
        spool.set_aside(text, "refused", 10**6)
    (spool.rejected / "x.jsonl.damaged").write_bytes(b'{"texts": "secret" cut off\n' + line("b", "kept"))
    (spool.ready / ".0123456789ab-x.jsonl.part").write_bytes(b"secret")
    spool.close()
    assert remove_requests(tmp_path, Secrets()).rejected == 3
    assert b"secret" not in content(tmp_path)
    assert b"kept" in content(tmp_path)
    requests = [orjson.loads(path.read_bytes())["request"]["body"]["texts"] for path in spool.rejected.glob("*.json")]
    assert sorted(requests) == [["plain"], ["second"]]


def test_a_folder_that_is_no_spool_and_links_in_it_are_left_alone(tmp_path: Path) -> None:
    assert remove_requests(tmp_path / "missing", Secrets()).messages == 0
    spool = write(tmp_path, line("a", "plain"), items=1)
    target = tmp_path / "secret.txt"
    target.write_bytes(line("a", "secret"))
    name = spool.files()[0].name.replace("-1.", "-2.")
    (spool.ready / name).symlink_to(target)
    assert remove_requests(tmp_path, Secrets()).messages == 0
    assert target.exists()
