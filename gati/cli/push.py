"""`gati push`: the embedded store, sent to Greenflash later."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from gati._api.destinations import active_destinations
from gati.cli.output import Exit, as_json, console, fail, progress, say
from gati.cli.store import open_store
from gati.push import push_store
from gati.settings import load


def run(product_id: str | None, path: Path | None, *, json_wanted: bool = False) -> Exit:
    """Send what Greenflash does not have yet, with a progress bar on a terminal."""
    settings = load(product_id=product_id)
    greenflash = next((d for d in active_destinations(settings) if d.kind == "greenflash"), None)
    if greenflash is None:
        fail("there is nowhere to push to: set GREENFLASH_API_KEY", Exit.USAGE)
    exporter = greenflash.make_exporter()
    with closing(exporter), closing(open_store(path)) as store, progress("pushing", silent=json_wanted) as bar:
        task = bar.add_task("", total=None)
        result = push_store(
            store,
            exporter,
            product_id=settings.product_id,
            on_progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    refused = sum(result.rejected.values())
    if json_wanted:
        as_json(
            {
                "delivered": result.delivered,
                "rejected": dict(result.rejected),
                "left": result.left,
                "stopped": result.stopped,
            }
        )
    else:
        console().print(f"{result.delivered} delivered, {refused} refused, {result.left} left")
        for reason, count in result.rejected.items():
            say(f"{count} refused: {reason}")
        if result.stopped:
            say(f"stopped: {result.stopped}. Run it again to go on.")
    return Exit.OK if not (refused or result.left) else Exit.FAILED
