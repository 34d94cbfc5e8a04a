from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from gati.pipeline.spool import Spool, SpoolFile, is_dead

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX permissions and processes")


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", "fake", "a1")


def orphan(root: Path, *lines: bytes, items: int = 1) -> SpoolFile:
    """Write a file whose owner has exited."""
    dead = Spool(root, "fake", "a1")
    file = dead.write(lines, items)
    dead.close()
    return file


@posix
def test_only_the_user_can_read_the_spool(spool: Spool) -> None:
    spool.write([b"{}"], 1)
    spool.set_aside(b"{}", "why", 1_000)
    for path in [spool.folder, *spool.folder.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_file_name_holds_age_writer_item_count_and_owner(spool: Spool) -> None:
    files = [spool.write([b"{}"], items) for items in (3, 4)]
    assert spool.files() == files
    assert [file.items for file in files] == [3, 4]
    assert {file.owner for file in files} == {spool.owner}
    assert files[0].order < files[1].order


def test_nothing_is_created_before_the_first_use(spool: Spool) -> None:
    assert not spool.folder.exists()


def test_a_line_that_was_cut_off_is_not_read(spool: Spool) -> None:
    file = spool.write([b"one", b"two"], 2)
    assert spool.read(file) == [b"one", b"two"]
    path = spool.ready / file.name
    path.write_bytes(path.read_bytes()[:-2])
    assert spool.read(file) == [b"one"]


def test_files_of_exited_processes_are_adopted_oldest_first(spool: Spool) -> None:
    left = [orphan(spool.folder.parent, b"a"), orphan(spool.folder.parent, b"b")]
    mine = spool.adopt()
    assert [file.order for file in mine] == [file.order for file in left]
    assert {file.owner for file in mine} == {spool.owner}
    assert [spool.read(file) for file in mine] == [[b"a"], [b"b"]]
    assert spool.adopt() == []


def test_files_of_running_processes_are_not_adopted(spool: Spool, tmp_path: Path) -> None:
    other = Spool(tmp_path / "spool", "fake", "a1")
    file = other.write([b"a"], 1)
    assert spool.adopt() == []
    assert other.read(file) == [b"a"]
    other.close()
    assert len(spool.adopt()) == 1


def test_an_owner_file_that_another_process_saw_before_it_was_locked_is_not_removed(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starting = Spool(tmp_path / "spool", "fake", "a1")
    starting.open()
    monkeypatch.setattr("gati.pipeline.orphans.is_dead", lambda path: True)
    spool.adopt()
    assert (starting.owners / f"{starting.owner}.lock").exists()


def test_each_account_has_its_own_folder(spool: Spool, tmp_path: Path) -> None:
    other = Spool(tmp_path / "spool", "fake", "a2")
    other.write([b"a"], 1)
    other.close()
    assert spool.adopt() == []


def test_an_account_name_cannot_escape_the_spool_folder(tmp_path: Path) -> None:
    assert Spool(tmp_path, "../x", "../../y").folder.parent == tmp_path


def test_removing_the_owner_file_of_a_running_process_does_no_harm(spool: Spool, tmp_path: Path) -> None:
    other = Spool(tmp_path / "spool", "fake", "a1")
    file = other.write([b"a"], 1)
    (other.owners / f"{other.owner}.lock").unlink()
    assert len(spool.adopt()) == 1
    other.remove(file)
    other.close()


def test_unfinished_files_of_exited_processes_are_removed(spool: Spool, tmp_path: Path) -> None:
    spool.open()
    part = spool.ready / ".0123456789ab-x.part"
    part.write_bytes(b"half")
    (spool.ready / "README").write_text("not gati_threads")
    spool.adopt()
    assert [path.name for path in spool.ready.iterdir()] == ["README"]


@pytest.mark.parametrize("removed", ["ready", "owners", "rejected", ""])
def test_a_folder_that_is_removed_while_in_use_is_created_again(removed: str, spool: Spool) -> None:
    spool.write([b"a"], 1)
    shutil.rmtree(spool.folder / removed)
    file = spool.write([b"b"], 1)
    assert spool.read(file) == [b"b"]
    assert spool.adopt() == []


def test_rewrite_replaces_a_file_by_its_remaining_lines(spool: Spool) -> None:
    file = spool.write([b"a", b"b"], 2)
    new = spool.rewrite(file, [b"b"], 1)
    assert spool.files() == [new]
    assert spool.read(new) == [b"b"]


def test_a_request_that_is_rejected_twice_is_kept_once(spool: Spool) -> None:
    for _ in range(2):
        spool.set_aside(b'{"x":1}', "bad", 1_000)
    (kept,) = spool.rejected.iterdir()
    assert b'"reason":"bad"' in kept.read_bytes()


def test_rejected_requests_have_a_size_limit(spool: Spool) -> None:
    for n in range(50):
        spool.set_aside(b'{"x":%d,"y":"%s"}' % (n, b"y" * 100), "bad", 2_000)
    sizes = [path.stat().st_size for path in spool.rejected.iterdir()]
    assert 1_500 < sum(sizes) <= 2_000


@posix
def test_a_lock_survives_the_exit_of_a_forked_child(spool: Spool) -> None:
    spool.open()
    path = spool.owners / f"{spool.owner}.lock"
    child = os.fork()
    if child == 0:
        os._exit(0)  # the hook has closed the copy
    os.waitpid(child, 0)
    assert not is_dead(path)


ADOPT = """
import sys
from pathlib import Path
from gati.pipeline.spool import Spool
spool = Spool(Path(sys.argv[1]), "fake", "a1")
spool.open()
print("ready", flush=True)
sys.stdin.readline()
print(" ".join(file.renamed(owner="0" * 12).name for file in spool.adopt()), flush=True)
sys.stdin.readline()
"""


@posix
def test_concurrent_processes_adopt_each_file_once(tmp_path: Path) -> None:
    root = tmp_path / "spool"
    dead = [Spool(root, "fake", "a1") for _ in range(4)]
    for n in range(200):
        dead[n % 4].write([b"x"], 1)
    for spool in dead:
        spool.close()
    programs = [
        subprocess.Popen([sys.executable, "-c", ADOPT, root], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    names: Counter[str] = Counter()
    for program in programs:
        assert program.stdout
        assert program.stdout.readline() == "ready\n"
    for program in programs:
        assert program.stdin
        program.stdin.write("go\n")
        program.stdin.flush()
    for program in programs:
        assert program.stdout
        names.update(program.stdout.readline().split())
    for program in programs:
        program.communicate("end\n")
    assert len(names) == 200
    assert set(names.values()) == {1}


HOLD = """
import os, sys, time
from pathlib import Path
from gati.pipeline.spool import Spool
Spool(Path(sys.argv[1]), "fake", "a1").write([b"x"], 1)
print("written", flush=True)
time.sleep(600)
"""


@posix
def test_files_can_be_adopted_as_soon_as_their_owner_is_killed(spool: Spool, tmp_path: Path) -> None:
    program = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "spool"], stdout=subprocess.PIPE)
    assert program.stdout
    assert program.stdout.readline() == b"written\n"
    assert spool.adopt() == []
    program.kill()
    program.communicate()
    assert len(spool.adopt()) == 1


@posix
def test_one_process_takes_over_all_files_that_wait(spool: Spool, tmp_path: Path) -> None:
    files = [orphan(tmp_path / "spool", b"x") for _ in range(3)]
    other = Spool(tmp_path / "spool", "fake", "a1")
    adopted = spool.adopt(limit=1)
    assert spool.more_to_adopt
    assert other.adopt() == []
    adopted += spool.adopt(limit=2)
    assert [file.created_us for file in adopted] == [file.created_us for file in files]
    orphan(tmp_path / "spool", b"x")
    assert len(other.adopt()) == 1


@posix
@pytest.mark.parametrize("end", [Spool.end_adopting, Spool.close])
def test_another_process_takes_over_the_rest_once_the_first_has_ended(
    end: Callable[[Spool], None], spool: Spool, tmp_path: Path
) -> None:
    for _ in range(3):
        orphan(tmp_path / "spool", b"x")
    other = Spool(tmp_path / "spool", "fake", "a1")
    spool.adopt(limit=1)
    end(spool)
    spool.remove(spool.files()[0])
    assert len(other.adopt()) == 2


def test_the_size_of_rejected_requests_is_rarely_measured(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    scans = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: scans.append(path) or scandir(path))
    for n in range(1_000):
        spool.set_aside(b'{"n":%d}' % n, "because", limit=50_000)
    assert len(scans) < 50
    assert 40_000 < sum(path.stat().st_size for path in spool.rejected.iterdir()) <= 50_000


@posix
def test_files_are_adopted_although_something_else_is_in_the_place_of_the_lock(spool: Spool, tmp_path: Path) -> None:
    orphan(tmp_path / "spool", b"x")
    (spool.folder / "adopting").symlink_to("/dev/null")
    assert len(spool.adopt()) == 1
    orphan(tmp_path / "spool", b"x")
    (spool.folder / "adopting").unlink()
    (spool.folder / "adopting").mkdir()
    assert len(spool.adopt()) == 1
