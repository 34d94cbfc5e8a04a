from __future__ import annotations

from pathlib import Path

import pytest

from gati.pipeline import filesystem
from gati.pipeline.filesystem import filesystem_type, is_eager, is_ephemeral
from gati.settings import Settings

MOUNTS = """\
21 1 0:20 / / rw - overlay overlay rw,lowerdir=/a
22 21 8:1 / /data rw shared:1 master:2 - ext4 /dev/sda1 rw
23 22 0:21 / /data/in\\040memory rw - tmpfs tmpfs rw
24 21 0:22 / /dev/shm rw - tmpfs shm rw
25 22 8:2 / /data/twice rw - tmpfs tmpfs rw
26 22 8:2 / /data/twice rw - xfs /dev/sdb rw
nonsense
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/spool", "overlay"), ("/data/spool", "ext4"), ("/data/in memory/spool", "tmpfs"), ("/data/in", "ext4"),
        ("/dev/shm/x/y", "tmpfs"), ("/data/twice/x", "xfs"), ("/database", "overlay"),
    ],
)  # fmt: skip
def test_the_innermost_mount_decides(path: str, expected: str) -> None:
    assert filesystem_type(Path(path), MOUNTS) == expected


def test_without_a_list_of_mounts_a_path_counts_as_lasting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystem, "MOUNTS", tmp_path / "none")
    assert not is_ephemeral(tmp_path)
    assert filesystem_type(tmp_path, "") is None


@pytest.mark.parametrize(("kind", "eager"), [("tmpfs", True), ("ramfs", True), ("overlay", True), ("ext4", False)])
def test_turns_are_sent_eagerly_by_default_where_the_spool_may_be_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, eager: bool
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"21 1 0:20 / / rw - {kind} x rw\n")
    monkeypatch.setattr(filesystem, "MOUNTS", mounts)
    assert is_eager(Settings(spool_dir=tmp_path / "spool")) is eager
    assert is_eager(Settings(spool=False))
