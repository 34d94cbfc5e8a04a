"""The runtime: the only global state of gati, the pipeline of this process between `init` and `shutdown`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from gati.langchain.current import current
from gati.pipeline import internal_errors

if TYPE_CHECKING:
    from uuid import UUID

    from gati.events import Item
    from gati.exporters.base import Exporter
    from gati.pipeline.pipeline import Pipeline
    from gati.settings import Settings
    from gati.trace.assembler import Assembler
    from gati.trace.records import Record

logger = logging.getLogger("gati")


class Runtime:
    """Owns the pipeline. `start` and `stop` take a lock; everything else only reads.

    The pipeline handles forks and process exit.
    """

    __slots__ = ("_lock", "pipeline", "settings")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.pipeline: Pipeline | None = None
        self.settings: Settings | None = None

    def start(self, settings: Settings, exporters: Sequence[Exporter] | None = None) -> None:
        """Start a pipeline for `settings`. A running pipeline delivers its data and is replaced.

        Args:
            settings: validated options.
            exporters: used instead of the destinations of the settings.

        Raises:
            gati.errors.ConfigurationError: `exporters` is invalid; a running pipeline is kept.
        """
        from gati._api.destinations import active_destinations
        from gati.langchain import injection
        from gati.langchain.recorder import Recorder
        from gati.langchain.snapshot import text_limit
        from gati.pipeline.pipeline import Pipeline

        destinations = active_destinations(settings)
        with self._lock:
            self.stop(settings.shutdown_timeout)
            self.settings = settings
            internal_errors.debug = settings.debug
            if not settings.enabled:
                return
            if exporters is None:
                exporters = [destination.make_exporter() for destination in destinations]
                if settings.local is None and destinations[0].kind == "local":
                    _log_default_store(exporters[0])
            self.pipeline = Pipeline(partial(_LazyAssembler, settings), exporters, options=settings)
            current.report_error = internal_errors.report
            text_limit.chars = settings.max_field_bytes
            current.recorder = Recorder(self.pipeline.put, settings.conversation_id, internal_errors.report)
            if settings.auto_inject:
                injection.switch_on()

    def stop(self, timeout: float) -> None:
        """Stop recording and deliver within `timeout` seconds. Undelivered messages stay in the spool."""
        from gati.langchain import injection

        with self._lock:
            pipeline, self.pipeline = self.pipeline, None
            if pipeline is None:
                return
            injection.switch_off()
            current.recorder = None
            pipeline.shutdown(timeout)

    def put(self, record: Record) -> None:
        """Pass a record to the pipeline, if one is running."""
        if (pipeline := self.pipeline) is not None:
            pipeline.put(record)


runtime = Runtime()

MISSING_CONVERSATION_ID = (
    "a turn has no conversation id, so it begins a conversation of its own unless it repeats the messages of an earlier "
    'turn. Pass config={"configurable": {"thread_id": ...}}, or use `with observe.conversation(id, user_id=...)`'
)


def _log_default_store(exporter: Exporter) -> None:
    path = getattr(exporter, "store_path", None)
    logger.warning("no Greenflash key: conversations are kept on this machine, in %s (see: gati studio)", path)


class _LazyAssembler:
    """Loads the assembler with the first records, in the background thread instead of the user's `init`."""

    __slots__ = ("_assembler", "_settings")

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._assembler: Assembler | None = None

    @property
    def open_turns(self) -> int:
        return self._assembler.open_turns if self._assembler is not None else 0

    @property
    def sampled_out(self) -> int:
        return self._assembler.sampled_out if self._assembler is not None else 0

    @property
    def outside_conversation(self) -> int:
        return self._assembler.outside_conversation if self._assembler is not None else 0

    def feed(self, records: Iterable[Record]) -> list[Item]:
        if self._assembler is None:
            from gati.trace.assembler import Assembler

            self._assembler = Assembler(self._settings, _abandon_run, internal_errors.report, _hint_at_missing_id)
        return self._assembler.feed(records)

    def tick(self, now_ns: int) -> list[Item]:
        if (recorder := current.recorder) is not None and recorder.awaited_models:
            recorder.end_abandoned_models()
        return self._assembler.tick(now_ns) if self._assembler is not None else []

    def settle(self) -> list[Item]:
        return self._assembler.settle() if self._assembler is not None else []

    def drain(self) -> list[Item]:
        return self._assembler.drain() if self._assembler is not None else []


_hinted = threading.Event()


def _hint_at_missing_id() -> None:
    """Log once per process what to pass, so that turns become conversations."""
    if not _hinted.is_set():
        _hinted.set()
        with internal_errors.guard("log"):
            logger.warning(MISSING_CONVERSATION_ID)


def _abandon_run(run_id: UUID) -> None:
    if (recorder := current.recorder) is not None:
        recorder.abandoned(run_id)
