"""One conversation as a single HTML file that anybody can open: no scripts, and no requests to anywhere."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from gati.store import export, marks, people, prompt_queries, queries
from gati.store.plain_text import escape_controls
from gati.store.turn_view import arrange_turns
from gati.studio.formatting import local_datetime
from gati.studio.hit import OpenedHit

if TYPE_CHECKING:
    import jinja2

    from gati.store.queries import ConversationSummary, StoredMessage
    from gati.store.store import Store

_STATIC = Path(__file__).parent / "static"
_STYLES = ("studio.css", "conversation.css", "shared.css")

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:"
"""Content security policy of the file. Even markup that was not escaped could neither run nor load anything."""


def render_shared(
    templates: jinja2.Environment, store: Store, summary: ConversationSummary, *, with_marks: bool = False
) -> str:
    """Return the whole conversation as HTML, with pictures, sounds and files as far as its messages contain them.

    Args:
        templates: See `pages.template_environment`.
        store: The store.
        summary: The conversation.
        with_marks: Include what readers marked: good or bad, tags, notes, and the names of their authors.
    """
    messages = export.all_messages(store, summary)
    made = marks.marks_of(store, summary.id)
    own = {mark.action for mark in made.ratings}
    actions = queries.ratings_and_events(store, summary.id)
    page = templates.get_template("shared.html").render(
        shared=True,
        policy=POLICY,
        styles=Markup("\n".join((_STATIC / name).read_text("utf-8") for name in _STYLES)),  # noqa: S704  # our own files
        summary=summary,
        properties=json.loads(summary.properties) if summary.properties else {},
        user_name=people.user_names(store, {summary.user}).get(summary.user),
        turns=arrange_turns(messages),
        hit=OpenedHit(),
        timed=any(message.has_time for message in messages),
        zone=local_datetime(summary.last_at).strftime("UTC%z"),
        prompts=_prompts(store, messages),
        marks=made if with_marks else marks.Marks(),
        actions=[action for action in actions if with_marks or action["action"] not in own],
        raters={mark.action: mark.author for mark in made.ratings},
    )
    return escape_controls(page)  # the file may be shown in a terminal


def _prompts(store: Store, messages: list[StoredMessage]) -> dict[int, prompt_queries.CallPrompt]:
    """Return each system prompt as the first request with it was sent, by the row of its version."""
    first_calls: dict[int, int] = {}
    for message in messages:
        if message.version is not None:
            first_calls.setdefault(message.version, message.call)
    found = {version: prompt_queries.prompt_of_call(store, call) for version, call in first_calls.items()}
    return {version: prompt for version, prompt in found.items() if prompt is not None}


def file_name(summary: ConversationSummary) -> str:
    """Return a name for the file: ``c/42`` → ``conversation-c-42.html``."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", summary.external_id or summary.uid).strip("-.")[:80]
    return f"conversation-{name or summary.uid}.html"


def download_headers(summary: ConversationSummary) -> dict[str, str]:
    """Return the headers of the file, which let a browser save it instead of showing it in the studio."""
    return {
        "content-disposition": f'attachment; filename="{file_name(summary)}"',
        "content-security-policy": f"{POLICY}; sandbox",
    }
