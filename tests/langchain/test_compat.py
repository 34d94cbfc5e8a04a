"""The private names of LangChain and LangGraph still exist, and a missing one loses only its own feature."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from langchain_core.callbacks import AsyncCallbackManager, BaseCallbackHandler, CallbackManager
from langchain_core.messages import HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from gati.langchain import _compat
from gati.langchain._compat import DEFERS_INPUTS, RUN_TYPE, is_input_deferred, with_shared_objects
from gati.testing import ScriptedChatModel, capture

ROOT = Path(__file__).parents[2]
GONE = "no longer exists; gati/langchain/_compat.py says what is lost"
SAID = [["user", "graph"], ["assistant", "certainly"]]
WHOLE = {
    "own handlers": 1,
    "user": "u-7",
    "said": SAID,
    "said to a handler by hand": SAID,
    "static interrupt": ["waiting"],
    "streamed": [["user", "streamed"], ["assistant", "certainly"]],
    "variables": [{"subject": "maths"}],
    "beside": ["start"],
}
"""Result of `talk` if no name is missing."""

NAMES = {
    ("langchain_core.runnables.config", "var_child_runnable_config"): {"own handlers": 2, "user": "anonymous"},
    ("langgraph.callbacks", "GraphCallbackHandler"): {"static interrupt": ["completed"]},
    ("langchain_core.tracers.context", "register_configure_hook"): {
        "own handlers": 1, "user": None, "said": [], "streamed": [], "variables": [],
    },
    ("langchain_core.callbacks.AsyncCallbackManager", "on_llm_start"): {"beside": []},
}  # fmt: skip
"""Each name, and the changes to `WHOLE` if it is missing."""

KEYWORDS = {
    ("on_chain_start", "run_type"): {"variables": [{}]},
    ("on_chain_start", "defers_inputs"): {},  # the placeholder input is sufficient
}
"""Undocumented keyword arguments of callbacks, and the changes to `WHOLE` if one is missing."""

YOUNGER = {"GraphCallbackHandler"}
"""Names that the oldest supported versions do not have."""


def talk(*hidden: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.langchain.talk", *hidden],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    expected = "gati cannot attach itself" if "register_configure_hook" in hidden else ""
    lines = [line for line in done.stderr.splitlines() if not line.startswith("a turn has no conversation id")]
    assert [line for line in lines if not (expected and line.startswith(expected))] == []
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def has(module: str, name: str) -> bool:
    try:
        return hasattr(importlib.import_module(module), name)
    except ModuleNotFoundError:
        parent, _, kind = module.rpartition(".")
        try:
            return hasattr(getattr(importlib.import_module(parent), kind), name)
        except (ImportError, AttributeError):
            return False


@pytest.mark.parametrize(("module", "name"), NAMES, ids=lambda part: part.split(".")[-1])
def test_each_private_name_still_exists(module: str, name: str) -> None:
    if not has(module, name) and name in YOUNGER:
        pytest.skip(f"this version has no {module} yet")
    assert has(module, name), f"{module}.{name} {GONE}"


def test_the_running_config_contains_the_enclosing_run() -> None:
    from gati.langchain._compat import enclosing_run, running_config

    found: list[Any] = []
    manager = CallbackManager([])
    RunnableLambda(lambda _: found.append(enclosing_run(running_config.get()))).invoke(0, {"callbacks": manager})
    assert found[0] is not None


def test_on_llm_start_still_partitions_handlers() -> None:
    code = AsyncCallbackManager.on_llm_start.__code__
    inner = [constant for constant in code.co_consts if hasattr(constant, "co_names")]
    assert any("run_inline" in one.co_names for one in [code, *inner])


def test_chain_starts_still_pass_the_run_type_and_the_deferred_input_flag() -> None:
    told: list[Any] = []

    class Listens(BaseCallbackHandler):
        def on_chain_start(self, serialized: Any, inputs: Any, **more: Any) -> None:
            told.append((more.get(RUN_TYPE), is_input_deferred(inputs, more)))

    chain = ChatPromptTemplate([("user", "{text}")]) | ScriptedChatModel(replies=["4"]) | StrOutputParser()
    chain.invoke({"text": "2 + 2?"}, {"callbacks": [Listens()]})
    assert told == [(None, False), ("prompt", False), ("parser", False)], f"{RUN_TYPE} {GONE}"
    told.clear()
    list(chain.stream({"text": "2 + 2?"}, {"callbacks": [Listens()]}))
    assert told[0] == (None, True), f"{DEFERS_INPUTS}, and what stands in for it, {GONE}"


def test_everything_is_recorded_if_no_name_is_missing() -> None:
    if not has("langgraph.callbacks", "GraphCallbackHandler"):
        pytest.skip("this version of LangGraph does not report static interrupts")
    assert talk() == WHOLE


@pytest.mark.parametrize(
    ("hidden", "lost"), [*NAMES.items(), *KEYWORDS.items()], ids=[name for _, name in (*NAMES, *KEYWORDS)]
)
def test_a_missing_name_loses_only_its_own_feature(hidden: tuple[str, str], lost: dict[str, Any]) -> None:
    expected = {**WHOLE, **lost}
    seen = talk(*hidden)
    if "var_child_runnable_config" in hidden and seen["user"] == WHOLE["user"]:
        expected["user"] = WHOLE["user"]  # older versions copy `configurable` into the metadata
    if not has("langgraph.callbacks", "GraphCallbackHandler"):
        expected |= NAMES["langgraph.callbacks", "GraphCallbackHandler"]
    assert seen == expected


def test_a_serializer_that_shares_objects_decodes_equal_messages_once() -> None:
    plain = JsonPlusSerializer()
    sharing = with_shared_objects(plain, 10)
    one, two = (plain.dumps_typed({"messages": [HumanMessage("Hello", id="m1"), n]}) for n in (1, 2))
    message = sharing.loads_typed(one)["messages"][0]
    assert message == HumanMessage("Hello", id="m1")
    assert sharing.loads_typed(two)["messages"][0] is message, f"JsonPlusSerializer._unpack_ext_hook {GONE}"
    assert plain.loads_typed(two)["messages"][0] is not message


def test_a_serializer_of_another_kind_stays_as_it_is() -> None:
    class Other:
        def loads_typed(self, data: Any) -> Any:
            return data

    serializer = Other()
    assert with_shared_objects(serializer, 10) is serializer


@pytest.mark.parametrize(("frames", "named"), [(16, True), (0, False)])
def test_without_the_config_of_its_call_a_model_has_a_conversation_of_its_own(
    frames: int, named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_compat, "_CALL_FRAMES", frames)
    with capture() as captured:
        ScriptedChatModel(replies=["Hi!"]).invoke("Hello", {"configurable": {"thread_id": "t"}})
    assert captured.transcript() == [("user", "Hello"), ("assistant", "Hi!")]
    assert (captured.turns[0].conversation.id == "t") is named
