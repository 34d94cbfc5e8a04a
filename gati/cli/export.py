"""`gati export`: write conversations of the embedded store as JSON lines, Markdown or HTML."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Literal

from gati.cli.output import Exit, fail, print_note
from gati.cli.output_file import output_file
from gati.cli.store import open_store
from gati.cli.store_place import StorePlace
from gati.cli.streams import file_output
from gati.store import export, queries
from gati.store.filters import Filter
from gati.store.queries import ConversationSummary
from gati.store.store import Store

Format = Literal["jsonl", "markdown", "html"]


def export_conversations(
    filters: Filter,
    ids: list[str],
    file_format: Format,
    output: Path | None,
    path: StorePlace | None,
    *,
    with_marks: bool = False,
) -> Exit:
    """Write conversations to a file or to standard output.

    Args:
        filters: Conversations to export. Ignored if `ids` are given.
        ids: IDs of the conversations to export.
        file_format: One JSON object per line, Markdown, or HTML, which holds a single conversation.
        output: Output file. None means standard output.
        path: File of the store. None means the default.
        with_marks: Include the marks and the names of their authors in HTML. The other formats always have them.
    """
    count = 0
    with ExitStack() as stack:
        store = stack.enter_context(closing(open_store(path)))
        # All ids first, so that an unknown one leaves an existing file as it is.
        found = list(_find_conversations(store, ids)) if ids else export.iter_conversations(store, filters)
        if file_format == "html":
            found = list(found)
            if len(found) != 1:
                fail(f"HTML holds one conversation, and {len(found)} match; give its ID", Exit.USAGE)
            if output is None:
                refuse_terminal()
        file = None if isinstance(path, str) else store.path
        out = file_output() if output is None else stack.enter_context(output_file(output, file))
        for summary in found:
            out.write(_format_conversation(store, summary, file_format, with_marks=with_marks))
            count += 1
    print_note(f"{count} conversation{'s' * (count != 1)} exported{f' to {output}' if output else ''}")
    return Exit.OK


def refuse_terminal() -> None:
    """Exit if HTML would be printed on a terminal, where control characters in the texts would take effect."""
    if sys.stdout.isatty():
        fail("redirect the HTML to a file, such as `> conversation.html`", Exit.USAGE)


def _format_conversation(store: Store, summary: ConversationSummary, file_format: Format, *, with_marks: bool) -> str:
    if file_format == "html":
        from gati.studio.pages import shared_page

        return shared_page(store, summary, with_marks=with_marks)
    if file_format == "markdown":
        return export.export_markdown(store, summary) + "\n"
    return export.export_jsonl(store, summary)


def _find_conversations(store: Store, ids: list[str]) -> Iterator[ConversationSummary]:
    for conversation_id in ids:
        if (summary := queries.find_conversation(store, conversation_id)) is None:
            fail(
                f"there is no conversation {conversation_id!r} in {store.path}; see `gati show --list`", Exit.NOT_FOUND
            )
        yield summary
