"""Children that run one job and end at once, without exit hooks.

``python -m tests.processes.job_endings WORK WORK …`` forks one for each WORK, the name of a function, which it runs
before it calls `os._exit`. The parent records nothing, except with ``--own``. With ``--leave`` it delivers nothing either.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from langchain_core.runnables import RunnableGenerator, RunnableLambda

from gati import observe
from gati.pipeline import turn_saves
from tests.processes.program import MODEL, run_turn

turn_saves.SAVE_SECONDS = turn_saves.LOAD_SECONDS = 30.0  # so that no test depends on the speed of the machine


def invoke(name: str) -> None:
    run_turn(name, "1")


def two_turns(name: str) -> None:
    run_turn(name, "1")
    run_turn(name, "2")


def batch(name: str) -> None:
    with observe.conversation(name, user_id="u"):
        MODEL.batch(["1", "2"])


def thread(name: str) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(run_turn, name, "1").result()


def fail(name: str) -> None:
    def step(text: str) -> str:
        MODEL.invoke(text)
        raise LookupError("the job's own")

    with observe.conversation(name, user_id="u"):
        try:
            RunnableLambda(step).invoke("1")
        except LookupError:
            pass


def cut_off(name: str) -> None:
    def pieces(texts: Iterator[str]) -> Iterator[str]:
        for text in texts:
            for chunk in MODEL.stream(text):
                yield str(chunk.content)
                yield "more"

    with observe.conversation(name, user_id="u"):
        stream: Any = RunnableGenerator(pieces).stream("1")
        next(stream)
        stream.close()


def run_async(name: str) -> None:
    async def work() -> None:
        with observe.conversation(name, user_id="u"):
            await MODEL.ainvoke("1")

    asyncio.run(work())
    asyncio.run(work())  # another loop


def stream_async(name: str) -> None:
    async def pieces(texts: AsyncIterator[str]) -> AsyncIterator[str]:
        async for text in texts:
            async for chunk in MODEL.astream(text):
                yield str(chunk.content)

    async def work() -> None:
        with observe.conversation(name, user_id="u"):
            async for _ in RunnableGenerator(pieces).astream("1"):
                pass

    asyncio.run(work())


def span(name: str) -> None:
    with observe.conversation(name, user_id="u"), observe.span("job", input="1"):
        MODEL.invoke("1")


def rate(name: str) -> None:
    run_turn(name, "1")
    observe.log_rating(rating=1, conversation_id=name)


def forked() -> None:
    observe.init()
    for work in sys.argv[1:]:
        if work == "--leave":
            os._exit(0)
        if work == "--own":
            run_turn("parent", "1")
            continue
        child = os.fork()
        if child == 0:
            globals()[work](work)
            os._exit(0)
        os.waitpid(child, 0)


def pooled() -> None:
    """Terminate a pool, as its `with` block does."""
    observe.init()
    context: Any = multiprocessing.get_context(sys.argv[2])
    with context.Pool(2) as pool:
        pool.map(work_in_pool, ["1", "2", "3"])


def work_in_pool(name: str) -> None:
    observe.init()
    run_turn(name, "1")


def run_until_complete(name: str) -> None:
    """Run an asynchronous job as RQ 2 does."""
    import rq  # noqa: F401 - its presence makes this a job of RQ

    os.environ["RQ_JOB_ID"] = name

    async def work() -> None:
        with observe.conversation(name, user_id="u"):
            await MODEL.ainvoke("1")

    asyncio.new_event_loop().run_until_complete(work())


if __name__ == "__main__":
    if sys.argv[1] == "pooled":
        pooled()
    else:
        forked()
