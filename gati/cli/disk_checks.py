"""The checks of `gati doctor` for this machine's disk: the spool, the journal of records and the embedded store."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path

from gati._api.destinations import active_destinations
from gati.cli.check import Check
from gati.errors import ConfigurationError
from gati.settings import Settings
from gati.store.store import default_path


def check_spool(settings: Settings) -> Check:
    """Check that the spool can be written."""
    from gati.pipeline.filesystem import spool_folder

    if not settings.spool:
        return Check("spool", "warn", "disabled", "messages not delivered when the program exits are lost")
    folder = spool_folder(settings.spool_dir)
    advice = "set GATI_SPOOL_DIR to a writable folder"
    if folder is None:
        return Check("spool", "fail", "there is no home folder; messages are kept in memory only", advice)
    if fault := _unwritable(folder):
        return Check("spool", "fail", f"{folder}: {fault}", advice)
    return Check("spool", "pass", f"{folder} is writable")


def check_journal(settings: Settings) -> Check:
    """Say whether turns survive a kill, and if not, why."""
    from gati.pipeline.filesystem import spool_folder
    from gati.pipeline.record_journal.journal import JournalUnavailableError, check_system
    from gati.pipeline.record_journal.start import why_no_journal

    exporters = []
    for destination in active_destinations(settings):
        with suppress(ConfigurationError):  # reported by the check of the destination
            exporters.append(destination.make_exporter())
    reason, folder = why_no_journal(settings, exporters), spool_folder(settings.spool_dir)
    for exporter in exporters:
        exporter.close()
    if not reason and folder is not None:
        try:
            check_system(next(path for path in (folder, *folder.parents) if path.is_dir()))
        except JournalUnavailableError as error:
            reason = str(error)
    if reason:
        return Check("journal", "pass", f"none: {reason}. If the program is killed, it loses up to a second of turns")
    return Check("journal", "pass", "turns that are not in the spool yet survive a kill")


def check_store(settings: Settings) -> Check:
    """Check that the store's folder can be written. It matters only if conversations go there."""
    used = any(d.kind == "local" for d in active_destinations(settings))
    file, fault = store_file(settings)
    if file is not None:
        fault = _unwritable(file.parent)
    if fault is None:
        return Check("store", "pass", f"{file} is writable")
    found = fault if file is None else f"{file}: {fault}"
    return Check("store", "fail" if used else "warn", found, "set GATI_LOCAL to a file in a writable folder")


def store_file(settings: Settings) -> tuple[Path | None, str | None]:
    """Return the store's file, or why there is none."""
    if isinstance(settings.local, Path):
        return settings.local, None
    try:
        return default_path(), None
    except FileNotFoundError:
        return None, "there is no home folder"


def _unwritable(folder: Path) -> str | None:
    """Return why no file can be created in a folder; None if one can. What the check creates, it removes."""
    missing = [path for path in (folder, *folder.absolute().parents) if not path.exists()]
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as fault:
        return fault.strerror or type(fault).__name__
    finally:
        for path in missing:
            with suppress(OSError):
                path.rmdir()
