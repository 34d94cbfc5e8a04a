"""The agent of the demo, run without gati and recorded by gati."""

from __future__ import annotations

import pytest

from gati import demo
from gati.events import LLMCallEvent, RetrievalEvent, ToolCallEvent
from gati.testing import capture
from gati.testing.scripted_model import ScriptedChatModel

ANSWERS = [
    "Two city bikes for three days come to 97.20; the 10 % for three days are already off.",
    "Two hours late would add 16.00: 4.00 an hour for each of the two bikes.",
]


def test_the_demo_answers_both_questions():
    assert demo.talk(demo.model(), "c-1") == ANSWERS


def test_the_demo_is_one_conversation_of_two_turns_with_tool_and_retriever():
    with capture() as captured:
        demo.talk(demo.model(), "c-1")
    first, second = captured.conversation("c-1")
    assert captured.transcript() == [
        ("user", demo.QUESTIONS[0]), ("assistant", ANSWERS[0]), ("user", demo.QUESTIONS[1]), ("assistant", ANSWERS[1]),
    ]  # fmt: skip
    for turn in (first, second):
        assert turn.conversation.user_id == "ada"
        assert [tool.tool_name for tool in turn.events if isinstance(tool, ToolCallEvent)] == ["calculate"]
        assert [len(found.documents) for found in turn.events if isinstance(found, RetrievalEvent)] == [2]
        calls = [call for call in turn.events if isinstance(call, LLMCallEvent)]
        assert all(call.cost and call.tokens_in and call.time_to_first_token_ms is not None for call in calls)
    last = [call for call in second.events if isinstance(call, LLMCallEvent)][-1]
    assert last.usage is not None
    assert (last.usage.cache_read_tokens or 0) > 0


def test_the_demo_uses_a_scripted_model_unless_there_is_a_key(monkeypatch: pytest.MonkeyPatch):
    assert isinstance(demo.model(), ScriptedChatModel)
    openai = pytest.importorskip("langchain_openai")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    assert isinstance(demo.model(), openai.ChatOpenAI)


@pytest.mark.parametrize(("expression", "value"), [("2 * 3 * 18.00 * 0.9", 97.2), ("(1 + 2) / 4 - 1", -0.25)])
def test_the_calculator_evaluates_arithmetic(expression: str, value: float):
    assert demo.calculate.invoke({"expression": expression}) == value


@pytest.mark.parametrize("expression", ["2 ** 9999", "__import__('os')", "x", "'a' * 9"])
def test_the_calculator_rejects_everything_else(expression: str):
    with pytest.raises(ValueError, match="cannot calculate"):
        demo.calculate.invoke({"expression": expression})
