"""Models called directly: each call is a turn."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.language_models.fake import FakeListLLM, FakeStreamingListLLM
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

from tests.scenarios.harness import Config, Watch, each_method
from tests.scenarios.scripts import call, model, reply, tool_request


def test_a_bare_model_is_a_turn(watch: Watch):
    watch(
        """
        user_message   "Hello?"
        llm            gpt-4o-mini 10>5 $
          assistant_message "Hello, how are you?"
        """,
        *each_method(lambda: model("Hello, how are you?"), "Hello?"),
    )


def test_the_system_message_of_a_bare_model_is_the_prompt(watch: Watch):
    given = [SystemMessage("You are a pirate."), HumanMessage("Hello?")]
    watch(
        """
        prompt agent "You are a pirate."
        user_message   "Hello?"
        llm            gpt-4o-mini 10>5 $
          assistant_message "Ahoy!"
        """,
        *each_method(lambda: model("Ahoy!"), given),
    )


@pytest.mark.parametrize(
    "given",
    [
        [("system", "You are a pirate."), ("user", "Hello?")],
        [{"role": "system", "content": "You are a pirate."}, {"role": "user", "content": "Hello?"}],
        [
            SystemMessage([{"type": "text", "text": "You are a pirate."}]),
            HumanMessage([{"type": "text", "text": "Hello?"}]),
        ],
    ],
    ids=["tuples", "dicts", "blocks"],
)
def test_a_bare_model_accepts_every_form_of_messages(watch: Watch, given: Any):
    traced = watch.trace(lambda config: model("Ahoy!").invoke(given, config))
    assert traced.transcript() == [("user", "Hello?"), ("assistant", "Ahoy!")]
    assert traced.messages[0]["prompt"] == {"externalPromptId": "agent", "content": "You are a pirate."}


def test_each_prompt_of_a_batch_is_a_turn(watch: Watch):
    def program(config: Config) -> Any:
        return model(respond=lambda messages: f"{messages[-1].text}!").batch(["one", "two"], config)

    async def aprogram(config: Config) -> Any:
        return await model(respond=lambda messages: f"{messages[-1].text}!").abatch(["one", "two"], config)

    watch(
        """
        conversation ~
        user_message   "one"
        llm            gpt-4o-mini 4>5 $
          assistant_message "one!"
        conversation ~
        user_message   "two"
        llm            gpt-4o-mini 4>5 $
          assistant_message "two!"
        """,
        program,
        aprogram,
        unordered=True,
    )


def test_generate_with_two_prompts_is_two_turns(watch: Watch):
    watch(
        """
        conversation ~
        user_message   "one"
        llm            gpt-4o-mini 4>5 $
          assistant_message "one!"
        conversation ~
        user_message   "two"
        llm            gpt-4o-mini 4>5 $
          assistant_message "two!"
        """,
        lambda config: model(respond=lambda messages: f"{messages[-1].text}!").generate(
            [[HumanMessage("one")], [HumanMessage("two")]], **config
        ),
        unordered=True,
    )


def test_an_answer_from_the_cache_costs_nothing(watch: Watch):
    def program(config: Config) -> Any:
        cached = model("Four.", cache=InMemoryCache())
        thread = {**config, "metadata": {"thread_id": "c-1"}}
        return [cached.invoke("2+2?", thread), cached.invoke("2+2?", thread)]

    traced = watch(
        """
        conversation c-1 of anonymous
        user_message   "2+2?"
        llm            gpt-4o-mini 10>5 $
          assistant_message "Four."
        user_message   "2+2?"
        llm            gpt-4o-mini 10>5 cached
          assistant_message "Four."
        """,
        program,
    )
    assert [call["properties"]["cost_usd"] for call in traced.of_type("llm")][1] is None


def test_a_completion_model_is_a_turn(watch: Watch):
    watch(
        """
        user_message   "Complete this:"
        llm            ? ?>?
          assistant_message "and so it was"
        """,
        *each_method(lambda: FakeListLLM(responses=["and so it was"]), "Complete this:", only="invoke ainvoke"),
        *each_method(
            lambda: FakeStreamingListLLM(responses=["and so it was"]), "Complete this:", only="stream astream"
        ),
    )


def test_a_reply_with_only_tool_calls_is_not_an_answer(watch: Watch):
    traced = watch(
        """
        user_message   "1+1?"
        llm            gpt-4o-mini 10>5 $ calls=calculator
        """,
        *each_method(lambda: model(tool_request(call("calculator", expression="1+1"))), "1+1?"),
    )
    request = {"name": "calculator", "args": {"expression": "1+1"}, "id": "c1"}
    assert traced.of_type("llm")[0]["output"]["tool_calls"] == [request]


def test_text_next_to_tool_calls_is_a_thought(watch: Watch):
    watch(
        """
        user_message   "1+1?"
        llm            gpt-4o-mini 10>5 $ calls=calculator
          thought      "Let me use the calculator."
        """,
        *each_method(
            lambda: model(tool_request(call("calculator", expression="1+1"), text="Let me use the calculator.")), "1+1?"
        ),
    )


def test_reasoning_is_a_thought_and_never_part_of_the_answer(watch: Watch):
    blocks = [{"type": "thinking", "thinking": "Two and two…", "signature": "s"}, {"type": "text", "text": "Four."}]
    watch(
        """
        user_message   "2+2?"
        llm            gpt-4o-mini 10>5 $
          thought      "Two and two…"
          assistant_message "Four."
        """,
        *each_method(lambda: model(reply(blocks)), "2+2?", only="invoke ainvoke"),
    )


def test_a_model_that_raises_is_a_turn_without_an_answer(watch: Watch):
    watch(
        """
        user_message   "Hello?"
        llm            gpt-4o-mini ?>? error RuntimeError: overloaded
        """,
        *each_method(lambda: model(RuntimeError("overloaded")), "Hello?"),
    )


def test_media_are_described_but_not_sent(watch: Watch):
    given = [
        HumanMessage(
            [
                {"type": "text", "text": "What is this?"},
                {"type": "image", "base64": "iVBORw0KGgo=", "mime_type": "image/png"},
                {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}},
            ]
        )
    ]
    traced = watch.trace(lambda config: model("A cat.").invoke(given, config))
    assert traced.transcript() == [("user", "What is this?"), ("assistant", "A cat.")]
    picture, link = traced.messages[0]["properties"]["attachments"]
    assert "iVBORw0KGgo=" not in str(traced.requests)
    kept = picture["image_url"]["url"]  # LangChain moves it there before it calls the model
    assert (kept["mime"], kept["bytes"], len(kept["sha256"])) == ("image/png", 8, 64)
    assert link["image_url"] == {"url": "https://example.com/cat.png"}


def test_a_message_may_consist_of_an_image_only(watch: Watch):
    given = [HumanMessage([{"type": "image", "base64": "iVBORw0KGgo=", "mime_type": "image/png"}])]
    traced = watch.trace(lambda config: model("A cat.").invoke(given, config))
    assert [m["messageType"] for m in traced.messages] == ["user_message", "llm", "assistant_message"]


SEARCHES = {
    "anthropic": [
        {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "weather"}},
        {"type": "web_search_tool_result", "tool_use_id": "s1", "content": []},
    ],
    "openai": [{"type": "web_search_call", "id": "s1", "status": "completed", "action": {"query": "weather"}}],
    "openai mcp": [{"type": "mcp_call", "id": "s1", "name": "forecast", "arguments": "{}", "output": "sunny"}],
    "v1": [
        {"type": "server_tool_call", "id": "s1", "name": "code_interpreter", "args": {"code": "1"}},
        {"type": "server_tool_result", "tool_call_id": "s1", "status": "success", "output": "1"},
    ],
}


@pytest.mark.parametrize("blocks", SEARCHES.values(), ids=SEARCHES)
def test_the_text_beside_tools_that_the_provider_ran_is_the_answer_and_no_thought(watch: Watch, blocks: list[Any]):
    content = [{"type": "text", "text": "I look. "}, *blocks, {"type": "text", "text": "It is sunny."}]
    traced = watch.trace(lambda config: model(AIMessage(content)).invoke("Weather?", config))
    assert traced.transcript() == [("user", "Weather?"), ("assistant", "I look. It is sunny.")]
    assert traced.of_type("thought") == []
    (call,) = traced.of_type("llm")
    assert "text" not in call["output"]
    assert [request["server"] for request in call["output"]["tool_calls"]] == [True]


def test_text_beside_a_tool_of_the_program_stays_a_thought_if_the_provider_ran_one_too(watch: Watch):
    request = {"name": "calculator", "args": {"expression": "1"}, "id": "c1", "type": "tool_call"}
    content: Any = [*SEARCHES["anthropic"], {"type": "text", "text": "Now I calculate."}]
    traced = watch.trace(lambda config: model(AIMessage(content, tool_calls=[request])).invoke("Weather?", config))
    assert [m["output"]["text"] for m in traced.of_type("thought")] == ["Now I calculate."]
    assert traced.transcript() == [("user", "Weather?")]
