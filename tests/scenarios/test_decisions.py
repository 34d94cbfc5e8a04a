"""Decision models: their calls are model calls, and their decisions are never what anybody wrote or read."""

from __future__ import annotations

from typing import Any

import pytest

from tests.scenarios.harness import Config, Watch
from tests.scenarios.scripts import model

decisions = pytest.importorskip("langchain_core.decisions", reason="this langchain-core has no decision models")

REQUEST = {
    "state": "I want my money back",
    "questions": {"kind": decisions.Choice(instructions="Which?", criteria={"refund": None, "other": None})},
}


class Decider(decisions.BaseDecisionModel):  # type: ignore[misc, name-defined]  # the module may be missing
    model: str = "decider-1"

    @property
    def _provider(self) -> str:
        return "acme"

    def _classify(self, state: Any, questions: Any) -> Any:
        one = {"type": "choice", "choice": "refund", "probabilities": {"refund": 0.9, "other": 0.1}, "confidence": 0.8}
        usage = {"input_tokens": 120, "output_tokens": 3, "total_tokens": 123}
        answers = dict.fromkeys(questions, one)
        return decisions.ClassifierResponse.model_validate({"model": "decider-1", "answers": answers, "usage": usage})


def test_a_decision_model_in_a_conversation_is_a_model_call(watch: Watch):
    def program(config: Config) -> Any:
        return Decider().invoke(REQUEST, config | {"metadata": {"thread_id": "t"}})

    traced = watch.trace(program)
    (call,) = traced.of_type("llm")
    assert call["model"] == "decider-1"
    assert call["properties"]["tokens_in"] == 120
    assert call["output"]["decision"]["kind"]["choice"] == "refund"
    assert traced.transcript() == []


def test_the_call_of_a_router_is_internal_and_counted(watch: Watch):
    agents = pytest.importorskip("langchain.agents")
    routers = pytest.importorskip("langchain.agents.middleware.model_router")
    choices = {
        "refund": routers.ModelChoice(model("Here it is."), "money"),
        "other": routers.ModelChoice(model("?"), "else"),
    }

    def program(config: Config) -> Any:
        with pytest.warns(Warning, match="beta"):
            router = routers.ModelRouterMiddleware(instructions="Pick.", classifier=Decider(), choices=choices)
        agent = agents.create_agent(model("unused"), [], middleware=[router])
        return agent.invoke({"messages": [("user", "I want my money back")]}, config)["messages"][-1].content

    traced = watch.trace(program)
    decision = next(m for m in traced.of_type("llm") if m["model"] == "decider-1")
    assert decision["properties"]["internal"] is True
    (end,) = traced.of_type("chain_end")
    assert end["properties"]["model_calls"] == 2
    assert traced.transcript() == [("user", "I want my money back"), ("assistant", "Here it is.")]
