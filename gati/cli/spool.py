"""`gati status` and `gati drain`: what waits, and bringing it away."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from gati.cli.output import Exit, as_json, console, progress, rows, say
from gati.cli.store import held_by, place
from gati.pipeline.engine import spool_folder
from gati.pipeline.recovery import SpoolStatus, drain_spool, spool_status
from gati.settings import load


def show_status(*, json_wanted: bool = False) -> Exit:
    """Print the state of the spool and of the embedded store."""
    settings = load()
    folder, file = spool_folder(settings.spool_dir), place(settings=settings)
    accounts = spool_status(folder)
    held = held_by(file, settings) if file.exists() else None
    if json_wanted:
        store = {"file": str(file), "size_bytes": file.stat().st_size, **held} if held else None
        as_json({"spool": {"folder": str(folder), "accounts": accounts and [*map(_row, accounts)]}, "store": store})
        return Exit.OK
    screen = console()
    screen.print(f"spool  {folder}", markup=False, soft_wrap=True)
    rows([_readable(account) for account in accounts])
    if not accounts:
        screen.print("nothing waits")
    elif any(account.orphaned for account in accounts):
        screen.print("Programs that run deliver what is theirs; `gati drain` delivers what others left.")
    screen.print(f"store  {file}", markup=False, soft_wrap=True)
    screen.print("there is none" if held is None else "  ".join(f"{count} {name}" for name, count in held.items()))
    return Exit.OK


def _row(account: SpoolStatus) -> dict[str, Any]:
    return dataclasses.asdict(account)


def _readable(account: SpoolStatus) -> dict[str, Any]:
    row = _row(account)
    oldest = row.pop("oldest_ms")
    row["size_bytes"] = f"{account.size_bytes:,}"
    return {**row, "oldest": None if oldest is None else f"{(time.time() * 1000 - oldest) / 60_000:.0f} min"}


def bring(timeout: float | None, *, json_wanted: bool = False) -> Exit:
    """Deliver what dead processes left, with a progress bar on a terminal."""
    from gati._api.destinations import active_destinations

    settings = load()
    exporters = [d.make_exporter() for d in active_destinations(settings) if d.kind != "local"]
    if not exporters:
        say("there is nowhere to deliver to: set GREENFLASH_API_KEY or GATI_BACKEND_URL")
        return Exit.USAGE
    with progress("delivering", silent=json_wanted) as bar:
        task = bar.add_task("", total=None)
        result = drain_spool(
            spool_folder(settings.spool_dir),
            exporters,
            lambda done, total: bar.update(task, completed=done, total=total),
            timeout=timeout,
            connections=settings.connections,
        )
    for exporter in exporters:
        exporter.close()
    if json_wanted:
        as_json(dataclasses.asdict(result))
    else:
        waiting = result.spooled + result.pending
        console().print(f"{result.delivered} messages delivered, {result.rejected} refused, {waiting} still wait")
        for destination in result.paused:
            say(f"{destination} refuses the key; `gati doctor` says more")
    return Exit.OK if result else Exit.FAILED
