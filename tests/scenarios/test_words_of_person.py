"""What a person said, beside the values, prompts and requests of the program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.prompts import ChatPromptTemplate

from gati import observe
from gati.testing import ScriptedChatModel, capture
from tests.scenarios.scripts import call, tool_request

QUESTION = "Which city should I see first?"


def told(program: Callable[[], Any], role: str | None = None) -> list[Any]:
    """Return what is told of a program in a conversation: the texts of a role, or all messages."""
    with capture() as captured, observe.conversation("c"):
        program()
    return [text for by, text in captured.transcript() if by == role] if role else captured.transcript()


@pytest.mark.parametrize("streamed", [False, True])
def test_a_question_is_told_once_if_a_loop_appends_the_results_to_its_prompt(streamed: bool) -> None:
    def reply(messages: Any) -> Any:
        return "It has no memory." if messages[-1].type == "tool" else tool_request(call("pods", id="t1"))

    def program() -> None:
        bot = ScriptedChatModel(respond=reply)
        for question in ("Why does my pod crash?", "And why is it slow?"):
            prompt = ChatPromptTemplate.from_messages([("system", "You help. {version}"), ("human", "{query}")])
            given = {"query": question, "version": "4.16"}
            while True:
                chain = prompt | bot
                made = sum_of(chain.stream(given)) if streamed else chain.invoke(given)
                if not made.tool_calls:
                    break
                prompt.append(AIMessage("", tool_calls=made.tool_calls))
                prompt.append(ToolMessage("pod-a", tool_call_id="t1"))

    assert told(program, "user") == ["Why does my pod crash?", "And why is it slow?"]


def sum_of(chunks: Any) -> Any:
    first, *others = chunks
    for chunk in others:
        first += chunk
    return first
