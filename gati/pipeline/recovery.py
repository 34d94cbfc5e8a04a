"""Inspects a spool, and delivers messages left by processes that have exited."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gati.pipeline.account import account_folder, exporter_of, read_info
from gati.pipeline.outbox import Outbox
from gati.pipeline.request_queue import Limits
from gati.pipeline.sender import Sender
from gati.pipeline.spool import JOURNALS, is_dead, scan, spool_for, spool_identity
from gati.pipeline.stats import DeliveryCounters, FlushResult
from gati.pipeline.unfinished_files import unfinished_journals

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gati.exporters.base import Exporter
    from gati.pipeline.record_journal.recovery import JournalRecovery
    from gati.pipeline.retry import Policy


@dataclass(frozen=True, slots=True)
class SpoolStatus:
    """Content of the spool for one account."""

    account: str
    """Name of the account's folder: exporter and fingerprint of address and key."""

    messages: int = 0
    """Messages to be delivered. A file counts as a whole until all of its requests are done."""

    orphaned: int = 0
    """Part of `messages`: left by processes that have exited. The next process, or `gati drain`, delivers them."""

    batches: int = 0
    """Number of files."""

    journals: int = 0
    """Journals of processes that were killed. The next process, or `gati drain`, recovers what they had not stored."""

    unfinished: int = 0
    """Journals that a process which was killed had not finished. They hold nothing. The next process, or `gati drain`, removes
    them."""

    size_bytes: int = 0
    """Total size of the files and of these journals."""

    oldest_ms: int | None = None
    """Time when the oldest file was written, in milliseconds since the epoch; None without files."""

    processes: int = 0
    """Running processes that use the folder."""

    rejected: int = 0
    """Requests that were rejected and set aside."""

    address: str = ""
    """The destination's address, without credentials; empty for folders of earlier versions."""

    product: str = ""
    """The product to which the folder belongs; empty if it belongs to a key."""

    key: str = "unknown"
    """`accepted` if the destination has ever accepted the key, `refused` if it only ever answered 401."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """Messages that `drain_spool` did not deliver."""

    account: str
    """Name of the account's folder."""

    messages: int
    reason: str

    running: bool = False
    """True if a running process has them."""


def spool_status(spool_dir: Path) -> list[SpoolStatus]:
    """Return the content of a spool by account. Changes nothing."""
    if not spool_dir.is_dir():
        return []
    return [_account_status(folder) for folder in sorted(spool_dir.iterdir()) if (folder / "ready").is_dir()]


def _account_status(folder: Path) -> SpoolStatus:
    files = list(scan(folder / "ready"))
    living = {path.stem for path in (folder / "owners").glob("*.lock") if not is_dead(path)}
    info = read_info(folder)
    journals = [path for path in (folder / JOURNALS).glob("*.journal") if is_dead(path)]
    unfinished = list(unfinished_journals(folder))
    rejected = 0
    with contextlib.suppress(FileNotFoundError):
        rejected = sum(1 for _ in (folder / "rejected").glob("*.json"))
    return SpoolStatus(
        account=folder.name,
        messages=sum(file.items for file in files),
        orphaned=sum(file.items for file in files if file.owner not in living),
        batches=len(files),
        journals=len(journals),
        unfinished=len(unfinished),
        size_bytes=sum(file.size for file in files) + sum(map(_size, [*journals, *unfinished])),
        oldest_ms=min((file.created_us // 1000 for file in files), default=None),
        processes=len(living),
        rejected=rejected,
        address=info.address,
        product=info.product,
        key=info.key,
    )


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):  # removed meanwhile
        return os.lstat(path).st_size
    return 0


def spool_name(exporter: Exporter) -> str:
    """Return the name of an exporter's folder in the spool, as in `SpoolStatus.account`."""
    return account_folder(exporter.name, spool_identity(exporter).account)


def skipped_accounts(spool_dir: Path, exporters: Sequence[Exporter], waiting: int = 0) -> list[Skipped]:
    """Return what still waits in the spool and which of the exporters cannot deliver it, with the reason.

    `waiting` is the number of messages that the exporters' own `drain_spool` has left.
    """
    skipped = []
    own = {spool_name(exporter) for exporter in exporters}
    names = [exporter.name for exporter in exporters]
    for status in spool_status(spool_dir):
        running = status.messages - status.orphaned
        if running:
            reason = "belong to a running process, which delivers them"
            skipped.append(Skipped(status.account, running, reason, running=True))
        if status.account in own:
            if status.orphaned and not waiting:
                reason = "are being taken over by a running process"
                skipped.append(Skipped(status.account, status.orphaned, reason, running=True))
        elif status.orphaned:
            reason = "belong to another key or product; `gati drain --adopt` delivers them with this key"
            if exporter_of(spool_dir / status.account, names) is None:
                reason = "belong to a destination that is not configured"
            skipped.append(Skipped(status.account, status.orphaned, reason))
    return skipped


def drain_spool(
    spool_dir: Path,
    exporters: Sequence[Exporter],
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    timeout: float | None = None,
    connections: int = 4,
    policy: Policy | None = None,
    adopt: bool = False,
    rejected: bool = False,
    recovery: JournalRecovery | None = None,
) -> FlushResult:
    """Deliver messages left in the spool by processes that have exited.

    Args:
        spool_dir: the spool's folder.
        exporters: destinations; files of other accounts stay untouched.
        progress: called a few times a second with the number of messages done and the total.
        timeout: seconds after which to stop; None to stop only when every message was delivered or
            set aside, or a destination refuses the key.
        connections: maximum number of requests in flight for each exporter.
        policy: delays between attempts.
        adopt: also deliver what other accounts of these exporters left.
        rejected: also send again what was rejected and set aside.
        recovery: also recover the records of processes that were killed.
    """
    until = time.monotonic() + timeout if timeout is not None else None
    counters = DeliveryCounters()
    settled = threading.Event()
    outboxes = [
        Outbox(exporter, counters, spool_for(spool_dir, exporter), Limits(), policy, recovery=recovery)
        for exporter in exporters
        if not exporter.durable
    ]
    if rejected:
        for outbox in outboxes:
            outbox.restore_rejected(everything=adopt)
    for outbox in outboxes:
        outbox.adopt(everything=adopt)
    senders = [Sender(outbox, connections, settled.set) for outbox in outboxes]
    timed_out = False
    try:
        while not all(_is_drained(outbox, adopt) for outbox in outboxes):
            if until is not None and time.monotonic() > until:
                timed_out = True
                break
            for sender in senders:
                sender.outbox.open()
                sender.wake(urgent=True)
            settled.wait(0.2)
            settled.clear()
            stats = counters.stats()
            progress(stats.recorded - stats.spooled, stats.recorded)
    finally:
        for outbox in outboxes:
            outbox.close()
    paused = tuple(outbox.exporter.name for outbox in outboxes if outbox.breaker.paused)
    return counters.flush_result(turns_open=0, timed_out=timed_out, paused=paused)


def _is_drained(outbox: Outbox, everything: bool) -> bool:
    """Return True if nothing is left to deliver; take over the next files if all of the last ones are done."""
    if not outbox.is_settled(0):
        return False
    if outbox.breaker.paused or not outbox.more_to_adopt:
        return True
    return not outbox.adopt(everything=everything) and not outbox.more_to_adopt
