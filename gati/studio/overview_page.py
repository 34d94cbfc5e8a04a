"""The overview: charts and tables of a period."""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING

from gati.store import overview, sum_queries
from gati.studio import charts, formatting
from gati.studio.period import bar_parameters, local
from gati.studio.reader import Render, now, period_of, with_parameters

if TYPE_CHECKING:
    from starlette.requests import Request

    from gati.store.store import Store
    from gati.studio.period import Period

_DAY = 86_400_000_000


class OverviewPage:
    """Renders the overview."""

    def __init__(self, store: Store, render: Render) -> None:
        self.store, self.render = store, render

    def overview(self, request: Request) -> str:
        """Turns, tokens, cost, latency, errors and ratings of a period."""
        chosen = period_of(request, "7d")
        moment = now()
        edges = chosen.edges(sum_queries.earliest(self.store, moment), moment)
        totals = overview.compute_overview(self.store, edges)
        return self.render(
            request, "overview.html", overview=totals, period=chosen, charts=_charts(totals, chosen), c=charts,
            unknown_name=overview.UNKNOWN, evicted=self.store.evicted_conversations(),
            bytes=self.store.size_bytes(), limits=_limits(edges, chosen),
        )  # fmt: skip


def _limits(edges: list[int], chosen: Period) -> dict[str, str]:
    """Return the parameters that choose the same conversations in the list. A rolling period gets its exact times."""
    if chosen.name in ("", "all"):
        return chosen.parameters
    return {"period": chosen.name} if chosen.name != "24h" else bar_parameters(edges[0], edges[-1], chosen.zone)


def _charts(totals: overview.Overview, chosen: Period) -> list[charts.Chart]:
    bars, edges = totals.bars, totals.edges
    labels, ticks, links = _bar_names(edges, chosen), _ticks(edges, chosen), _links(edges, chosen)
    build = functools.partial(charts.build_chart, labels=labels, ticks=ticks, links=links)
    duration = formatting.format_duration_text
    latencies = [[bar.percentile(share) for bar in bars] for share in (0.5, 0.95)]
    tokens = [[bar.tokens_in for bar in bars], [bar.tokens_out for bar in bars]]
    first_tokens = [[bar.first_tokens.percentile(0.5) for bar in bars]]
    compact, dollars, percent = formatting.format_compact, formatting.format_dollars, formatting.format_percent
    found = [
        build("Turns", ["turns"], [[bar.turns for bar in bars]], show=compact),
        build("Cost", ["cost"], [[bar.cost for bar in bars]], show=dollars),
        build("Tokens", ["in", "out"], tokens, show=compact),
        build("Latency of model calls", ["median", "95 %"], latencies, show=duration, lines=True),
        build("Time to the first token", ["median"], first_tokens, show=duration, lines=True),
        build("Failed model calls", ["failed"], [[bar.error_rate for bar in bars]], show=percent),
    ]
    if totals.total.ratings:
        ratings = [[bar.rating for bar in bars]]
        found.append(build("Ratings", ["mean"], ratings, show=formatting.format_rating_text, lines=True, highest=1.0))
    return found


def _bar_names(edges: list[int], chosen: Period) -> list[str]:
    labels = []
    for since, until in itertools.pairwise(edges):
        first, last = local(since, chosen.zone), local(until - 1, chosen.zone)
        if until - since <= _DAY // 2:
            labels.append(f"{first:%Y-%m-%d %H:%M}")
        else:
            labels.append(f"{first:%Y-%m-%d}" + (f" to {last:%Y-%m-%d}" if first.date() != last.date() else ""))
    return labels


def _ticks(edges: list[int], chosen: Period) -> list[tuple[int, str]]:
    count = len(edges) - 1
    hours = edges[min(1, count)] - edges[0] <= _DAY // 2
    form = "%H:%M" if hours else "%d %b" if edges[-1] - edges[0] < 300 * _DAY else "%b %Y"
    every = max(1, count // 6)
    return [
        (i, f"{local(edges[i], chosen.zone):{form}}") for i in range(count) if i % every == every // 2
    ]  # fmt: skip


def _links(edges: list[int], chosen: Period) -> list[str]:
    """Return the address of each bar's own period: a click on a day opens the day."""
    pairs = itertools.pairwise(edges)
    return [with_parameters("/overview", bar_parameters(since, until, chosen.zone)) for since, until in pairs]
