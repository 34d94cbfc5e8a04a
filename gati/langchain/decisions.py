"""Read calls of decision models, which LangChain runs as chains with the run type "llm".

A decision model answers typed questions about a state. Its input and output are not chat messages.
"""

from __future__ import annotations

from typing import Any

from gati.langchain.snapshot import instance_dict, take_snapshot
from gati.trace.records import DECISION, Message

LLM = "llm"
"""`run_type` of a decision model's chain."""


def decision_call(request: Any) -> tuple[Any, ...]:
    """Return the fields of a `ModelCall`: the state and the questions of a call.

    They are nobody's words, so the message's role is no speaker's.
    """
    fields = request if type(request) is dict else {"state": request}
    questions = take_snapshot(fields.get("questions"))
    state = Message(DECISION, take_snapshot(fields.get("state")))
    return (), (tuple(state),), 1, {"questions": questions} if questions else None, None


def decision_result(response: Any) -> tuple[Any, ...]:
    """Return the fields of a `ModelResult`: the answers, the model's name and the usage of a response."""
    fields = response if type(response) is dict else instance_dict(response)
    usage, model = take_snapshot(fields.get("usage")), fields.get("model")
    answer = Message(
        "ai",
        "",
        additional={DECISION: take_snapshot(fields.get("answers"))},
        usage=usage if type(usage) is dict else None,
        response={"model_name": model} if type(model) is str else None,
    )
    return (tuple(answer),), None
