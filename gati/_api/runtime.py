"""The runtime: the only global state of gati, the pipeline of this process between `init` and `shutdown`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import gati.clock  # noqa: F401 - it must find the clock before a test of the user's stops it
from gati.langchain.current import current
from gati.pipeline import exit_hook, internal_errors  # noqa: F401 - importing the hook registers it

if TYPE_CHECKING:
    from uuid import UUID

    from gati._api.destinations import Destination
    from gati.events import Item
    from gati.exporters.base import Exporter
    from gati.langchain.recorder import Recorder
    from gati.pipeline.pipeline import Pipeline
    from gati.settings import Settings
    from gati.trace.assembler import Assembler
    from gati.trace.record_codec import PackedRecord
    from gati.trace.records import Record


class Runtime:
    """Owns the pipeline. Takes no lock: an interrupt (Ctrl-C) at any line leaves it in a usable state.

    The pipeline handles forks and process exit.
    """

    __slots__ = ("_retiring", "ended", "pipeline", "settings", "substitutes")

    def __init__(self) -> None:
        self.pipeline: Pipeline | None = None
        self.settings: Settings | None = None
        self.substitutes: Sequence[Exporter] | None = None
        """Exporters that every `start` uses instead of its destinations; gati is off if there are none. For tests."""
        self.ended: Pipeline | None = None
        """The pipeline that was shut down last, for its counters; None after the next `start`."""
        self._retiring: list[Pipeline] = []

    def start(self, settings: Settings, exporters: Sequence[Exporter] | None = None) -> None:
        """Start a pipeline for `settings`, unless one with equal settings runs.

        A running pipeline with other settings is replaced: it finishes its open turns and delivers in the background.
        At most one pipeline delivers at a time, and `MAX_RETIRING` more that have an open turn or messages that no disk has.
        Others leave the rest to the spool.

        Args:
            settings: validated options.
            exporters: used instead of the destinations of the settings.

        Raises:
            gati.errors.ConfigurationError: `exporters` is invalid; a running pipeline is kept.
        """
        from gati._api.destinations import active_destinations
        from gati._api.equal_settings import are_equal
        from gati.langchain.snapshot import take_snapshot

        # No code of the user's objects may run in the background.
        changes: dict[str, object] = {"properties": take_snapshot(settings.properties)}
        substitutes = self.substitutes if exporters is None else None
        if substitutes is not None:
            changes["enabled"] = bool(substitutes)
        settings = settings.model_copy(update=changes)
        destinations = active_destinations(settings)
        running = self.settings if self.pipeline is not None and exporters is None else None
        if running is not None and are_equal(running, settings):
            return
        if not settings.enabled:
            self._retire(self.pipeline, None)
            self.settings, self.pipeline, self.ended = settings, None, None
            return
        if substitutes:
            exporters = substitutes
        if exporters is None:
            make_exporters: Callable[[], Sequence[Exporter]] = partial(_make_exporters, destinations)
            exporters = make_exporters()
            if settings.local is None and destinations[0].kind == "local":
                _log_default_store(exporters[0])
        else:
            make_exporters = partial(list, exporters)
        self._replace(settings, exporters, make_exporters)

    def _replace(
        self, settings: Settings, exporters: Sequence[Exporter], make_exporters: Callable[[], Sequence[Exporter]]
    ) -> None:
        from gati._api.recovered import recovering_assembler
        from gati.langchain import injection
        from gati.langchain.recorder import Recorder
        from gati.langchain.snapshot import text_limit
        from gati.pipeline.pipeline import Pipeline

        recorders: list[Recorder] = []
        pipeline = Pipeline(
            partial(_LazyAssembler, settings, recorders),
            exporters,
            options=settings,
            make_recovering=partial(recovering_assembler, settings),
            renew_exporters=make_exporters,
        )
        recorder = Recorder(pipeline.put, settings.conversation_id, internal_errors.report, pipeline.saves)
        recorders.append(recorder)
        pipeline.preload()
        internal_errors.debug = settings.debug
        text_limit.chars = settings.max_field_bytes
        current.report_error = internal_errors.report
        earlier, self.pipeline, self.settings, self.ended = self.pipeline, pipeline, settings, None
        self._retire(earlier, recorder)
        if settings.auto_inject:
            injection.switch_on()
        else:
            injection.switch_off()

    def _retire(self, earlier: Pipeline | None, recorder: Recorder | None) -> None:
        """Let `recorder` take over from a pipeline, which ends in the background."""
        from gati.langchain import injection
        from gati.langchain.handover import hand_over

        if recorder is None:
            injection.switch_off()
        is_done = hand_over(recorder)
        if earlier is None:
            return
        kept = [pipeline for pipeline in self._retiring if pipeline.would_lose][-MAX_RETIRING:]
        ended = [pipeline for pipeline in self._retiring if pipeline not in kept]
        self._retiring = [*kept, earlier]
        for pipeline in ended:
            pipeline.finish(0.0)
        earlier.retire(is_done)

    def stop(self, timeout: float) -> None:
        """Stop recording and deliver within `timeout` seconds. Undelivered messages stay in the spool."""
        from gati.langchain import injection
        from gati.langchain.handover import install

        until = time.monotonic() + timeout
        injection.switch_off()
        install(None)
        pipelines = [*self._retiring] if self.pipeline is None else [*self._retiring, self.pipeline]
        for pipeline in pipelines:
            pipeline.finish(timeout)
        self.ended, self.pipeline = self.pipeline or self.ended, None
        self._retiring.clear()
        for pipeline in reversed(pipelines):
            pipeline.wait_until_ended(until)

    def put(self, record: Record) -> None:
        """Pass a record to the pipeline, if one is running."""
        if (pipeline := self.pipeline) is not None:
            pipeline.put(record)
            pipeline.saves.save()


MAX_RETIRING = 8
"""Replaced pipelines that go on because they would lose something otherwise, besides the one that was replaced last."""

runtime = Runtime()

MISSING_CONVERSATION_ID = (
    "a turn has no conversation id, so it begins a conversation of its own unless it repeats the messages of an earlier "
    'turn. Pass config={"configurable": {"thread_id": ...}}, or use `with observe.conversation(id, user_id=...)`'
)


NO_STORE = (
    "no Greenflash key and no home folder: conversations are kept in memory only. "
    "Set GREENFLASH_API_KEY, or GATI_LOCAL to a file in a writable folder"
)


def _make_exporters(destinations: Sequence[Destination]) -> Sequence[Exporter]:
    return [destination.make_exporter() for destination in destinations]


def _log_default_store(exporter: Exporter) -> None:
    path = getattr(exporter, "store_path", None)
    if path is None:
        internal_errors.log.emit(internal_errors.DISK, NO_STORE)
        return
    internal_errors.log.emit(
        "default_store", "no Greenflash key: conversations are kept on this machine, in %s (see: gati studio)", path
    )


class _LazyAssembler:
    """Loads the assembler with the first records, in the background thread instead of the user's `init`.

    Args:
        settings: the options of `init`.
        recorders: contains the recorder whose runs are assembled.
    """

    __slots__ = ("_assembler", "_is_drained", "_recorders", "_settings")

    def __init__(self, settings: Settings, recorders: list[Recorder]) -> None:
        self._settings = settings
        self._recorders = recorders
        self._assembler: Assembler | None = None
        self._is_drained = False

    @property
    def open_turns(self) -> int:
        return self._assembler.open_turns if self._assembler is not None else 0

    @property
    def open_bytes(self) -> int:
        return self._assembler.open_bytes if self._assembler is not None else 0

    @property
    def sampled_out(self) -> int:
        return self._assembler.sampled_out if self._assembler is not None else 0

    @property
    def outside_conversation(self) -> int:
        return self._assembler.outside_conversation if self._assembler is not None else 0

    @property
    def turns_begun(self) -> int:
        return self._assembler.turns_begun if self._assembler is not None else 0

    @property
    def memory_bytes(self) -> int:
        return self._assembler.memory_bytes if self._assembler is not None else 0

    @property
    def has_leftovers(self) -> bool:
        return self._assembler is not None and self._assembler.has_leftovers

    def is_open(self, run: bytes) -> bool:
        return self._assembler is not None and self._assembler.is_open(run)

    def load(self) -> None:
        if self._assembler is None:
            from gati.trace.assembler import Assembler

            self._assembler = Assembler(self._settings, self._abandon_run, internal_errors.report, _hint_at_missing_id)

    def feed(self, records: Iterator[PackedRecord | Record]) -> list[Item]:
        self.load()
        assert self._assembler is not None
        return self._assembler.advance(records)

    def tick(self, now_ns: int) -> list[Item]:
        for recorder in self._recorders:
            if recorder.awaited_models:
                recorder.end_abandoned_models()
        return self._assembler.tick(now_ns) if self._assembler is not None else []

    def finish_cut_off(self) -> list[Item]:
        return self._assembler.finish_cut_off() if self._assembler is not None else []

    def drain(self) -> list[Item]:
        self._is_drained = True
        return self._assembler.drain() if self._assembler is not None else []

    def _abandon_run(self, run_id: UUID) -> None:
        if self._is_drained:  # what such a turn still records is refused, and must not begin a turn of a later pipeline
            return
        for recorder in self._recorders:
            recorder.abandoned(run_id)


_hinted = threading.Event()


def _hint_at_missing_id() -> None:
    """Log once per process what to pass, so that turns become conversations."""
    if not _hinted.is_set():
        _hinted.set()
        internal_errors.log.emit("missing_conversation_id", MISSING_CONVERSATION_ID)
