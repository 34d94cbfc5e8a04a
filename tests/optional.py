"""What not every installation has: tests that need it are skipped, with what they need as the reason."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
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

CONTEXT = "LangChain's async code needs Python 3.11 for this"

NEEDS_CONTEXT = {
    "test_a_graph_that_is_resumed_twice", "test_a_graphs_stream_that_is_closed_in_mid_answer_is_aborted",
    "test_a_prompt_made_by_middleware_is_the_calls_prompt", "test_a_question_in_a_node_and_its_answer_are_words",
    "test_a_question_in_a_subgraph_is_asked_once", "test_a_question_that_is_data_is_no_text",
    "test_a_question_that_the_person_passes_over", "test_a_refusal_is_a_decision_too",
    "test_a_rejection_is_visible_as_a_call_that_was_not_run", "test_a_sub_agent_in_a_tool_is_internal",
    "test_a_supervisor_hands_over_by_command", "test_agents_in_parallel_keep_their_prompts",
    "test_an_agent_with_a_tool", "test_an_answer_of_the_human_in_the_tools_place", "test_an_approval", "test_an_edit",
    "test_astream_events_version_2", "test_astream_events_version_3",
    "test_custom_events_hang_on_the_run_around_them", "test_custom_events_stand_where_they_were_made",
    "test_every_stream_mode", "test_fallbacks_at_the_root_are_one_turn",
    "test_two_hundred_conversations_in_tasks_do_not_mix", "test_version_3_tells_the_first_token",
    "test_work_that_begins_after_its_turn_is_a_late_part_of_it",
}  # fmt: skip
"""Tests whose async programs do not work before Python 3.11, with gati or without: `interrupt`, stream writers
and custom events find no run there, and nested calls have neither metadata nor `configurable`."""

NEEDS_CONTEXT_TO_STREAM = {
    "test_a_function_that_calls_models_is_a_turn", "test_a_loop_inside_a_function_is_one_turn",
    "test_a_prompt_made_without_a_run_arrives_as_its_text", "test_two_prompts_of_one_turn_are_told_apart",
}  # fmt: skip
"""Tests whose programs lose their run before Python 3.11 where `astream` streams a function:
the reader's code, which is none of the run's, runs in the same context there."""


def spared(test: str, program: Any) -> bool:
    """Whether a program of a scenario is beyond this Python; the test's other programs are run."""
    if sys.version_info >= (3, 11) or not inspect.iscoroutinefunction(program):
        return False
    return test in NEEDS_CONTEXT or (test in NEEDS_CONTEXT_TO_STREAM and program.__name__ == "astream")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs Python 3.11; scenarios leave out some of their programs instead."""


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
