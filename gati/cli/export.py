"""`gati export`: conversations of the embedded store as JSON lines or Markdown."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Literal

from gati.cli.output import Exit, fail, say
from gati.cli.store import open_store
from gati.store import export, queries
from gati.store.queries import ConversationSummary, Filter
from gati.store.store import Store

Format = Literal["jsonl", "markdown"]


def run(wanted: Filter, ids: list[str], shape: Format, file: Path | None, path: Path | None) -> Exit:
    """Write the conversations to `file` or to standard output.

    Args:
        wanted: which conversations, if no ids are given.
        ids: conversations by name.
        shape: a line of JSON for each conversation, or Markdown.
        file: where to; None for standard output.
        path: the store.
    """
    count = 0
    with ExitStack() as stack:
        store = stack.enter_context(closing(open_store(path)))
        out = sys.stdout if file is None else stack.enter_context(file.open("w", encoding="utf-8"))
        for summary in _named(store, ids) if ids else export.iter_conversations(store, wanted):
            out.write(
                export.export_jsonl(store, summary)
                if shape == "jsonl"
                else export.export_markdown(store, summary) + "\n"
            )
            count += 1
    say(f"{count} conversation{'s' * (count != 1)} exported{f' to {file}' if file else ''}")
    return Exit.OK


def _named(store: Store, ids: list[str]) -> Iterator[ConversationSummary]:
    for uid in ids:
        if (summary := queries.find_conversation(store, uid)) is None:
            fail(f"there is no conversation {uid!r} in {store.path}; see `gati show --list`", Exit.NOT_FOUND)
        yield summary
