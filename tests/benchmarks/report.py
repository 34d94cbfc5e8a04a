"""Turn the measured rounds into Markdown: medians with spread."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.benchmarks.contenders import CONTENDERS
from tests.benchmarks.instructions import PARTS
from tests.benchmarks.workloads import WORKLOADS

Rounds = list[dict[str, dict[str, dict[str, Any]]]]
"""For each round: contender → workload → result of `measure`."""

BURSTS = [name for name in WORKLOADS if name != "sustained"]


class Figure(NamedTuple):
    """The median of the rounds and half the interquartile range."""

    median: float
    spread: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ±{self.spread:.2f}"


def figure(values: list[float]) -> Figure:
    """Return median and spread of the values of all rounds."""
    if len(values) < 2:
        return Figure(values[0], 0.0)
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return Figure(middle, (high - low) / 2)


def ratio(rounds: Rounds, contender: str, workload: str, what: str) -> Figure:
    """Return a time divided by the time without tracing in the same round."""
    return figure([r[contender][workload][what] / r["none"][workload][what] for r in rounds])


def absolute(rounds: Rounds, contender: str, workload: str, what: str) -> float:
    """Return the median of a measured quantity."""
    values: list[float] = [r[contender][workload][what] for r in rounds]
    return statistics.median(values)


def lost(rounds: Rounds, contender: str, workload: str) -> float:
    """Return the fraction of expected items that did not arrive, over all rounds."""
    expected = sum(r[contender][workload]["expected"] for r in rounds)
    arrived = sum(r[contender][workload]["arrived"] for r in rounds)
    return max(0.0, 1 - arrived / expected) if expected else 0.0


def measured(rounds: Rounds) -> list[str]:
    """Return the measured contenders in the order of `CONTENDERS`."""
    return [name for name in CONTENDERS if name in rounds[0]]


def markdown(results: dict[str, Any], chart: str) -> str:
    """Return the generated section of the page: setup, chart and tables."""
    rounds: Rounds = results["rounds"]
    workloads = [name for name in BURSTS if name in rounds[0]["none"]]
    parts = [
        _setting(results),
        f"![Slow-down of the calling thread relative to no tracing]({chart})",
        "Slow-down relative to no tracing: wall time of the calling thread / CPU time of the process until everything "
        "is delivered. Median of the rounds ± half the interquartile range. Lower is better; 1.00 means no overhead.",
        _table(["", *(WORKLOADS[w].title for w in workloads)], _ratios(rounds, workloads)),
        "Sent per turn: requests, uncompressed bytes, and messages, spans or runs.",
        _table(["", *(WORKLOADS[w].title for w in workloads)], _sent(rounds, workloads)),
    ]
    if "sustained" in rounds[0]["none"]:
        head = [
            "", "median, ms", "p99, ms", "p99.9, ms", "p99 relative to no tracing", "p99.9 relative to no tracing",
            "CPU relative to no tracing", "garbage collections (full ones)", "lost",
        ]  # fmt: skip
        parts += [
            "Sustained load: the agent runs without pauses, so that delivery competes with the program. Garbage "
            "collections are those of 1,000 turns.",
            _table(head, _sustained(rounds)),
        ]
    parts.append(_conversation_growth(rounds))
    if results.get("closer"):
        parts.append(_gati_alone(results["closer"]))
    return "\n\n".join(part for part in parts if part)


def _setting(results: dict[str, Any]) -> str:
    machine = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in sorted(results["versions"].items()))
    return (
        f"Measured on {results['date']} with Python {machine['python']} on {machine['cpus']} cores ({machine['cpu']}), "
        f"{machine['system']}; {len(results['rounds'])} rounds. {versions}.{_load_warning(machine)}"
    )


def _load_warning(machine: dict[str, Any]) -> str:
    """Return a warning if other processes used the machine; otherwise an empty string."""
    load = machine.get("load")
    if load is None or load < machine["cpus"] / 2:
        return ""
    return f" **The machine was busy (load {load:.1f} before the first round), so wall times are unreliable.**"


def _table(head: list[str], rows: Iterator[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _ratios(rounds: Rounds, workloads: list[str]) -> Iterator[list[str]]:
    for name in measured(rounds):
        if name == "none":
            cells = [f"{absolute(rounds, name, w, 'wall') * 1000:.2f} ms" for w in workloads]
        else:
            cells = [
                f"{ratio(rounds, name, w, 'wall')} / {ratio(rounds, name, w, 'cpu')}{_loss_mark(rounds, name, w)}"
                for w in workloads
            ]
        yield [_title(name), *cells]


def _loss_mark(rounds: Rounds, contender: str, workload: str) -> str:
    share = lost(rounds, contender, workload)
    return f" **loses {max(share, 0.01):.0%}**" if share else ""


def _sent(rounds: Rounds, workloads: list[str]) -> Iterator[list[str]]:
    for name in measured(rounds):
        if name in ("none", "no-op"):
            continue
        cells = []
        for w in workloads:
            turns = rounds[0][name][w]["turns"]
            requests = absolute(rounds, name, w, "requests") / turns
            size = absolute(rounds, name, w, "bytes_per_turn")
            items = absolute(rounds, name, w, "items_per_turn")
            cells.append(f"{requests:.2f}, {_bytes(size)}, {items:.0f}{_loss_mark(rounds, name, w)}")
        yield [_title(name), *cells]


def _sustained(rounds: Rounds) -> Iterator[list[str]]:
    for name in measured(rounds):
        own = [absolute(rounds, name, "sustained", what) * 1000 for what in ("median", "p99", "p999")]
        against = [str(ratio(rounds, name, "sustained", what)) for what in ("p99", "p999", "cpu")]
        thousands = absolute(rounds, name, "sustained", "turns") / 1000
        runs, full = (absolute(rounds, name, "sustained", what) for what in ("collections", "full_collections"))
        share = lost(rounds, name, "sustained")
        yield [
            _title(name),
            *(f"{value:.2f}" for value in own),
            *against,
            f"{runs / thousands:.0f} ({full / thousands:.1f})",
            f"{share:.0%}" if share else "",
        ]


def _conversation_growth(rounds: Rounds) -> str:
    """Return how the bytes sent grow when a conversation is twice as long."""
    if "conversation" not in rounds[0]["none"]:
        return ""
    results = []
    for name in measured(rounds):
        growth = rounds[0][name]["conversation"]["growth"]
        if growth:
            results.append(f"{CONTENDERS[name].title} {growth:.1f}{_loss_mark(rounds, name, 'conversation')}")
    return (
        "Bytes of a conversation of 200 turns relative to one of 100 turns (2: linear, 4: quadratic): "
        + "; ".join(results)
        + "."
    )


def _gati_alone(results: dict[str, Any]) -> str:
    """Return the section about gati alone."""
    micro = results["micro"]
    ours, least = micro["callbacks"]["gati"], micro["callbacks"]["deque"]
    rows = (
        [f"`{event}`", f"{of['median']:.1f}", f"{of['p99']:.1f}", f"{least[event]['median']:.1f}"]
        for event, of in ours.items()
    )
    drained = {
        conversations: results[f"drain_{conversations}"]["messages"] / results[f"drain_{conversations}"]["cpu"]
        for conversations in ("one", "own")
    }
    starts, state, hold, push = micro["model_start"], micro["state_1_mb"], micro["hold_ms"], results["push"]
    facts = [
        f"Start of a model call: {starts['3']:.1f} µs with a history of 3 messages, {starts['1000']:.1f} µs with 1,000.",
        f"Start or end of a graph with 1 MB of state: median {state['median']:.0f} µs, p99 {state['p99']:.0f} µs.",
        f"In a program that has imported langchain_core, `import gati` takes {micro['import']['gati_ms']:.1f} ms, "
        f"`from gati import observe` {micro['import']['observe_ms']:.1f} ms, and `observe.init` "
        f"{micro['import']['init_ms']:.0f} ms.",
        f"A buffered turn of the agent takes {micro['memory_per_turn'] / 1000:.1f} KB of memory.",
        f"Delay until another thread gets the interpreter: {_latency(hold['delivering'])} while turns are delivered in "
        f"the background, {_latency(hold['flushing'])} while a flush waits for delivery, "
        f"{_latency(hold['without'])} in an idle process.",
        f"Draining a spool: {drained['one']:,.0f} messages per second of CPU time if they belong to one conversation, "
        f"{drained['own']:,.0f} if each turn is a separate conversation.",
        f"`gati push` of {push['messages']:,} messages in conversations of 11: {push['wall']:.0f} s, "
        f"{push['messages'] / push['wall']:,.0f} per second, {push['messages'] / push['cpu']:,.0f} per second of CPU "
        "time, including the start of the command.",
    ]
    switched = (
        [f"{WORKLOADS[name].title}, {conversations}", *(str(figure(of[key][what])) for what in ("wall", "cpu"))]
        for name, of in results["switched"].items()
        for key, conversations in (("one", "one conversation"), ("own", "separate conversations"))
        if key in of
    )
    return "\n\n".join(
        (
            "gati switched on and off in one process, burst by burst, which excludes differences between processes. "
            "Ratios of the pairs:",
            _table(["", "wall", "CPU"], switched),
            *_instructions(results.get("instructions")),
            "Time per callback of the agent in the user's thread, in microseconds, compared with a handler that only "
            "appends its arguments to a deque.",
            _table(["", "median", "p99", "deque, median"], rows),
            "\n".join(f"- {fact}" for fact in facts),
        )
    )


def _instructions(results: dict[str, dict[str, int]] | None) -> Iterator[str]:
    """Return the table of instruction counts, if they were measured."""
    if results is None:
        return
    yield (
        "Instructions per turn, in millions and relative to no tracing: all threads in user space, without kernel and "
        "garbage collector."
    )
    rows = (
        [title, *(f"{of[part] / 1e6:.2f}, {of[part] / of['none']:.2f}" for of in results.values())]
        for part, title in PARTS.items()
    )
    yield _table(["", *(WORKLOADS[name].title for name in results)], rows)


def _latency(results: dict[str, float]) -> str:
    return f"{results['p999']:.1f} ms (p99.9; worst {results['worst']:.1f} ms)"


def _title(name: str) -> str:
    title = CONTENDERS[name].title
    return f"**{title}**" if name.startswith("gati") else title


def _bytes(size: float) -> str:
    return f"{size / 1000:.1f} KB" if size < 1e6 else f"{size / 1e6:.2f} MB"
