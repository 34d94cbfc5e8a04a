"""`gati import`: conversations from LangGraph checkpoints and from exports of other tools."""

from __future__ import annotations

import gc
import importlib
import sqlite3
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import orjson

from gati._api.destinations import Destination, active_destinations
from gati.cli.output import Exit, console, fail, print_json, print_note, progress_bar
from gati.cli.store import make_team_exporter, open_store, open_team_store, store_path, writable_store_path
from gati.cli.store_place import StorePlace
from gati.exporters.base import DELIVERED, Exporter, Outcome, Request
from gati.importing.imported_run import ImportedTurn, to_ns
from gati.importing.importer import FindFirstLive, ImportResult, Selection, import_turns
from gati.langchain._compat import with_shared_objects
from gati.settings import Settings, hide_credentials, load

SHARED_MESSAGES = 10_000
"""Decoded messages that are kept while checkpoints are read, at a few KB each."""

MAX_EXPORT_BYTES = 1024**3
"""Largest export that is read. Its objects take several times as much memory."""

GC_THRESHOLD = 50_000
"""New containers between two collections. At Python's 700, the collector takes 15 % of the command's time."""

Source: TypeAlias = Literal["checkpoints", "langsmith", "langfuse", "phoenix"]


@dataclass(frozen=True)
class ImportOptions:
    """The options of `gati import`, as given."""

    threads: tuple[str, ...] = ()
    since: str | None = None
    before: str | None = None
    mask: str | None = None
    no_mask: bool = False
    dry_run: bool = False
    store: StorePlace | None = None
    json_wanted: bool = False


def run_import(source: Source, place: str, options: ImportOptions) -> Exit:
    """Import conversations, print a summary, and return the exit code."""
    settings = load(
        mask=None if options.mask is None else _load_object(options.mask, "--mask"), spool=not options.dry_run
    )
    destination = _destination(settings, options)
    if destination.kind != "local" and not options.dry_run and options.mask is None and not options.no_mask:
        fail("pass --mask module:function, or --no-mask to send the texts as they are", Exit.USAGE)
    with ExitStack() as stack:
        stack.callback(gc.set_threshold, *gc.get_threshold())
        gc.set_threshold(GC_THRESHOLD)
        selection = Selection(
            frozenset(options.threads),
            _time(options.since, "--since"),
            _time(options.before, "--before"),
            _first_live(settings, destination, options, stack),
        )
        exporter = destination.make_exporter()
        stack.callback(exporter.close)
        exporters: list[Exporter] = [_Printer(exporter)] if options.dry_run else [exporter]
        turns = _read(source, place, options.threads, stack)
        bar = stack.enter_context(progress_bar("importing", silent=options.json_wanted or options.dry_run))
        task = bar.add_task("", total=None)
        name = "langgraph" if source == "checkpoints" else source
        result = import_turns(
            turns, name, settings, exporters, selection=selection,
            on_progress=lambda done: bar.update(task, completed=done.turns),
        )  # fmt: skip
    _print_result(result, destination, options)
    return Exit.FAILED if result.left or result.lost else Exit.OK


def _destination(settings: Settings, options: ImportOptions) -> Destination:
    """Return where the conversations go: the given store, else Greenflash if there is a key, else the embedded store."""
    if isinstance(options.store, str):
        open_team_store(options.store, write=not options.dry_run).close()  # ends the command if that fails
        return Destination("local", "the team's store", partial(make_team_exporter, settings, options.store))
    if options.store is None:
        found = active_destinations(settings)
        if (greenflash := next((one for one in found if one.kind == "greenflash"), None)) is not None:
            return greenflash
    file = writable_store_path(options.store, settings)
    alone = settings.model_copy(
        update={
            **dict.fromkeys(("api_key", "client", "backend_url", "otlp_endpoint", "queue", "exporters")),
            "local": file,
        }
    )
    return active_destinations(alone)[0]


def _time(value: str | None, name: str) -> int | None:
    if value is None:
        return None
    found = to_ns(value)
    if found is None:
        fail(f"{name} must be a date or time in ISO 8601, such as 2026-01-31; got {value!r}", Exit.USAGE)
    return found


def _load_object(path: str, option: str) -> Any:
    """Return the object that `module:name` names. Modules are found from the current folder, too."""
    module, colon, name = path.partition(":")
    if not colon or not name:
        fail(f"{option} must be module:name; got {path!r}", Exit.USAGE)
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as fault:
        fail(f"{option} cannot be loaded: {fault}", Exit.USAGE)


# -- sources --------------------------------------------------------------------------------


def _read(source: Source, place: str, threads: tuple[str, ...], stack: ExitStack) -> Iterable[ImportedTurn]:
    if source == "checkpoints":
        from gati.importing.checkpoints import read_checkpoints

        return _read_database(lambda: read_checkpoints(_open_saver(place, stack), threads), place)
    rows = _rows(Path(place))
    if source == "langsmith":
        from gati.importing.langsmith import read_langsmith

        return read_langsmith(rows)
    if source == "langfuse":
        from gati.importing.langfuse import read_langfuse

        return read_langfuse(rows)
    from gati.importing.phoenix import read_phoenix

    return read_phoenix(rows)


def _read_database(read: Callable[[], Iterable[ImportedTurn]], place: str) -> Iterator[ImportedTurn]:
    """Yield what `read` returns. End the command if the database cannot be read."""
    try:
        yield from read()
    except Exception as fault:  # errors of psycopg, which may not be installed; others are raised again
        if not isinstance(fault, sqlite3.Error) and type(fault).__module__.partition(".")[0] != "psycopg":
            raise
        reason = next(iter(str(fault).splitlines()), type(fault).__name__)
        if type(fault).__name__ == "ProgrammingError" and getattr(fault, "sqlstate", "") is None:
            reason = "the address is invalid"  # libpq quotes parts of it
        fail(f"cannot read the checkpoints in {hide_credentials(place)}: {hide_credentials(reason)}", Exit.NOT_FOUND)


def _open_saver(place: str, stack: ExitStack) -> Any:
    """Return a checkpointer: of a SQLite file, of a PostgreSQL database, or an object of the program (`module:name`)."""
    try:
        if place.startswith(("postgres://", "postgresql://")):
            from langgraph.checkpoint.postgres import PostgresSaver

            return _for_reading(stack.enter_context(PostgresSaver.from_conn_string(place)))
        if Path(place).exists():
            if not Path(place).is_file():
                fail(f"{place} is not a file", Exit.USAGE)
            from langgraph.checkpoint.sqlite import SqliteSaver

            return _for_reading(stack.enter_context(SqliteSaver.from_conn_string(place)))
    except ImportError as missing:
        package = "langgraph-checkpoint-postgres" if "postgres" in str(missing) else "langgraph-checkpoint-sqlite"
        fail(f"these checkpoints need {package}: pip install {package}", Exit.MISSING)
    if ":" not in place:
        fail(f"there is no file {place}", Exit.NOT_FOUND)
    saver = _load_object(place, "the checkpointer")
    return saver() if callable(saver) else saver


def _for_reading(saver: Any) -> Any:
    """Make a checkpointer that nobody else uses decode each message once, though many checkpoints contain it."""
    saver.serde = with_shared_objects(saver.serde, SHARED_MESSAGES)
    return saver


def _rows(file: Path) -> list[dict[str, Any]]:
    """Return the objects of a JSON file (a list, or an object that holds one) or of a file with one object per line."""
    _refuse_device(file)
    try:
        with file.open("rb") as export:
            content = export.read(MAX_EXPORT_BYTES + 1)
    except OSError as fault:
        fail(f"cannot read {file}: {fault.strerror}", Exit.NOT_FOUND)
    if len(content) > MAX_EXPORT_BYTES:
        fail(f"{file} is larger than {MAX_EXPORT_BYTES // 1024**2} MiB; export it in parts", Exit.USAGE)
    try:
        whole = orjson.loads(content)
    except orjson.JSONDecodeError:
        return [row for line in content.splitlines() if line.strip() and isinstance(row := _line(file, line), dict)]
    if isinstance(whole, dict):
        whole = next((value for value in whole.values() if isinstance(value, list)), [whole])
    return [row for row in whole if isinstance(row, dict)]


def _refuse_device(file: Path) -> None:
    """Exit for a device, which may have no end. A pipe has one, when its writer closes it."""
    with suppress(OSError):  # a missing file is reported by the caller
        mode = file.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISFIFO(mode)):
            fail(f"{file} is not a file", Exit.USAGE)


def _line(file: Path, line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as fault:
        fail(f"{file} is neither JSON nor JSON Lines: {fault}", Exit.USAGE)


# -- what is there already --------------------------------------------------------------------


def _first_live(
    settings: Settings, destination: Destination, options: ImportOptions, stack: ExitStack
) -> FindFirstLive:
    """Return a function that finds what gati reported itself, in the place to which the import goes."""
    if destination.kind == "local":
        return _first_live_in_store(options.store or store_path(None, settings), stack)
    return _first_live_at_greenflash(settings)


def _first_live_in_store(place: StorePlace, stack: ExitStack) -> FindFirstLive:
    from gati.store.queries import first_own_message_at

    if isinstance(place, str):
        store = stack.enter_context(closing(open_store(place)))
        return lambda conversation, times: first_own_message_at(store, conversation)
    if not place.exists():
        return lambda conversation, times: None

    def find(conversation: str, times: frozenset[int]) -> int | None:
        with closing(open_store(place)) as opened:  # each time: a reader may see the file as it was when it was opened
            return first_own_message_at(opened, conversation)

    return find


def _first_live_at_greenflash(settings: Settings) -> FindFirstLive:
    from gati.exporters.greenflash import check

    try:
        known = check.fetch_conversations(settings)
    except check.UnsupportedSdkError:
        fail(
            "this version of the greenflash SDK cannot list conversations; pass --before, the time when gati was added",
            Exit.USAGE,
        )
    except check.RequestFailedError as fault:
        fail(f"Greenflash does not list its conversations: {fault}")

    def find(conversation: str, times: frozenset[int]) -> int | None:
        if conversation not in known:
            return None
        found = (to_ns(time) for time in check.fetch_message_times(settings, known[conversation]))
        live = [time for time in found if time is not None and time // 1_000_000 not in times]
        return min(live, default=None)

    return find


# -- output -----------------------------------------------------------------------------------


class _Printer:
    """Prints each request as JSON instead of sending it."""

    name, account, durable = "dry run", "dry-run", True

    def __init__(self, exporter: Exporter) -> None:
        self.encode, self.split, self.after_fork = exporter.encode, exporter.split, exporter.after_fork

    def send(self, request: Request) -> Outcome:
        """Print a request, unless the reader of the output has stopped."""
        with suppress(BrokenPipeError):
            print_json({"endpoint": request.endpoint, **request.body})
        return DELIVERED

    def close(self) -> None:
        """Do nothing."""


def _print_result(result: ImportResult, destination: Destination, options: ImportOptions) -> None:
    if options.dry_run:
        print_note(
            f"would import {result.turns} turns of {len(result.conversations)} conversations to {destination.label}"
        )
    elif options.json_wanted:
        print_json(
            {
                "turns": result.turns, "conversations": len(result.conversations), "skipped": result.skipped,
                "messages": result.messages, "left": result.left, "lost": result.lost,
            }
        )  # fmt: skip
    else:
        console().print(
            f"{result.turns} turns of {len(result.conversations)} conversations, {result.messages} messages, to"
            f" {destination.label}"
        )
    if result.skipped:
        print_note(f"{result.skipped} turns were left out: filtered, or reported by gati itself")
    if result.left:
        print_note(f"{result.left} messages wait in the spool; `gati drain` delivers them")
