"""A spool with a quota that contains the errors of the disk, and notices when it works again."""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING

from gati.pipeline.codec import unpack
from gati.pipeline.internal_errors import DISK, log
from gati.pipeline.safe_files import UnusableFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gati.exporters.base import Exporter, Request
    from gati.pipeline.journal import Lines
    from gati.pipeline.record_journal.recovery import JournalRecovery
    from gati.pipeline.spool import Spool, SpoolFile

FIRST_RETRY_SECONDS = 1.0
"""Time after which a disk that failed is tried again. It doubles with each failure."""

RETRY_SECONDS = 30.0
"""Longest time between two tries."""

_OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EINTR})


class QuotaSpool:
    """A spool with a quota: the `Journal` of files. Without a spool it behaves like a disk that always fails."""

    def __init__(
        self, spool: Spool | None, quota: int, accepts: Callable[[Request], bool] = lambda request: True
    ) -> None:
        """`accepts` tells whether the destination can send a request that was read from a file."""
        self._spool = spool
        self._quota = quota
        self._accepts = accepts
        self._failures = 0
        self._retry_at = 0.0
        self.more_journals = False
        """True if the last `recover_journals` left journals of exited processes."""

    @property
    def configured(self) -> bool:
        return self._spool is not None

    @property
    def usable(self) -> bool:
        """True unless there is no spool, or the disk failed a moment ago."""
        return self._spool is not None and time.monotonic() >= self._retry_at

    @property
    def retry_at(self) -> float:
        """Monotonic time from which the disk may be tried again."""
        return self._retry_at

    @property
    def more_to_adopt(self) -> bool:
        return self.more_journals or (self._spool is not None and self._spool.more_to_adopt)

    def excess_bytes(self, size: int, used: int) -> int:
        """Return the bytes to free before a file of this size fits in the quota.

        Files of other processes count, with their size when `adopt` was last called.
        """
        return used + self._other_bytes + size - self._quota

    def could_hold(self, size: int) -> bool:
        """Return True if a file of this size would fit after removing all files of this process."""
        return size + self._other_bytes <= self._quota

    @property
    def _other_bytes(self) -> int:
        return self._spool.other_bytes if self._spool is not None else 0

    def _failed(self, error: OSError) -> None:
        wait = min(RETRY_SECONDS, FIRST_RETRY_SECONDS * 2 ** min(self._failures, 10))
        self._failures += 1
        self._retry_at = time.monotonic() + wait
        log.emit(DISK, "the spool cannot be used (%s); requests are kept in memory", type(error).__name__)

    def _worked(self) -> None:
        self._failures, self._retry_at = 0, 0.0

    def reserve(self, items: int) -> SpoolFile | None:
        """Return a name for a new file, which keeps its place in the order if the file is written later."""
        return self._spool.reserve(items) if self._spool is not None else None

    def write(
        self, lines: Sequence[bytes], items: int, reserved: SpoolFile | None, *, again: bool = False
    ) -> SpoolFile | None:
        """Write a new file; return None if that is not possible now.

        Args:
            lines: requests, as packed by `codec.pack`.
            items: number of messages in them.
            reserved: name from `reserve`.
            again: try even if the disk failed a moment ago.
        """
        if self._spool is None or not (again or self.usable):
            return None
        try:
            file = self._spool.write(lines, items, reserved)
        except OSError as error:
            self._failed(error)
            return None
        self._worked()
        return file

    def restore_folder(self) -> bool:
        """Create the folder again if somebody has removed it; return True if so."""
        if self._spool is not None and self._spool.is_open and self.usable:
            try:
                return self._spool.open()
            except OSError as error:
                self._failed(error)
        return False

    def exists(self, file: SpoolFile) -> bool:
        """Return False if a file of this process is gone."""
        return self._spool is not None and (self._spool.ready / file.name).is_file()

    def adopt(self, *, everything: bool = False) -> list[SpoolFile]:
        """Take over and return files of processes that have exited."""
        if self._spool is None or not self.usable:
            return []
        try:
            return self._spool.adopt(everything=everything)
        except OSError as error:
            self._failed(error)
            return []

    def recover_journals(self, recovery: JournalRecovery, exporter: Exporter, *, everything: bool = False) -> None:
        """Write what the journals of exited processes hold to files, which the next `adopt` takes over."""
        if self._spool is None or not self.usable:
            return
        from gati.pipeline.record_journal.recovery import recover_journals  # late: mostly there is no journal

        try:
            folders = self._spool.folders(everything=everything)
            self.more_journals = recover_journals(self._spool, recovery, exporter, folders)
        except OSError as error:
            self.more_journals = False
            self._failed(error)
            self.end_adopting()

    def end_adopting(self) -> None:
        """Let other processes take over the files that the last `adopt` left."""
        self._try(lambda spool: spool.end_adopting())

    def restore_rejected(self, *, everything: bool = False) -> list[SpoolFile]:
        """Write requests that were set aside into files again, and return those."""
        if self._spool is None:
            return []
        try:
            return self._spool.restore_rejected(everything=everything)
        except OSError as error:
            self._failed(error)
            return []

    def read(self, file: SpoolFile) -> Lines | None:
        """Return the readable requests of a file with their lines; None if the file is gone.

        A damaged file is copied to `rejected/`; what is not a file is moved there.

        Raises:
            OSError: the file cannot be read now.
        """
        assert self._spool is not None
        try:
            lines = self._spool.read(file)
        except FileNotFoundError:
            log.emit("spool_lost", "a spool file is gone; its messages are lost")
            return None
        except UnusableFileError:
            self._log_damaged()
            self._spool.set_aside_unusable(file)
            return []
        found = [(request, line) for line in lines if (request := self._unpack_or_none(line))]
        if sum(request.items for request, _ in found) != file.items or len(found) != len(lines):
            self._log_damaged()
            self._spool.set_aside_damaged(file, lines, self._quota // 10)
        return found

    @staticmethod
    def _log_damaged() -> None:
        log.emit("damaged", "a spool file was damaged; its readable messages are delivered")

    def _unpack_or_none(self, line: bytes) -> Request | None:
        try:
            request = unpack(line)
        except (ValueError, KeyError, TypeError):
            return None
        return request if self._accepts(request) else None

    def set_aside(self, line: bytes, reason: str, entry: SpoolFile | None) -> bool:
        """Keep a rejected request with its reason; return False if that is not possible now."""
        return self._try(lambda spool: spool.set_aside(line, reason, self._quota // 10))

    def mark_key(self, *, accepted: bool) -> None:
        """Record whether the destination has accepted the key."""
        self._try(lambda spool: spool.mark_key(accepted=accepted))

    def remove(self, file: SpoolFile) -> bool:
        """Remove a file whose requests were delivered, rejected or dropped; return False if that failed."""
        return self._try(lambda spool: spool.remove(file))

    def withdraw(self, entry: SpoolFile) -> None:
        """Do nothing: another process takes over the file once this one has exited."""

    def rewrite(self, file: SpoolFile, lines: Sequence[bytes], items: int) -> SpoolFile | None:
        """Replace the content of a file by its remaining requests; return None if that failed."""
        assert self._spool is not None
        try:
            return self._spool.rewrite(file, lines, items)
        except OSError as error:
            self._failed(error)
            return None

    def close(self) -> None:
        """Release all files, so that the next process can take them over."""
        self._try(lambda spool: spool.close())

    def _try(self, operation: Callable[[Spool], object]) -> bool:
        """Return False if the operation failed. Without a spool there is nothing to do."""
        if self._spool is not None:
            try:
                operation(self._spool)
            except OSError as error:
                self._failed(error)
                return False
        return True


def is_out_of_resources(error: OSError) -> bool:
    """Return True if the process or the machine lacks something that has nothing to do with the file itself."""
    return error.errno in _OUT_OF_RESOURCES
