"""What works behind the buffer, in one process: made by the worker's thread (or a flush), left behind by a fork.

Made late also for gevent's sake: the locks of a module that is loaded before the program is
monkey-patched are of the wrong kind, and a wait on one of them would stop all greenlets.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from gati.pipeline.internal_errors import guard
from gati.pipeline.outbox import Outbox
from gati.pipeline.request_queue import Limits
from gati.pipeline.sender import Sender
from gati.pipeline.spool import Spool
from gati.pipeline.stats import DeliveryCounters
from gati.pipeline.worker import TurnAssembler, Worker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gati.exporters.base import Exporter
    from gati.pipeline.buffer import Buffer
    from gati.pipeline.retry import Policy
    from gati.settings import Settings

JOIN_SECONDS = 0.2
"""Idle threads end at once when told; one that is in the middle of a send is left behind."""


class Engine:
    """Worker, outboxes and senders."""

    def __init__(
        self,
        buffer: Buffer,
        assembler: TurnAssembler,
        exporters: Sequence[Exporter],
        options: Settings,
        policy: Policy | None,
    ) -> None:
        self.counters = DeliveryCounters()
        # Half of the memory is for records, half for requests; each destination has its share.
        limits = Limits(
            memory=options.buffer_max_bytes // 2 // max(1, len(exporters)),
            disk=options.spool_max_bytes,
            drop_newest=options.on_full == "newest",
        )
        self.outboxes = [
            Outbox(exporter, self.counters, _create_spool(exporter, options), limits, policy) for exporter in exporters
        ]
        senders = [
            Sender(outbox, options.connections, self._on_settled, options.flush_interval) for outbox in self.outboxes
        ]
        self.senders = senders
        self.worker = Worker(
            buffer, assembler, senders, self.counters, interval=options.flush_interval, mask=options.mask
        )

    def _on_settled(self) -> None:
        self.worker.resolve_flushes()

    def deliver_in_this_thread(self, until: float) -> None:
        """The interpreter starts no more threads: this one does the work."""
        self.worker.run_once()
        for sender in self.senders:
            sender.outbox.open()
            sender.send_here(until)

    def close(self, thread: threading.Thread | None) -> None:
        """End the senders and the worker, whose thread it is, and give back what is in the spool."""
        self.worker.stopped = True
        self.worker.wake()
        for outbox in self.outboxes:
            with guard("outbox.close"):
                outbox.close()
        until = time.monotonic() + JOIN_SECONDS
        if thread is not None and thread is not threading.current_thread():
            thread.join(JOIN_SECONDS)
        for sender in self.senders:
            sender.join(until)

    def abandon(self) -> None:
        """In a forked child: what waits belongs to the parent."""
        for outbox in self.outboxes:
            outbox.abandon()

    @property
    def paused(self) -> dict[str, str]:
        """Destinations that refuse our key, with the reason."""
        return {outbox.exporter.name: outbox.breaker.paused for outbox in self.outboxes if outbox.breaker.paused}


def _create_spool(exporter: Exporter, options: Settings) -> Spool | None:
    if not options.spool or exporter.durable:
        return None
    return Spool(spool_folder(options.spool_dir), exporter.name, exporter.account)


def spool_folder(configured: Path | None) -> Path:
    """Where the spool is: as configured, else in the user's data folder."""
    if configured is not None:
        return Path(configured)
    import platformdirs  # late: only programs that spool need it

    return platformdirs.user_data_path("gati", appauthor=False) / "spool"
