"""The components behind the buffer in one process: worker, outboxes, senders.

The worker's thread (or a flush) creates them; a forked child abandons the parent's. They are created
late for gevent's sake as well: locks of a module that is imported before the program is monkey-patched
are of the wrong kind, and waiting on one of them would block every greenlet.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gati.pipeline import internal_errors
from gati.pipeline.drop_callback import DropNotifier
from gati.pipeline.filesystem import is_eager, spool_folder
from gati.pipeline.internal_errors import DISK, contain, log
from gati.pipeline.limited_exporter import with_time_limit
from gati.pipeline.listeners import report_counts
from gati.pipeline.outbox import Outbox
from gati.pipeline.record_journal.recovery import JournalRecovery
from gati.pipeline.request_queue import Limits
from gati.pipeline.sender import Sender
from gati.pipeline.spool import Spool, spool_for
from gati.pipeline.stats import DeliveryCounters
from gati.pipeline.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gati.exporters.base import Exporter
    from gati.pipeline.buffer import Buffer
    from gati.pipeline.flushes import Flushes
    from gati.pipeline.record_journal.recovery import AssemblerFactory
    from gati.pipeline.retry import Policy
    from gati.pipeline.spool_file import FileOrigin
    from gati.pipeline.turn_assembler import TurnAssembler
    from gati.settings import Settings

NO_FOLDER = (
    "there is no home folder for the spool; requests are kept in memory. Set GATI_SPOOL_DIR to a writable folder"
)

JOIN_SECONDS = 0.2
"""Time that `close` waits for senders. Idle ones end at once; one that is in the middle of a send is left behind."""


class Engine:
    """Own the worker, the outboxes and the senders."""

    def __init__(
        self,
        buffer: Buffer,
        assembler: TurnAssembler,
        exporters: Sequence[Exporter],
        options: Settings,
        policy: Policy | None,
        flushes: Flushes,
        should_finish: Callable[[], bool],
        make_recovering: AssemblerFactory | None = None,
        files: FileOrigin | None = None,
        counters: DeliveryCounters | None = None,
        *,
        inherited: bool = False,
    ) -> None:
        """For `flushes` and `should_finish` see `Worker`, for `make_recovering` `Pipeline`, for `files` `Spool`, for
        `inherited` `LimitedExporter`. `counters` go on counting.
        """
        self.counters = counters or DeliveryCounters(internal_errors.losses())
        self._buffer = buffer
        self._exporters = [with_time_limit(exporter, options.timeout, inherited=inherited) for exporter in exporters]
        self.drops = DropNotifier(options.on_drop)
        # Half of the memory is for records, half for requests, in equal shares for the destinations.
        limits = Limits(
            memory=options.buffer_max_bytes // 2 // max(1, len(exporters)),
            disk=options.spool_max_bytes,
            drop_newest=options.on_full == "newest",
        )
        eager = is_eager(options)
        recovery = JournalRecovery.of(make_recovering, options) if make_recovering is not None else None
        self.outboxes = [
            Outbox(
                exporter,
                self.counters,
                _create_spool(exporter, options, files),
                limits,
                policy,
                self.drops,
                recovery=recovery,
            )
            for exporter in self._exporters
        ]
        self.senders = [
            Sender(
                outbox,
                options.connections,
                self._on_settled,
                options.flush_interval,
                eager=eager or outbox.exporter.durable or getattr(outbox.exporter, "eager", False),
            )
            for outbox in self.outboxes
        ]
        for outbox in self.outboxes:
            outbox.on_finished(self._on_settled)
        self.worker = Worker(
            buffer,
            assembler,
            self.senders,
            self.counters,
            interval=options.flush_interval,
            eager=eager,
            flushes=flushes,
            should_finish=should_finish,
            mask=options.mask,
            drops=self.drops,
        )

    def _on_settled(self) -> None:
        report_counts()
        self.worker.resolve_flushes()

    def deliver_in_this_thread(self, until: float) -> None:
        """Do the worker's and the senders' work here, because the interpreter starts no more threads."""
        self.worker.run_once()
        for sender in self.senders:
            sender.outbox.open()
            sender.send_in_this_thread(until)

    def close(self) -> None:
        """Stop the senders, release the spool's files and close the exporters."""
        self.worker.stopped = True
        for outbox in self.outboxes:
            with contain("outbox.close"):
                outbox.close()
        self._close_journal()
        until = time.monotonic() + JOIN_SECONDS
        for sender in self.senders:
            sender.join(until)
        self.drops.close(until)
        for exporter in self._exporters:
            with contain("exporter.close"):
                exporter.close()
        report_counts()

    def _close_journal(self) -> None:
        """Remove the journal if everything is stored; otherwise leave it to the next process."""
        journal, self._buffer.journal = self._buffer.journal, None
        if journal is not None:
            with contain("journal"):
                is_done = not len(self._buffer) and not self.worker.assembler.open_turns
                journal.close(remove=is_done and journal.stored_records >= self._buffer.taken)

    def abandon(self) -> None:
        """Detach from everything that belongs to the parent. Called in a forked child."""
        for outbox in self.outboxes:
            outbox.abandon()

    @property
    def paused(self) -> dict[str, str]:
        """Destinations that refuse the API key, with the reason."""
        return {outbox.exporter.name: outbox.breaker.paused for outbox in self.outboxes if outbox.breaker.paused}


def _create_spool(exporter: Exporter, options: Settings, files: FileOrigin | None) -> Spool | None:
    if not options.spool or exporter.durable:
        return None
    folder = spool_folder(options.spool_dir)
    if folder is None:
        log.emit(DISK, NO_FOLDER)
        return None
    return spool_for(folder, exporter, files)
