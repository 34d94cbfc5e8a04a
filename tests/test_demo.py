"""The sample agent, with and without gati."""

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


def test_agent_answers_both_questions():
    assert demo.ask_questions(demo.create_model(), "c-1") == ANSWERS


def test_conversation_has_two_turns_with_a_tool_and_a_retriever():
    with capture() as captured:
        demo.ask_questions(demo.create_model(), "c-1")
    first, second = captured.conversation("c-1")
    assert captured.transcript() == [
        ("user", demo.QUESTIONS[0]), ("assistant", ANSWERS[0]), ("user", demo.QUESTIONS[1]), ("assistant", ANSWERS[1]),
    ]  # fmt: skip
    for turn in (first, second):
        assert turn.conversation.user_id == "ada"
        assert [event.tool_name for event in turn.events if isinstance(event, ToolCallEvent)] == ["calculate"]
        assert [len(event.documents) for event in turn.events if isinstance(event, RetrievalEvent)] == [2]
        calls = [call for call in turn.events if isinstance(call, LLMCallEvent)]
        assert all(call.cost and call.tokens_in and call.time_to_first_token_ms is not None for call in calls)
    last = [call for call in second.events if isinstance(call, LLMCallEvent)][-1]
    assert last.usage is not None
    assert (last.usage.cache_read_tokens or 0) > 0


def test_model_is_scripted_without_a_key_and_real_with_one(monkeypatch: pytest.MonkeyPatch):
    assert isinstance(demo.create_model(), ScriptedChatModel)
    openai = pytest.importorskip("langchain_openai")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    assert isinstance(demo.create_model(), openai.ChatOpenAI)


@pytest.mark.parametrize(("expression", "value"), [("2 * 3 * 18.00 * 0.9", 97.2), ("(1 + 2) / 4 - 1", -0.25)])
def test_calculator_evaluates_arithmetic(expression: str, value: float):
    assert demo.calculate.invoke({"expression": expression}) == value


@pytest.mark.parametrize("expression", ["2 ** 9999", "__import__('os')", "x", "'a' * 9"])
def test_calculator_rejects_everything_else(expression: str):
    with pytest.raises(ValueError, match="cannot calculate"):
        demo.calculate.invoke({"expression": expression})
