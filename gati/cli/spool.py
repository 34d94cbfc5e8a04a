"""`gati status` and `gati drain`: inspect the spool and deliver the messages in it."""

from __future__ import annotations

import dataclasses
import time
from functools import partial
from pathlib import Path
from typing import Any

from gati.cli.output import Exit, console, fail, print_json, print_note, print_rows, progress_bar
from gati.cli.store import count_contents, store_path
from gati.pipeline.filesystem import spool_folder
from gati.pipeline.recovery import Skipped, SpoolStatus, drain_spool, skipped_accounts, spool_name, spool_status
from gati.pipeline.unfinished_files import remove_unfinished
from gati.settings import Settings, load


def show_status(*, json_wanted: bool = False) -> Exit:
    """Print the state of the spool and of the embedded store."""
    settings = load()
    folder, file = _existing_spool_folder(settings), store_path(settings=settings)
    accounts = spool_status(folder)
    contents = count_contents(file) if file.exists() else None
    if json_wanted:
        store = {"file": str(file), "size_bytes": file.stat().st_size, **contents} if contents else None
        rows = [dataclasses.asdict(account) for account in accounts]
        print_json({"spool": {"folder": str(folder), "accounts": rows}, "store": store})
        return Exit.OK
    screen = console()
    screen.print(f"spool  {folder}", markup=False, soft_wrap=True)
    print_rows([_readable_row(account) for account in accounts])
    if not accounts:
        screen.print("no messages are waiting")
    elif any(account.orphaned or account.journals or account.unfinished for account in accounts):
        screen.print(
            "`gati drain` delivers orphaned messages and journals, and removes unfinished files, which were left by "
            "processes that have exited."
        )
    screen.print(f"store  {file}", markup=False, soft_wrap=True)
    summary = None if contents is None else "  ".join(f"{count} {name}" for name, count in contents.items())
    screen.print(summary or "does not exist")
    return Exit.OK


def _existing_spool_folder(settings: Settings) -> Path:
    """Return the spool's folder. Exit with an error if there is none."""
    folder = spool_folder(settings.spool_dir)
    if folder is None:
        fail("there is no home folder, so there is no spool; set GATI_SPOOL_DIR to a folder", Exit.USAGE)
    return folder


def _readable_row(account: SpoolStatus) -> dict[str, Any]:
    """Format the size and replace the timestamp of the oldest file by its age, for example ``"12 min"``."""
    row = dataclasses.asdict(account)
    oldest_ms = row.pop("oldest_ms")
    row["size_bytes"] = f"{account.size_bytes:,}"
    return {**row, "oldest": None if oldest_ms is None else f"{(time.time() * 1000 - oldest_ms) / 60_000:.0f} min"}


def run_drain(timeout: float | None, *, adopt: bool = False, rejected: bool = False, json_wanted: bool = False) -> Exit:
    """Deliver messages left in the spool by processes that have exited, with a progress bar on a terminal."""
    from gati._api.destinations import active_destinations
    from gati._api.recovered import recovering_assembler
    from gati.pipeline.record_journal.recovery import JournalRecovery

    settings = load()
    folder = _existing_spool_folder(settings)
    remove_unfinished(folder)
    exporters = [destination.make_exporter() for destination in active_destinations(settings)]
    # The embedded store is the destination where no other is configured: then only what waits for it counts.
    known = {
        account.account for account in spool_status(folder) if account.messages or account.rejected or account.journals
    }
    exporters = [exporter for exporter in exporters if exporter.name != "local" or spool_name(exporter) in known]
    if not exporters:
        print_note("no destination to deliver to: set GREENFLASH_API_KEY or GATI_BACKEND_URL")
        _print_skipped(skipped_accounts(folder, []))
        return Exit.USAGE
    with progress_bar("delivering", silent=json_wanted) as bar:
        task = bar.add_task("", total=None)
        result = drain_spool(
            folder,
            exporters,
            lambda done, total: bar.update(task, completed=done, total=total),
            timeout=timeout,
            connections=settings.connections,
            adopt=adopt,
            rejected=rejected,
            recovery=JournalRecovery.of(partial(recovering_assembler, settings), settings),
        )
    for exporter in exporters:
        exporter.close()
    skipped = skipped_accounts(folder, exporters, result.spooled)
    if json_wanted:
        print_json(dataclasses.asdict(result) | {"skipped": [dataclasses.asdict(account) for account in skipped]})
    else:
        waiting = result.spooled + result.pending
        console().print(f"{result.delivered} messages delivered, {result.rejected} rejected, {waiting} waiting")
        for destination in result.paused:
            print_note(f"{destination} rejected the API key; run `gati doctor` for details")
        _print_skipped(skipped)
        for account in spool_status(folder):
            if account.journals:
                print_note(
                    f"skipped: {account.journals} journals in {account.account} belong to processes with a mask, to "
                    "another key, or to another version of gati, or another process is recovering them"
                )
    return Exit.OK if result and all(account.running for account in skipped) else Exit.FAILED


def _print_skipped(skipped: list[Skipped]) -> None:
    for account in skipped:
        print_note(f"skipped: {account.messages} messages waiting in {account.account} {account.reason}")
