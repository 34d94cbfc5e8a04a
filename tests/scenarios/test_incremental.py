"""`submission="incremental"`: a turn that arrives in parts is the same turn in the end."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from langchain_core.tools import tool

from gati import observe
from tests.optional import CONTEXT, create_agent, spared
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
from tests.scenarios.harness import Config, Program, Seen, Watch
from tests.scenarios.scripts import asks, call, model

MODULES = (
    test_agents, test_approvals, test_chains, test_graphs, test_internal_calls, test_interrupts, test_message_types,
    test_middleware, test_prompts, test_resumes, test_retrieval, test_several_agents, test_stops, test_threads, test_tools,
)  # fmt: skip


_OF_THE_WHOLE = {"test_the_prompt_of_middleware_is_not_the_prompt_of_the_agent"}
"""Tells under which prompt the first words stand, which nobody knows when the first part goes."""


def _scenarios() -> list[Any]:
    """The scenarios that need nothing but a `Watch`."""

    def those_of(module: ModuleType) -> list[Any]:
        found = [(name, test) for name, test in vars(module).items() if name.startswith("test_") and callable(test)]
        return [
            pytest.param(test, id=f"{module.__name__.rsplit('.', 1)[-1]}.{name}", marks=getattr(test, "pytestmark", ()))
            for name, test in found
            if list(inspect.signature(test).parameters) == ["watch"] and name not in _OF_THE_WHOLE
        ]

    return [scenario for module in MODULES for scenario in those_of(module)]


def told(seen: Seen) -> str:
    """The messages, and the prompt that each model call stood under.

    What a person wrote stands under the prompt of the call that made the answer, which nobody
    knows when the first part goes: there the first call's prompt is as good.
    """
    messages = [m if m["messageType"] == "llm" else {**m, "prompt": None} for m in seen.messages]
    return tree(messages, unordered=True)


class InParts(Watch):
    """Runs the first program of a scenario whole and in parts, and compares what the server has then."""

    def __call__(self, golden: str, *programs: Program, **options: Any) -> Seen:
        for option in ("explicit", "unordered", "compare"):
            options.pop(option, None)
        if not (possible := [program for program in programs if not spared(self.test, program)]):
            pytest.skip(CONTEXT)
        whole = super().trace(possible[0], **options)
        parts = super().trace(possible[0], submission="incremental", **options)
        assert told(parts) == told(whole)
        return parts

    def trace(self, program: Program, **options: Any) -> Seen:
        return super().trace(program, submission="incremental", **options)


@pytest.mark.parametrize("scenario", _scenarios())
def test_incremental_submission_ends_with_the_same_messages(watch: Watch, scenario: Callable[[Watch], None]):
    scenario(InParts(watch.server, scenario.__name__))


def test_finished_steps_arrive_while_the_turn_continues(watch: Watch):
    """The tool of the second step waits until the first step has arrived."""
    arrived: list[list[str]] = []

    @tool
    def look() -> str:
        """Look what has arrived."""
        observe.flush(20)
        arrived.append([m["messageType"] for b in watch.server.bodies()[before:] for m in b["messages"]])
        return "seen"

    def program(config: Config) -> Any:
        agent = create_agent(model(asks(call("look", "l1")), asks(call("look", "l2")), "Done."), [look], name="a")
        return agent.invoke({"messages": [("user", "Look twice.")]}, config)["messages"][-1].text

    before = len(watch.server.bodies())
    seen = watch.trace(program, submission="incremental")
    first = ["user_message", "chain_start", "task", "llm"]
    assert arrived == [first, [*first, "task", "tool_call", "observation", "task", "llm"]]
    kinds = [m["messageType"] for m in seen.messages]
    assert kinds[-2:] == ["final_response", "chain_end"]
    assert len(seen.messages) == 16


def test_a_turn_that_never_ends_has_delivered_its_finished_steps(watch: Watch):
    def program(config: Config) -> Any:
        stuck, go_on = threading.Event(), threading.Event()

        @tool
        def hang() -> str:
            """Wait."""
            stuck.set()
            go_on.wait(20)
            return "late"

        agent = create_agent(model(asks(call("hang", "h1")), "Done."), [hang], name="a")
        thread = threading.Thread(target=agent.invoke, args=({"messages": [("user", "Hang.")]}, config))
        thread.start()
        stuck.wait(20)
        observe.flush(20)
        kinds = [m["messageType"] for b in watch.server.bodies()[before:] for m in b["messages"]]
        go_on.set()
        thread.join(20)
        return kinds

    before = len(watch.server.bodies())
    seen = watch.trace(program, submission="incremental")
    assert seen.outcome == repr(["user_message", "chain_start", "task", "llm"])
    assert seen.transcript() == [("user", "Hang."), ("assistant", "Done.")]
