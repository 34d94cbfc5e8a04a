"""The only global state: the pipeline of this process, from `init` to `shutdown`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
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
    """Owns the pipeline. Start and stop are rare and locked; everything else only reads.

    Forks and the program's exit are the pipeline's own affair.
    """

    __slots__ = ("_lock", "pipeline", "settings")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.pipeline: Pipeline | None = None
        self.settings: Settings | None = None

    def start(self, settings: Settings, exporters: Sequence[Exporter] | None = None) -> None:
        """Replace what runs by a pipeline for `settings`. What the old one holds is delivered first.

        Args:
            settings: validated options.
            exporters: destinations, instead of those that the settings name.
        """
        from gati.langchain import injection
        from gati.langchain.recorder import Recorder
        from gati.pipeline.pipeline import Pipeline

        if settings.system_prompt is not None:
            from gati.trace.prompt_builder import explicit_prompt

            explicit_prompt(settings.system_prompt)  # a fault in it is the caller's, and told now
        with self._lock:
            self.stop(settings.shutdown_timeout)
            self.settings = settings
            internal_errors.debug = settings.debug
            if not settings.enabled:
                return
            chosen = _exporters(settings) if exporters is None else exporters
            self.pipeline = Pipeline(partial(_LateAssembler, settings), chosen, options=settings)
            current.report_error = internal_errors.report
            current.recorder = Recorder(self.pipeline.put, settings.conversation_id, internal_errors.report)
            if settings.auto_inject:
                injection.switch_on()

    def stop(self, timeout: float) -> None:
        """Stop watching, deliver within `timeout` seconds, leave the rest in the spool."""
        from gati.langchain import injection

        with self._lock:
            pipeline, self.pipeline = self.pipeline, None
            if pipeline is None:
                return
            injection.switch_off()
            current.recorder = None
            pipeline.shutdown(timeout)

    def put(self, record: Record) -> None:
        """Hand a record to the pipeline; nothing happens when there is none."""
        if (pipeline := self.pipeline) is not None:
            pipeline.put(record)


runtime = Runtime()


class _LateAssembler:
    """The assembler, loaded with the first records: in the background, not in the user's `init`."""

    __slots__ = ("_made", "_settings")

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._made: Assembler | None = None

    @property
    def open_turns(self) -> int:
        return self._made.open_turns if self._made is not None else 0

    def feed(self, records: Iterable[Record]) -> list[Item]:
        if self._made is None:
            self._made = _assembler(self._settings)
        return self._made.feed(records)

    def tick(self, now_ns: int) -> list[Item]:
        return self._made.tick(now_ns) if self._made is not None else []

    def settle(self) -> list[Item]:
        return self._made.settle() if self._made is not None else []

    def drain(self) -> list[Item]:
        return self._made.drain() if self._made is not None else []


def _assembler(settings: Settings) -> Assembler:
    from gati.trace.assembler import Assembler
    from gati.trace.identity import Defaults
    from gati.trace.turn_builder import Options

    whose = Defaults(settings.conversation_id, settings.user_id, settings.organization_id, settings.properties)
    options = Options(
        agent_name=settings.agent_name,
        environment=settings.environment,
        input_key=settings.input_key,
        output_key=settings.output_key,
        import_history=settings.import_history,
        system_prompt=settings.system_prompt,
        incremental=settings.submission == "incremental",
        defaults=whose,
    )
    return Assembler(options, settings.turn_timeout, _given_up)


def _given_up(run_id: UUID) -> None:
    if (recorder := current.recorder) is not None:
        recorder.given_up(run_id)


def _exporters(settings: Settings) -> list[Exporter]:
    """The destinations that the settings name; the embedded store when they name none."""
    chosen: list[Exporter] = []
    if settings.api_key is not None or settings.client is not None:
        from gati.exporters.greenflash.exporter import GreenflashExporter

        chosen.append(GreenflashExporter(settings))
    if settings.backend_url is not None:
        from gati.exporters.events_api import EventsApiExporter

        chosen.append(EventsApiExporter(settings))
    if settings.local or (settings.local is None and not chosen):
        from gati.exporters.greenflash.encoder import Encoder
        from gati.exporters.local import LocalExporter
        from gati.store.store import default_path

        path = settings.local if isinstance(settings.local, Path) else default_path()
        chosen.append(LocalExporter(path, settings.local_max_bytes, Encoder(settings)))
        if settings.local is None:
            logger.warning("no Greenflash key: conversations are kept on this machine, in %s (see: gati studio)", path)
    return chosen
