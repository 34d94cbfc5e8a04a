"""The place of the spool, and whether its files outlive the machine or container."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from gati.data_folder import data_folder

if TYPE_CHECKING:
    from gati.settings import Settings

MOUNTS = Path("/proc/self/mountinfo")
"""The mounted file systems of this process, on Linux."""

_EPHEMERAL = frozenset({"tmpfs", "ramfs", "overlay", "overlayfs", "fuse-overlayfs", "fuse.fuse-overlayfs"})


def spool_folder(configured: Path | None) -> Path | None:
    """Return the spool's folder: the configured one, else one in the user's data folder; None without a home folder."""
    if configured is not None:
        return Path(configured)
    folder = data_folder()
    return folder / "spool" if folder is not None else None


def is_eager(options: Settings) -> bool:
    """Return True if turns are sent as soon as they end.

    This is the default where the spool cannot be written or does not outlive the container, so that nothing should wait in it.
    """
    if options.eager is not None:
        return options.eager
    folder = spool_folder(options.spool_dir) if options.spool else None
    return folder is None or is_ephemeral(folder) or not is_writable(folder)


def is_ephemeral(path: Path) -> bool:
    """Return True if a path lies in memory or on a container's own layer, which ends with the container.

    False if that is unknown, as on other systems than Linux. The path need not exist.
    """
    return filesystem_of(path) in _EPHEMERAL


def filesystem_of(path: Path) -> str | None:
    """Return the type of the file system of a path; None if that is unknown, as on other systems than Linux."""
    try:
        return filesystem_type(path, MOUNTS.read_text(errors="surrogateescape"))
    except (OSError, RuntimeError):  # `resolve` raises RuntimeError for a loop of links
        return None


def is_writable(path: Path) -> bool:
    """Return True if files can be created in a folder. The folder need not exist, if it can be created."""
    for folder in (path, *path.parents):
        if os.path.lexists(folder):
            return os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)
    return False


def filesystem_type(path: Path, mounts: str) -> str | None:
    """Return the type of the file system of a path, from the lines of `/proc/self/mountinfo`.

    ``24 1 0:22 / /run rw,nosuid shared:5 - tmpfs tmpfs rw`` → ``"tmpfs"`` for a path below ``/run``.
    """
    path = path.resolve()
    best, found = -1, None
    for line in mounts.splitlines():
        before, separator, after = line.partition(" - ")
        fields = before.split(" ")
        if not separator or len(fields) < 5:
            continue
        mount_point = Path(re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[4]))
        # A later mount hides an earlier one at the same place.
        if path.is_relative_to(mount_point) and len(mount_point.parts) >= best:
            best, found = len(mount_point.parts), after.split(" ")[0]
    return found
