"""`gati relay run` and `gati relay status`."""

from __future__ import annotations

import re
import signal
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING

from gati._api.destinations import active_destinations
from gati.cli.output import Exit, console, fail, print_json, print_note, print_rows
from gati.cli.store import make_team_exporter
from gati.cli.store_place import is_address
from gati.queues.log import LogError
from gati.relay.engines import open_admin, open_log
from gati.relay.relay import Relay, RelayOptions
from gati.settings import load

if TYPE_CHECKING:
    from gati.exporters.base import Exporter
    from gati.queues.address import QueueAddress
    from gati.queues.admin import QueueAdmin
    from gati.settings import Settings


NO_QUEUE = "there is no queue at this address yet"


def queue_settings(queue: str | None) -> tuple[QueueAddress, Settings]:
    """Return the address of the queue, and the settings of a program that does not use it. Exit without a queue."""
    settings = load() if queue is None else load(queue=queue)
    if settings.queue is None:
        fail("no queue: set GATI_QUEUE, or use --queue", Exit.USAGE)
    return settings.queue, settings.model_copy(update={"queue": None})


def queue_admin(queue: str | None) -> QueueAdmin:
    """Return the access to the queue. Exit if its client library is missing."""
    address, _ = queue_settings(queue)
    try:
        return open_admin(address)
    except ImportError as missing:
        fail_without_client(address, missing)
        raise


def fail_without_client(address: QueueAddress, missing: ImportError) -> None:
    """Exit with the command that installs the client library."""
    fail(f"this queue needs {missing.name}: pip install 'gati-greenflash[{address.engine}]'", Exit.MISSING)


def run_relay(
    queue: str | None, options: RelayOptions, session_seconds: float, metrics: str | None, store: str | None = None
) -> Exit:
    """Deliver a queue until SIGTERM or SIGINT: to the team's store at the address `store`, or as the options say."""
    address, settings = queue_settings(queue)
    settings = settings.model_copy(update={"connections": options.connections})
    exporter = _relay_destination(settings) if store is None else _store_destination(settings, store)
    try:
        log = open_log(address, session_seconds)
    except ImportError as missing:
        fail_without_client(address, missing)
        raise
    relay = Relay(log, exporter, options)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: relay.stop())
    server = None if metrics is None else _serve_metrics(relay, metrics)
    print_note(f"delivering {address.label} to {exporter.name}")
    try:
        relay.run()
    finally:
        if server is not None:
            server.shutdown()
            server.server_close()
    counts = relay.counts()
    print_note(f"delivered {counts.delivered} messages, {sum(counts.dead.values())} requests became dead letters")
    return Exit.OK


def _relay_destination(settings: Settings) -> Exporter:
    """Return the exporter of the first destination that is not the embedded store."""
    destinations = [found for found in active_destinations(settings) if found.kind != "local"]
    if len(destinations) != 1:
        fail("a relay delivers to one destination: set GREENFLASH_API_KEY", Exit.USAGE)
    return destinations[0].make_exporter()


def _store_destination(settings: Settings, address: str) -> Exporter:
    """Return an exporter that writes to the team's store."""
    if not is_address(address):
        fail("--to takes a postgresql:// address", Exit.USAGE)
    try:
        return make_team_exporter(settings, address)
    except ImportError as missing:
        fail(f"--to needs {missing.name}: pip install 'gati-greenflash[postgres]'", Exit.MISSING)
    except ConnectionError as error:
        fail(f"--to: {error}", Exit.USAGE)


def _serve_metrics(relay: Relay, address: str):  # type: ignore[no-untyped-def]  # a type of the metrics extra
    host, _, port = address.rpartition(":")
    if not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
        fail("--metrics takes a port or host:port", Exit.USAGE)
    try:
        from gati.relay.relay_metrics import serve_metrics

        return serve_metrics(relay, host or "127.0.0.1", int(port))
    except ImportError as missing:
        fail(f"--metrics needs {missing.name}: pip install 'gati-greenflash[metrics]'", Exit.MISSING)
    except OSError as error:
        fail(f"cannot serve metrics on {address}: {error.strerror}")


def show_relay_status(queue: str | None, *, json_wanted: bool = False) -> Exit:
    """Print what waits in the queue, its relays and its dead letters."""
    with closing(queue_admin(queue)) as admin:
        try:
            status = admin.status()
        except LogError as error:
            fail(f"the queue cannot be used: {error}")
    if json_wanted:
        print_json(asdict(status))
        return Exit.OK
    if not status.lanes:
        print_note(NO_QUEUE)
        return Exit.OK
    age = "" if status.oldest_seconds is None else f", the oldest for {status.oldest_seconds:.0f} s"
    console().print(f"{status.turns} requests wait{age}; {status.dead} dead letters; {status.lanes} lanes")
    rows = [{name: _shown(value) for name, value in row.items()} for row in status.relays]
    print_rows(rows)
    if not rows:
        console().print("no relay runs")
    return Exit.OK


def _shown(value: object) -> object:
    return round(value, 1) if isinstance(value, float) else value
