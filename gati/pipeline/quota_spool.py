"""A spool with a quota that never raises: where the disk fails, it returns None or does nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gati.pipeline.codec import unpack
from gati.pipeline.internal_errors import log

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gati.exporters.base import Request
    from gati.pipeline.spool import Spool, SpoolFile

RETRY_SECONDS = 30.0
"""Time after which a spool that could not be used is tried again."""


class QuotaSpool:
    """A spool with a quota. Without a spool it behaves like a disk that always fails."""

    def __init__(self, spool: Spool | None, quota: int) -> None:
        self.used_bytes = 0
        """Size of this process's files."""
        self._spool = spool
        self._quota = quota
        self._other_bytes = 0
        self._retry_at = 0.0

    @property
    def usable(self) -> bool:
        return self._spool is not None and time.monotonic() >= self._retry_at

    def excess_bytes(self, size: int) -> int:
        """Return the bytes to free before a file of this size fits in the quota.

        Files of other processes count, with their size when `adopt` was last called.
        """
        return self.used_bytes + self._other_bytes + size - self._quota

    def could_hold(self, size: int) -> bool:
        """Return True if a file of this size would fit after removing all files of this process."""
        return size + self._other_bytes <= self._quota

    def _failed(self, error: OSError) -> None:
        self._retry_at = time.monotonic() + RETRY_SECONDS
        log.emit("spool", "the spool cannot be used (%s); requests are kept in memory", type(error).__name__)

    def write(self, lines: Sequence[bytes], items: int) -> SpoolFile | None:
        """Write a new file; return None if that is not possible now."""
        if self._spool is None or not self.usable:
            return None
        try:
            return self._spool.write(lines, items)
        except OSError as error:
            self._failed(error)
            return None

    def adopt(self) -> list[SpoolFile]:
        """Take over and return the files of processes that have exited."""
        if self._spool is None or not self.usable:
            return []
        try:
            files = self._spool.adopt()
            everything = sum(file.size for file in self._spool.files())
        except OSError as error:
            self._failed(error)
            return []
        adopted = sum(file.size for file in files)
        self._other_bytes = max(0, everything - self.used_bytes - adopted)
        return files

    def read(self, file: SpoolFile) -> list[tuple[Request, bytes]] | None:
        """Return the readable requests of a file with their lines; None if the file is gone.

        A damaged file is copied to `rejected/`.
        """
        assert self._spool is not None
        try:
            lines = self._spool.read(file)
        except OSError:
            log.emit("spool_lost", "a spool file is gone or cannot be read; its messages are lost")
            return None
        found = [(request, line) for line in lines if (request := _unpack_or_none(line))]
        if sum(request.items for request, _ in found) != file.items:
            log.emit("damaged", "a spool file was damaged; its readable messages are delivered")
            self._keep_damaged(file, lines)
        return found

    def _keep_damaged(self, file: SpoolFile, lines: list[bytes]) -> None:
        if self._spool is not None:
            try:
                self._spool.set_aside_damaged(file, lines, self._quota // 10)
            except OSError as error:
                self._failed(error)

    def set_aside(self, line: bytes, reason: str) -> None:
        """Keep a rejected request with its reason."""
        if self._spool is not None:
            try:
                self._spool.set_aside(line, reason, self._quota // 10)
            except OSError as error:
                self._failed(error)

    def remove(self, file: SpoolFile) -> None:
        """Remove a file whose requests were delivered, rejected or dropped."""
        if self._spool is not None:
            try:
                self._spool.remove(file)
            except OSError as error:
                self._failed(error)

    def rewrite(self, file: SpoolFile, lines: Sequence[bytes], items: int) -> None:
        """Replace the content of a file by its remaining requests."""
        if self._spool is not None and self._spool.is_open:
            try:
                self._spool.rewrite(file, lines, items)
            except OSError as error:
                self._failed(error)

    def close(self) -> None:
        """Release all files, so that the next process can take them over."""
        if self._spool is not None:
            try:
                self._spool.close()
            except OSError as error:
                self._failed(error)


def _unpack_or_none(line: bytes) -> Request | None:
    try:
        return unpack(line)
    except (ValueError, KeyError, TypeError):
        return None
