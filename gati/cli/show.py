"""Print conversations of the embedded store: for `gati show`, the demo and the examples."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from rich.text import Text

from gati.cli import conversation
from gati.cli.export import refuse_terminal
from gati.cli.output import Exit, console, fail, print_json, print_result, print_rows
from gati.cli.store import list_rows, open_store
from gati.cli.store_place import StorePlace
from gati.cli.streams import file_output
from gati.store import queries
from gati.store.plain_text import escape_controls


def print_conversation(
    conversation_id: str | None = None, path: StorePlace | None = None, *, json_wanted: bool = False
) -> None:
    """Print a conversation.

    Args:
        conversation_id: ID of the conversation. Default: the newest one.
        path: File of the store. Default: the option `local`, or the default location.
        json_wanted: Print the messages as JSON, in the form in which they are sent to Greenflash.

    Raises:
        SystemExit: The store or the conversation does not exist.
    """
    with closing(open_store(path)) as store:
        if not conversation_id:
            if not (newest := list_rows(store, 1)):
                fail(f"the store {store.path} is empty", Exit.NOT_FOUND)
            conversation_id = newest[0]["conversation"]
        messages = queries.wire_messages(store, conversation_id)
    if not messages:
        fail(f"there is no conversation {conversation_id!r} in {store.path}; see `gati show --list`", Exit.NOT_FOUND)
    if json_wanted:
        print_json(messages)
    else:
        print_messages(conversation_id, messages)


def print_html(conversation_id: str | None = None, path: StorePlace | None = None, *, with_marks: bool = False) -> None:
    """Print a conversation, by default the newest one, as a self-contained HTML file."""
    from gati.studio.pages import shared_page

    refuse_terminal()
    with closing(open_store(path)) as store:
        if conversation_id:
            summary = queries.find_conversation(store, conversation_id)
        else:
            summary = next(iter(queries.list_conversations(store, limit=1).conversations), None)
        if summary is None:
            fail(f"there is no such conversation in {store.path}; see `gati show --list`", Exit.NOT_FOUND)
        print(shared_page(store, summary, with_marks=with_marks), file=file_output())


def print_list(limit: int, path: StorePlace | None = None, *, json_wanted: bool = False) -> None:
    """List the newest conversations."""
    with closing(open_store(path)) as store:
        print_rows(list_rows(store, limit), json_wanted=json_wanted)


def print_messages(conversation_id: str, messages: list[dict[str, Any]], note: str = "") -> None:
    """Print wire messages as a conversation under a title."""
    title = " ".join(escape_controls(conversation_id).split())
    console().rule(Text(f"conversation {title}{note and f', {note}'}"), align="left")
    print_result(conversation.render(messages))
