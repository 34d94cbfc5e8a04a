"""The real `ChatOpenAI` against a scripted OpenAI: chat completions and responses, streamed and not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.runnables import Runnable
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from tests.openai_server import OpenAIServer, Reply, openai_server
from tests.scenarios.harness import Config, Program, Watch, ways

ANSWER = Reply("The capital of France is Paris.", taken=1200, cached=1000, given=60, reasoned=48)


@pytest.fixture(scope="module")
def served() -> Iterator[OpenAIServer]:
    with openai_server() as running:
        yield running


@pytest.fixture
def openai(served: OpenAIServer) -> OpenAIServer:
    served.again(ANSWER)
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
    seen = watch(
        """
        user_message   "Capital of France?"
        llm            gpt-4o-mini-2024-07-18 1200>60 $
          assistant_message "The capital of France is Paris."
        """,
        *ways(lambda: chat(openai, **api), "Capital of France?"),
    )
    (call,), (answer,) = seen.of("llm"), seen.of("assistant_message")
    told = call["properties"]
    assert (told["cache_read_tokens"], told["reasoning_tokens"], told["total_tokens"]) == (1000, 48, 1260)
    assert told["cost_usd"] == pytest.approx((200 * 0.15 + 1000 * 0.075 + 60 * 0.6) / 1e6)
    assert told["provider"] == "openai"
    assert 0 < told["time_to_first_token_ms"] <= told["latency_ms"]  # the last way was a stream
    assert call["output"]["finish_reason"] in ("stop", "completed")
    assert answer["model"] == "gpt-4o-mini-2024-07-18"


def test_an_answer_that_is_not_streamed_has_no_first_token(watch: Watch, openai: OpenAIServer):
    seen = watch.trace(lambda config: chat(openai).invoke("Hi", config))
    assert "time_to_first_token_ms" not in seen.of("llm")[0]["properties"]


def test_tokens_that_a_stream_does_not_report_are_unknown(watch: Watch, openai: OpenAIServer):
    watch(
        """
        user_message   "Hi"
        llm            gpt-4o-mini-2024-07-18 ?>?
          assistant_message "The capital of France is Paris."
        """,
        *ways(lambda: chat(openai, stream_usage=False), "Hi", only="stream astream"),
    )


def test_several_candidates_are_one_call_with_one_count_of_tokens(watch: Watch, openai: OpenAIServer):
    seen = watch(
        """
        user_message   "Hi"
        llm            gpt-4o-mini-2024-07-18 1200>60 $
          assistant_message "The capital of France is Paris."
        """,
        lambda config: chat(openai, n=3).generate([[HumanMessage("Hi")]], **config),
    )
    assert seen.of("llm")[0]["properties"]["parameters"]["n"] == 3


def test_reasoning_of_the_responses_api_is_a_thought(watch: Watch, openai: OpenAIServer):
    openai.again(Reply("Paris.", thought="France, so…"))
    watch(
        """
        user_message   "Capital of France?"
        llm            gpt-4o-mini-2024-07-18 20>5 $
          thought      "France, so…"
          assistant_message "Paris."
        """,
        *ways(lambda: chat(openai, use_responses_api=True), "Capital of France?"),
    )


@pytest.mark.parametrize("api", [{}, {"use_responses_api": True}], ids=["chat", "responses"])
def test_a_first_chunk_without_text_counts_as_first_token(watch: Watch, openai: OpenAIServer, api: Config):
    openai.again(Reply(calls=(("weather", '{"city": "Paris"}'), ("weather", '{"city": "Rome"}'))))
    seen = watch(
        """
        user_message   "Weather?"
        llm            gpt-4o-mini-2024-07-18 20>5 $ calls=weather,weather
        """,
        *ways(lambda: chat(openai, **api).bind_tools([Fact]), "Weather?"),
    )
    (call,) = seen.of("llm")
    assert [c["args"] for c in call["output"]["tool_calls"]] == [{"city": "Paris"}, {"city": "Rome"}]
    assert call["properties"]["tools"] == ["Fact"]
    assert call["properties"]["time_to_first_token_ms"] > 0


def structured(openai: OpenAIServer, method: str) -> Runnable[Any, Any]:
    return chat(openai).with_structured_output(Fact, method=method)


FACT = '{"country":"France","capital":"Paris"}'


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # langchain-openai's own
def test_structured_output_from_the_provider_is_the_answer(watch: Watch, openai: OpenAIServer):
    openai.again(Reply(FACT))
    watch(
        r"""
        user_message   "Capital of France?"
        chain_start    RunnableSequence
          llm          gpt-4o-mini-2024-07-18 20>5 $
          assistant_message "{\"country\":\"France\",\"capital\":\"Paris\"}"
          chain_end    completed
        """,
        *ways(lambda: structured(openai, "json_schema"), "Capital of France?"),
    )


def test_structured_output_from_a_tool_is_the_answer(watch: Watch, openai: OpenAIServer):
    openai.again(Reply(calls=(("Fact", FACT),)))
    watch(
        r"""
        user_message   "Capital of France?"
        chain_start    RunnableSequence
          llm          gpt-4o-mini-2024-07-18 20>5 $ calls=Fact
          assistant_message "{\"country\":\"France\",\"capital\":\"Paris\"}"
          chain_end    completed
        """,
        *ways(lambda: structured(openai, "function_calling"), "Capital of France?"),
    )


@pytest.mark.parametrize("way", ["stream", "astream"])
def test_a_broken_stream_keeps_its_partial_text(watch: Watch, openai: OpenAIServer, way: str):
    openai.again(Reply("The capital of France is Paris.", breaks_after=3))
    watch(
        """
        user_message   "Capital of France?"
        llm            gpt-4o-mini ?>? error OpenAIConnectionError: Connection error.
          assistant_message "The capital of" error
        """,
        *ways(lambda: chat(openai), "Capital of France?", only=way),
    )


def test_a_provider_error_is_reported(watch: Watch, openai: OpenAIServer):
    openai.again(Reply(status=500))
    watch(
        """
        user_message   "Hi"
        llm            gpt-4o-mini ?>? error OpenAIAPIError: Error code: 500 - the scripted error
        """,
        *ways(lambda: chat(openai), "Hi"),
    )


def test_retries_of_the_client_are_one_call(watch: Watch, openai: OpenAIServer):
    def program(config: Config) -> Any:
        openai.again(Reply(status=503), Reply("Hello."))
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
