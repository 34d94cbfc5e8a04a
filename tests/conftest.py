"""Isolate every test: no options or keys in the environment, an empty home, and no gati left running."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# No deadlines: the duration of an example depends on the machine.
settings.register_profile("gati", deadline=None)
settings.load_profile("gati")

# pytest compiles gati's modules itself, since gati has a plugin. CPython 3.11 cannot compile in two threads at once
# (SystemError: AST constructor recursion depth mismatch), so what gati's thread would import late is imported here.
for _module in (
    "gati.pipeline.engine",
    "gati.trace.assembler",
    "gati.exporters.local",
    "gati.exporters.greenflash.exporter",
    "gati.exporters.events_api",
):
    importlib.import_module(_module)

pytest_plugins = ["tests.fixtures", "tests.optional", "tests.brokers", "tests.stores"]

_OPTIONS = ("GATI_", "GREENFLASH_", "OPENAI_", "LANGSMITH_", "LANGCHAIN_")


@pytest.fixture(autouse=True)
def _clean_environment(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove options from the environment, and keep files out of the developer's data folder."""
    for name in os.environ:
        if name.startswith(_OPTIONS):
            monkeypatch.delenv(name)
    home: Path = tmp_path_factory.mktemp("home")
    for name in ("HOME", "XDG_DATA_HOME", "LOCALAPPDATA", "APPDATA"):
        monkeypatch.setenv(name, str(home))


@pytest.fixture(autouse=True)
def _nothing_left_running(_clean_environment: None) -> Iterator[None]:
    """Shut gati down after each test that used it, and reset its error counts."""
    yield
    if "gati.observe" in sys.modules:
        from gati import observe
        from gati._api.runtime import runtime
        from gati.pipeline import internal_errors

        observe.shutdown(timeout=5.0)
        runtime.ended = None
        internal_errors.reset()
    if "gati.prompts" in sys.modules:
        from gati.prompts.service import service
        from gati.trace.managed_prompts import managed_prompts

        service.reset()
        managed_prompts.clear()
