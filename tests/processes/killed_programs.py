"""Programs that end without notice: ``python -m tests.processes.killed_programs NAME`` runs the function NAME."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool

from gati import observe
from gati.pipeline.record_journal import journal
from gati.testing import ScriptedChatModel
from tests.processes.program import MODEL, report, run_turn


def _begin() -> None:
    observe.init()
    run_turn("warm up", "loads everything")
    observe.flush(60.0)


def _say(name: str, number: int) -> None:
    os.write(1, f"{name} {number}\n".encode())


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dies_while_it_creates_its_journal() -> None:
    """Allocate the file of the journal, and end before it has its name."""
    journal._map = lambda *_: _kill()  # type: ignore[assignment]  # it does not return
    observe.init()
    run_turn("never", "recorded")
    signal.pause()


def threads_without_a_pause() -> None:
    """Run turns in several threads, and report each one that has ended."""
    _begin()

    def work(name: str) -> None:
        for number in itertools.count():
            run_turn(name, str(number))
            _say(name, number)

    for number in range(4):
        threading.Thread(target=work, args=(f"thread-{number}",), daemon=True).start()
    signal.pause()


def tasks_without_a_pause() -> None:
    """Do the same in tasks of an event loop."""
    _begin()

    async def work(name: str) -> None:
        for number in itertools.count():
            with observe.conversation(name, user_id="u"):
                await MODEL.ainvoke(str(number))
            _say(name, number)

    async def main() -> None:
        await asyncio.gather(*(work(f"task-{number}") for number in range(4)))

    asyncio.run(main())


@tool
def weather(city: str) -> str:
    """Return the weather."""
    return f"Sunny in {city}."


def killed_in_the_middle_of_a_turn() -> None:
    """Die after a model and a tool of a turn have returned."""
    _begin()
    run_turn("c", "before")

    def die(_: Any) -> None:
        _kill()

    model = ScriptedChatModel(replies=["I look at the weather."])
    look = RunnableLambda(lambda answer: weather.invoke({"city": "Berlin"}))
    with observe.conversation("c", user_id="u"):
        (model | look | RunnableLambda(die)).invoke("How is the weather?")


def killed_in_the_middle_of_a_stream() -> None:
    """Die while an answer is streamed, a while after its first words."""
    _begin()
    words = ["This ", "is ", "the ", "beginning"] + [" and more"] * 50
    with observe.conversation("c", user_id="u"):
        for number, _ in enumerate(ScriptedChatModel(replies=["".join(words)]).stream("Tell me")):
            if number == 2:
                _wait_for(lambda: b"This " in b"".join(path.read_bytes() for path in _journals()))
                _kill()


def _journals() -> list[Path]:
    return list(Path(os.environ["GATI_SPOOL_DIR"]).glob("*/journals/*.journal"))


def _wait_for(condition: Any) -> None:
    wait = threading.Event()
    while not condition():
        wait.wait(0.01)


def ended_by_os_exit() -> None:
    _begin()
    for number in range(50):
        run_turn("c", str(number))
    os._exit(0)


def ended_normally() -> None:
    _begin()
    run_turn("c", "1")
    assert len(_journals()) == 1
    assert observe.stats().journal_bytes > 500_000
    observe.shutdown(60.0)
    report(journals=len(_journals()))


def killed_with_a_full_journal() -> None:
    """Fill the journal with one long turn; turns that began and ended before are safe."""
    _begin()
    for number in range(5):
        run_turn("c", str(number))
    model = ScriptedChatModel(replies=["x" * 60_000])

    def fill(value: Any) -> Any:
        for _ in range(40):
            model.invoke("more")
        return value

    with observe.conversation("long", user_id="u"):
        (RunnableLambda(fill) | MODEL).invoke("fill it")
        report(lost=observe.stats().journal_lost)
        _kill()


def killed_while_it_recovers() -> None:
    """Recover the journal of another process, and die before the journal is removed."""
    unlink = Path.unlink

    def die(path: Path, missing_ok: bool = False) -> None:
        if path.suffix == ".journal":
            _kill()
        unlink(path, missing_ok=missing_ok)

    setattr(Path, "unlink", die)  # noqa: B010 - mypy refuses the assignment
    observe.init(flush_interval=3600.0, eager=False)
    observe.flush(60.0)


if __name__ == "__main__":
    globals()[sys.argv[1]]()
