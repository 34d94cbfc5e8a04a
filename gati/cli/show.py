"""A conversation of the embedded store, printed: for `gati show`, the demo and the examples."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from gati.cli import conversation
from gati.cli.output import Exit, as_json, console, fail, rows, show
from gati.cli.store import conversations, open_store
from gati.store import queries


def print_conversation(
    conversation_id: str | None = None, path: Path | None = None, *, json_wanted: bool = False
) -> None:
    """Print one conversation, the newest when no id is given.

    Args:
        conversation_id: its id.
        path: the store's file; None for the option `local` or the usual place.
        json_wanted: print the messages as they went over the wire.
    """
    with closing(open_store(path)) as store:
        newest = conversations(store, 1)
        if not (wanted := conversation_id or (newest[0]["conversation"] if newest else None)):
            fail(f"the store {store.path} is empty", Exit.NOT_FOUND)
        messages = queries.wire_messages(store, wanted)
    if not messages:
        fail(f"there is no conversation {wanted!r} in {store.path}; see `gati show --list`", Exit.NOT_FOUND)
    if json_wanted:
        as_json(messages)
    else:
        print_messages(wanted, messages)


def print_list(limit: int, path: Path | None = None, *, json_wanted: bool = False) -> None:
    """List the newest conversations."""
    with closing(open_store(path)) as store:
        rows(conversations(store, limit), json_wanted=json_wanted)


def print_messages(conversation_id: str, messages: list[dict[str, Any]], note: str = "") -> None:
    """Print wire messages as a conversation under a title."""
    console().rule(f"conversation {conversation_id}{note and f', {note}'}", align="left")
    show(conversation.render(messages))
