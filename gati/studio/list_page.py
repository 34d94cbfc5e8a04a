"""The list of conversations: search, filters that complete while typing, order, period, and saved filters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qs, urlencode

from markupsafe import escape
from starlette.responses import HTMLResponse, RedirectResponse, Response

from gati.store import choices, marks, people, queries, saved_filters
from gati.store.filters import NO, YES, Filter, parse_range
from gati.studio import period
from gati.studio.reader import Render, form_of, period_of, with_parameters

if TYPE_CHECKING:
    from starlette.requests import Request

    from gati.store.store import Store
    from gati.studio.period import Period


class FilterField(NamedTuple):
    """A filter of the form. `options`: value → text of a choice; empty for a field that is typed."""

    name: str
    title: str
    hint: str = ""
    options: Mapping[str, str] = {}


FIELDS = (
    FilterField("user", "User", "id or name"),
    FilterField("agent", "Agent"),
    FilterField("model", "Model"),
    FilterField("status", "Status"),
    FilterField("errors", "Errors", options={YES: "with errors", NO: "without errors"}),
    FilterField("rating", "Rating", options={"bad": "bad", "good": "good", YES: "rated", NO: "not rated"}),
    FilterField(
        "mark", "Marked", options={"good": "as good", "bad": "as bad", YES: "as good or bad", NO: "not marked"}
    ),
    FilterField("tag", "Tag"),
    FilterField("tool", "Tool"),
    FilterField("version", "Prompt version", "name v2"),
    FilterField("organization", "Organization"),
    FilterField("cost", "Cost in $", "0.05, <1 or 1-2"),
    FilterField("latency", "Slowest turn in s", "5, <1 or 5-10"),
    FilterField("note", "Note", options={YES: "with a note", NO: "without a note"}),
)
FIRST_FIELDS = 4
"""Fields that are always visible."""

SORTS = {
    "newest": "Newest first", "oldest": "Oldest first", "cost": "Highest cost", "slowest": "Slowest turn",
    "errors": "Most errors", "rating": "Worst rating",
}  # fmt: skip

_PARAMETERS = {"q", "sort", "product", *(field.name for field in FIELDS), *period.KEYS}
"""Parameters of the list that are kept in its addresses."""


class ListPage:
    """Renders the list and answers what belongs to it."""

    def __init__(self, store: Store, render: Render) -> None:
        self.store, self.render = store, render

    def conversations(self, request: Request) -> Response | str:
        """The list of conversations."""
        state = {"seen": str(queries.last_message_id(self.store)), "marked": str(marks.change_count(self.store))}
        given = request.query_params
        if given.get("seen") == state["seen"] and given.get("marked", state["marked"]) == state["marked"]:
            return Response(status_code=204)
        query = {key: value for key, value in request.query_params.items() if key in _PARAMETERS and value}
        chosen, after = period_of(request, period.ALL), request.query_params.get("after")
        page = queries.list_conversations(
            self.store, _filter_of(query, chosen), _parse_position(after), sort=query.get("sort")
        )
        made = marks.read_marks(self.store, [conversation.id for conversation in page.conversations])
        names = people.user_names(self.store, {conversation.user for conversation in page.conversations})
        return self.render(
            request, "conversations.html", page=page, query=query, fields=FIELDS, sorts=SORTS, first_fields=FIRST_FIELDS,
            choices={field.name: self._choices(field.name, "") for field in FIELDS if field.name in choices.FIELDS},
            searchable=self.store.has_search, period=chosen, names=names, marks=made, saved=saved_filters.saved_filters(self.store),
            saved_query=urlencode(sorted(query.items())), first=after is None,
            live=with_parameters("/", {**query, **state}),
            chosen_filters=_chosen_filters(query), keep={k: v for k, v in query.items() if k not in period.KEYS},
            more=with_parameters("/", {**query, "after": "{}~{}".format(*page.more)}) if page.more else None,
        )  # fmt: skip

    def _choices(self, name: str, typed: str) -> list[choices.Choice]:
        return choices.complete(self.store, name, typed)

    def complete(self, request: Request) -> Response:
        """Options that complete a filter, as HTML."""
        name = request.path_params["name"]
        if name not in choices.FIELDS:
            return HTMLResponse("", 404)
        found = self._choices(name, request.query_params.get("typed", "")[:200])
        return HTMLResponse(
            "".join(f'<option value="{escape(value)}">{escape(text)}</option>' for value, text in found)
        )

    def save(self, request: Request) -> Response:
        """Save the filters of an address by name, and return to them."""
        form = form_of(request)
        query = {key: values[-1] for key, values in parse_qs(form.get("query", "")).items() if key in _PARAMETERS}
        saved_filters.save_filter(self.store, form.get("name", ""), urlencode(sorted(query.items())))
        return RedirectResponse(with_parameters("/", query), 303)

    def delete(self, request: Request) -> Response:
        """Delete saved filters."""
        saved_filters.delete_filter(self.store, form_of(request).get("name", ""))
        return RedirectResponse("/", 303)


class ChosenFilter(NamedTuple):
    """A filter in use, and the address without it."""

    title: str
    value: str
    without: str


def _chosen_filters(query: Mapping[str, str]) -> list[ChosenFilter]:
    fields = {
        "q": FilterField("q", "Search"),
        **{field.name: field for field in FIELDS},
        "product": FilterField("product", "Product"),
    }
    return [
        ChosenFilter(
            field.title, field.options.get(query[name], query[name])[:80],
            with_parameters("/", {key: value for key, value in query.items() if key != name}),
        )
        for name, field in fields.items() if name in query
    ]  # fmt: skip


def _filter_of(query: Mapping[str, str], chosen: Period) -> Filter:
    typed = {
        field.name: query.get(field.name) for field in FIELDS if field.name not in ("cost", "latency")
    }  # fmt: skip
    return Filter(
        words=query.get("q", ""), cost=parse_range(query.get("cost")), latency=parse_range(query.get("latency"), 1000),
        product=query.get("product"), since=chosen.since, until=chosen.until, **typed,
    )  # fmt: skip


def _parse_position(text: str | None) -> tuple[float, int] | None:
    """Parse a position in a list: ``"0.25~7"`` → ``(0.25, 7)``; None if invalid."""
    value, _, row_id = (text or "").partition("~")
    try:
        number = float(value) if "." in value or "e" in value else int(value)
        position = number, int(row_id)
    except ValueError:
        return None
    return position if all(abs(part) < 2**62 for part in position) else None
