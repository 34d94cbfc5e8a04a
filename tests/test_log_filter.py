"""`observe.LogFilter` adds the conversation and the answer's id to log records."""

from __future__ import annotations

import asyncio
import logging
import logging.config
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from langchain_core.runnables import RunnableConfig, RunnableLambda

from gati import observe
from gati._context import features_used
from gati.langchain import run_roots
from gati.langchain.current import current
from gati.testing import ScriptedChatModel, capture

log = logging.getLogger("program")
Ids = tuple[str | None, str | None]


class Records(logging.Handler):
    """Keeps the ids of records by their message."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: dict[str, Ids] = {}

    def emit(self, record: logging.LogRecord) -> None:
        self.ids[record.getMessage()] = (record.__dict__["conversation_id"], record.__dict__["message_id"])


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Ids]]:
    monkeypatch.setattr(features_used, "log_filter", False)
    handler = Records()
    handler.addFilter(observe.LogFilter())
    log.addHandler(handler)
    monkeypatch.setattr(log, "level", logging.INFO)
    with capture():
        yield handler.ids
    log.removeHandler(handler)


def step(name: str) -> RunnableLambda[Any, Any]:
    """Return a step that logs its name, and calls a model."""

    def work(value: Any) -> str:
        log.info("%s", name)
        return ScriptedChatModel(replies=["Hello"]).invoke(str(value)).text

    return RunnableLambda(work)


def config(run_id: Any, thread: str | None = None) -> RunnableConfig:
    return RunnableConfig(run_id=run_id, metadata={"thread_id": thread} if thread else {})


def test_a_record_of_a_step_has_the_ids_of_its_turn(records: dict[str, Ids]):
    run_id = uuid4()
    (step("first") | step("second")).invoke("Hi", config(run_id, "c-1"))
    assert records == dict.fromkeys(("first", "second"), ("c-1", observe.message_id(run_id)))


def test_outside_of_a_run_there_is_no_answer(records: dict[str, Ids]):
    log.info("outside")
    with observe.conversation("c-2"):
        log.info("inside")
    assert records == {"outside": ("-", "-"), "inside": ("c-2", "-")}


def test_the_scope_of_the_turn_counts(records: dict[str, Ids]):
    run_id = uuid4()

    def work(value: Any) -> None:
        with observe.conversation("c-inner"), observe.span("part"):
            log.info("step")

    with observe.conversation("c-3"):
        RunnableLambda(work).invoke("Hi", config(run_id, "c-metadata"))
    assert records == {"step": ("c-3", f"{run_id}:answer")}


def test_without_a_conversation_there_is_the_answer_only(records: dict[str, Ids]):
    run_id = uuid4()
    step("step").invoke("Hi", config(run_id))
    assert records == {"step": ("-", f"{run_id}:answer")}


def test_tasks_and_threads_have_their_own_ids(records: dict[str, Ids]):
    runs = {f"c-{n}": uuid4() for n in range(8)}

    async def main() -> None:
        await asyncio.gather(*(step(name).ainvoke("Hi", config(runs[name], name)) for name in list(runs)[:4]))

    asyncio.run(main())
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: step(name).invoke("Hi", config(runs[name], name)), list(runs)[4:]))
    assert records == {name: (name, f"{run_id}:answer") for name, run_id in runs.items()}


def test_a_turn_that_began_before_a_second_init_keeps_its_ids(records: dict[str, Ids]):
    run_id = uuid4()

    def work(value: Any) -> str:
        observe.init(agent_name="other", local=False, exporters=[], spool=False, conversation_id="c-default")
        log.info("step")
        return "done"

    RunnableLambda(work).invoke("Hi", config(run_id, "c-1"))
    log.info("outside")
    assert records == {"step": ("c-1", f"{run_id}:answer"), "outside": ("c-default", "-")}


def test_a_records_own_values_win(records: dict[str, Ids]):
    with observe.conversation("c-1"):
        log.info("extra", extra={"conversation_id": "own"})
    assert records == {"extra": ("own", "-")}


def test_it_can_be_configured_by_name_and_works_while_gati_is_off(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(features_used, "log_filter", False)  # restored after the test
    observe.shutdown()
    logging.config.dictConfig({
        "version": 1, "disable_existing_loggers": False,
        "filters": {"gati": {"()": "gati.observe.LogFilter", "default": None}},
        "formatters": {"ids": {"format": "%(conversation_id)s %(message_id)s %(message)s"}},
        "handlers": {"out": {"class": "logging.StreamHandler", "filters": ["gati"], "formatter": "ids"}},
        "loggers": {"configured": {"handlers": ["out"], "level": "INFO"}},
    })  # fmt: skip
    logging.getLogger("configured").info("hello")
    assert capsys.readouterr().err == "None None hello\n"


def test_an_internal_error_does_not_reach_the_program(records: dict[str, Ids], monkeypatch: pytest.MonkeyPatch):
    reported: list[str] = []
    monkeypatch.setattr(current.recorder, "enclosing_root", lambda: 1 / 0)
    monkeypatch.setattr(current, "report_error", lambda place, error: reported.append(place))
    log.info("still logged")
    assert (records, reported) == ({"still logged": ("-", "-")}, ["log_filter"])


def test_roots_of_ended_runs_are_forgotten(records: dict[str, Ids], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(run_roots, "MIN_SIZE", 4)
    recorder = current.recorder
    assert recorder is not None
    monkeypatch.setattr(recorder.roots, "_limit", 4)
    for _ in range(20):
        step("step").invoke("Hi", config(uuid4(), "c-1"))
    assert len(recorder.roots._roots) <= 5


def test_without_a_filter_nothing_is_remembered(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(features_used, "log_filter", False)
    with capture():
        step("step").invoke("Hi", config(uuid4(), "c-1"))
        recorder = current.recorder
        assert recorder is not None
        assert recorder.roots._roots == {}
