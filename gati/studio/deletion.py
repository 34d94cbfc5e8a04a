"""The pages that delete: each asks first (GET), and deletes when its form is sent (POST).

`LocalOnly` and `TokenRequired` guard the form like every other write: a page of another site can neither send it nor read
the question.
"""

from __future__ import annotations

import sqlite3
from datetime import datetime
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

from starlette.responses import HTMLResponse, Response

from gati.store import deletion, people, queries
from gati.store.deletion import Contents, Target
from gati.studio.reader import Render, form_of, zone_of

if TYPE_CHECKING:
    from starlette.requests import Request

    from gati.store.store import Store


class Waiting(Protocol):
    """What a spool has of a target. See `gati.pipeline.spool_deletion.WaitingRemoval`."""

    messages: int
    rejected: int
    running: int


class RemoveWaiting(Protocol):
    """Deletes from the spool what belongs to a target, or only counts it. May raise OSError."""

    def __call__(self, target: Target, found: Contents, *, count_only: bool = False) -> Waiting: ...


class DeletionPages:
    """Renders the question and deletes.

    Args:
        store: The store.
        render: Renders a template.
        remove_waiting: Deletes from the spool; None if there is none.
    """

    def __init__(self, store: Store, render: Render, remove_waiting: RemoveWaiting | None) -> None:
        self.store, self.render, self._remove_waiting = store, render, remove_waiting

    def conversation(self, request: Request) -> Response | str | None:
        """Delete one conversation; None if it does not exist."""
        summary = queries.find_conversation(self.store, request.path_params["uid"])
        if summary is None:
            return None
        title = summary.title or summary.external_id or summary.uid
        target = Target("conversation", summary.uid)
        return self._answer(request, target, f"the conversation “{title[:80]}”", f"/conversations/{summary.uid}")

    def user(self, request: Request) -> Response | str | None:
        """Delete one user; None if unknown."""
        found = people.find_user(self.store, request.path_params["user"])
        if found is None:
            return None
        name, user = found.summary.name, found.summary.id
        what = f"everything of {name} ({user})" if name else f"everything of {user}"
        return self._answer(request, Target("user", user), what, f"/users/{quote(user)}")

    def before(self, request: Request) -> Response | str:
        """Delete everything before a date, which the first form asks for."""
        given = request.query_params if request.method == "GET" else form_of(request)
        date = given.get("date", "")
        try:
            at = datetime.fromisoformat(date[:10]).replace(tzinfo=zone_of(request)).astimezone()
        except (ValueError, OverflowError, OSError):
            return self.render(request, "delete_before.html", wrong=bool(date))
        target = Target("before", at=int(at.timestamp() * 1_000_000))
        return self._answer(request, target, f"everything before {date[:10]}", "/overview", date=date[:10])

    def _answer(self, request: Request, target: Target, what: str, back: str, date: str = "") -> Response | str:
        try:
            if request.method == "GET":
                found, done = deletion.count_matches(self.store, target), False
            else:
                found, done = deletion.delete_matches(self.store, target), True
            waiting = self._remove_waiting and self._remove_waiting(target, found, count_only=not done)
        except (sqlite3.OperationalError, OSError) as error:
            return HTMLResponse(self.render(request, "delete.html", what=what, back=back, error=str(error)), 503)
        return self.render(
            request, "delete.html", what=what, back=back, date=date, found=found, waiting=waiting, done=done, error=""
        )
