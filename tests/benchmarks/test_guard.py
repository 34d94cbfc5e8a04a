"""Performance limits that are counted, because times vary on shared machines.

Counts the bytecodes executed by gati, the objects and bytes held by buffered records, and the bytes
sent, which are the same in every run. Python versions compile to different numbers of bytecodes, so each
bound leaves a margin of a third. Copying a history or walking over a turn twice would exceed it by far.
"""

from __future__ import annotations

import gc
import os
import sys
import tracemalloc
import uuid
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import orjson
import pytest

pytest.importorskip("langchain", reason="the workloads are agents of `langchain`")

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

import gati
from gati._context import features_used
from gati.exporters.base import OpenRequests
from gati.exporters.greenflash.encoder import GreenflashEncoder
from gati.langchain import _compat
from gati.langchain.callback import handler
from gati.langchain.current import current
from gati.langchain.recorder import Recorder
from gati.pipeline.buffer import Buffer
from gati.pipeline.record_journal.journal import RecordJournal
from gati.settings import load
from gati.trace.assembler import Assembler
from tests.benchmarks import workloads

OURS = str(Path(gati.__file__).parent)
Calls = list[tuple[str, tuple[Any, ...], dict[str, Any]]]


class Capture(BaseCallbackHandler):
    """Records the callbacks of a program, so that they can be replayed."""

    run_inline = True

    def __init__(self) -> None:
        self.calls: Calls = []


def _keep(event: str) -> Callable[..., None]:
    return lambda self, *args, **more: self.calls.append((event, args, more))


for _event in ("chain_start", "chain_end", "chat_model_start", "llm_new_token", "llm_end", "tool_start", "tool_end"):
    setattr(Capture, f"on_{_event}", _keep(f"on_{_event}"))


def callbacks_of(workload: Callable[[workloads.Configs], Callable[[], None]]) -> Calls:
    """Return the callbacks of one invocation."""
    capture = Capture()
    run = workload(lambda: {"callbacks": [capture], "metadata": {"thread_id": "c"}})
    run()
    capture.calls.clear()
    run()
    return capture.calls


def bytecodes(work: Callable[[], object]) -> int:
    """Count the bytecodes that gati executes in this thread during `work`."""
    count = 0

    def inside(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        count += event == "opcode"
        return inside

    def entered(frame: FrameType, event: str, _: object) -> Any:
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        frame.f_trace = inside  # required by Python 3.13 before `f_trace_opcodes`
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return inside

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # required by Python 3.12 before tracing starts
    sys.settrace(entered)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Install a recorder; return the list to which it appends records."""
    kept: list[Any] = []
    monkeypatch.setattr(current, "recorder", Recorder(kept.append))
    monkeypatch.setattr(current, "report_error", pytest.fail)
    for feature in ("any", "log_filter"):  # another test may have used a scope
        monkeypatch.setattr(features_used, feature, False)
    monkeypatch.setattr(_compat, "_CHAIN_MODULES", ())  # another test may have loaded classic chains
    return kept


def play(calls: Calls) -> None:
    """Replay the callbacks with new run ids."""
    names: dict[Any, uuid.UUID] = defaultdict(uuid.uuid4)
    for event, args, more in calls:
        parent = more.get("parent_run_id")
        ids = {"run_id": names[more["run_id"]], "parent_run_id": parent and names[parent]}
        getattr(handler, event)(*args, **{**more, **ids})


@pytest.mark.parametrize(
    ("workload", "bound"),
    [(workloads.agent, 11_000), (workloads.chain, 5_000), (workloads.graph, 12_500)],
    ids=["agent", "chain", "graph"],
)
def test_callbacks_stay_within_their_bytecode_budget(
    workload: Callable[[workloads.Configs], Callable[[], None]], bound: int, records: list[Any]
) -> None:
    calls = callbacks_of(workload)
    play(calls)
    assert bound / 4 < bytecodes(lambda: play(calls)) < bound


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="there are no journals")
def test_the_journal_costs_few_bytecodes_a_record_and_no_objects(tmp_path: Path, records: list[Any]) -> None:
    play(callbacks_of(workloads.agent))
    plain, kept = Buffer(10**9), Buffer(10**9)
    plain.idle = kept.idle = False
    journal = kept.journal = RecordJournal([tmp_path], 8 * 1024**2, {})
    packed = [record for record in records if type(record) is bytes]
    kept.put(packed[0])  # opens a segment
    cost = bytecodes(lambda: [kept.put(record) for record in packed])
    cost -= bytecodes(lambda: [plain.put(record) for record in packed])
    assert 20 < cost / len(packed) < 70
    gc.collect()
    objects = len(gc.get_objects())
    for record in packed:
        kept.put(record)
    assert len(gc.get_objects()) - objects <= 1
    journal.close(remove=True)


def test_a_streamed_token_costs_few_bytecodes(records: list[Any]) -> None:
    calls = callbacks_of(workloads.streaming)
    tokens = sum(event == "on_llm_new_token" for event, _, _ in calls)
    silent = [call for call in calls if call[0] != "on_llm_new_token"]
    play(calls)
    assert tokens >= workloads.TOKENS
    assert (bytecodes(lambda: play(calls)) - bytecodes(lambda: play(silent))) / tokens < 90


def test_a_long_history_costs_no_more_than_a_short_one(records: list[Any]) -> None:
    def cost(size: int) -> int:
        history: list[BaseMessage] = []
        for number in range(size // 2):
            history += [HumanMessage("q"), AIMessage("a", id=f"{size}-{number}")]
        history.append(HumanMessage("and now?"))
        start: Calls = [("on_chat_model_start", ({"name": "m"}, [history]), {"run_id": 1})]
        play(start)
        return bytecodes(lambda: play(start))

    assert 500 < cost(1_000) < 1.5 * cost(4)


def test_a_buffered_turn_holds_little_memory_and_few_objects(records: list[Any]) -> None:
    calls = callbacks_of(workloads.agent)
    play(calls)
    records.clear()
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        objects, memory = len(gc.get_objects()), tracemalloc.get_traced_memory()[0]
        for _ in range(50):
            play(calls)
        held = tracemalloc.get_traced_memory()[0] - memory
        assert (len(gc.get_objects()) - objects) / 50 <= 1
        assert held / 50 < 8_000
    finally:
        tracemalloc.stop()
        gc.enable()


def test_a_turn_that_is_open_keeps_few_containers(records: list[Any]) -> None:
    calls = callbacks_of(workloads.agent)
    open_calls = calls[:-1]
    assembler = Assembler(load(local=False))
    play(open_calls)
    assembler.feed(records)
    records.clear()
    gc.collect()
    gc.disable()
    try:
        objects = len(gc.get_objects())
        for _ in range(50):
            play(open_calls)
            assembler.feed(records)
            records.clear()
        assert assembler.open_turns == 51
        assert (len(gc.get_objects()) - objects) / 50 <= 5
        assert 1_000 < assembler.memory_bytes / 51 < 8_000
    finally:
        gc.enable()


def test_an_encoded_turn_keeps_few_containers_until_it_is_stored(records: list[Any]) -> None:
    calls = callbacks_of(workloads.agent)
    settings = load(local=False)
    assembler, encoder, opened, kept = Assembler(settings), GreenflashEncoder(settings), OpenRequests(), list[Any]()

    def finish_turn() -> None:
        play(calls)
        requests = encoder.encode(assembler.feed(records))
        records.clear()
        kept.extend(request for request in requests if not opened.add(request))

    finish_turn()
    gc.collect()
    gc.disable()
    try:
        objects = len(gc.get_objects())
        for _ in range(50):
            finish_turn()
        # Of each turn, the assembler remembers the conversation, for runs that start or end late.
        assert (len(gc.get_objects()) - objects) / 50 <= 5
    finally:
        gc.enable()


def requests_of(records: list[Any]) -> list[Any]:
    """Return the requests made from finished turns."""
    settings = load(local=False)
    return GreenflashEncoder(settings).encode(Assembler(settings).feed(records))


@pytest.mark.parametrize(
    ("workload", "bound"),
    [(workloads.agent, 38_000), (workloads.chain, 20_000), (workloads.graph, 39_000)],  # incl. unpacking the records
    ids=["agent", "chain", "graph"],
)
def test_background_work_stays_within_its_bytecode_budget(
    workload: Callable[[workloads.Configs], Callable[[], None]], bound: int, records: list[Any]
) -> None:
    calls = callbacks_of(workload)
    requests_of(records)
    for _ in range(10):
        play(calls)
    once, records[:] = bytecodes(lambda: requests_of(records)), []
    for _ in range(20):
        play(calls)
    assert bound / 4 < (bytecodes(lambda: requests_of(records)) - once) / 10 < bound


@pytest.mark.parametrize(
    "workload", [workloads.agent, workloads.chain, workloads.graph], ids=["agent", "chain", "graph"]
)
def test_a_finished_turn_leaves_nothing_to_the_garbage_collector(
    workload: Callable[[workloads.Configs], Callable[[], None]], records: list[Any]
) -> None:
    calls = callbacks_of(workload)
    settings = load(local=False)
    assembler, encoder = Assembler(settings), GreenflashEncoder(settings)
    for _ in range(3):  # the first rounds load modules and fill caches
        play(calls)
        gc.collect()
        gc.disable()
        try:
            encoder.encode(assembler.feed(records))
            records.clear()
            found = gc.collect()
        finally:
            gc.enable()
    assert found == 0


def test_an_agent_turn_is_sent_in_few_bytes(records: list[Any]) -> None:
    calls = callbacks_of(workloads.agent)
    for _ in range(20):
        play(calls)
    assert sum(len(orjson.dumps(request.body)) for request in requests_of(records)) / 20 < 5_500


def test_a_long_text_is_sent_once(records: list[Any]) -> None:
    calls = callbacks_of(workloads.long_result)
    play(calls)
    settings = load(local=False, max_field_bytes=1_000_000, max_request_bytes=8_000_000)
    requests = GreenflashEncoder(settings).encode(Assembler(settings).feed(records))
    assert sum(len(orjson.dumps(request.body)) for request in requests) < 1.2 * len(workloads.LONG_RESULT)


def test_bytes_sent_grow_linearly_with_the_length_of_a_conversation(records: list[Any]) -> None:
    def size(turns: int) -> int:
        records.clear()
        # Not replayed: the program mutates the history that it passed to its callbacks.
        workloads.conversation(lambda: {"callbacks": [handler], "metadata": {"thread_id": str(turns)}}, turns)()
        return sum(len(orjson.dumps(request.body)) for request in requests_of(records))

    assert size(80) < 2.1 * size(40)
