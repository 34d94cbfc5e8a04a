"""Runs real programs untraced and traced, and compares what they did and what was delivered.

A program is a function, sync or async, of a config to pass on. It is run

- untraced: gati is off;
- injected: gati is on, the config is empty;
- explicit: nothing is injected, the config holds ``callbacks=observe.get_callbacks()``.

Its outcome must be the same each time, and the strict local server, reached over real HTTP by
the real SDK and the whole pipeline, must hold exactly the golden messages (see `golden`).
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
import textwrap
import traceback
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest

from gati import observe
from gati._api.runtime import runtime
from gati.langchain.current import current
from gati.pipeline import internal_errors
from tests.scenarios.golden import UUID, tree
from tests.servers import LocalServer

Config = dict[str, Any]
Program = Callable[[Config], Any]

_ADDRESS = re.compile(r"0x[0-9a-f]{6,}")


@dataclass
class Seen:
    """One traced run of a program: what it did, and what the server holds of it."""

    outcome: str
    messages: list[dict[str, Any]] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    stats: observe.Stats = field(default_factory=observe.Stats)

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The messages of one type."""
        return [message for message in self.messages if message["messageType"] == kind]

    def transcript(self) -> list[tuple[str, str]]:
        """Return what the user wrote and read: (role, text)."""
        kinds = {"user_message": "user", "assistant_message": "assistant", "final_response": "assistant"}
        return [(kinds[m["messageType"]], m["content"]) for m in self.messages if m["messageType"] in kinds]


class Watch:
    """Checks programs against goldens; one server serves them all, each run has a product of its own."""

    def __init__(self, server: LocalServer) -> None:
        self.server = server

    def __call__(
        self,
        golden: str,
        *programs: Program,
        explicit: str | bool = True,
        unordered: bool = False,
        unfinished: bool = False,
        compare: bool = True,
        **options: Any,
    ) -> Seen:
        """Run each program in each way; returns what was seen of the last injected run.

        Args:
            golden: the messages that must arrive.
            programs: each must deliver the same messages, as `invoke` and `ainvoke` of one chain do.
            explicit: the messages of the explicit run where LangChain makes them differ; False: there is none.
            unordered: what happened side by side may stand in any order.
            unfinished: a root never ends, so that its turn is told when gati shuts down.
            compare: the outcome is the same each time.
            options: of `observe.init`.
        """
        assert programs
        for program in programs:
            plain = run(program, {}) if compare else ""
            seen = self.trace(program, auto_inject=True, unfinished=unfinished, **options)
            self._compare("injected", plain if compare else seen.outcome, seen, golden, unordered)
            if explicit is not False:
                handed = self.trace(program, auto_inject=False, unfinished=unfinished, **options)
                expected = explicit if isinstance(explicit, str) else golden
                self._compare("explicit", plain if compare else handed.outcome, handed, expected, unordered)
        return seen

    def trace(self, program: Program, *, auto_inject: bool = True, unfinished: bool = False, **options: Any) -> Seen:
        """Run a program with gati on; whatever must hold of every run is asserted."""
        product = str(uuid.uuid4())
        before = len(self.server.requests)
        internal_errors.reset()
        lines: list[str]
        with _logged() as lines:
            observe.init(
                api_key=self.server.api_key, base_url=self.server.url, product_id=product, auto_inject=auto_inject,
                flush_interval=0.005, **{"agent_name": "agent", **options},
            )  # fmt: skip
            pipeline, recorder = runtime.pipeline, current.recorder
            assert pipeline is not None
            assert recorder is not None
            outcome = run(program, {} if auto_inject else {"callbacks": observe.get_callbacks()})
            flushed = observe.flush(timeout=20.0)
            observe.shutdown(timeout=20.0)
        assert lines == []
        assert not flushed.timed_out
        assert bool(flushed.turns_open) == unfinished
        stats = pipeline.stats()
        _assert_all_delivered(stats)
        assembler: Any = pipeline._worker.assembler
        assembler = getattr(assembler, "_assembler", assembler)  # None where there was nothing to assemble
        left: list[Any] = [] if unfinished else [recorder.open_runs, recorder.streamed_tokens]
        if assembler is not None:
            left += [assembler._runs, assembler._traces, assembler._lingering]
        assert [len(container) for container in left] == [0] * len(left)
        bodies = [r.body for r in self.server.requests[before:] if r.path == "/api/v1/messages"]
        seen = Seen(outcome, self.server.messages(product=product), bodies, stats)
        self._assert_wellformed(seen, product)
        return seen

    def _assert_wellformed(self, seen: Seen, product: str) -> None:
        assert self.server.unknown_keys == []
        assert self.server.outside_contract == []
        envelopes = {}
        for body in seen.requests:
            assert body["productId"] == product
            conversation = body["externalConversationId"]
            for message in body["messages"]:
                key = (conversation, message["externalMessageId"])
                assert key not in envelopes, f"sent twice: {key}"
                envelopes[key] = body
        assert len(envelopes) == len(seen.messages)
        for message in seen.messages:
            message["envelope"] = envelopes[message["conversation"], message["externalMessageId"]]
        by_conversation: dict[str, list[dict[str, Any]]] = {}
        for message in seen.messages:
            by_conversation.setdefault(message["conversation"], []).append(message)
        for messages in by_conversation.values():
            _assert_conversation(messages)

    @staticmethod
    def _compare(way: str, plain: str, seen: Seen, golden: str, unordered: bool) -> None:
        assert seen.outcome == plain, f"{way}: the program behaved differently"
        got, expected = tree(seen.messages, unordered), textwrap.dedent(golden).strip()
        if got != expected:
            pytest.fail(
                f"{way}:\n--- expected\n{expected}\n--- arrived\n{got}\n--- outcome\n{seen.outcome}", pytrace=False
            )


def _assert_all_delivered(stats: observe.Stats) -> None:
    assert stats.faults == {}
    assert stats.balanced
    assert stats.recorded == stats.delivered
    assert stats.records_refused == stats.records_waiting == stats.turns_open == 0
    assert stats.turns_dropped == {}


def _assert_conversation(messages: list[dict[str, Any]]) -> None:
    """What holds of every conversation: order, parents, and that the sums are the sums."""
    times = [message["createdAt"] for message in messages]
    assert all(one < other for one, other in pairwise(times)), "createdAt does not increase"
    known: set[str] = set()
    for message in messages:
        parent = message.get("parentExternalMessageId")
        assert parent is None or parent in known, (
            f"{message['externalMessageId']}: its parent {parent} is not before it"
        )
        known.add(message["externalMessageId"])
        _assert_message(message, known)
    assert len(known) == len(messages)
    _assert_turns(messages)


def _assert_message(message: dict[str, Any], known: set[str]) -> None:
    kind, properties = message["messageType"], message.get("properties") or {}
    if kind in ("user_message", "assistant_message", "final_response"):
        assert message["content"].strip() or properties.get("attachments"), "a blank message"
    else:
        assert "content" not in message
    if kind == "llm":
        first, all_of_it = properties.get("time_to_first_token_ms"), properties["latency_ms"]
        assert first is None or 0 <= first <= all_of_it or properties["status"] != "completed"
        cached, taken = properties.get("cache_read_tokens"), properties["tokens_in"]
        assert cached is None or 0 <= cached <= taken
    if "requested_by" in properties:
        assert properties["requested_by"] in known


def _assert_turns(messages: list[dict[str, Any]]) -> None:
    """One answer a turn; the totals of a turn are the sums of its calls."""
    under: dict[str, str] = {}
    over: set[str] = set()
    calls: dict[str, list[dict[str, Any]]] = {}
    for message in messages:
        own, parent = message["externalMessageId"], message.get("parentExternalMessageId")
        under[own] = own if message["messageType"] == "chain_start" else under.get(parent or "", own)
        if message["messageType"] == "chain_end":
            over.add(under[own])
        if message["messageType"] == "llm" and under[own] not in over:  # what outlives its turn is not in its sums
            calls.setdefault(under[own], []).append(message["properties"])
    for message in messages:
        if message["messageType"] == "chain_end":
            told, made = message["properties"], calls.get(under[message["externalMessageId"]], [])
            assert told["model_calls"] == len(made)
            for total, part in (("tokens_in", "tokens_in"), ("tokens_out", "tokens_out"), ("cost_usd", "cost_usd")):
                known = [call[part] for call in made if call[part] is not None]
                expected = sum(known) if known else None
                assert told[total] == expected or abs(told[total] - (expected or 0)) < 1e-9, total
    turns = Counter(m["externalMessageId"] for m in messages if m["externalMessageId"].endswith(":answer"))
    assert all(count == 1 for count in turns.values())


def run(program: Program, config: Config) -> str:
    """The outcome of a program as text: its value or its exception, without what is random."""
    try:
        result = program(config)
        if inspect.iscoroutine(result):
            result = asyncio.run(result)
    except (pytest.skip.Exception, pytest.fail.Exception):  # a timeout of the test is the latter
        raise
    except BaseException as error:  # every exception is an outcome, a KeyboardInterrupt too
        result = ("raised", type(error).__name__, str(error))
    return _ADDRESS.sub("~", UUID.sub("~", repr(result)))


def ways(make: Callable[[], Any], given: Any, config: Mapping[str, Any] | None = None, only: str = "") -> list[Program]:
    """Programs that run what `make` makes by invoke, ainvoke, stream and astream; `only` names some of them."""

    def merged(extra: Config) -> Config:
        return {**(config or {}), **extra}

    async def ainvoke(extra: Config) -> Any:
        return await make().ainvoke(given, merged(extra))

    async def astream(extra: Config) -> Any:
        return [chunk async for chunk in make().astream(given, merged(extra))]

    every: dict[str, Program] = {
        "invoke": lambda extra: make().invoke(given, merged(extra)),
        "ainvoke": ainvoke,
        "stream": lambda extra: list(make().stream(given, merged(extra))),
        "astream": astream,
    }
    return [program for name, program in every.items() if not only or name in only.split()]


@contextmanager
def _logged() -> Any:
    """Log lines from gati, and those in which LangChain tells of a handler that raised. A fault's
    traceback, which gati keeps to itself, is printed."""
    lines: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.name.startswith(("gati", "langchain_core.callbacks")):
                lines.append(f"{record.name}: {record.getMessage()}")

    note = internal_errors.report

    def shown(place: str, error: BaseException) -> None:
        traceback.print_exception(error)
        note(place, error)

    internal_errors.report = shown
    listener = Listener()
    logging.getLogger().addHandler(listener)
    try:
        yield lines
    finally:
        logging.getLogger().removeHandler(listener)
        internal_errors.report = note
