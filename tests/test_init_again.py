"""`observe.init` a second time: equal options do nothing, others replace the pipeline without tearing a turn."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda

from gati import observe
from gati._api.equal_settings import are_equal
from gati._api.runtime import runtime
from gati.settings import load
from gati.testing import ScriptedChatModel
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
