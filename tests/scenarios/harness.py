"""Run real programs without and with gati, and compare their results and what was delivered.

A program is a sync or async function that receives a config and passes it on. It runs

- untraced: gati is off;
- injected: gati is on and the config is empty;
- explicit: nothing is injected and the config holds ``callbacks=observe.get_callbacks()``.

The outcome must be the same each time. Messages travel through the whole pipeline and the real SDK to
a strict local server over HTTP, which must end up with exactly the golden messages (see `golden`).
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
from gati._api.runtime import MISSING_CONVERSATION_ID, runtime
from gati.langchain.current import current
from gati.pipeline import internal_errors
from tests.scenarios.golden import UUID, tree
from tests.servers import LocalServer

Config = dict[str, Any]
Program = Callable[[Config], Any]

_ADDRESS = re.compile(r"0x[0-9a-f]{6,}")


@dataclass
class TracedRun:
    """One traced run of a program: its outcome, and the messages that reached the server."""

    outcome: str
    messages: list[dict[str, Any]] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    stats: observe.Stats = field(default_factory=observe.Stats)

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        """Return the messages of one type."""
        return [message for message in self.messages if message["messageType"] == kind]

    def transcript(self) -> list[tuple[str, str]]:
        """Return what the user wrote and read: (role, text)."""
        kinds = {"user_message": "user", "assistant_message": "assistant", "final_response": "assistant"}
        return [(kinds[m["messageType"]], m["content"]) for m in self.messages if m["messageType"] in kinds]


class Watch:
    """Checks programs against goldens. All runs share a server; each has its own product id."""

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
    ) -> TracedRun:
        """Run each program untraced, injected and explicit; return the last injected run.

        Args:
            golden: The expected messages.
            programs: Programs that must all deliver these messages, such as `invoke` and `ainvoke` of a chain.
            explicit: The messages of the explicit run if LangChain makes them differ. False skips that run.
            unordered: Concurrent steps may appear in any order.
            unfinished: A root run never ends, so its turn is delivered when gati shuts down.
            compare: Check that the outcome is the same each time.
            options: Options of `observe.init`.
        """
        assert programs
        for program in programs:
            untraced = run(program, {}) if compare else ""
            traced = self.trace(program, auto_inject=True, unfinished=unfinished, **options)
            self._compare("injected", untraced if compare else traced.outcome, traced, golden, unordered)
            if explicit is not False:
                explicit_run = self.trace(program, auto_inject=False, unfinished=unfinished, **options)
                expected = explicit if isinstance(explicit, str) else golden
                self._compare(
                    "explicit", untraced if compare else explicit_run.outcome, explicit_run, expected, unordered
                )
        return traced

    def trace(
        self, program: Program, *, auto_inject: bool = True, unfinished: bool = False, **options: Any
    ) -> TracedRun:
        """Run a program with gati on, and check what must be true of every run."""
        product = str(uuid.uuid4())
        before = len(self.server.requests)
        internal_errors.reset()
        lines: list[str]
        with _captured_logs() as lines:
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
        assembler = getattr(assembler, "_assembler", assembler)  # None if there was nothing to assemble
        containers: list[Any] = [] if unfinished else [recorder.open_runs, recorder.streamed_tokens]
        if assembler is not None:
            containers += [assembler._runs, assembler._traces, assembler._cut_off_turns]
        assert [len(container) for container in containers] == [0] * len(containers)
        bodies = [r.body for r in self.server.requests[before:] if r.path == "/api/v1/messages"]
        traced = TracedRun(outcome, self.server.messages(product=product), bodies, stats)
        self._assert_wellformed(traced, product)
        return traced

    def _assert_wellformed(self, traced: TracedRun, product: str) -> None:
        assert self.server.unknown_keys == []
        assert self.server.outside_contract == []
        envelopes = {}
        for body in traced.requests:
            assert body["productId"] == product
            conversation = body["externalConversationId"]
            for message in body["messages"]:
                key = (conversation, message["externalMessageId"])
                assert key not in envelopes, f"sent twice: {key}"
                envelopes[key] = body
        assert len(envelopes) == len(traced.messages)
        for message in traced.messages:
            message["envelope"] = envelopes[message["conversation"], message["externalMessageId"]]
        by_conversation: dict[str, list[dict[str, Any]]] = {}
        for message in traced.messages:
            by_conversation.setdefault(message["conversation"], []).append(message)
        for messages in by_conversation.values():
            _assert_conversation(messages)

    @staticmethod
    def _compare(way: str, untraced: str, traced: TracedRun, golden: str, unordered: bool) -> None:
        assert traced.outcome == untraced, f"{way}: the program behaved differently"
        got, expected = tree(traced.messages, unordered), textwrap.dedent(golden).strip()
        if got != expected:
            pytest.fail(
                f"{way}:\n--- expected\n{expected}\n--- arrived\n{got}\n--- outcome\n{traced.outcome}", pytrace=False
            )


def _assert_all_delivered(stats: observe.Stats) -> None:
    assert stats.faults == {}
    assert stats.balanced
    assert stats.recorded == stats.delivered
    assert stats.records_refused == stats.records_waiting == stats.turns_open == 0
    assert stats.turns_dropped == {}


def _assert_conversation(messages: list[dict[str, Any]]) -> None:
    """Check order, parents and totals, which must be right in every conversation."""
    times = [message["createdAt"] for message in messages]
    assert all(earlier < later for earlier, later in pairwise(times)), "createdAt does not increase"
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
        cached, tokens_in = properties.get("cache_read_tokens"), properties["tokens_in"]
        assert cached is None or 0 <= cached <= tokens_in
    if "requested_by" in properties:
        assert properties["requested_by"] in known


def _assert_turns(messages: list[dict[str, Any]]) -> None:
    """Check that a turn has one answer, and that its totals are the sums over its calls."""
    under: dict[str, str] = {}
    over: set[str] = set()
    calls: dict[str, list[dict[str, Any]]] = {}
    for message in messages:
        own, parent = message["externalMessageId"], message.get("parentExternalMessageId")
        under[own] = own if message["messageType"] == "chain_start" else under.get(parent or "", own)
        if message["messageType"] == "chain_end":
            over.add(under[own])
        if (
            message["messageType"] == "llm" and under[own] not in over
        ):  # calls that end after the turn are not in its totals
            calls.setdefault(under[own], []).append(message["properties"])
    for message in messages:
        if message["messageType"] == "chain_end":
            totals, turn_calls = message["properties"], calls.get(under[message["externalMessageId"]], [])
            assert totals["model_calls"] == len(turn_calls)
            for total, part in (("tokens_in", "tokens_in"), ("tokens_out", "tokens_out"), ("cost_usd", "cost_usd")):
                known = [call[part] for call in turn_calls if call[part] is not None]
                expected = sum(known) if known else None
                assert totals[total] == expected or abs(totals[total] - (expected or 0)) < 1e-9, total
    turns = Counter(m["externalMessageId"] for m in messages if m["externalMessageId"].endswith(":answer"))
    assert all(count == 1 for count in turns.values())


def run(program: Program, config: Config) -> str:
    """Return the result or exception of a program as text, without random ids and addresses."""
    try:
        result = program(config)
        if inspect.iscoroutine(result):
            result = asyncio.run(result)
    except (pytest.skip.Exception, pytest.fail.Exception):  # a timeout of the test raises the latter
        raise
    except BaseException as error:  # KeyboardInterrupt is an outcome too
        result = ("raised", type(error).__name__, str(error))
    return _ADDRESS.sub("~", UUID.sub("~", repr(result)))


def each_method(
    make: Callable[[], Any], input: Any, config: Mapping[str, Any] | None = None, only: str = ""
) -> list[Program]:
    """Return programs that call invoke, ainvoke, stream and astream of what `make` returns. `only` selects some."""

    def merged(extra: Config) -> Config:
        return {**(config or {}), **extra}

    async def ainvoke(extra: Config) -> Any:
        return await make().ainvoke(input, merged(extra))

    async def astream(extra: Config) -> Any:
        return [chunk async for chunk in make().astream(input, merged(extra))]

    every: dict[str, Program] = {
        "invoke": lambda extra: make().invoke(input, merged(extra)),
        "ainvoke": ainvoke,
        "stream": lambda extra: list(make().stream(input, merged(extra))),
        "astream": astream,
    }
    return [program for name, program in every.items() if not only or name in only.split()]


@contextmanager
def _captured_logs() -> Any:
    """Capture log lines of gati, and of LangChain's callback manager, which logs handlers that raise.

    Print the traceback of internal errors, which gati only counts."""
    lines: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.msg == MISSING_CONVERSATION_ID:
                return  # once per process
            if record.name.startswith(("gati", "langchain_core.callbacks")):
                lines.append(f"{record.name}: {record.getMessage()}")

    note = internal_errors.report

    def print_and_note(place: str, error: BaseException) -> None:
        traceback.print_exception(error)
        note(place, error)

    internal_errors.report = print_and_note
    listener = Listener()
    logging.getLogger().addHandler(listener)
    try:
        yield lines
    finally:
        logging.getLogger().removeHandler(listener)
        internal_errors.report = note
