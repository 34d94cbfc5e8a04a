"""What `gati` and `gati.observe` promise, and what importing them costs."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

import gati
from gati import observe

HEAVY = (
    "langchain_core", "langchain", "langgraph", "langsmith", "greenflash", "openai", "httpx", "httpx2", "pydantic",
    "starlette", "uvicorn", "jinja2", "jsonschema", "typer", "rich", "sqlite3", "genai_prices", "orjson",
    "asyncio", "logging.handlers", "importlib.metadata",
)  # fmt: skip


def run(program: str) -> str:
    plain = {**os.environ, "COVERAGE_PROCESS_CONFIG": ""}  # to measure coverage loads modules of its own
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=plain)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_gati_exports_just_this():
    assert gati.__all__ == sorted(gati.__all__, key=lambda name: (name.strip("_")[0].islower(), name))
    assert set(gati.__all__) == {
        "AgentEndEvent", "AgentStartEvent", "ConfigurationError", "CustomEvent", "EmbeddingEvent", "Event",
        "GatiError", "GatiLangChainCallback", "LLMCallEvent", "MemoryEvent", "NodeExecutionEvent", "RetrievalEvent",
        "StepEvent", "ToolCallEvent", "__version__", "observe",
    }  # fmt: skip
    assert all(getattr(gati, name) is not None for name in gati.__all__)


def test_observe_exports_just_this():
    public = {
        name
        for name, value in vars(observe).items()
        if not name.startswith("_") and getattr(value, "__module__", "").startswith("gati")
    } - {"runtime"}
    late = {"Drop", "FlushResult", "Stats"}
    assert all(getattr(observe, name).__name__ == name for name in late)
    assert public | late == set(observe.__all__) == {
        "Drop", "FlushResult", "Stats", "aflush", "conversation", "flush", "get_callbacks", "identify_organization",
        "identify_user", "init", "log_event", "log_rating", "paused", "shutdown", "span", "stats", "step", "tool",
        "track_event", "wrap_embeddings", "wrap_store",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["flush", "aflush", "shutdown"])
def test_waiting_functions_take_a_timeout(name: str):
    assert inspect.signature(getattr(observe, name)).parameters["timeout"].default == 10.0


def test_the_version_is_the_packages():
    try:
        expected = version("gati-greenflash")
    except PackageNotFoundError:
        expected = "0+unknown"
    assert gati.__version__ == expected


def test_what_gati_does_not_have_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing_such"):
        gati.nothing_such  # noqa: B018  the access is the test
    assert dir(gati) == gati.__all__


@pytest.mark.parametrize("statement", ["import gati", "from gati import observe", "import gati.testing"])
def test_importing_gati_loads_nothing_heavy(statement: str):
    loaded = run(f"{statement}; import sys; print(sorted(name for name in {HEAVY!r} if name in sys.modules))")
    assert loaded == "[]"


def test_the_command_line_starts_without_langchain_and_web_framework():
    heavy = ("langchain_core", "langgraph", "greenflash", "starlette", "uvicorn")
    loaded = run(f"import gati.cli.commands, sys; print([name for name in {heavy!r} if name in sys.modules])")
    assert loaded == "[]"


def test_importing_gati_starts_no_thread_and_touches_no_file():
    program = "import gati, threading, logging; print(threading.active_count(), logging.getLogger('gati').handlers)"
    assert run(program) == "1 []"


def test_before_init_every_function_of_observe_does_nothing():
    assert observe.get_callbacks() == []
    assert observe.stats() == observe.Stats()
    assert observe.flush()
    observe.track_event(gati.Event(event_type="clicked"))
    observe.identify_user("u")
    observe.identify_organization("o")
    observe.log_rating(rating=1)
    observe.log_event("upgrade")
    observe.shutdown()
    with observe.conversation("c"), observe.paused():
        pass


def test_init_leaves_engine_sdk_prices_and_store_to_the_first_record(tmp_path: Path) -> None:
    late = ("gati.pipeline.engine", "gati.trace.assembler", "greenflash", "genai_prices", "gati.store.store")
    loaded = run(
        f"from gati import observe; observe.init(api_key='gf_x', spool_dir={str(tmp_path)!r}); import os, sys; "
        f"print([name for name in {late!r} if name in sys.modules], flush=True); os._exit(0)"
    )
    assert loaded.strip() == "[]"
