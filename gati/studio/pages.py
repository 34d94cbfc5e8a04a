"""The studio's pages: conversations, one conversation, prompts, an overview. Made on the server.

Every page has a stable address and works without scripts; htmx (vendored) makes them live.
Jinja2 escapes whatever stands in a message.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jinja2
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from gati.studio import charts, columns, export, lineages, overview, reading, shown, turns
from gati.studio.reading import Filter
from gati.studio.store import Store

_HERE = Path(__file__).parent
_DAY = 86_400_000_000

_HEADERS = {
    # A stored script cannot run even if an escape were forgotten; nothing is asked of another site.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}

STATUSES = {
    "completed": ("✓", "good"), "error": ("✕", "bad"), "aborted": ("■", "odd"), "waiting": ("‖", "odd"),
    "resumed": ("↻", "odd"), "unfinished": ("…", "odd"), "running": ("…", "odd"), "handled": ("!", "odd"),
}  # fmt: skip
"""How each status is drawn: a sign, so that colour is not all that tells them apart, and a class."""


def routes(store: Store) -> list[BaseRoute]:
    """The pages' routes."""
    pages = _Pages(store)
    return [
        Route("/", pages.page(pages.conversations)),
        Route("/conversations/{uid}", pages.page(pages.conversation)),
        Route("/conversations/{uid}/export.{form}", pages.page(pages.export)),
        Route("/messages/{number:int}", pages.page(pages.message)),
        Route("/calls/{number:int}", pages.page(pages.call)),
        Route("/prompts", pages.page(pages.prompts)),
        Route("/prompts/{uid}", pages.page(pages.prompt)),
        Route("/overview", pages.page(pages.overview)),
        Mount("/static", StaticFiles(directory=_HERE / "static")),
    ]


def environment() -> jinja2.Environment:
    """The templates, with the functions that write values."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    made.filters |= {
        name: getattr(shown, name)
        for name in ("number", "cost", "duration", "share", "when", "clock", "folded", "span", "short")
    }
    made.filters["pretty"] = turns.pretty
    made.globals |= {"statuses": STATUSES, "excerpt": shown.excerpt, "unknown": shown.UNKNOWN, "zip": zip}
    return made


class NotFound(Exception):  # noqa: N818  # it is an answer
    """There is no such page."""


class _Pages:
    def __init__(self, store: Store) -> None:
        self.store, self.templates = store, environment()

    def page(self, make: Callable[[Request], Response | str]) -> Any:
        """An endpoint that makes its page in a thread, where reading the store does not hold others up."""

        async def endpoint(request: Request) -> Response:
            try:
                made = await run_in_threadpool(make, request)
            except NotFound:
                made = self._error(request)
            response = HTMLResponse(made) if isinstance(made, str) else made
            response.headers.update(_HEADERS)
            return response

        return endpoint

    def _render(self, request: Request, name: str, **values: Any) -> str:
        here = request.url.path
        return self.templates.get_template(name).render(here=here, **values)

    def _error(self, request: Request) -> Response:
        return HTMLResponse(self._render(request, "missing.html"), 404)

    def conversations(self, request: Request) -> Response | str:
        """The list, with search and filters."""
        query = request.query_params
        clock = reading.clock(self.store)
        if query.get("seen") == str(clock):
            return Response(status_code=204)
        wanted = _filter(query)
        page = reading.conversations(self.store, wanted, _cursor(query.get("after")))
        kept = {key: value for key, value in query.items() if key not in ("seen", "after") and value}
        return self._render(
            request,
            "conversations.html",
            page=page,
            query=kept,
            choices=reading.choices(self.store),
            searchable=self.store.has_search,
            clock=clock,
            live="/?" + urlencode({**kept, "seen": clock}),
            first="after" not in query,
            more="/?" + urlencode({**kept, "after": "{}.{}".format(*page.more)}) if page.more else None,
        )

    def conversation(self, request: Request) -> Response | str:
        """One conversation: what was said, and what was done."""
        summary = self._summary(request)
        query = request.query_params
        if query.get("seen") == str(summary.last_message):
            return Response(status_code=204)
        stored, earlier = reading.conversation(self.store, summary.id, _cursor(query.get("before")))
        address = f"/conversations/{summary.uid}"
        return self._render(
            request,
            "conversation.html",
            summary=summary,
            properties=json.loads(summary.properties) if summary.properties else {},
            turns=turns.turns(stored),
            prompts=lineages.names(self.store, {m.version for m in stored if m.version is not None}),
            address=address,
            told=reading.told(self.store, summary.id),
            last="before" not in query,
            live=f"{address}?seen={summary.last_message}",
            earlier="{}?before={}.{}".format(address, *earlier) if earlier else None,
        )

    def _summary(self, request: Request) -> reading.Summary:
        summary = reading.summary(self.store, request.path_params["uid"])
        if summary is None:
            raise NotFound
        return summary

    def export(self, request: Request) -> Response:
        """One conversation as a file."""
        summary = self._summary(request)
        form = request.path_params["form"]
        if form == "md":
            return PlainTextResponse(export.markdown(self.store, summary), media_type="text/markdown")
        if form == "jsonl":
            return PlainTextResponse(export.line(self.store, summary), media_type="application/jsonl")
        raise NotFound

    def message(self, request: Request) -> str:
        """One message whole, as it came."""
        found = reading.message(self.store, request.path_params["number"])
        if found is None:
            raise NotFound
        message, summary = found
        try:
            body = json.dumps(message.body, ensure_ascii=False, indent=2)
        except RecursionError:
            body = columns.compact(message.body)  # written in C, which goes deeper
        return self._render(request, "message.html", message=message, summary=summary, body=body)

    def call(self, request: Request) -> str:
        """The system prompt of one request; for htmx without the page around it."""
        filled = lineages.of_call(self.store, request.path_params["number"])
        if filled is None:
            raise NotFound
        changes = lineages.compare(filled.before.text, filled.version.text) if filled.before else []
        part = "hx-request" in request.headers
        return self._render(request, "call.html", filled=filled, changes=changes, part=part)

    def prompts(self, request: Request) -> str:
        """All prompts."""
        return self._render(request, "prompts.html", lineages=lineages.lineages(self.store))

    def prompt(self, request: Request) -> str:
        """One prompt: its versions, a version's text, and what changed."""
        found = lineages.lineage(self.store, request.path_params["uid"])
        if found is None:
            raise NotFound
        lineage, versions = found
        number = request.query_params.get("version", str(versions[0].number))
        against = request.query_params.get("against")
        version = next((v for v in versions if str(v.number) == number), versions[0])
        older = [v for v in versions if v.number < version.number]
        before = next((v for v in versions if str(v.number) == against), older[0] if older else None)
        return self._render(
            request,
            "prompt.html",
            lineage=lineage,
            versions=versions,
            version=version,
            before=before,
            parts=list(lineages.parts(json.loads(version.body))),
            changes=lineages.compare(before.text, version.text) if before else [],
        )

    def overview(self, request: Request) -> str:
        """Volume, tokens, cost, latency and errors of a period."""
        period = request.query_params.get("period", "7d")
        period = period if period in overview.PERIODS else "7d"
        found = overview.overview(self.store, period, time.time_ns() // 1000)
        return self._render(
            request, "overview.html", found=found, period=period, periods=list(overview.PERIODS), charts=_charts(found),
            c=charts, unknown_name=overview.UNKNOWN, dropped=self.store.dropped(), bytes=self.store.path.stat().st_size,
        )  # fmt: skip


def _filter(query: Any) -> Filter:
    until = _day(query.get("until"))
    return Filter(
        words=query.get("q", ""),
        **{name: query.get(name) or None for name in ("user", "agent", "model", "status", "product")},
        since=_day(query.get("since")),
        until=None if until is None else until + _DAY,
    )


def _day(text: str | None) -> int | None:
    """The beginning of a day in this machine's time zone, in microseconds."""
    try:
        day = datetime.strptime(text or "", "%Y-%m-%d")  # noqa: DTZ007  # the zone is added by astimezone
        return int(day.astimezone().timestamp() * 1e6)
    except (ValueError, OverflowError, OSError):
        return None


def _cursor(text: str | None) -> tuple[int, int] | None:
    """A place in a list, from its address; one that makes no sense is the beginning."""
    at, _, number = (text or "").partition(".")
    try:
        place = int(at), int(number)
    except ValueError:
        return None
    return place if max(map(abs, place)) < 2**62 else None


def _charts(found: overview.Overview) -> list[charts.Chart]:
    form = "%H:%M" if found.bar < _DAY // 4 else "%d %b"
    times = [shown.moment(found.since + i * found.bar) for i in range(len(found.bars))]
    labels = [f"{moment:%Y-%m-%d %H:%M}" if found.bar < _DAY else f"{moment:%Y-%m-%d}" for moment in times]
    every = max(1, len(times) // 6)
    marks = [(i, f"{moment:{form}}") for i, moment in enumerate(times) if i % every == every // 2]
    bars = found.bars
    return [
        charts.chart("Turns", ["turns"], [[b.turns for b in bars]], labels, shown.short, ticks=marks),
        charts.chart("Cost", ["cost"], [[b.cost for b in bars]], labels, shown.dollars, ticks=marks),
        charts.chart(
            "Tokens", ["in", "out"], [[b.tokens_in for b in bars], [b.tokens_out for b in bars]], labels, shown.short, ticks=marks
        ),
        charts.chart(
            "Latency of model calls", ["median", "95 %"], [[b.percentile(0.5) for b in bars], [b.percentile(0.95) for b in bars]],
            labels, shown.span, lines=True, ticks=marks,
        ),
        charts.chart(
            "Time to the first token", ["median"], [[b.median_first_token for b in bars]], labels, shown.span, lines=True, ticks=marks,
        ),
        charts.chart("Model calls that failed", ["failed"], [[b.error_rate for b in bars]], labels, shown.percent, ticks=marks),
    ]  # fmt: skip
