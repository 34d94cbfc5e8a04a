"""`ChatOpenAI` with a scripted OpenAI server: chat completions and responses, streamed and not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.runnables import Runnable
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from tests.openai_server import OpenAIServer, Reply, openai_server
from tests.scenarios.harness import Config, Program, Watch, each_method

ANSWER = Reply(
    "The capital of France is Paris.", input_tokens=1200, cached_tokens=1000, output_tokens=60, reasoning_tokens=48
)


@pytest.fixture(scope="module")
def served() -> Iterator[OpenAIServer]:
    with openai_server() as running:
        yield running


@pytest.fixture
def openai(served: OpenAIServer) -> OpenAIServer:
    served.restart(ANSWER)
    return served


def chat(openai: OpenAIServer, **more: Any) -> ChatOpenAI:
    options = {"model": "gpt-4o-mini", "stream_usage": True, "max_retries": 0, **more}
    return ChatOpenAI(base_url=openai.url, api_key="k", **options)


class Fact(BaseModel):
    """A fact."""

    country: str
    capital: str


@pytest.mark.parametrize("api", [{}, {"use_responses_api": True}], ids=["chat", "responses"])
def test_tokens_and_cost_follow_the_usage_of_the_provider(watch: Watch, openai: OpenAIServer, api: Config):
    traced = watch(
        """
        user_message   "Capital of France?"
        llm            gpt-4o-mini-2024-07-18 1200>60 $
          assistant_message "The capital of France is Paris."
        """,
        *each_method(lambda: chat(openai, **api), "Capital of France?"),
    )
    (call,), (answer,) = traced.of_type("llm"), traced.of_type("assistant_message")
    properties = call["properties"]
    assert (properties["cache_read_tokens"], properties["reasoning_tokens"], properties["total_tokens"]) == (
        1000,
        48,
        1260,
    )
    assert properties["cost_usd"] == pytest.approx((200 * 0.15 + 1000 * 0.075 + 60 * 0.6) / 1e6)
    assert properties["provider"] == "openai"
    assert 0 < properties["time_to_first_token_ms"] <= properties["latency_ms"]  # the last program streams
    assert call["output"]["finish_reason"] in ("stop", "completed")
    assert answer["model"] == "gpt-4o-mini-2024-07-18"


def test_an_answer_that_is_not_streamed_has_no_first_token(watch: Watch, openai: OpenAIServer):
    traced = watch.trace(lambda config: chat(openai).invoke("Hi", config))
    assert "time_to_first_token_ms" not in traced.of_type("llm")[0]["properties"]


def test_tokens_that_a_stream_does_not_report_are_unknown(watch: Watch, openai: OpenAIServer):
    watch(
        """
        user_message   "Hi"
        llm            gpt-4o-mini-2024-07-18 ?>?
          assistant_message "The capital of France is Paris."
        """,
        *each_method(lambda: chat(openai, stream_usage=False), "Hi", only="stream astream"),
    )


def test_several_candidates_are_one_call_with_one_count_of_tokens(watch: Watch, openai: OpenAIServer):
    traced = watch(
        """
        user_message   "Hi"
        llm            gpt-4o-mini-2024-07-18 1200>60 $
          assistant_message "The capital of France is Paris."
        """,
        lambda config: chat(openai, n=3).generate([[HumanMessage("Hi")]], **config),
    )
    assert traced.of_type("llm")[0]["properties"]["parameters"]["n"] == 3


def test_reasoning_of_the_responses_api_is_a_thought(watch: Watch, openai: OpenAIServer):
    openai.restart(Reply("Paris.", thought="France, so…"))
    watch(
        """
        user_message   "Capital of France?"
        llm            gpt-4o-mini-2024-07-18 20>5 $
          thought      "France, so…"
          assistant_message "Paris."
        """,
        *each_method(lambda: chat(openai, use_responses_api=True), "Capital of France?"),
    )


@pytest.mark.parametrize("api", [{}, {"use_responses_api": True}], ids=["chat", "responses"])
def test_a_first_chunk_without_text_counts_as_first_token(watch: Watch, openai: OpenAIServer, api: Config):
    openai.restart(Reply(calls=(("weather", '{"city": "Paris"}'), ("weather", '{"city": "Rome"}'))))
    traced = watch(
        """
        user_message   "Weather?"
        llm            gpt-4o-mini-2024-07-18 20>5 $ calls=weather,weather
        """,
        *each_method(lambda: chat(openai, **api).bind_tools([Fact]), "Weather?"),
    )
    (call,) = traced.of_type("llm")
    assert [c["args"] for c in call["output"]["tool_calls"]] == [{"city": "Paris"}, {"city": "Rome"}]
    assert call["properties"]["tools"] == ["Fact"]
    assert call["properties"]["time_to_first_token_ms"] > 0


def structured(openai: OpenAIServer, method: str) -> Runnable[Any, Any]:
    return chat(openai).with_structured_output(Fact, method=method)


FACT = '{"country":"France","capital":"Paris"}'


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # raised inside langchain-openai
def test_structured_output_from_the_provider_is_the_answer(watch: Watch, openai: OpenAIServer):
    openai.restart(Reply(FACT))
    watch(
        r"""
        user_message   "Capital of France?"
        chain_start    RunnableSequence
          llm          gpt-4o-mini-2024-07-18 20>5 $
          assistant_message "{\"country\":\"France\",\"capital\":\"Paris\"}"
          chain_end    completed
        """,
        *each_method(lambda: structured(openai, "json_schema"), "Capital of France?"),
    )


def test_structured_output_from_a_tool_is_the_answer(watch: Watch, openai: OpenAIServer):
    openai.restart(Reply(calls=(("Fact", FACT),)))
    watch(
        r"""
        user_message   "Capital of France?"
        chain_start    RunnableSequence
          llm          gpt-4o-mini-2024-07-18 20>5 $ calls=Fact
          assistant_message "{\"country\":\"France\",\"capital\":\"Paris\"}"
          chain_end    completed
        """,
        *each_method(lambda: structured(openai, "function_calling"), "Capital of France?"),
    )


@pytest.mark.parametrize("way", ["stream", "astream"])
def test_a_broken_stream_keeps_its_partial_text(watch: Watch, openai: OpenAIServer, way: str):
    openai.restart(Reply("The capital of France is Paris.", breaks_after=3))
    watch(
        """
        user_message   "Capital of France?"
        llm            gpt-4o-mini ?>? error OpenAIConnectionError: Connection error.
          assistant_message "The capital of" error
        """,
        *each_method(lambda: chat(openai), "Capital of France?", only=way),
    )


def test_a_provider_error_is_reported(watch: Watch, openai: OpenAIServer):
    openai.restart(Reply(status=500))
    watch(
        """
        user_message   "Hi"
        llm            gpt-4o-mini ?>? error OpenAIAPIError: Error code: 500 - the scripted error
        """,
        *each_method(lambda: chat(openai), "Hi"),
    )


def test_retries_of_the_client_are_one_call(watch: Watch, openai: OpenAIServer):
    def program(config: Config) -> Any:
        openai.restart(Reply(status=503), Reply("Hello."))
        return chat(openai, max_retries=1).invoke("Hi", config)

    programs: list[Program] = [program]
    watch(
        """
        user_message   "Hi"
        llm            gpt-4o-mini-2024-07-18 20>5 $
          assistant_message "Hello."
        """,
        *programs,
    )


def test_the_instructions_of_the_responses_api_are_the_system_prompt(watch: Watch, openai: OpenAIServer):
    def bound() -> Runnable[Any, Any]:
        return chat(openai, use_responses_api=True).bind(instructions="You know capitals.")

    golden = """
        prompt agent "You know capitals."
        user_message   "Capital of France?"
        llm            gpt-4o-mini-2024-07-18 1200>60 $
          assistant_message "The capital of France is Paris."
        """
    watch(golden, *each_method(bound, "Capital of France?"))
    options = {"use_responses_api": True, "model_kwargs": {"instructions": "You know capitals."}}
    watch(golden, *each_method(lambda: chat(openai, **options), "Capital of France?", only="invoke"))
