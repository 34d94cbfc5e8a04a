"""The studio's pages, rendered on the server. Those of one conversation and of prompts are here.

Every page has a stable address and works without JavaScript. htmx (vendored) adds live updates. Jinja2 escapes all
message content.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

import jinja2
from starlette.concurrency import run_in_threadpool
from starlette.convertors import IntegerConvertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from gati.store import (
    export,
    message_columns,
    model_input,
    people,
    prompt_queries,
    prompt_records,
    prompt_usage,
    queries,
    text_diff,
)
from gati.store.store import Store
from gati.store.turn_view import arrange_turns, pretty_value
from gati.studio import charts, chat_formatting, formatting, hit, period, reader, sharing
from gati.studio.deletion import DeletionPages, RemoveWaiting
from gati.studio.list_page import ListPage
from gati.studio.marks_pages import MarksPages, panel_values, reader_name
from gati.studio.overview_page import OverviewPage
from gati.studio.people_pages import PeoplePages

_FOLDER = Path(__file__).parent

_HEADERS = {
    # Second line of defence after escaping: no inline scripts, no requests to other sites.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    # With "no-referrer", browsers send `Origin: null` with forms, which `LocalOnly` rejects.
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
}

STATUSES = {
    "completed": ("✓", "good"), "error": ("✕", "bad"), "aborted": ("■", "odd"), "waiting": ("‖", "odd"),
    "resumed": ("↻", "odd"), "unfinished": ("…", "odd"), "running": ("…", "odd"), "handled": ("!", "odd"),
}  # fmt: skip
"""Symbol and CSS class of each status. The symbol makes them distinguishable without colour."""


def page_routes(store: Store, remove_waiting: RemoveWaiting | None = None) -> list[BaseRoute]:
    """Return the routes of all pages."""
    pages = _Pages(store)
    deletion = DeletionPages(store, pages.render, remove_waiting)
    lists, people_pages = ListPage(store, pages.render), PeoplePages(store, pages.render)
    marks_pages = MarksPages(store, pages.render)
    return [
        Route("/", pages.endpoint(lists.conversations)),
        Route("/complete/{name}", pages.endpoint(lists.complete)),
        Route("/filters", pages.endpoint(lists.save), methods=["POST"]),
        Route("/filters/delete", pages.endpoint(lists.delete), methods=["POST"]),
        Route("/conversations/{uid}", pages.endpoint(pages.conversation)),
        Route("/conversations/{uid}/export.{form}", pages.endpoint(pages.export)),
        Route("/conversations/{uid}/marks", pages.endpoint(marks_pages.show)),
        Route("/conversations/{uid}/marks", pages.endpoint(marks_pages.change), methods=["POST"]),
        Route("/messages/{row_id:row}", pages.endpoint(pages.message)),
        Route("/messages/{row_id:row}/input", pages.endpoint(pages.model_input)),
        Route("/calls/{row_id:row}", pages.endpoint(pages.call)),
        Route("/prompts", pages.endpoint(pages.prompts)),
        Route("/prompts/{uid}", pages.endpoint(pages.prompt)),
        Route("/prompts/{uid}/activate", pages.endpoint(pages.activate_version), methods=["POST"]),
        Route("/overview", pages.endpoint(OverviewPage(store, pages.render).overview)),
        Route("/users", pages.endpoint(people_pages.users)),
        Route("/users/{user:path}", pages.endpoint(people_pages.user)),
        Route("/delete/conversation/{uid}", pages.endpoint(deletion.conversation), methods=["GET", "POST"]),
        Route("/delete/user/{user:path}", pages.endpoint(deletion.user), methods=["GET", "POST"]),
        Route("/delete/before", pages.endpoint(deletion.before), methods=["GET", "POST"]),
        Mount("/static", StaticFiles(directory=_FOLDER / "static")),
    ]


class _RowConvertor(IntegerConvertor):
    """Number of a row in an address. Databases do not take larger numbers, so no page has one."""

    regex = "[0-9]{1,18}"


register_url_convertor("row", _RowConvertor())


def not_found_handler(store: Store) -> Callable[[Request, Exception], Response]:
    """Return the handler for addresses that no route has: a page for browsers, JSON below ``/api/``."""
    pages = _Pages(store)

    def handle(request: Request, error: Exception) -> Response:
        if request.url.path.startswith("/api/"):
            return JSONResponse({"success": False, "error": "Not found", "message": "Not found"}, 404)
        return HTMLResponse(pages.render(request, "missing.html"), 404, _HEADERS)

    return handle


def shared_page(store: Store, summary: queries.ConversationSummary, *, with_marks: bool = False) -> str:
    """Return one conversation as a self-contained HTML file. See `sharing.render_shared`."""
    return sharing.render_shared(template_environment(), store, summary, with_marks=with_marks)


@functools.cache
def template_environment() -> jinja2.Environment:
    """Return the Jinja2 environment with the formatting filters. All apps share it, because compiling templates is slow."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER / "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    environment.filters |= {
        "number": formatting.format_number,
        "cost": formatting.format_cost,
        "duration": formatting.format_duration,
        "duration_text": formatting.format_duration_text,
        "compact": formatting.format_compact,
        "share": formatting.format_share,
        "datetime": formatting.format_datetime,
        "clock": formatting.format_clock,
        "folded": formatting.fold_text,
        "pretty": pretty_value,
        "mean_rating": formatting.format_rating,
        "drawn_marks": charts.draw_marks,
        "drawn_rows": charts.draw_rows,
        **chat_formatting.FILTERS,
    }
    environment.globals |= {
        "statuses": STATUSES, "excerpt": formatting.search_excerpt, "unknown": formatting.UNKNOWN, "zip": zip,
        "period_names": period.PRESETS, "address": reader.with_parameters,
        "shared": False,
    }  # fmt: skip
    return environment


class PageNotFoundError(Exception):
    """The requested page does not exist."""


class _Pages:
    def __init__(self, store: Store) -> None:
        self.store, self.templates = store, template_environment()

    def endpoint(self, render: Callable[[Request], Response | str | None]) -> Any:
        """Return an endpoint that renders its page in a thread, so that reading the store does not block others."""

        async def endpoint(request: Request) -> Response:
            try:
                page = await run_in_threadpool(render, request)
            except PageNotFoundError:
                page = None
            if page is None:
                page = HTMLResponse(self.render(request, "missing.html"), 404)
            response = HTMLResponse(page) if isinstance(page, str) else page
            for name, value in _HEADERS.items():
                response.headers.setdefault(name, value)
            return response

        return endpoint

    def render(self, request: Request, template: str, **values: Any) -> str:
        """Render a page."""
        return self.templates.get_template(template).render(
            here=request.url.path, carried=reader.carried_period(request.query_params), store_name=self.store.name,
            **values,
        )  # fmt: skip

    def conversation(self, request: Request) -> Response | str:
        """One conversation with its turns and steps."""
        summary = self._find_conversation(request)
        query = request.query_params
        if query.get("seen") == str(summary.last_message):
            return Response(status_code=204)
        before = _parse_cursor(query.get("before")) or hit.end_of_hits_page(self.store, summary.id, query)
        messages, earlier = queries.conversation_messages(self.store, summary.id, before)
        address = f"/conversations/{summary.uid}"
        turns = arrange_turns(messages)
        panel = panel_values(self.store, summary.id, reader_name(request))
        versions = {message.version for message in messages if message.version is not None}
        return self.render(
            request,
            "conversation.html",
            summary=summary,
            properties=json.loads(summary.properties) if summary.properties else {},
            turns=turns,
            timed=any(message.has_time for message in messages),
            hit=hit.locate(turns, query),
            user_name=people.user_names(self.store, {summary.user}).get(summary.user),
            prompts=prompt_queries.prompt_names(self.store, versions),
            address=address,
            actions=queries.ratings_and_events(self.store, summary.id),
            raters={mark.action: mark.author for mark in panel["marks"].ratings},
            **panel,
            last=before is None,
            live=f"{address}?seen={summary.last_message}",
            earlier="{}?before={}.{}".format(address, *earlier) if earlier else None,
        )

    def _find_conversation(self, request: Request) -> queries.ConversationSummary:
        summary = queries.find_conversation(self.store, request.path_params["uid"])
        if summary is None:
            raise PageNotFoundError
        return summary

    def export(self, request: Request) -> Response:
        """One conversation as a file."""
        summary = self._find_conversation(request)
        form = request.path_params["form"]
        if form == "md":
            return PlainTextResponse(export.export_markdown(self.store, summary), media_type="text/markdown")
        if form == "jsonl":
            return PlainTextResponse(export.export_jsonl(self.store, summary), media_type="application/jsonl")
        if form == "html":
            with_marks = request.query_params.get("marks") == "yes"
            page = sharing.render_shared(self.templates, self.store, summary, with_marks=with_marks)
            return HTMLResponse(page, headers=sharing.download_headers(summary))
        raise PageNotFoundError

    def message(self, request: Request) -> str:
        """One message as received."""
        found = queries.find_message(self.store, request.path_params["row_id"])
        if found is None:
            raise PageNotFoundError
        message, summary = found
        try:
            body = json.dumps(message.body, ensure_ascii=False, indent=2)
        except RecursionError:
            # Without `indent`, the encoder is implemented in C and supports deeper nesting.
            body = message_columns.compact_json(message.body)
        return self.render(request, "message.html", message=message, summary=summary, body=body)

    def call(self, request: Request) -> str:
        """The system prompt of one request. For htmx, without the surrounding page."""
        prompt = prompt_queries.prompt_of_call(self.store, request.path_params["row_id"])
        if prompt is None:
            raise PageNotFoundError
        changes = text_diff.diff_texts(prompt.previous.text, prompt.version.text) if prompt.previous else []
        fragment = "hx-request" in request.headers
        return self.render(request, "call.html", call=prompt, changes=changes, part=fragment)

    def model_input(self, request: Request) -> str:
        """Input and output of a model call. For htmx, without the surrounding page."""
        sent = model_input.input_of_call(self.store, request.path_params["row_id"])
        if sent is None:
            raise PageNotFoundError
        parameters, tools = sent.properties.get("parameters"), sent.properties.get("tools")
        return self.render(
            request, "input.html", sent=sent, part="hx-request" in request.headers,
            parameters=parameters if isinstance(parameters, dict) else {}, tools=tools if isinstance(tools, list) else [],
        )  # fmt: skip

    def prompts(self, request: Request) -> str:
        """The list of prompts."""
        chosen = reader.period_of(request, period.ALL)
        prompts = prompt_queries.list_prompts(self.store, since=chosen.since, until=chosen.until)
        states = prompt_usage.managed_states(self.store)
        return self.render(request, "prompts.html", prompts=prompts, states=states, period=chosen)

    def prompt(self, request: Request) -> str:
        """One prompt: its versions, the text of one, and the changes against another."""
        found = prompt_queries.find_prompt(self.store, request.path_params["uid"])
        if found is None:
            raise PageNotFoundError
        prompt, versions = found
        number = request.query_params.get("version", str(versions[0].number))
        against = request.query_params.get("against")
        version = next((v for v in versions if str(v.number) == number), versions[0])
        older = [v for v in versions if v.number < version.number]
        previous = next((v for v in versions if str(v.number) == against), older[0] if older else None)
        return self.render(
            request,
            "prompt.html",
            prompt=prompt,
            versions=versions,
            version=version,
            previous=previous,
            components=list(prompt_queries.prompt_components(json.loads(version.body))),
            changes=text_diff.diff_texts(previous.text, version.text) if previous else [],
            usage=prompt_usage.version_usage(self.store, prompt.uid),
        )

    def activate_version(self, request: Request) -> Response:
        """Activate a version, and return to the page of its prompt. Only this form activates versions."""
        fields = parse_qs(request.scope["gati.body"].decode("utf-8", "replace"))
        if not prompt_records.activate_version(self.store, fields.get("version", [""])[0]):
            raise PageNotFoundError
        number = urlencode({"version": fields.get("number", [""])[0]})
        return RedirectResponse(f"/prompts/{quote(request.path_params['uid'])}?{number}", 303)


def _parse_cursor(text: str | None) -> tuple[int, int] | None:
    """Parse a position in a conversation: ``"1763600000000000.7"`` → ``(1763600000000000, 7)``; None if invalid."""
    at, _, row_id = (text or "").partition(".")
    try:
        position = int(at), int(row_id)
    except ValueError:
        return None
    return position if max(map(abs, position)) < 2**62 else None
