"""A real disk of a few megabytes, for tests that fill it. Needs permission to mount one."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """Provide an empty disk with `size` bytes; skip the test where it cannot be mounted."""
    if shutil.which("mount") is None:
        pytest.skip("needs the command mount")
    folder.mkdir(exist_ok=True)
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(folder)],
        check=False, capture_output=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if mount.returncode:
        pytest.skip("needs permission to mount a disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, stdin=subprocess.DEVNULL)


def fill(folder: Path, *, but: int) -> Path:
    """Write a file that leaves only `but` bytes free on a disk; return it."""
    status = os.statvfs(folder)
    filler = folder / "filler"
    filler.write_bytes(bytes(max(0, status.f_bfree * status.f_frsize - but)))
    return filler
