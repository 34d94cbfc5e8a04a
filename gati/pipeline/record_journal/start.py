"""Decides whether this process has a journal of records, and creates it."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

from gati.exporters import sanitize
from gati.pipeline import process_hooks
from gati.pipeline.filesystem import spool_folder
from gati.pipeline.internal_errors import guard, log
from gati.pipeline.record_journal.journal import JournalUnavailableError, RecordJournal, describe_process, journal_bytes
from gati.pipeline.spool import spool_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gati.exporters.base import Exporter
    from gati.pipeline.buffer import Buffer
    from gati.pipeline.spool_file import FileOrigin
    from gati.settings import Settings

RECORDED_OPTIONS = frozenset(
    {
        "agent_name", "environment", "product_id", "user_id", "conversation_id", "organization_id", "properties",
        "system_prompt", "input_key", "output_key", "import_history", "detail", "submission", "sample_rate", "force_sample",
        "capture_content",
    }
)  # fmt: skip
"""Options of the process that wrote a journal with which its turns are assembled."""


def why_no_journal(options: Settings, exporters: Sequence[Exporter]) -> str:
    """Return why the options allow no journal; empty if they do."""
    if options.journal is False:
        return "switched off"
    if not options.spool or all(exporter.durable for exporter in exporters):
        return "there is no spool"
    if options.journal is None and options.mask is not None:
        return "there is a mask, and a journal holds texts before they are masked"
    if options.journal is None and not options.capture_content:
        return "capture_content is off, and a journal holds texts"
    if spool_folder(options.spool_dir) is None:
        return "there is no home folder"
    if not journal_bytes(options.buffer_max_bytes, options.spool_max_bytes):
        return "buffer_max_bytes or spool_max_bytes is too small"
    return ""


def start_journal(buffer: Buffer, options: Settings, exporters: Sequence[Exporter], files: FileOrigin) -> None:
    """Give the buffer a journal, which begins with the records that wait, unless the options or the disk forbid it.

    Called by the worker's thread, before anybody takes a record. `files` is the origin of this process's spool files.
    """
    if why_no_journal(options, exporters):
        return
    with guard("journal"), process_hooks.fork_lock:
        try:
            journal = _create(options, exporters, files)
        except (JournalUnavailableError, OSError, ValueError) as error:
            reason = str(error) if not isinstance(error, OSError) else error.strerror or type(error).__name__
            log.emit("journal", "there is no journal: %s", reason, level=logging.INFO)
            return
        buffer.journal = journal
        journal.adopt(buffer)


def _create(options: Settings, exporters: Sequence[Exporter], files: FileOrigin) -> RecordJournal:
    root = spool_folder(options.spool_dir)
    assert root is not None
    spools = [spool_for(root, exporter) for exporter in exporters if not exporter.durable]
    for spool in spools:
        spool.create_folders()
    description = describe_process(
        describe_options(options), masked=options.mask is not None, capture_content=options.capture_content
    )
    size = journal_bytes(options.buffer_max_bytes, options.spool_max_bytes)
    return RecordJournal([spool.folder for spool in spools], size, description, files)


def describe_options(options: Settings) -> dict[str, Any]:
    """Return the options that were set, as JSON values."""
    changed = options.model_dump(include=set(RECORDED_OPTIONS), exclude_defaults=True)
    # As when they are sent: properties may hold anything. Nothing is cut, a journal that would be too long is not created.
    plain: dict[str, Any] = sanitize.bounded_json(changed, sys.maxsize)[0]
    return plain
