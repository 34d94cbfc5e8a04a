"""`gati delete`: delete from the embedded store and from the spool."""

from __future__ import annotations

import sys
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import typer

from gati.cli.deleted_requests import DeletedRequests
from gati.cli.output import Exit, console, fail, print_json, print_note
from gati.cli.store import open_store, store_path
from gati.cli.store_place import StorePlace
from gati.pipeline.filesystem import spool_folder
from gati.pipeline.spool_deletion import WaitingRemoval, remove_requests
from gati.settings import Settings, load
from gati.store import deletion
from gati.store.deletion import Contents, Target


def parse_date(text: str) -> int:
    """Return a date or time in microseconds since the epoch. Exit with an error if it is neither."""
    try:
        when = datetime.fromisoformat(text)
        return int(when.astimezone().timestamp() * 1_000_000)
    except (ValueError, OverflowError, OSError):
        fail(f"{text!r} is not a date or time, such as 2026-01-31 or 2026-01-31T12:00Z", Exit.USAGE)


def run_delete(target: Target, path: StorePlace | None, *, dry_run: bool, yes: bool, json_wanted: bool = False) -> Exit:
    """Count what a target matches, ask, and delete it. Nothing found is `NOT_FOUND`; its tombstones count all the same."""
    settings = load()
    try:
        place = path if isinstance(path, str) else store_path(path, settings)
        return _ask_and_delete(settings, place, target, dry_run=dry_run, yes=yes, json_wanted=json_wanted)
    except OSError as fault:
        fail(f"the spool cannot be read or changed: {fault}")


def _ask_and_delete(
    settings: Settings, file: StorePlace, target: Target, *, dry_run: bool, yes: bool, json_wanted: bool
) -> Exit:
    found = _count(file, target)
    waiting = remove_waiting(settings, target, found, count_only=True)
    anything = bool(found or waiting.messages or waiting.rejected or waiting.turns)
    if not dry_run:
        if not (json_wanted and yes):
            _print_contents("found", found, waiting)
        if not yes:
            _ask()
        found, waiting = _delete_everywhere(file, settings, target)
    if json_wanted:
        print_json({"deleted": not dry_run, **_as_numbers(found, waiting)})
    else:
        _print_contents("would be deleted" if dry_run else "deleted", found, waiting)
    if not dry_run:
        _print_what_stays(file, found, waiting)
    return Exit.OK if anything else Exit.NOT_FOUND


def _count(file: StorePlace, target: Target) -> Contents:
    if isinstance(file, Path) and not file.exists():
        return Contents()
    with closing(open_store(file)) as store:
        return deletion.count_matches(store, target)


def _delete_everywhere(file: StorePlace, settings: Settings, target: Target) -> tuple[Contents, WaitingRemoval]:
    """Delete from the store first: then its tombstones keep out what a running process delivers meanwhile."""
    found = Contents()
    if isinstance(file, str) or file.exists():
        with closing(open_store(file, write=True)) as store:
            found = deletion.delete_matches(store, target)
    return found, remove_waiting(settings, target, found)


def remove_waiting(settings: Settings, target: Target, found: Contents, *, count_only: bool = False) -> WaitingRemoval:
    """Remove what waits in the spool or was rejected. Raises OSError if the spool cannot be changed.

    Args:
        settings: The options, for the spool's folder.
        target: What to delete.
        found: What the store has, or had, of it.
        count_only: Change nothing.
    """
    folder = spool_folder(settings.spool_dir)
    if folder is None:
        return WaitingRemoval()
    return remove_requests(folder, DeletedRequests(target, found.subjects), count_only=count_only)


def _ask() -> None:
    """Exit unless a person confirms."""
    if not sys.stdin.isatty():
        fail("add --yes to delete without a question", Exit.USAGE)
    if not typer.confirm("Delete? This cannot be undone.", err=True):
        raise typer.Exit(int(Exit.FAILED))


def _as_numbers(found: Contents, waiting: WaitingRemoval) -> dict[str, Any]:
    return {
        "conversations": found.conversations, "shortened_conversations": found.shortened, "messages": found.messages,
        "records": found.records, "waiting": waiting.messages, "rejected": waiting.rejected, "turns_in_journals": waiting.turns,
        "waiting_in_running_processes": waiting.running, "overwritten": found.erased,
    }  # fmt: skip


def _print_contents(what: str, found: Contents, waiting: WaitingRemoval) -> None:
    shortened = f" (and parts of {found.shortened} others)" if found.shortened else ""
    screen = console()
    screen.print(
        f"{what} in the store: {found.conversations} conversations{shortened}, {found.messages} messages,"
        f" {found.records} other ratings, events and records"
    )
    journals = f", {waiting.turns} turns in journals" if waiting.turns else ""
    screen.print(
        f"{what} in the spool: {waiting.messages} waiting messages, {waiting.rejected} rejected requests{journals}"
    )


def _print_what_stays(file: StorePlace, found: Contents, waiting: WaitingRemoval) -> None:
    if waiting.running:
        print_note(
            f"{waiting.running} messages wait in running processes. The store will not accept them, but other"
            " destinations get them. To prevent that, stop the processes and delete again."
        )
    if not found.erased:
        print_note(
            "Deleted text may remain in unused parts of the file: it is in use, or the disk is full. Delete again."
        )
    for copy in sorted(file.parent.glob(f"{file.name}.damaged-*")) if isinstance(file, Path) else ():
        print_note(f"{copy} is a damaged copy of the store, which may contain what was deleted. Delete the file.")
    print_note("What was delivered to Greenflash is not deleted there.")
