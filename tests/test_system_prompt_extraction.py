"""System prompts from the callback to both destinations: extraction, serialization, delivery."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.prompts import ChatPromptTemplate

from gati import GatiLangChainCallback, LLMCallEvent, observe
from gati.testing import ScriptedChatModel
from tests.servers import LocalServer

extract = GatiLangChainCallback._extract_system_and_user_prompts


class Typed:
    """A message class of an unknown library, with `type` and `content`."""

    def __init__(self, kind: str, content: str) -> None:
        self.type = kind
        self.content = content


class Roled:
    """A message class of an unknown library, with `role` and `content`."""

    def __init__(self, role: str, content: str) -> None:
        self.role = role
        self.content = content


def named(name: str, content: str) -> Any:
    """A message whose role is known only by its class name."""
    return type(name, (), {"content": content})()


# -- extraction ---------------------------------------------------------------------------


def test_a_string_is_user_text():
    assert extract(["Hello, how are you?"]) == ("", "Hello, how are you?")
    assert extract(["First prompt", "Second prompt"]) == ("", "First prompt\n\nSecond prompt")


def test_dicts_are_distinguished_by_role():
    prompts = [[{"role": "system", "content": "Be helpful."}, {"role": "user", "content": "What is 2+2?"}]]
    assert extract(prompts) == ("Be helpful.", "What is 2+2?")


def test_langchain_messages_are_distinguished():
    assert extract([[SystemMessage("Be helpful."), HumanMessage("What is 2+2?")]]) == ("Be helpful.", "What is 2+2?")


def test_objects_are_distinguished_by_type_or_role():
    assert extract([[Typed("system", "Write code."), Typed("human", "Add numbers.")]]) == (
        "Write code.",
        "Add numbers.",
    )
    assert extract([[Roled("system", "Write code."), Roled("user", "Add numbers.")]]) == ("Write code.", "Add numbers.")


def test_other_objects_are_distinguished_by_class_name():
    prompts = [[named("SystemMessage", "You are an expert."), named("HumanMessage", "Help me.")]]
    assert extract(prompts) == ("You are an expert.", "Help me.")


def test_several_system_messages_are_joined_with_a_blank_line():
    prompts = [[("system", "Be helpful."), ("system", "Be concise."), ("user", "Hello")]]
    assert extract(prompts) == ("Be helpful.\n\nBe concise.", "Hello")


def test_answers_are_kept_with_the_user_text():
    prompts = [[SystemMessage("Be helpful."), HumanMessage("What is AI?"), AIMessage("AI stands for…")]]
    assert extract(prompts) == ("Be helpful.", "What is AI?\n\nAI stands for…")


def test_mixed_formats_are_read():
    prompts = [[Typed("system", "One."), {"role": "system", "content": "Two."}], "Three.", [("human", "Four.")]]
    assert extract(prompts) == ("One.\n\nTwo.", "Three.\n\nFour.")


@pytest.mark.parametrize("nothing", [None, [], [[]], [None], ""])
def test_no_messages_are_two_empty_texts(nothing: Any):
    assert extract(nothing) == ("", "")


def test_unreadable_values_are_kept_as_text():
    assert extract([[SystemMessage("Be helpful."), 42]]) == ("Be helpful.", "42")


def test_the_callback_extracts_prompts():
    assert GatiLangChainCallback()._extract_system_and_user_prompts(["Hello"]) == ("", "Hello")


# -- serialization ------------------------------------------------------------------------


def event(system_prompt: str) -> LLMCallEvent:
    return LLMCallEvent(
        run_id="run-1", model="gpt-4", prompt="User message", system_prompt=system_prompt, completion="Response",
        tokens_in=10, tokens_out=20, latency_ms=150.5, cost=0.001,
    )  # fmt: skip


def test_an_event_contains_its_system_prompt_at_the_top_and_in_its_data():
    wire = event("Be helpful.").to_dict()
    assert wire["system_prompt"] == wire["data"]["system_prompt"] == "Be helpful."
    assert wire["prompt"] == wire["data"]["prompt"] == "User message"
    assert (wire["event_type"], wire["run_id"], wire["model"]) == ("llm_call", "run-1", "gpt-4")
    assert (wire["tokens_in"], wire["tokens_out"], wire["latency_ms"], wire["cost"]) == (10, 20, 150.5, 0.001)
    assert json.loads(json.dumps(wire)) == wire


def test_an_empty_system_prompt_is_recorded_as_empty():
    wire = event("").to_dict()
    assert wire["system_prompt"] == wire["data"]["system_prompt"] == ""


# -- delivery -----------------------------------------------------------------------------

PRODUCT = "7f3a9f0e-6f57-4b7e-9f5e-2f4d2a6f8f11"
TUTOR = ChatPromptTemplate([("system", "You are a {subject} tutor."), ("human", "{question}")], name="tutor")


def ask(question: str = "What is 5+3?") -> None:
    model = ScriptedChatModel(replies=["8"])
    assert (TUTOR | model).invoke({"subject": "math", "question": question}).content == "8"


def test_a_prompt_reaches_greenflash_as_a_template_with_its_variables(greenflash: LocalServer):
    observe.init(agent_name="school", api_key=greenflash.api_key, base_url=greenflash.url, product_id=PRODUCT)
    with observe.conversation("c-1", user_id="u-1"):
        ask()
    assert observe.flush(timeout=10.0)
    prompts = [body["systemPrompt"] for body in greenflash.bodies() if "systemPrompt" in body]
    assert prompts
    for prompt in prompts:
        assert prompt["externalPromptId"] == "tutor"
        assert [part["content"] for part in prompt["components"]] == ["You are a {{subject}} tutor."]
        assert prompt["variables"] == {"subject": "math"}


def test_a_text_reaches_greenflash_as_a_text(greenflash: LocalServer):
    observe.init(agent_name="school", api_key=greenflash.api_key, base_url=greenflash.url, product_id=PRODUCT)
    ScriptedChatModel(replies=["8"]).invoke([SystemMessage("You are a math tutor."), HumanMessage("What is 5+3?")])
    assert observe.flush(timeout=10.0)
    texts = [body["systemPrompt"]["content"] for body in greenflash.bodies() if "systemPrompt" in body]
    assert set(texts) == {"You are a math tutor."}


def test_a_prompt_passed_to_init_reaches_greenflash(greenflash: LocalServer):
    given = {"external_template_id": "tutor-v2", "content": "Teach {{subject}}.", "variables": {"subject": "math"}}
    observe.init(
        agent_name="school",
        api_key=greenflash.api_key,
        base_url=greenflash.url,
        product_id=PRODUCT,
        system_prompt=given,
    )
    ask()
    assert observe.flush(timeout=10.0)
    prompts = [body["systemPrompt"] for body in greenflash.bodies()]
    assert prompts
    for prompt in prompts:
        assert prompt["externalPromptId"] == "tutor-v2"
        assert [part["content"] for part in prompt["components"]] == ["Teach {{subject}}."]
        assert prompt["variables"] == {"subject": "math"}


def test_a_prompt_reaches_a_gati_backend_separate_from_the_user_text(backend: LocalServer):
    observe.init(agent_name="school", backend_url=backend.url, backend_api_key=backend.api_key)
    ask()
    assert observe.flush(timeout=10.0)
    (call,) = [event for event in backend.events() if event["event_type"] == "llm_call"]
    assert call["system_prompt"] == call["data"]["system_prompt"] == "You are a math tutor."
    assert call["prompt"] == "What is 5+3?"
    assert call["completion"] == "8"


def test_a_manual_event_reaches_a_gati_backend(backend: LocalServer):
    observe.init(agent_name="school", backend_url=backend.url, backend_api_key=backend.api_key)
    observe.track_event(event("System message"))
    assert observe.flush(timeout=10.0)
    (call,) = [one for one in backend.events() if one["event_type"] == "llm_call"]
    assert (call["system_prompt"], call["prompt"]) == ("System message", "User message")
