"""The answer of a step whose output contains it at any depth, beside other values."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.prompts import ChatPromptTemplate
from pydantic import BaseModel

from gati import observe
from gati.testing import ScriptedChatModel, capture
from tests.scenarios.scripts import call, tool_request

ANSWER = "A bicycle has two wheels."
NONE_FOUND = "The requested information is not available."

SHAPES: dict[str, Callable[[str, str], Any]] = {
    "question and answer": lambda question, answer: (question, answer),
    "answer and sources": lambda question, answer: (answer, ["faq.md"]),
    "answer and code": lambda question, answer: (answer, 200),
    "history twice": lambda question, answer: ([(question, answer)], [(question, answer)]),
    "empty box and messages": lambda question, answer: ("", [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]),
    "typed response": lambda question, answer: {"type": "text", "response": {"text": answer}, "more": ["And a tricycle?"]},
    "status": lambda question, answer: {"status": "success", "data": {"text": answer}},
    "choices": lambda question, answer: {"object": "chat.completion", "choices": [{"message": {"role": "assistant", "content": answer}}]},
    "edited": lambda question, answer: (f"**{answer}**", {"sources": []}),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_the_answer_is_the_text_in_the_output_that_a_model_wrote(shape: str) -> None:
    chain = ChatPromptTemplate.from_messages([("system", "Be kind."), ("human", "{q}")]) | ScriptedChatModel(
        replies=[ANSWER]
    )

    @observe.step
    def handle(question: str) -> Any:
        return SHAPES[shape](question, chain.invoke({"q": question}).text)

    with capture() as captured, observe.conversation("c"):
        handle("What is a bicycle?")
    user, (role, answer) = captured.transcript()
    assert user == ("user", "What is a bicycle?")
    assert (role, answer.strip("*")) == ("assistant", ANSWER)


class Sorted(BaseModel):
    category: str
    reply: str


def test_the_reply_in_a_structured_output_is_the_answer_of_the_step() -> None:
    request = tool_request(call("Sorted", category="wheels", reply=ANSWER))
    model = ScriptedChatModel(replies=[request]).with_structured_output(Sorted)

    @observe.step
    def handle(question: str) -> Any:
        found: Any = model.invoke(question)
        return {"category": found.category, "reply": found.reply}

    with capture() as captured, observe.conversation("c"):
        handle("What is a bicycle?")
    assert captured.transcript()[-1] == ("assistant", ANSWER)


@pytest.mark.parametrize("answers", [(NONE_FOUND, ANSWER), (NONE_FOUND, NONE_FOUND)])
def test_an_answer_in_the_same_words_as_before_comes_before_a_message_of_a_tool(answers: tuple[str, str]) -> None:
    model = ScriptedChatModel(replies=list(answers))

    @observe.step
    def handle(question: str, history: list[Any]) -> Any:
        sources = {"role": "tool", "content": json.dumps({"citations": []})}
        return [sources, {"role": "assistant", "content": model.invoke(f"Answer: {question}").text}]

    history: list[Any] = []
    with capture() as captured, observe.conversation("c"):
        for question, answer in zip(("What is it?", "And a tricycle?"), answers, strict=True):
            handle(question, list(history))
            history += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    assert [text for role, text in captured.transcript() if role == "assistant"] == list(answers)
