"""`observe.init` a second time: equal options do nothing, others replace the pipeline without tearing a turn."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda

from gati import observe
from gati._api.equal_settings import are_equal
from gati._api.runtime import MAX_RETIRING, runtime
from gati.exporters.greenflash.exporter import GreenflashExporter
from gati.langchain.current import current
from gati.langchain.handover import HandoverRecorder
from gati.langchain.recorder import Recorder
from gati.pipeline.recovery import drain_spool
from gati.settings import load
from gati.testing import ScriptedChatModel
from gati.testing.server import fault_injection as faults
from tests.pipeline.kit import wait_until
from tests.servers import LocalServer


def make_mask(word: str) -> Callable[[str, str, str], str]:
    return lambda text, path, kind: text.replace(word, "*")


def test_equal_options_do_nothing(greenflash: LocalServer, tmp_path: Path) -> None:
    pipelines = []
    for _ in range(2):
        observe.init(
            api_key=greenflash.api_key, base_url=greenflash.url, spool_dir=tmp_path, mask=make_mask("secret"),
            properties={"plan": "pro"}, system_prompt="Be kind.",
        )  # fmt: skip
        pipelines.append(runtime.pipeline)
    assert pipelines[0] is pipelines[1]


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ({"mask": make_mask("a")}, {"mask": make_mask("a")}, True),
        ({"mask": make_mask("a")}, {"mask": make_mask("b")}, False),
        ({"mask": functools.partial(str.replace)}, {"mask": functools.partial(str.replace)}, True),
        ({"mask": functools.cache(make_mask("a"))}, {"mask": functools.cache(make_mask("a"))}, True),
        ({"mask": functools.cache(make_mask("a"))}, {"mask": functools.cache(make_mask("b"))}, False),
        ({"mask": functools.lru_cache(9)(make_mask("a"))}, {"mask": functools.cache(make_mask("a"))}, False),
        ({"on_drop": lambda drop: 1}, {"on_drop": lambda drop: 2}, False),
        ({"agent_name": "a"}, {"agent_name": "b"}, False),
        ({"api_key": "gf_a"}, {"api_key": "gf_a"}, True),
        ({"api_key": "gf_a"}, {"api_key": "gf_b"}, False),
        ({"properties": {"a": [1]}}, {"properties": {"a": [1]}}, True),
    ],
)
def test_options_are_compared_by_what_they_do(one: dict[str, Any], other: dict[str, Any], equal: bool) -> None:
    assert are_equal(load(**one), load(**other)) is equal


def test_other_options_let_an_open_turn_end(greenflash: LocalServer, tmp_path: Path) -> None:
    options = {"api_key": greenflash.api_key, "base_url": greenflash.url, "spool_dir": tmp_path}
    began, proceed = threading.Event(), threading.Event()

    def agent(question: str) -> str:
        began.set()
        assert proceed.wait(60.0)
        return str(ScriptedChatModel(replies=["the answer"]).invoke(question).content)

    observe.init(**options)
    thread = threading.Thread(target=lambda: RunnableLambda(agent).invoke("the question"))
    thread.start()
    assert began.wait(60.0)
    earlier = runtime.pipeline
    observe.init(agent_name="another", **options)
    assert runtime.pipeline is not earlier
    ScriptedChatModel(replies=["y"]).invoke("meanwhile")
    proceed.set()
    thread.join()
    assert earlier is not None
    assert earlier._ended.wait(60.0)
    assert observe.flush(60.0)
    answers = [
        m.get("content") for m in greenflash.messages() if m["messageType"] in ("assistant_message", "final_response")
    ]
    assert sorted(answers) == ["the answer", "y"]


class OpenTurn:
    """A turn that waits inside its chain until it is told to proceed, in a thread of its own."""

    def __init__(self, question: str) -> None:
        self._began, self._proceed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(question,))
        self._thread.start()
        assert self._began.wait(60.0)

    def _run(self, question: str) -> None:
        with observe.conversation(question):
            RunnableLambda(self._agent).invoke(question)

    def _agent(self, question: str) -> str:
        self._began.set()
        assert self._proceed.wait(60.0)
        return str(ScriptedChatModel(replies=[f"answer to {question}"]).invoke(question).content)

    def end(self) -> None:
        self._proceed.set()
        self._thread.join()


def messages(server: LocalServer) -> list[dict[str, Any]]:
    """Return what was delivered. A pipeline that is cut off while it sends leaves the message to another one."""
    return list({message["externalMessageId"]: message for message in server.messages()}.values())


def texts(server: LocalServer) -> list[str]:
    """Return the questions and the answers that were delivered."""
    kinds = ("user_message", "assistant_message", "final_response")
    return sorted(m.get("content") or "" for m in messages(server) if m["messageType"] in kinds)


def statuses(server: LocalServer) -> list[str]:
    return sorted(m["output"]["status"] for m in messages(server) if m["messageType"] == "chain_end")


@pytest.mark.parametrize("last", [{"agent_name": "last"}, {"enabled": False}], ids=["other options", "disabled"])
@pytest.mark.parametrize("others", [0, 1, 3])
def test_however_often_init_is_called_an_open_turn_is_told_whole(
    greenflash: LocalServer, tmp_path: Path, others: int, last: dict[str, Any]
) -> None:
    options = {"api_key": greenflash.api_key, "base_url": greenflash.url, "spool_dir": tmp_path}
    observe.init(**options)
    earliest, turn = runtime.pipeline, OpenTurn("q")
    for number in range(others):
        observe.init(agent_name=f"agent {number}", **options)
    observe.init(**options, **last)
    turn.end()
    assert earliest is not None
    assert earliest._ended.wait(60.0)
    observe.shutdown(60.0)
    assert (texts(greenflash), statuses(greenflash)) == (["answer to q", "q"], ["completed"])


def test_each_of_several_open_turns_stays_with_the_pipeline_that_began_it(
    greenflash: LocalServer, tmp_path: Path
) -> None:
    turns = []
    for number in range(4):
        observe.init(
            api_key=greenflash.api_key, base_url=greenflash.url, spool_dir=tmp_path, agent_name=f"agent {number}"
        )
        turns.append(OpenTurn(f"q{number}"))
    for turn in turns:
        turn.end()
    observe.shutdown(60.0)
    assert texts(greenflash) == sorted(f"{kind}q{number}" for number in range(4) for kind in ("", "answer to "))
    assert statuses(greenflash) == ["completed"] * 4


def test_once_the_open_turns_have_ended_callbacks_go_to_the_last_recorder_directly(tmp_path: Path) -> None:
    observe.init(local=tmp_path / "store.db", spool_dir=tmp_path)
    earliest, turn = runtime.pipeline, OpenTurn("q")
    observe.init(local=tmp_path / "store.db", spool_dir=tmp_path, agent_name="another")
    observe.init(local=tmp_path / "store.db", spool_dir=tmp_path, agent_name="a third")
    assert isinstance(current.recorder, HandoverRecorder)
    turn.end()
    assert earliest is not None
    assert earliest._ended.wait(60.0)
    wait_until(lambda: type(current.recorder) is Recorder)


def test_too_many_pipelines_with_open_turns_leave_the_oldest_turn_unfinished(
    greenflash: LocalServer, tmp_path: Path
) -> None:
    turns = []
    for number in range(MAX_RETIRING + 3):
        observe.init(
            api_key=greenflash.api_key, base_url=greenflash.url, spool_dir=tmp_path, agent_name=f"agent {number}"
        )
        turns.append(OpenTurn(f"q{number}"))
    for turn in turns:
        turn.end()
    observe.shutdown(60.0)
    # The one that was cut off left its turn to the spool, and a later pipeline or process delivers it.
    with closing(GreenflashExporter(load(api_key=greenflash.api_key, base_url=greenflash.url))) as exporter:
        drain_spool(tmp_path, [exporter], timeout=60.0)
    assert statuses(greenflash) == ["completed"] * (MAX_RETIRING + 2) + ["unfinished"]
    assert len([text for text in texts(greenflash) if text.startswith("q")]) == MAX_RETIRING + 3


def test_without_a_spool_replaced_pipelines_deliver_what_they_have(greenflash: LocalServer) -> None:
    greenflash.faults.add(faults.failing(503, times=3))  # so that all of them still have something
    for number in range(5):
        observe.init(
            api_key=greenflash.api_key, base_url=greenflash.url, spool=False, agent_name=f"agent {number}",
            flush_interval=0.1, shutdown_timeout=60.0,
        )  # fmt: skip
        ScriptedChatModel(replies=["a"]).invoke(f"q{number}")
    observe.shutdown(60.0)
    assert [text for text in texts(greenflash) if text != "a"] == [f"q{number}" for number in range(5)]


def test_a_third_pipeline_leaves_one_that_retires(greenflash: LocalServer, tmp_path: Path) -> None:
    options = {"api_key": greenflash.api_key, "base_url": greenflash.url, "spool_dir": tmp_path}
    pipelines = []
    for name in ("a", "b", "c"):
        observe.init(agent_name=name, **options)
        ScriptedChatModel(replies=["x"]).invoke(name)
        pipelines.append(runtime.pipeline)
    observe.shutdown(30.0)
    assert all(pipeline is not None and pipeline._ended.is_resolved for pipeline in pipelines)


def test_the_counters_can_be_read_after_a_shutdown(tmp_path: Path) -> None:
    observe.init(local=tmp_path / "store.db", spool_dir=tmp_path)
    ScriptedChatModel(replies=["x"]).invoke("hello")
    observe.shutdown(60.0)
    observe.shutdown(60.0)
    assert (observe.stats().turns, observe.stats().delivered) == (1, 3)
    observe.init(local=tmp_path / "store.db", spool_dir=tmp_path)
    assert observe.stats().turns == 0
