"""Rounds → medians with spread → Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.benchmarks.contenders import CONTENDERS
from tests.benchmarks.instructions import PARTS
from tests.benchmarks.workloads import WORKLOADS

Rounds = list[dict[str, dict[str, dict[str, Any]]]]
"""For each round: contender → workload → what `measure` told."""

BURSTS = [name for name in WORKLOADS if name != "sustained"]


class Figure(NamedTuple):
    """The median over the rounds, and half the distance of the quartiles."""

    median: float
    spread: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ±{self.spread:.2f}"


def figure(values: list[float]) -> Figure:
    """Median and spread of the rounds' values."""
    if len(values) < 2:
        return Figure(values[0], 0.0)
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return Figure(middle, (high - low) / 2)


def ratio(rounds: Rounds, contender: str, workload: str, what: str) -> Figure:
    """A time against that of no tracing in the same round."""
    return figure([r[contender][workload][what] / r["none"][workload][what] for r in rounds])


def absolute(rounds: Rounds, contender: str, workload: str, what: str) -> float:
    """Median of a quantity as it was measured."""
    values: list[float] = [r[contender][workload][what] for r in rounds]
    return statistics.median(values)


def lost(rounds: Rounds, contender: str, workload: str) -> float:
    """Share of what should have arrived and did not, over all rounds."""
    expected = sum(r[contender][workload]["expected"] for r in rounds)
    arrived = sum(r[contender][workload]["arrived"] for r in rounds)
    return max(0.0, 1 - arrived / expected) if expected else 0.0


def measured(rounds: Rounds) -> list[str]:
    """The contenders that were measured, in the order of `CONTENDERS`."""
    return [name for name in CONTENDERS if name in rounds[0]]


def markdown(told: dict[str, Any], chart: str) -> str:
    """The page's section: chart, tables, and what was measured where."""
    rounds: Rounds = told["rounds"]
    workloads = [name for name in BURSTS if name in rounds[0]["none"]]
    parts = [
        _setting(told),
        f"![Slow-down of the calling thread against no tracing]({chart})",
        "Slow-down against no tracing: wall time of the calling thread / CPU time of the process until everything is "
        "delivered. Medians of the rounds with half the distance of the quartiles; less is better, 1.00 is free.",
        _table(["", *(WORKLOADS[w].title for w in workloads)], _ratios(rounds, workloads)),
        "What was sent for one turn: requests, uncompressed bytes, and messages, spans or runs.",
        _table(["", *(WORKLOADS[w].title for w in workloads)], _sent(rounds, workloads)),
    ]
    if "sustained" in rounds[0]["none"]:
        head = ["", "median, ms", "p99, ms", "p99 against no tracing", "CPU against no tracing", "lost"]
        parts += [
            "The agent again and again without a pause, so that delivery competes with the program.",
            _table(head, _sustained(rounds)),
        ]
    parts.append(_lengths(rounds))
    if told.get("closer"):
        parts.append(_closer(told["closer"]))
    return "\n\n".join(part for part in parts if part)


def _setting(told: dict[str, Any]) -> str:
    machine = told["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in sorted(told["versions"].items()))
    return (
        f"Measured {told['date']} with Python {machine['python']} on {machine['cpus']} cores of a {machine['cpu']}, "
        f"{machine['system']}; {len(told['rounds'])} rounds. {versions}.{_busy(machine)}"
    )


def _busy(machine: dict[str, Any]) -> str:
    """What a reader must know when others used the machine, too."""
    load = machine.get("load")
    if load is None or load < machine["cpus"] / 2:
        return ""
    return (
        f" **Others kept the machine busy (load {load:.1f} before the first round): wall times are worth little here.**"
    )


def _table(head: list[str], rows: Iterator[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _ratios(rounds: Rounds, workloads: list[str]) -> Iterator[list[str]]:
    for name in measured(rounds):
        if name == "none":
            cells = [f"{absolute(rounds, name, w, 'wall') * 1000:.2f} ms" for w in workloads]
        else:
            cells = [
                f"{ratio(rounds, name, w, 'wall')} / {ratio(rounds, name, w, 'cpu')}{_mark(rounds, name, w)}"
                for w in workloads
            ]
        yield [_title(name), *cells]


def _mark(rounds: Rounds, contender: str, workload: str) -> str:
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
            cells.append(f"{requests:.2f}, {_bytes(size)}, {items:.0f}{_mark(rounds, name, w)}")
        yield [_title(name), *cells]


def _sustained(rounds: Rounds) -> Iterator[list[str]]:
    for name in measured(rounds):
        own = [absolute(rounds, name, "sustained", what) * 1000 for what in ("median", "p99")]
        against = [str(ratio(rounds, name, "sustained", what)) for what in ("p99", "cpu")]
        share = lost(rounds, name, "sustained")
        yield [_title(name), *(f"{value:.2f}" for value in own), *against, f"{share:.0%}" if share else ""]


def _lengths(rounds: Rounds) -> str:
    """What doubling a conversation's length does to its bytes."""
    if "conversation" not in rounds[0]["none"]:
        return ""
    told = []
    for name in measured(rounds):
        growth = rounds[0][name]["conversation"]["growth"]
        if growth:
            told.append(f"{CONTENDERS[name].title} {growth:.1f}{_mark(rounds, name, 'conversation')}")
    return (
        "Bytes of a conversation of 200 turns against one of 100 (2 is linear, 4 is quadratic): "
        + "; ".join(told)
        + "."
    )


def _closer(told: dict[str, Any]) -> str:
    """gati alone."""
    micro = told["micro"]
    ours, least = micro["callbacks"]["gati"], micro["callbacks"]["deque"]
    rows = (
        [f"`{event}`", f"{of['median']:.1f}", f"{of['p99']:.1f}", f"{least[event]['median']:.1f}"]
        for event, of in ours.items()
    )
    drained = {whose: told[f"drain_{whose}"]["messages"] / told[f"drain_{whose}"]["cpu"] for whose in ("one", "own")}
    starts, state, hold, push = micro["model_start"], micro["state_1_mb"], micro["hold_ms"], told["push"]
    facts = [
        f"a model's start with a history of 3 messages {starts['3']:.1f} µs, with 1,000 {starts['1000']:.1f} µs",
        f"a graph's start and end with a state of 1 MB: median {state['median']:.0f} µs, p99 {state['p99']:.0f} µs",
        f"`import gati` {micro['import']['gati_ms']:.1f} ms and `observe` {micro['import']['observe_ms']:.1f} ms in a "
        f"program that has langchain_core; `observe.init` {micro['import']['init_ms']:.0f} ms",
        f"a waiting turn of the agent holds {micro['memory_per_turn'] / 1000:.1f} KB",
        f"another thread got the interpreter {_late(hold['delivering'])} late while turns were delivered in the "
        f"background, {_late(hold['flushing'])} while a flush waited for them, {_late(hold['without'])} in a process "
        "that does nothing",
        f"a spool is drained at {drained['one']:,.0f} messages for each second of CPU where they are of one "
        f"conversation, {drained['own']:,.0f} where each turn is one of its own",
        f"`gati push` of {push['messages']:,} messages in conversations of eleven: {push['wall']:.0f} s, {push['messages'] / push['wall']:,.0f} a "
        f"second; {push['messages'] / push['cpu']:,.0f} for each second of CPU, with the start of the command",
    ]
    switched = (
        [f"{WORKLOADS[name].title}, {whose}", *(str(figure(of[key][what])) for what in ("wall", "cpu"))]
        for name, of in told["switched"].items()
        for key, whose in (("one", "one conversation"), ("own", "each its own"))
    )
    return "\n\n".join(
        (
            "gati switched on and off in one process, burst by burst: pairs that are free of what else differs between "
            "two processes.",
            _table(["", "wall", "CPU"], switched),
            *_instructions(told.get("instructions")),
            "Each callback of the agent in the user's thread, in microseconds; beside it a handler that appends its "
            "arguments to a deque.",
            _table(["", "median", "p99", "deque, median"], rows),
            "\n".join(f"- {fact}" for fact in facts),
        )
    )


def _instructions(told: dict[str, dict[str, int]] | None) -> Iterator[str]:
    """Counts are the same at every run, where times are not."""
    if told is None:
        return
    yield (
        "Instructions of a turn, of all threads in user space, in millions and against no tracing: the work itself, "
        "without what caches, kernel, garbage collector and neighbours make of it."
    )
    rows = (
        [title, *(f"{of[part] / 1e6:.2f}, {of[part] / of['none']:.2f}" for of in told.values())]
        for part, title in PARTS.items()
    )
    yield _table(["", *(WORKLOADS[name].title for name in told)], rows)


def _late(told: dict[str, float]) -> str:
    return f"{told['p999']:.1f} ms (p99.9; worst {told['worst']:.1f} ms)"


def _title(name: str) -> str:
    title = CONTENDERS[name].title
    return f"**{title}**" if name.startswith("gati") else title


def _bytes(size: float) -> str:
    return f"{size / 1000:.1f} KB" if size < 1e6 else f"{size / 1e6:.2f} MB"
