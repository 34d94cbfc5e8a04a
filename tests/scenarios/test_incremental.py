"""`submission="incremental"`: a turn delivered in parts ends up as the same turn."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from langchain_core.tools import tool

from gati import observe
from tests.optional import create_agent
from tests.scenarios import (
    test_agents,
    test_approvals,
    test_chains,
    test_graphs,
    test_internal_calls,
    test_interrupts,
    test_message_types,
    test_middleware,
    test_prompts,
    test_resumes,
    test_retrieval,
    test_several_agents,
    test_stops,
    test_threads,
    test_tools,
)
from tests.scenarios.golden import tree
from tests.scenarios.harness import Config, Program, TracedRun, Watch
from tests.scenarios.scripts import call, model, tool_request

MODULES = (
    test_agents, test_approvals, test_chains, test_graphs, test_internal_calls, test_interrupts, test_message_types,
    test_middleware, test_prompts, test_resumes, test_retrieval, test_several_agents, test_stops, test_threads, test_tools,
)  # fmt: skip


_NOT_INCREMENTAL = {"test_the_prompt_of_middleware_is_not_the_prompt_of_the_agent"}
"""Excluded: checks the prompt of the user message, which is not known when the first part is sent."""


def _scenarios() -> list[Any]:
    """Return the tests whose only fixture is a `Watch`."""

    def tests_of(module: ModuleType) -> list[Any]:
        tests = [(name, test) for name, test in vars(module).items() if name.startswith("test_") and callable(test)]
        return [
            pytest.param(test, id=f"{module.__name__.rsplit('.', 1)[-1]}.{name}", marks=getattr(test, "pytestmark", ()))
            for name, test in tests
            if list(inspect.signature(test).parameters) == ["watch"] and name not in _NOT_INCREMENTAL
        ]

    return [scenario for module in MODULES for scenario in tests_of(module)]


def final_tree(traced: TracedRun) -> str:
    """Render the messages, with prompts on model calls only.

    The prompt of a user message is that of the call that gave the answer. It is not known when the
    first part is sent, so the prompt of the first call is sent instead.
    """
    messages = [m if m["messageType"] == "llm" else {**m, "prompt": None} for m in traced.messages]
    return tree(messages, unordered=True)


class IncrementalWatch(Watch):
    """Runs the first program of a scenario with both kinds of submission and compares the results."""

    def __call__(self, golden: str, *programs: Program, **options: Any) -> TracedRun:
        for option in ("explicit", "unordered", "compare"):
            options.pop(option, None)
        whole = super().trace(programs[0], **options)
        parts = super().trace(programs[0], submission="incremental", **options)
        assert final_tree(parts) == final_tree(whole)
        return parts

    def trace(self, program: Program, **options: Any) -> TracedRun:
        return super().trace(program, submission="incremental", **options)


@pytest.mark.parametrize("scenario", _scenarios())
def test_incremental_submission_ends_with_the_same_messages(watch: Watch, scenario: Callable[[Watch], None]):
    scenario(IncrementalWatch(watch.server))


def test_finished_steps_arrive_while_the_turn_continues(watch: Watch):
    """The tool in the second step waits until the first step has arrived."""
    arrived: list[list[str]] = []

    @tool
    def look() -> str:
        """Wait for the first step to arrive."""
        observe.flush(20)
        arrived.append([m["messageType"] for b in watch.server.bodies()[before:] for m in b["messages"]])
        return "seen"

    def program(config: Config) -> Any:
        agent = create_agent(
            model(tool_request(call("look", "l1")), tool_request(call("look", "l2")), "Done."), [look], name="a"
        )
        return agent.invoke({"messages": [("user", "Look twice.")]}, config)["messages"][-1].text

    before = len(watch.server.bodies())
    traced = watch.trace(program, submission="incremental")
    first = ["user_message", "chain_start", "task", "llm"]
    assert arrived == [first, [*first, "task", "tool_call", "observation", "task", "llm"]]
    kinds = [m["messageType"] for m in traced.messages]
    assert kinds[-2:] == ["final_response", "chain_end"]
    assert len(traced.messages) == 16


def test_a_turn_that_never_ends_has_delivered_its_finished_steps(watch: Watch):
    def program(config: Config) -> Any:
        stuck, go_on = threading.Event(), threading.Event()

        @tool
        def hang() -> str:
            """Wait."""
            stuck.set()
            go_on.wait(20)
            return "late"

        agent = create_agent(model(tool_request(call("hang", "h1")), "Done."), [hang], name="a")
        thread = threading.Thread(target=agent.invoke, args=({"messages": [("user", "Hang.")]}, config))
        thread.start()
        stuck.wait(20)
        observe.flush(20)
        kinds = [m["messageType"] for b in watch.server.bodies()[before:] for m in b["messages"]]
        go_on.set()
        thread.join(20)
        return kinds

    before = len(watch.server.bodies())
    traced = watch.trace(program, submission="incremental")
    assert traced.outcome == repr(["user_message", "chain_start", "task", "llm"])
    assert traced.transcript() == [("user", "Hang."), ("assistant", "Done.")]
