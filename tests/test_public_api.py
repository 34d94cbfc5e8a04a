"""The public names of `gati` and `gati.observe`, the signature of `init`, and the cost of importing them."""

from __future__ import annotations

import asyncio
import copy
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, get_type_hints
from uuid import UUID

import greenflash
import pytest
from pydantic import ConfigDict, SecretStr, TypeAdapter

import gati
from gati import observe
from gati._api.runtime import runtime
from gati.events import Prompt
from gati.options import Mask, OnDrop
from gati.settings import ALIASES, Settings
from tests.servers import greenflash_server

HEAVY = (
    "langchain_core", "langchain", "langgraph", "langsmith", "greenflash", "openai", "httpx", "httpx2", "pydantic",
    "starlette", "uvicorn", "jinja2", "jsonschema", "typer", "rich", "sqlite3", "genai_prices", "orjson",
    "asyncio", "logging.handlers", "importlib.metadata",
)  # fmt: skip


def run(program: str) -> str:
    plain = {**os.environ, "COVERAGE_PROCESS_CONFIG": ""}  # coverage would load additional modules
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=plain)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_gati_exports_exactly_these_names():
    assert gati.__all__ == sorted(gati.__all__, key=lambda name: (name.strip("_")[0].islower(), name))
    assert set(gati.__all__) == {
        "AgentEndEvent", "AgentStartEvent", "ConfigurationError", "CustomEvent", "EmbeddingEvent", "Event",
        "GatiError", "GatiLangChainCallback", "LLMCallEvent", "MemoryEvent", "NodeExecutionEvent",
        "PromptUnavailableError", "RetrievalEvent", "StepEvent", "ToolCallEvent", "__version__", "observe", "prompts",
    }  # fmt: skip
    assert all(getattr(gati, name) is not None for name in gati.__all__)


def test_observe_exports_exactly_these_names():
    public = {
        name
        for name, value in vars(observe).items()
        if not name.startswith("_") and getattr(value, "__module__", "").startswith("gati")
    } - {"runtime"}
    late = {"Drop", "FlushResult", "Stats"}
    assert all(getattr(observe, name).__name__ == name for name in late)
    assert public | late == set(observe.__all__) == {
        "Drop", "FlushResult", "LogFilter", "Stats", "aflush", "conversation", "flush", "get_callbacks", "identify_organization",
        "identify_user", "init", "internal", "log_event", "log_rating", "message_id", "metrics", "paused", "shutdown", "span", "stats", "step", "tool",
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


def test_an_unknown_attribute_raises_an_attribute_error():
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


def test_importing_gati_starts_no_thread_and_adds_no_log_handler():
    program = "import gati, threading, logging; print(threading.active_count(), logging.getLogger('gati').handlers)"
    assert run(program) == "1 []"


def test_before_init_every_function_of_observe_does_nothing():
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


def test_without_eager_delivery_init_does_not_load_engine_sdk_prices_and_store(tmp_path: Path) -> None:
    late = ("gati.pipeline.engine", "gati.trace.assembler", "greenflash", "genai_prices", "gati.store.store")
    loaded = run(
        f"from gati import observe; observe.init(api_key='gf_x', spool_dir={str(tmp_path)!r}, eager=False); import os, sys; "
        f"print([name for name in {late!r} if name in sys.modules], flush=True); os._exit(0)"
    )
    assert loaded.strip() == "[]"


@pytest.mark.parametrize("option", ["eager=True", "spool=False"], ids=["chosen", "by default, without a spool"])
def test_with_eager_delivery_init_loads_all_that_the_first_turn_needs(tmp_path: Path, option: str) -> None:
    with greenflash_server() as server:
        program = f"""
import sys, threading
from langchain_core.language_models import FakeListChatModel
from gati import observe
model = FakeListChatModel(responses=["yes"])
observe.init(api_key={server.api_key!r}, base_url={server.url!r}, spool_dir={str(tmp_path)!r}, {option})
loaded = set(sys.modules)
print([thread.name for thread in threading.enumerate()], "greenflash" in loaded)
model.invoke("Ready?")
assert observe.flush()
print([name for name in sys.modules if name not in loaded and not name.startswith("langchain_core.")])
"""
        assert run(program).splitlines() == ["['MainThread'] True", "[]"]
        assert server.messages()[-1]["content"] == "yes"


# -- the signature of `init` ----------------------------------------------------------------

OPTIONS = {
    name: parameter
    for name, parameter in inspect.signature(observe.init).parameters.items()
    if parameter.kind is inspect.Parameter.KEYWORD_ONLY
}


def test_init_has_a_parameter_for_each_option_and_alias():
    assert [name for name in OPTIONS if name not in ALIASES] == list(Settings.model_fields)
    assert set(OPTIONS) - set(Settings.model_fields) == set(ALIASES)
    assert {parameter.default for parameter in OPTIONS.values()} == {None}


@pytest.mark.parametrize("option", OPTIONS)
def test_the_type_of_each_parameter_admits_the_default_of_its_option(option: str):
    names = {
        "Mapping": Mapping, "Sequence": Sequence, "Path": Path, "UUID": UUID, "SecretStr": SecretStr, "Mask": Mask, "OnDrop": OnDrop,
        "Greenflash": greenflash.Greenflash, "AsyncGreenflash": greenflash.AsyncGreenflash, "Exporter": object,
        "Callable": object,
    }  # fmt: skip
    hint = get_type_hints(observe.init, localns=names)[option]
    default = Settings.model_fields[ALIASES.get(option, option)].get_default(call_default_factory=True)
    any_class = ConfigDict(arbitrary_types_allowed=True)
    TypeAdapter(hint, config=any_class).validate_python(default, strict=True)
    TypeAdapter(hint, config=any_class).validate_python(None, strict=True)


def test_the_docstring_of_init_describes_each_option_like_the_options_page():
    docstring = inspect.getdoc(observe.init)
    assert docstring is not None
    arguments = docstring.split("Args:\n")[1].split("\n\n")[0]
    described = dict(re.findall(r"^    (\w+): (.+?)(?=\n    \w|\Z)", arguments, re.MULTILINE | re.DOTALL))
    described = {name: " ".join(text.split()) for name, text in described.items()}
    del described["unknown"]
    assert {name: text for name, text in described.items() if name not in ALIASES} == {
        name: field.description for name, field in Settings.model_fields.items()
    }
    assert set(described) == set(OPTIONS)


def test_init_passes_on_each_parameter():
    from gati import settings

    marks = {name: object() for name in OPTIONS}
    passed: dict[str, Any] = {}

    def load(**options: Any) -> Settings:
        passed.update(options)
        return Settings(enabled=False)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "load", load)
        observe.init(**marks)  # type: ignore[arg-type]  # the test looks at names only
    assert passed == marks


def test_init_reads_mappings_paths_and_secrets(tmp_path: Path):
    from types import MappingProxyType

    observe.init(
        api_key=SecretStr(" gf_k "), properties=MappingProxyType({"a": 1}), spool_dir=str(tmp_path),
        system_prompt=MappingProxyType({"content": "Hi"}), agent_name=UUID(int=1),
    )  # fmt: skip
    assert runtime.settings is not None
    assert runtime.settings.properties == {"a": 1}
    assert runtime.settings.system_prompt == Prompt("Hi")
    key = runtime.settings.api_key
    assert key is not None
    assert key.get_secret_value() == "gf_k"


def test_an_unknown_keyword_raises_a_configuration_error():
    with pytest.raises(gati.ConfigurationError, match="did you mean 'agent_name'"):
        observe.init(agnet_name="x")  # type: ignore[arg-type]  # the test is about this mistake


SNIPPET = """
from gati import observe
observe.init(agent_name="a", name=7, batch_size=3, local="x.db", on_full="newest", mask=lambda text, path, kind: text)
observe.init(agnet_name="a")
observe.init(batch_size="many")
observe.init(on_full="all")
"""


@pytest.mark.slow
def test_mypy_rejects_unknown_options_and_wrong_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    mypy = pytest.importorskip("mypy.api", reason="needs mypy")
    program = tmp_path / "program.py"
    program.write_text(SNIPPET)
    monkeypatch.setenv("MYPYPATH", str(Path(gati.__file__).parents[1]))
    output, errors, _ = mypy.run(["--strict", "--follow-imports=silent", "--no-incremental", str(program)])
    assert errors == ""
    lines = [line.split(": ", 1)[1].split("  [")[0] for line in output.splitlines() if "error:" in line]
    assert lines == [
        'error: Argument "agnet_name" to "init" has incompatible type "str"; expected "Never"',
        'error: Argument "batch_size" to "init" has incompatible type "str"; expected "int | None"',
        'error: Argument "on_full" to "init" has incompatible type "Literal[\'all\']"; expected '
        "\"Literal['oldest', 'newest'] | None\"",
    ]


@pytest.mark.parametrize("enabled", [None, True, False], ids=["before init", "enabled", "disabled"])
def test_the_result_of_get_callbacks_can_always_be_passed_to_a_model(enabled: bool | None):
    from langchain_core.language_models import FakeListLLM
    from langchain_core.prompts import PromptTemplate

    if enabled is not None:
        observe.init(enabled=enabled, local=False, exporters=[])
    model = FakeListLLM(responses=["pong"])
    chain = PromptTemplate.from_template("{text}") | model

    async def program() -> list[str]:
        config: Any = {"callbacks": observe.get_callbacks()}
        chunks = [chunk async for chunk in model.astream("ping", config)]
        return [await model.ainvoke("ping", config), await chain.ainvoke("ping", config), "".join(chunks)]

    assert asyncio.run(program()) == ["pong"] * 3
    config: Any = {"callbacks": observe.get_callbacks()}
    assert [model.invoke("ping", config), chain.invoke("ping", config), *model.batch(["ping"], config)] == ["pong"] * 3
    assert len(observe.get_callbacks()) == 1


@pytest.mark.parametrize("library", ["cloudpickle", "dill"])
def test_a_function_that_names_observe_can_be_pickled_by_value(library: str):
    pickler = pytest.importorskip(library)

    def task(number: int) -> int:
        with observe.conversation(f"c-{number}"):
            return number

    assert pickler.loads(pickler.dumps(task))(1) == 1
    assert pickler.loads(pickler.dumps({"module": observe}))["module"] is observe
    assert copy.deepcopy({"module": observe})["module"] is observe
