"""A decision model for middleware that asks one."""

from __future__ import annotations

from typing import Any

import pytest


def decider(kind: str, **answer: Any) -> Any:
    """Return a decision model that answers every question with `answer`."""
    decisions = pytest.importorskip("langchain_core.decisions", reason="this langchain-core has no decision models")

    class Decider(decisions.BaseDecisionModel):  # type: ignore[misc, name-defined]  # the module may be missing
        model: str = "decider-1"

        @property
        def _provider(self) -> str:
            return "acme"

        def _classify(self, state: Any, questions: Any) -> Any:
            usage = {"input_tokens": 120, "output_tokens": 3, "total_tokens": 123}
            answers = {question: {"type": kind, **answer} for question in questions}
            return decisions.ClassifierResponse.model_validate(
                {"model": "decider-1", "answers": answers, "usage": usage}
            )

    return Decider()
