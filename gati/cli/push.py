"""`gati push`: send the embedded store to Greenflash."""

from __future__ import annotations

from contextlib import closing

from gati._api.destinations import active_destinations
from gati.cli.output import Exit, console, fail, print_json, print_note, progress_bar
from gati.cli.store import open_store
from gati.cli.store_place import StorePlace
from gati.push import push_store
from gati.settings import load


def run_push(product_id: str | None, path: StorePlace | None, *, json_wanted: bool = False) -> Exit:
    """Send the messages that Greenflash does not have yet, with a progress bar on a terminal."""
    settings = load(product_id=product_id)
    greenflash = next((d for d in active_destinations(settings) if d.kind == "greenflash"), None)
    if greenflash is None:
        fail("no destination to push to: set GREENFLASH_API_KEY", Exit.USAGE)
    exporter = greenflash.make_exporter()
    with (
        closing(exporter),
        closing(open_store(path, write=True)) as store,
        progress_bar("pushing", silent=json_wanted) as bar,
    ):
        task = bar.add_task("", total=None)
        result = push_store(
            store,
            exporter,
            product_id=settings.product_id,
            on_progress=lambda done, total: bar.update(task, completed=done, total=total),
            connections=settings.connections,
        )
    rejected = sum(result.rejected.values())
    if json_wanted:
        print_json(
            {
                "delivered": result.delivered,
                "rejected": dict(result.rejected),
                "left": result.left,
                "stopped": result.stopped,
            }
        )
    else:
        console().print(f"{result.delivered} delivered, {rejected} rejected, {result.left} left")
        for reason, count in result.rejected.items():
            print_note(f"{count} rejected: {reason}")
        if result.stopped:
            print_note(f"stopped: {result.stopped}. Run `gati push` again to resume.")
    return Exit.OK if not (rejected or result.left) else Exit.FAILED
