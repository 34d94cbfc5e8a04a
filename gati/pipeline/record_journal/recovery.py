"""Takes over the journals of processes that were killed: assembles what they had not stored, and writes it to the spool.

A journal is locked while its process runs. It is removed once its requests are in the spool, so that a crash in between
loses nothing: the requests made again have the same message ids.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from gati.clock import epoch_offset_ns
from gati.pipeline import process_hooks
from gati.pipeline.codec import pack
from gati.pipeline.internal_errors import log
from gati.pipeline.limited_mask import LimitedMask
from gati.pipeline.owner_lock import close_lock_file, is_locked_file, open_lock_file, try_lock
from gati.pipeline.record_journal.format import (
    HEAD_BYTES,
    JournalHead,
    UnknownVersionError,
    read_head,
)
from gati.pipeline.record_journal.journal import JOURNAL_SUFFIX, MAX_JOURNAL_BYTES
from gati.pipeline.record_journal.placement import FilesOfExited
from gati.pipeline.record_journal.reader import UnstoredRecords, unstored_records
from gati.pipeline.request_queue import BATCH_BYTES, batch_requests
from gati.pipeline.spool import JOURNALS
from gati.pipeline.unfinished_files import remove_unfinished
from gati.trace.record_codec import pack_record
from gati.trace.records import FirstToken
from gati.trace.stored_records import StreamedText, restored

if TYPE_CHECKING:
    from gati.events import Item
    from gati.exporters.base import Exporter, Request, RequestEncoder
    from gati.pipeline.spool import Spool
    from gati.settings import Mask, Settings
    from gati.trace.record_codec import PackedRecord
    from gati.trace.records import Record

RECOVERY_SLICE_SECONDS = 0.001
"""Other threads have the interpreter at least this often, and as long as the work before took."""

AT_ONCE_SECONDS = 1.0
"""Time after which no further journal is taken over in the same round."""


class RecordAssembler(Protocol):
    """Assembles the records of another process; see `gati.trace.assembler.Assembler`."""

    def feed(self, records: list[PackedRecord | Record]) -> list[Item]:
        """Process records and return completed items."""
        ...

    def drain(self) -> list[Item]:
        """Return all open turns, as unfinished."""
        ...


AssemblerFactory = Callable[[Mapping[str, Any], int], RecordAssembler]
"""Creates an assembler with the options of the process whose records it assembles, and what to add to a record's time to get
nanoseconds since the epoch. Raises ValueError if the options are invalid."""


@dataclass(frozen=True, slots=True)
class JournalRecovery:
    """How this process turns records of others into requests.

    Attributes:
        make_assembler: see `AssemblerFactory`.
        mask: this process's mask. A journal of a process with a mask is left alone without one.
        capture_content: False if this process sends no texts. A journal of such a process is left to such a process.
    """

    make_assembler: AssemblerFactory
    mask: Mask | None = None
    capture_content: bool = True

    @classmethod
    def of(cls, make_assembler: AssemblerFactory, options: Settings) -> JournalRecovery:
        """Return the recovery of a process with these options."""
        return cls(make_assembler, options.mask, options.capture_content)

    def may_read(self, head: JournalHead) -> bool:
        """Return True if this process sends no more of a record than the process that wrote it would have."""
        if head.description.get("masked") and self.mask is None:
            return False
        return bool(head.description.get("capture_content", True)) or not self.capture_content

    def requests(self, data: bytes, head: JournalHead, exporter: Exporter) -> list[Request]:
        """Return the requests for what the process that wrote a journal had not stored."""
        stored, items = self._items(unstored_records(data, head), head)
        if not items:
            return []
        make_encoder: Callable[[], RequestEncoder] | None = getattr(exporter, "new_encoder", None)
        if make_encoder is None:
            return list(exporter.encode(self._masked(items)))
        encoder = make_encoder()
        # These requests exist. Encoded again, they determine the times and prompts of the turns that follow.
        encoder.encode(self._masked(stored))
        return list(encoder.encode(self._masked(items)))

    def _masked(self, items: list[Item]) -> list[Item]:
        if self.mask is None:
            return items
        return [one.item for one in LimitedMask(self.mask).apply(items) if one.item is not None]

    def _items(self, records: UnstoredRecords, head: JournalHead) -> tuple[list[Item], list[Item]]:
        """Return the items that are stored, and those that are not."""
        if not records.stored and not records.new:
            return [], []
        options = head.description.get("options")
        # Records get times of this process, by which the assembler measures how long ago something was.
        offset = epoch_offset_ns()
        shift = head.clock - offset
        assembler = self.make_assembler(options if isinstance(options, dict) else {}, offset)
        streams: dict[int, list[str]] = {}
        before = records.earlier + records.stored
        stored = [item for completed in _feed(assembler, before, shift, streams) for item in completed]
        items = [item for completed in _feed(assembler, records.new, shift, streams) for item in completed]
        return stored, items + assembler.drain()


def _feed(
    assembler: RecordAssembler, records: list[bytes], shift: int, streams: dict[int, list[str]]
) -> Iterator[list[Item]]:
    began = time.perf_counter()
    for data in records:
        try:
            record = restored(data, shift)
            if isinstance(record, StreamedText):
                pieces = streams.get(record.run, [])
                pieces += record.pieces[max(0, len(pieces) - record.begin) :]
            elif record is not None:
                if isinstance(record, FirstToken):
                    streams[record.run_id.int] = record.pieces
                yield assembler.feed([pack_record(record)])
        except Exception:  # noqa: BLE001 - anybody may have written the file, so a record may hold anything
            log.emit("damaged", "a journal was damaged; its readable records are delivered")
        if time.perf_counter() - began > RECOVERY_SLICE_SECONDS:
            process_hooks.yielding_sleep(RECOVERY_SLICE_SECONDS)
            began = time.perf_counter()


def dead_journals(folder: Path) -> Iterator[tuple[Path, int]]:
    """Yield the journals in the folder of an account whose processes have exited, each with a locked descriptor.

    The caller closes the descriptor with `close_lock_file`. Links, pipes and files of other users are skipped.
    """
    for path in sorted((folder / JOURNALS).glob("*" + JOURNAL_SUFFIX)):
        try:
            fd = open_lock_file(path)
        except OSError:
            continue
        status = os.fstat(fd)
        is_usable = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
        if is_usable and status.st_size <= HEAD_BYTES + MAX_JOURNAL_BYTES and _lock(fd, path):
            yield path, fd
        else:
            close_lock_file(fd)


def _lock(fd: int, path: Path) -> bool:
    """Lock a journal; return False if a process has it, or has removed it meanwhile."""
    with contextlib.suppress(OSError):
        return try_lock(fd) and is_locked_file(fd, path)
    return False


def recover_journals(spool: Spool, recovery: JournalRecovery, exporter: Exporter, folders: list[Path]) -> bool:
    """Write what journals of exited processes hold to files of these processes, and remove the journals.

    The spool's next `adopt` takes the files over. Until then, no other process does. Journals that were never finished hold
    nothing, and are removed in all accounts.

    Args:
        spool: the spool of the exporter.
        recovery: makes requests.
        exporter: encodes them.
        folders: the folders of the accounts whose journals are taken over.

    Returns:
        True if journals are left for the next call.

    Raises:
        OSError: the spool cannot be written. The journal stays.
    """
    remove_unfinished(spool.root)
    until = time.monotonic() + AT_ONCE_SECONDS
    for folder in folders:
        for path, fd in dead_journals(folder):
            try:
                if time.monotonic() > until:
                    return True
                if spool.begin_adopting(folder):
                    _recover(spool, recovery, exporter, path, fd)
            finally:
                close_lock_file(fd)
    return False


def _recover(spool: Spool, recovery: JournalRecovery, exporter: Exporter, path: Path, fd: int) -> None:
    files = FilesOfExited(spool, path.parent.parent, path.stem)
    if files.are_elsewhere():
        return
    data = os.pread(fd, HEAD_BYTES + MAX_JOURNAL_BYTES, 0)
    try:
        head = read_head(data)
        if not recovery.may_read(head):
            log.emit("journal_left", "a journal of a process with a mask is left for one that has a mask, too")
            return
        with process_hooks.fork_lock:  # modules may be imported
            requests = recovery.requests(data, head, exporter)
    except UnknownVersionError as error:
        log.emit("journal_unknown", "a journal of a later version of gati is left alone (%s)", error)
        return
    except (OSError, ImportError, MemoryError):  # passes
        raise
    except Exception:  # noqa: BLE001 - anybody may have written the file
        log.emit("damaged", "a journal is damaged, and was set aside")
        spool.rejected.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.replace(path, spool.rejected / (path.name + ".damaged"))
        return
    batches = [
        ([line for _, line in lines], sum(request.items for request, _ in lines))
        for lines in batch_requests(((request, pack(request)) for request in requests), BATCH_BYTES)
    ]
    files.add(batches, head.progress.files if head.progress is not None else None)
    path.unlink(missing_ok=True)
    if batches:
        messages = sum(items for _, items in batches)
        log.emit("recovered", "%d messages of a process that was killed were recovered", messages, level=logging.INFO)
