"""Measure gati alone: time per callback, how long the background thread holds the interpreter,
time of import and `init`, and memory of a buffered turn.

Runs in gati's environment: `python -m tests.benchmarks.micro ADDRESS`, prints one line of JSON.
Times are in microseconds unless the name says otherwise.
"""

from __future__ import annotations

import gc
import json
import math
import subprocess
import sys
import threading
import time
import tracemalloc
import uuid
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from tests.benchmarks.workloads import agent

Laps = dict[str, list[int]]

EVENTS = (
    "on_chain_start", "on_chain_end", "on_chat_model_start", "on_llm_end", "on_llm_new_token", "on_tool_start",
    "on_tool_end",
)  # fmt: skip


def main() -> None:
    """Measure everything and print it."""
    address = sys.argv[1]
    results: dict[str, Any] = {"import": imports(address), "callbacks": {"deque": summary(deque_callbacks())}}
    from tests.benchmarks.contenders import CONTENDERS

    session = CONTENDERS["gati"].start(address)
    session.flush()
    from gati.langchain.callback import handler

    results["callbacks"]["gati"] = summary(callbacks(handler, session.flush))
    results["model_start"] = {size: model_start(handler, size) for size in (3, 1000)}
    results["state_1_mb"] = large_state(handler)
    session.flush()
    results["hold_ms"] = interpreter_latency(session.flush)
    results["memory_per_turn"] = memory()
    print("\n" + json.dumps(results), flush=True)


def imports(address: str) -> dict[str, float]:
    """Return the milliseconds that `import gati`, `observe` and `observe.init` add to a program that has imported
    langchain_core: medians of fresh processes.
    """
    code = (
        "import sys, tempfile, time\n"
        "import langchain_core.language_models, langchain_core.prompts, langchain_core.tools\n"
        "import langchain_core.tracers.context, langgraph.graph\n"
        "folder = tempfile.mkdtemp()\n"
        "t = time.perf_counter()\nimport gati\na = time.perf_counter()\nfrom gati import observe\nb = time.perf_counter()\n"
        "observe.init(api_key='gf_benchmark', base_url=sys.argv[1] + '/api/v1', spool_dir=folder)\n"
        "print(a - t, b - t, time.perf_counter() - b)"
    )
    command = [sys.executable, "-c", code, address]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(9)]
    gati, observe, init = (sorted(float(run.stdout.split()[n]) * 1000 for run in runs)[4] for n in (0, 1, 2))
    return {"gati_ms": gati, "observe_ms": observe, "init_ms": init}


def timed(target: Any) -> Laps:
    """Wrap every callback of a handler to record its duration, including the overhead of the clock."""
    laps: Laps = {}
    for event in EVENTS:
        note = laps.setdefault(event, []).append
        setattr(target, event, _timed(getattr(target, event), note))
    return laps


def _timed(function: Callable[..., Any], note: Callable[[int], None]) -> Callable[..., Any]:
    clock = time.perf_counter_ns

    def call(*args: Any, **more: Any) -> Any:
        before = clock()
        function(*args, **more)
        note(clock() - before)

    return call


def callbacks(handler: Any, flush: Callable[[], object], bursts: int = 40, runs: int = 25) -> Laps:
    """Time the callbacks of the agent in bursts, with deliveries between them."""
    run = agent(lambda: {"metadata": {"thread_id": "one"}})
    for _ in range(50):
        run()
    laps = timed(handler)
    for _ in range(bursts):
        for _ in range(runs):
            run()
        flush()
    for event in EVENTS:
        delattr(handler, event)
    return laps


def deque_callbacks(runs: int = 1000) -> Laps:
    """Time a handler that appends its arguments to a deque: the lower bound."""
    from langchain_core.callbacks import BaseCallbackHandler

    kept: deque[Any] = deque(maxlen=10_000)

    def keep(self: object, *args: object, **more: object) -> None:
        kept.append((args, more))

    target = type("Keeper", (BaseCallbackHandler,), {"run_inline": True, **dict.fromkeys(EVENTS, keep)})()
    laps = timed(target)
    run = agent(lambda: {"metadata": {"thread_id": "one"}, "callbacks": [target]})
    for _ in range(runs):
        run()
    return laps


def summary(laps: Laps) -> dict[str, dict[str, float]]:
    """Return median and 99th percentile of each callback and of all together."""
    clock = _clock()
    results = {event: _percentiles(values, clock) for event, values in laps.items() if values}
    return results | {"all": _percentiles([value for values in laps.values() for value in values], clock)}


def _percentiles(values: list[int], clock: float) -> dict[str, float]:
    ordered = sorted(values)
    middle, high = ordered[len(ordered) // 2], ordered[math.ceil(len(ordered) * 0.99) - 1]
    return {"median": (middle - clock) / 1000, "p99": (high - clock) / 1000, "count": len(ordered)}


def _clock() -> float:
    """Return the overhead of the wrapper in nanoseconds."""
    laps: list[int] = []
    call = _timed(lambda *args, **more: None, laps.append)
    for _ in range(10_000):
        call(None, None, run_id=None, parent_run_id=None, tags=None, metadata=None, name=None)
    return sorted(laps)[5_000]


def model_start(handler: Any, size: int, runs: int = 300) -> float:
    """Return the median time of a model start with `size` messages, of which only the last two are new."""
    from langchain_core.messages import AIMessage, HumanMessage

    history: list[Any] = []
    for number in range(size // 2):
        history += [HumanMessage(f"question {number}"), AIMessage(f"answer {number} {size}", id=f"{size}-{number}")]
    history.append(HumanMessage("and now?"))
    laps = []
    for _ in range(runs):
        run_id = uuid.uuid4()
        before = time.perf_counter_ns()
        handler.on_chat_model_start({"name": "model"}, [history], run_id=run_id, metadata={"thread_id": f"h{size}"})
        laps.append(time.perf_counter_ns() - before)
        handler.on_llm_error(ValueError("enough"), run_id=run_id)
    return sorted(laps)[runs // 2] / 1000


def large_state(handler: Any, runs: int = 100) -> dict[str, float]:
    """Time the start and end of a graph with a state of 1 MB: many documents and a long history."""
    from langchain_core.messages import AIMessage, HumanMessage

    state = {
        "documents": [{"text": f"{number} " * 150, "score": 0.5, "source": f"{number}.md"} for number in range(1000)],
        "messages": [HumanMessage("q" * 300) if n % 2 == 0 else AIMessage("a" * 300, id=f"s{n}") for n in range(999)],
    }
    laps: list[int] = []
    for _ in range(runs):
        run_id = uuid.uuid4()
        before = time.perf_counter_ns()
        handler.on_chain_start(None, state, run_id=run_id, metadata={"thread_id": "state"}, name="graph")
        between = time.perf_counter_ns()
        handler.on_chain_end(state, run_id=run_id)
        laps += [between - before, time.perf_counter_ns() - between]
    return _percentiles(laps, 0.0)


def interpreter_latency(
    flush: Callable[[], object], turns: int = 400, seconds: float = 3.0
) -> dict[str, dict[str, float]]:
    """Return how long another thread waits for the interpreter, in milliseconds, while turns are delivered in the
    background, while a flush waits for delivery, and in an idle process.
    """
    from gati import observe
    from gati.langchain.current import current

    recorder = current.recorder
    assert recorder is not None
    put = recorder.put
    run = agent(lambda: {"metadata": {"thread_id": uuid.uuid4().hex}})

    def recorded() -> list[Any]:
        # The program holds the interpreter too, so run it before the probe starts.
        records: list[Any] = []
        recorder.put = records.append
        for _ in range(turns):
            run()
        recorder.put = put
        return records

    def leave(records: list[Any]) -> None:
        for number, record in enumerate(records):
            put(record)
            if not number % 100:
                time.sleep(0.0005)  # yield, so that the probe measures only the background thread

    def deliver(records: list[Any]) -> None:
        leave(records)
        while (stats := observe.stats()).records_waiting or stats.spooled or stats.pending:
            time.sleep(0.02)

    def flush_them(records: list[Any]) -> None:
        leave(records)
        flush()

    some, others = recorded(), recorded()
    # A full garbage collection of a large heap holds the interpreter too.
    gc.collect()
    gc.freeze()
    try:
        return {
            "without": _latency(lambda: time.sleep(seconds)),
            "delivering": _latency(partial(deliver, some)),
            "flushing": _latency(partial(flush_them, others)),
        }
    finally:
        gc.unfreeze()


def _latency(work: Callable[[], object]) -> dict[str, float]:
    late: list[int] = []
    stop = False

    def probe() -> None:
        while not stop:
            before = time.perf_counter_ns()
            time.sleep(0.0002)
            late.append(time.perf_counter_ns() - before - 200_000)

    thread = threading.Thread(target=probe)
    thread.start()
    work()
    stop = True
    thread.join()
    late.sort()
    return {"p999": late[math.ceil(len(late) * 0.999) - 1] / 1e6, "worst": late[-1] / 1e6, "looks": len(late)}


def memory(turns: int = 200) -> int:
    """Return the bytes that a turn of the agent takes in the buffer."""
    from gati.langchain.current import current

    recorder = current.recorder
    assert recorder is not None
    records: list[Any] = []
    put, recorder.put = recorder.put, records.append
    run = agent(lambda: {"metadata": {"thread_id": "one"}})
    run()
    records.clear()
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(turns):
        run()
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    recorder.put = put
    return held // turns


if __name__ == "__main__":
    main()
