"""What not every installation has: tests that need it are skipped, with what they need as the reason."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Generator
from importlib.metadata import version
from typing import Any

import pytest

PACKAGES = {
    "celery", "gevent", "gunicorn", "langchain", "langchain_classic", "langchain_openai", "numpy", "openai", "playwright",
    "schemathesis",
}  # fmt: skip
"""Without one of these a test module is skipped; without anything else it fails."""


tells_static_interrupts = pytest.mark.skipif(
    importlib.util.find_spec("langgraph.callbacks") is None, reason="this LangGraph tells nobody of static interrupts"
)

LANGGRAPH = tuple(int(part) for part in version("langgraph").split(".")[:3] if part.isdigit())

says_it_is_a_graph = pytest.mark.skipif(
    LANGGRAPH < (1, 1, 4),
    reason="this LangGraph does not say of a graph without nodes that it is one",
)

WARNINGS = ("-W", "error", *(("-W", "ignore::DeprecationWarning") if LANGGRAPH < (1, 1, 4) else ()))
"""How Python is started where nothing may warn; in LangGraph's older versions its modules warn of each other."""


def needs(*packages: str) -> None:
    """Skip the test where one of these is not installed; none of them is loaded here."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")


def named(module: str, name: str) -> Any:
    """A name that not every version of a package has."""
    found = getattr(pytest.importorskip(module, reason=f"needs {module}"), name, None)
    if found is None:
        pytest.skip(f"this version of {module.split('.')[0]} has no {name}")
    return found


def create_agent(*arguments: Any, **more: Any) -> Any:
    """LangChain's `create_agent`, for test modules of which a part runs on LangGraph alone."""
    return named("langchain.agents", "create_agent")(*arguments, **more)


def middleware(kind: str, *arguments: Any, **more: Any) -> Any:
    """A middleware of `langchain` that this version may not have."""
    return named("langchain.agents.middleware", kind)(*arguments, **more)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, Any]:
    """A module that imports what is not installed is skipped, not an error."""
    report: Any = yield
    error = report.call.excinfo and report.call.excinfo.value.__cause__
    missing = str(getattr(error, "name", None) or "").partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and missing in PACKAGES and not _is_there(missing):
        report.outcome = "skipped"
        report.longrepr = (str(collector.path), 1, f"Skipped: needs {missing}, which is not installed")
    return report


def _is_there(package: str) -> bool:
    try:
        return bool(importlib.import_module(package))
    except ModuleNotFoundError:
        return False
