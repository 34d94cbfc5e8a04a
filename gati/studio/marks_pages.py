"""Marks of a conversation on its page, and the forms that change them: good or bad, a rating, tags and notes.

Every change is a POST, so the origin is checked (`middleware`) and a cookie or a key is required (`access`). Without
JavaScript the form leads back to the page of the conversation; htmx gets the form alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from starlette.responses import HTMLResponse, RedirectResponse, Response

from gati.store import choices, marks, queries
from gati.store.marks import InvalidMarkError
from gati.studio.reader import Render, form_of

if TYPE_CHECKING:
    from starlette.requests import Request

    from gati.store.queries import ConversationSummary
    from gati.store.store import Store

_NAME_COOKIE = "gati_reader"
_COOKIE_SECONDS = 365 * 24 * 3600
_NOTHING_TYPED = {"tag": "", "note": ""}


def reader_name(request: Request) -> str | None:
    """Return the name that this reader gave; None if the page has not asked yet."""
    return marks.clean_name(unquote(request.cookies.get(_NAME_COOKIE, ""))[:1000])


class MarksPages:
    """Renders the marks of a conversation and changes them."""

    def __init__(self, store: Store, render: Render) -> None:
        self.store, self.render = store, render

    def show(self, request: Request) -> Response | str | None:
        """The marks alone, for htmx: nothing if they have not changed. Others get a page with them."""
        if (summary := self._find(request)) is None:
            return None
        if request.query_params.get("seen") == str(marks.change_count(self.store)):
            return Response(status_code=204)
        return self._render(request, summary, reader_name(request))

    def change(self, request: Request) -> Response | str | None:
        """Change the marks as the form says."""
        if (summary := self._find(request)) is None:
            return None
        form = form_of(request)
        name = marks.clean_name(form.get("author", "")) or reader_name(request)
        problem = ""
        try:
            _ACTIONS.get(form.get("do", ""), _do_nothing)(self.store, summary.id, form, name)
        except InvalidMarkError as error:
            problem = str(error)
        response: Response
        if "hx-request" in request.headers:
            response = HTMLResponse(self._render(request, summary, name, problem, form if problem else {}))
        elif problem:
            response = HTMLResponse(self._render(request, summary, name, problem, form), 400)
        else:
            response = RedirectResponse(f"/conversations/{summary.uid}#marks", 303)
        if name and name != reader_name(request):
            response.set_cookie(_NAME_COOKIE, quote(name), _COOKIE_SECONDS, httponly=True, samesite="lax")
        return response

    def _find(self, request: Request) -> ConversationSummary | None:
        return queries.find_conversation(self.store, request.path_params["uid"])

    def _render(
        self,
        request: Request,
        summary: ConversationSummary,
        name: str | None,
        problem: str = "",
        form: dict[str, str] | None = None,
    ) -> str:
        return self.render(
            request, "marks_page.html", part="hx-request" in request.headers, summary=summary,
            **{**panel_values(self.store, summary.id, name), "problem": problem, "typed": {**_NOTHING_TYPED, **(form or {})}},
        )  # fmt: skip


def panel_values(store: Store, conversation: int, name: str | None) -> dict[str, Any]:
    """Return what the template of the marks needs beside the conversation."""
    made = marks.marks_of(store, conversation)
    return {
        "state": marks.change_count(store), "marks": made, "own": made.rating_by(name), "reader": name,
        "note_key": marks.new_key(), "known_tags": choices.complete(store, "tag", ""), "problem": "",
        "typed": _NOTHING_TYPED, "limits": {"name": marks.MAX_NAME, "tag": marks.MAX_TAG, "note": marks.MAX_NOTE},
    }  # fmt: skip


_Form = dict[str, str]
_Action = Callable[["Store", int, _Form, "str | None"], None]


def _do_nothing(store: Store, conversation: int, form: _Form, name: str | None) -> None:
    """Keep the name only."""


def _set_verdict(store: Store, conversation: int, form: _Form, name: str | None) -> None:
    marks.set_verdict(store, conversation, form.get("value") or None, name)


def _rate(store: Store, conversation: int, form: _Form, name: str | None) -> None:
    value = form.get("value", "")
    if value and not (value.isascii() and value.isdecimal() and len(value) < 3):
        raise InvalidMarkError("A rating is a number.")
    marks.rate(store, conversation, int(value) if value else None, name)


def _add_tag(store: Store, conversation: int, form: _Form, name: str | None) -> None:
    marks.add_tag(store, conversation, form.get("tag", ""), name)


def _remove_tag(store: Store, conversation: int, form: _Form, name: str | None) -> None:
    marks.remove_mark(store, conversation, marks.TAG, form.get("value", ""))


def _write_note(store: Store, conversation: int, form: _Form, name: str | None) -> None:
    marks.write_note(store, conversation, form.get("note", ""), name, form.get("key", ""))


def _remove_note(store: Store, conversation: int, form: _Form, name: str | None) -> None:
    marks.remove_mark(store, conversation, marks.NOTE, form.get("value", ""))


_ACTIONS: dict[str, _Action] = {
    "verdict": _set_verdict, "rating": _rate, "tag": _add_tag, "remove-tag": _remove_tag, "note": _write_note,
    "remove-note": _remove_note,
}  # fmt: skip
"""The field `do` of a form → what it does."""
