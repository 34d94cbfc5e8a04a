"""Skip tests that need packages or versions that are not installed."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Generator
from importlib.metadata import version
from typing import Any

import pytest

PACKAGES = {
    "celery", "confluent_kafka", "gevent", "gunicorn", "kubernetes_validate", "langchain", "langchain_classic", "langchain_openai",
    "numpy", "openai", "opentelemetry", "playwright", "prometheus_client", "psycopg", "rq", "schemathesis",
}  # fmt: skip
"""Optional packages: a test module is skipped if one is missing. If any other package is missing, it fails."""


requires_static_interrupts = pytest.mark.skipif(
    importlib.util.find_spec("langgraph.callbacks") is None, reason="this LangGraph does not report static interrupts"
)

LANGGRAPH = tuple(int(part) for part in version("langgraph").split(".")[:3] if part.isdigit())

requires_graph_marker = pytest.mark.skipif(
    LANGGRAPH < (1, 1, 4),
    reason="this LangGraph does not mark the run of a graph none of whose nodes ran",
)

WARNINGS = ("-W", "error", *(("-W", "ignore::DeprecationWarning") if LANGGRAPH < (1, 1, 4) else ()))
"""Options for a Python that must not warn. Modules of older LangGraph versions emit deprecation warnings on import."""


def needs(*packages: str) -> None:
    """Skip the test if one of these packages is not installed. Imports none of them."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")


def import_optional(module: str, name: str) -> Any:
    """Import a name that not every version of a package has; skip the test if it is missing."""
    member = getattr(pytest.importorskip(module, reason=f"needs {module}"), name, None)
    if member is None:
        pytest.skip(f"this version of {module.split('.')[0]} has no {name}")
    return member


def create_agent(*arguments: Any, **more: Any) -> Any:
    """Call LangChain's `create_agent`; skip the test without `langchain`."""
    return import_optional("langchain.agents", "create_agent")(*arguments, **more)


def middleware(kind: str, *arguments: Any, **more: Any) -> Any:
    """Create a middleware of `langchain`; skip the test if this version does not have it."""
    return import_optional("langchain.agents.middleware", kind)(*arguments, **more)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, Any]:
    """Skip a module that imports an optional package that is not installed."""
    report: Any = yield
    error = report.call.excinfo and report.call.excinfo.value.__cause__
    missing = str(getattr(error, "name", None) or "").partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and missing in PACKAGES and not _is_importable(missing):
        report.outcome = "skipped"
        report.longrepr = (str(collector.path), 1, f"Skipped: needs {missing}, which is not installed")
    return report


def _is_importable(package: str) -> bool:
    try:
        return bool(importlib.import_module(package))
    except ModuleNotFoundError:
        return False
