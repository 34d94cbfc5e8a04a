"""Middleware of langchain around model calls: whose prompt, which calls are internal, and what the user reads."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import (
    ClearToolUsesEdit,
    ContextEditingMiddleware,
    LLMToolSelectorMiddleware,
    ModelCallLimitMiddleware,
    ModelFallbackMiddleware,
    PIIMiddleware,
    SummarizationMiddleware,
)
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver

from tests.ecosystem.deciders import decider
from tests.optional import import_optional, middleware
from tests.scenarios.harness import Watch, each_method
from tests.scenarios.scripts import call, delete, model, reply, tool_request, turns, weather

ASKED = {"messages": [HumanMessage("How is the weather in Oslo?", id="h1")]}
BOTH = "invoke ainvoke"
OSLO = tool_request(call("weather", city="Oslo"))


def test_context_editing_leaves_the_conversation_as_it_was(watch: Watch):
    def make() -> Any:
        edit = ClearToolUsesEdit(trigger=1, keep=0)
        return create_agent(
            model(OSLO, "It is sunny."),
            [weather],
            middleware=[ContextEditingMiddleware(edits=[edit])],
            system_prompt="You know the weather.",
        )

    watch(
        """
        prompt agent/model "You know the weather."
        user_message   "How is the weather in Oslo?"
        chain_start    LangGraph
          task         model
            llm        gpt-4o-mini 10>5 $ calls=weather
          task         tools
            tool_call  weather {"city":"Oslo"}
              observation {"output":"sunny in Oslo"}
          task         model
            llm        gpt-4o-mini 10>5 $
          final_response "It is sunny."
          chain_end    completed
        """,
        *each_method(make, ASKED, only=BOTH),
    )


@pytest.mark.slow
def test_a_tool_selector_is_internal_and_has_its_own_prompt(watch: Watch):
    def make() -> Any:
        selected = tool_request(call("ToolSelectionResponse", "s1", tools=["weather"]))
        selector = LLMToolSelectorMiddleware(model=model(selected), max_tools=1, system_prompt="Select tools.")
        return create_agent(
            model(OSLO, "It is sunny."), [weather, delete], middleware=[selector], system_prompt="You help."
        )

    watch(
        """
        prompt @1 agent/model "You help."
        prompt @2 agent/model/tool_selection "Select tools.\\nIMPORTANT: List the tool names in order of relevance, with the most relevant first. If you exceed the maximum number of tools, only the first 1 will be used."
        user_message   "How is the weather in Oslo?"
        chain_start    LangGraph
          task         model
            llm        gpt-4o-mini 10>5 $ internal calls=ToolSelectionResponse @2
            llm        gpt-4o-mini 10>5 $ calls=weather @1
          task         tools
            tool_call  weather {"city":"Oslo"}
              observation {"output":"sunny in Oslo"}
          task         model
            llm        gpt-4o-mini 10>5 $ internal calls=ToolSelectionResponse @2
            llm        gpt-4o-mini 10>5 $ @1
          final_response "It is sunny." @1
          chain_end    completed
        """,
        *each_method(make, ASKED, only=BOTH),
    )


@pytest.mark.slow
def test_a_model_call_limit_ends_the_turn_with_its_own_answer(watch: Watch):
    def make() -> Any:
        return create_agent(model(OSLO), [weather], middleware=[ModelCallLimitMiddleware(run_limit=2)])

    watch(
        """
        user_message   "How is the weather in Oslo?"
        chain_start    LangGraph
          task         ModelCallLimitMiddleware.before_model
          task         model
            llm        gpt-4o-mini 10>5 $ calls=weather
          task         ModelCallLimitMiddleware.after_model => {"thread_model_call_count":1,"run_model_call_count":1}
          task         tools
            tool_call  weather {"city":"Oslo"}
              observation {"output":"sunny in Oslo"}
          task         ModelCallLimitMiddleware.before_model
          task         model
            llm        gpt-4o-mini 10>5 $ calls=weather
          task         ModelCallLimitMiddleware.after_model => {"thread_model_call_count":2,"run_model_call_count":2}
          task         tools
            tool_call  weather {"city":"Oslo"}
              observation {"output":"sunny in Oslo"}
          task         ModelCallLimitMiddleware.before_model => {"jump_to":"end"}
          final_response "Model call limits exceeded: run limit (2/2)"
          chain_end    completed
        """,
        *each_method(make, ASKED, only=BOTH),
    )


@pytest.mark.slow
def test_a_fallback_after_a_refusal_is_the_answer(watch: Watch):
    def make() -> Any:
        refused = reply([{"type": "refusal", "refusal": "I cannot talk about Oslo."}])
        return create_agent(
            model(refused),
            middleware=[
                ModelFallbackMiddleware(model("It is sunny.", model_name="gpt-4o")),
                middleware("ModelRefusalMiddleware"),
            ],
            system_prompt="You help.",
        )

    watch(
        """
        prompt agent/model "You help."
        user_message   "How is the weather in Oslo?"
        chain_start    LangGraph
          task         model
            llm        gpt-4o-mini 10>5 $ internal => "I cannot talk about Oslo."
            llm        gpt-4o 10>5 $
          final_response "It is sunny."
          chain_end    completed
        """,
        *each_method(make, ASKED, only=BOTH),
    )


@pytest.mark.slow
def test_a_refusal_can_end_the_turn_as_an_error(watch: Watch):
    def make() -> Any:
        refused = reply([{"type": "refusal", "refusal": "I cannot talk about Oslo."}])
        return create_agent(model(refused), middleware=[middleware("ModelRefusalMiddleware")])

    watch(
        """
        user_message   "How is the weather in Oslo?"
        chain_start    LangGraph
          task         model error ModelRefusalError: Model refused to produce the requested output: I cannot talk about Oslo.
            llm        gpt-4o-mini 10>5 $ internal => "I cannot talk about Oslo."
          chain_end    error ModelRefusalError: Model refused to produce the requested output: I cannot talk about Oslo.
        """,
        *each_method(make, ASKED, only=BOTH),
    )


@pytest.mark.slow
def test_a_retried_model_call_is_two_calls_and_one_answer(watch: Watch):
    def make() -> Any:
        retry = middleware("ModelRetryMiddleware", max_retries=1, initial_delay=0.0, jitter=False)
        return create_agent(model(RuntimeError("overloaded"), "It is sunny."), middleware=[retry])

    watch(
        """
        user_message   "How is the weather in Oslo?"
        chain_start    LangGraph
          task         model
            llm        gpt-4o-mini ?>? error RuntimeError: overloaded
            llm        gpt-4o-mini 10>5 $
          final_response "It is sunny."
          chain_end    completed
        """,
        *each_method(make, ASKED, only=BOTH),
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*beta")
def test_a_model_router_is_internal_and_the_chosen_model_answers(watch: Watch):
    choice = import_optional("langchain.agents.middleware", "ModelChoice")

    def make() -> Any:
        router = middleware(
            "ModelRouterMiddleware",
            instructions="Which model?",
            classifier=decider("choice", choice="fast", probabilities={"fast": 0.9, "deep": 0.1}, confidence=0.8),
            choices={
                "fast": choice(model("It is sunny.", model_name="gpt-4o"), "easy"),
                "deep": choice(model("never"), "hard"),
            },
        )
        return create_agent(model("never"), middleware=[router], system_prompt="You help.")

    watch(
        """
        prompt agent/model "You help."
        user_message   "How is the weather in Oslo?"
        chain_start    LangGraph
          task         ModelRouterMiddleware.before_agent => {"model_route":{"type":"choice","choice":"fast","probabilities":{"fast":0.9,"deep":0.1},"confidence":0.8}}
            llm        decider-1 120>3 internal input decision:{"role":"human","content":"How is the weather in Oslo?"}
          task         model
            llm        gpt-4o 10>5 $
          final_response "It is sunny."
          chain_end    completed
        """,
        *each_method(make, ASKED, only=BOTH),
    )


@pytest.mark.slow
def test_redacted_output_is_the_answer_of_the_call_that_made_it(watch: Watch):
    def make() -> Any:
        redact = PIIMiddleware("email", apply_to_input=False, apply_to_output=True)
        return create_agent(model("Write to ada@example.org."), middleware=[redact], system_prompt="You help.")

    watch(
        """
        prompt agent/model "You help."
        user_message   "How is the weather in Oslo?"
        chain_start    LangGraph
          task         PIIMiddleware[email].before_model
          task         model
            llm        gpt-4o-mini 10>5 $ => "Write to ada@example.org."
          task         PIIMiddleware[email].after_model
          final_response "Write to [REDACTED_EMAIL]."
          chain_end    completed
        """,
        *each_method(make, ASKED, only=BOTH),
    )


@pytest.mark.slow
def test_redacted_input_is_still_what_the_user_wrote(watch: Watch):
    given = {"messages": [HumanMessage("I am ada@example.org.", id="h1")]}

    def make() -> Any:
        return create_agent(model("Hello."), middleware=[PIIMiddleware("email", apply_to_input=True)])

    watch(
        """
        user_message   "I am ada@example.org."
        chain_start    LangGraph
          task         PIIMiddleware[email].before_model
          task         model
            llm        gpt-4o-mini 10>5 $ input human:"I am [REDACTED_EMAIL]."
          task         PIIMiddleware[email].after_model
          final_response "Hello."
          chain_end    completed
        """,
        *each_method(make, given, only=BOTH),
    )


@pytest.mark.slow
def test_blocked_input_ends_the_turn_as_an_error(watch: Watch):
    given = {"messages": [HumanMessage("I am ada@example.org.", id="h1")]}

    def make() -> Any:
        return create_agent(model("never"), middleware=[PIIMiddleware("email", strategy="block")])

    watch(
        """
        user_message   "I am ada@example.org."
        chain_start    LangGraph
          task         PIIMiddleware[email].before_model error PIIDetectionError: Detected 1 instance(s) of email in text content
          chain_end    error PIIDetectionError: Detected 1 instance(s) of email in text content
        """,
        *each_method(make, given, only=BOTH),
    )


@pytest.mark.slow
def test_provider_tool_search_offers_the_tool_and_the_search(watch: Watch):
    def make() -> Any:
        search = middleware("ProviderToolSearchMiddleware", searchable_tools=["weather"])
        return create_agent(model(OSLO, "It is sunny."), [weather], middleware=[search])

    watch(
        """
        user_message   "How is the weather in Oslo?"
        chain_start    LangGraph
          task         model
            llm        gpt-4o-mini 10>5 $ calls=weather
          task         tools
            tool_call  weather {"city":"Oslo"}
              observation {"output":"sunny in Oslo"}
          task         model
            llm        gpt-4o-mini 10>5 $
          final_response "It is sunny."
          chain_end    completed
        """,
        *each_method(make, ASKED, only=BOTH),
    )


@pytest.mark.slow
def test_a_summary_in_the_second_turn_is_internal(watch: Watch):
    def make() -> Any:
        summarize = SummarizationMiddleware(
            model("They asked for Oslo."),
            trigger=("messages", 3),
            keep=("messages", 1),
            token_counter=len,
            summary_prompt="Sum up: {messages}",
        )
        return create_agent(
            model("It is sunny.", "It rains."),
            middleware=[summarize],
            checkpointer=InMemorySaver(),
            system_prompt="You help.",
        )

    second = {"messages": [HumanMessage("And in Rome?", id="h2")]}
    watch(
        """
        conversation c-1 of anonymous
        prompt agent/model "You help."
        user_message   "How is the weather in Oslo?"
        chain_start    LangGraph
          task         SummarizationMiddleware.before_model
          task         model
            llm        gpt-4o-mini 10>5 $
          final_response "It is sunny."
          chain_end    completed
        user_message   "And in Rome?"
        chain_start    LangGraph
          task         SummarizationMiddleware.before_model
            llm        gpt-4o-mini 10>5 $ internal input human:"Sum up: <message type=\\"human\\">How is the weather in Oslo?</message>\\n<message type=\\"ai\\">It is sunny.</message>" => "They asked for Oslo."
          task         model
            llm        gpt-4o-mini 10>5 $ input human:"Here is a summary of the conversation to date:\\n\\nThey asked for Oslo."
          final_response "It rains."
          chain_end    completed
        """,
        *turns(make, ASKED, second),
    )


@pytest.mark.slow
def test_streamed_answers_are_those_of_invoke(watch: Watch):
    def make() -> Any:
        redact = PIIMiddleware("email", apply_to_input=False, apply_to_output=True)
        return create_agent(model(AIMessage("Write to ada@example.org.")), middleware=[redact])

    watch(
        """
        user_message   "How is the weather in Oslo?"
        chain_start    LangGraph
          task         PIIMiddleware[email].before_model
          task         model
            llm        gpt-4o-mini 10>10 $ => "Write to ada@example.org."
          task         PIIMiddleware[email].after_model
          final_response "Write to [REDACTED_EMAIL]."
          chain_end    completed
        """,
        *each_method(make, ASKED, only="stream astream"),
    )
