"""The names of LangChain and LangGraph that are not public: they are there, and what works without each."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from langchain_core.callbacks import AsyncCallbackManager, BaseCallbackHandler, CallbackManager
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda

from gati.langchain._compat import DEFERS_INPUTS, RUN_TYPE, is_input_deferred
from gati.testing import ScriptedChatModel

ROOT = Path(__file__).parents[2]
GONE = "is gone; what is lost stands in gati/langchain/_compat.py"
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
"""What `talk` sees with every name there."""

NAMES = {
    ("langchain_core.runnables.config", "var_child_runnable_config"): {"own handlers": 2, "user": "anonymous"},
    ("langgraph.callbacks", "GraphCallbackHandler"): {"static interrupt": ["completed"]},
    ("langchain_core.tracers.context", "register_configure_hook"): {
        "own handlers": 1, "user": None, "said": [], "streamed": [], "variables": [],
    },
    ("langchain_core.callbacks.AsyncCallbackManager", "on_llm_start"): {"beside": []},
}  # fmt: skip
"""Each name, and what is lost without it; all else must stay as it is."""

KEYWORDS = {
    ("on_chain_start", "run_type"): {"variables": [{}]},
    ("on_chain_start", "defers_inputs"): {},  # what stands in for the input says it too
}
"""Keyword arguments of callbacks that no reference names, and what is lost without each."""

YOUNGER = {"GraphCallbackHandler"}
"""Names that the oldest versions do not have yet."""


def talk(*hidden: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.langchain.talk", *hidden],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    expected = "gati cannot attach itself" if "register_configure_hook" in hidden else ""
    assert [line for line in done.stderr.splitlines() if not (expected and line.startswith(expected))] == []
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
def test_a_name_that_is_not_public_is_still_there(module: str, name: str) -> None:
    if not has(module, name) and name in YOUNGER:
        pytest.skip(f"this version has no {module} yet")
    assert has(module, name), f"{module}.{name} {GONE}"


def test_the_running_config_names_the_run_above() -> None:
    from gati.langchain._compat import enclosing_run, running_config

    found: list[Any] = []
    manager = CallbackManager([])
    RunnableLambda(lambda _: found.append(enclosing_run(running_config.get()))).invoke(0, {"callbacks": manager})
    assert found[0] is not None


def test_a_completion_models_handlers_are_parted_where_we_look() -> None:
    code = AsyncCallbackManager.on_llm_start.__code__
    inner = [constant for constant in code.co_consts if hasattr(constant, "co_names")]
    assert any("run_inline" in one.co_names for one in [code, *inner])


def test_a_chain_still_tells_its_type_and_that_its_input_comes_late() -> None:
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


def test_with_every_name_all_is_seen() -> None:
    if not has("langgraph.callbacks", "GraphCallbackHandler"):
        pytest.skip("this version of LangGraph tells of no static interrupts")
    assert talk() == WHOLE


@pytest.mark.parametrize(
    ("hidden", "lost"), [*NAMES.items(), *KEYWORDS.items()], ids=[name for _, name in (*NAMES, *KEYWORDS)]
)
def test_without_a_name_only_what_it_serves_is_lost(hidden: tuple[str, str], lost: dict[str, Any]) -> None:
    expected = {**WHOLE, **lost}
    seen = talk(*hidden)
    if "var_child_runnable_config" in hidden and seen["user"] == WHOLE["user"]:
        expected["user"] = WHOLE["user"]  # older versions copy `configurable` into the metadata
    if not has("langgraph.callbacks", "GraphCallbackHandler"):
        expected |= NAMES["langgraph.callbacks", "GraphCallbackHandler"]
    assert seen == expected
