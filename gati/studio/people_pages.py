"""The pages of users: all of them, and one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gati.store import marks, people, queries
from gati.store.filters import Filter
from gati.studio.period import ALL
from gati.studio.reader import Render, period_of, with_parameters

if TYPE_CHECKING:
    from starlette.requests import Request

    from gati.store.store import Store

_PAGE = 100


class PeoplePages:
    """Renders the pages of users."""

    def __init__(self, store: Store, render: Render) -> None:
        self.store, self.render = store, render

    def users(self, request: Request) -> str:
        """The users of a period, with the sums of their conversations."""
        query, chosen = request.query_params, period_of(request, ALL)
        sort = query.get("sort", "")
        sort = sort if sort in people.SORTS else "last seen"
        offset = _parse_offset(query.get("offset"))
        found = people.active_users(
            self.store, query.get("q", ""), chosen.since, chosen.until, sort, limit=_PAGE + 1, offset=offset
        )
        given = {
            key: value for key, value in query.items() if key in ("q", "sort", "period", "since", "until") and value
        }
        more = with_parameters("/users", {**given, "offset": str(offset + _PAGE)}) if len(found) > _PAGE else None
        return self.render(
            request, "users.html", users=found[:_PAGE], period=chosen, query=given, sort=sort, sorts=list(people.SORTS),
            more=more, keep={key: value for key, value in given.items() if key in ("q", "sort")},
        )  # fmt: skip

    def user(self, request: Request) -> str | None:
        """One user; None if unknown."""
        chosen = period_of(request, ALL)
        found = people.find_user(self.store, request.path_params["user"], chosen.since, chosen.until)
        if found is None:
            return None
        conditions = Filter(user=found.summary.id, since=chosen.since, until=chosen.until)
        page = queries.list_conversations(self.store, conditions, limit=20)
        reported = {
            key: value
            for key, value in found.reported.items()
            if key not in ("externalUserId", "name", "properties") and value not in (None, "")
        }
        return self.render(
            request, "user.html", user=found.summary, reported={**reported, **(found.reported.get("properties") or {})},
            page=page, period=chosen, ratings=people.ratings_of_user(self.store, found.summary.id),
            marks=marks.read_marks(self.store, [conversation.id for conversation in page.conversations]),
            all_of_user=with_parameters("/", {"user": found.summary.id, **chosen.parameters}),
        )  # fmt: skip


def _parse_offset(text: str | None) -> int:
    return min(int(text), 10**9) if text and text.isascii() and text.isdecimal() and len(text) < 12 else 0
