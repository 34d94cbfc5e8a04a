"""`gati.trace.usage`: a table of payloads, each with its source."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gati.events import Usage
from gati.trace.records import Message
from gati.trace.usage import finish_reason_of, is_cached, model_name_of, provider_of, service_tier_of, usage_of


class Row(NamedTuple):
    """The values that a callback received (usage_metadata, response_metadata, llm_output), and the expected counts."""

    source: str
    usage: dict[str, Any] | None
    response: dict[str, Any]
    llm_output: dict[str, Any] | None
    tokens: dict[str, int]
    model: str | None = None
    finish: str | None = None


def tokens(given_in: int, out: int, total: int, **more: int) -> dict[str, int]:
    return {"input_tokens": given_in, "output_tokens": out, "total_tokens": total, **more}


LANGCHAIN = "github.com/langchain-ai/langchain"
METADATA_PAGE = "LangChain documentation, how-to guide “Response metadata”"

TABLE: dict[str, Row] = {
    "openai chat": Row(
        f"{LANGCHAIN}, libs/partners/openai, docstring of ChatOpenAI",
        {"input_tokens": 31, "output_tokens": 5, "total_tokens": 36},
        {
            "token_usage": {"completion_tokens": 5, "prompt_tokens": 31, "total_tokens": 36},
            "model_name": "gpt-4.1-mini", "system_fingerprint": "fp_43dfabdef1", "finish_reason": "stop",
        },
        {"token_usage": {"completion_tokens": 5, "prompt_tokens": 31, "total_tokens": 36}, "model_name": "gpt-4.1-mini"},
        tokens(31, 5, 36), "gpt-4.1-mini", "stop",
    ),
    "openai chat, cached, raw only": Row(
        "OpenAI documentation, guide “Prompt caching”",
        None,
        {},
        {"token_usage": {
            "prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": 2306,
            "prompt_tokens_details": {"cached_tokens": 1920},
            "completion_tokens_details": {"reasoning_tokens": 0, "accepted_prediction_tokens": 0},
        }, "model_name": "gpt-4o-2024-08-06"},
        tokens(2006, 300, 2306, cache_read_tokens=1920, reasoning_tokens=0), "gpt-4o-2024-08-06",
    ),
    "openai chat, streamed": Row(
        f"{LANGCHAIN}, libs/partners/openai, ChatOpenAI(stream_usage=True), chunks joined",
        {"input_tokens": 15, "output_tokens": 1, "total_tokens": 16,
         "input_token_details": {"audio": 0, "cache_read": 0}, "output_token_details": {"audio": 0, "reasoning": 0}},
        {"finish_reason": "stop", "model_name": "gpt-4o-2024-08-06", "service_tier": "default", "model_provider": "openai"},
        None,
        tokens(15, 1, 16, cache_read_tokens=0, reasoning_tokens=0, audio_input_tokens=0, audio_output_tokens=0),
        "gpt-4o-2024-08-06", "stop",
    ),
    "openai chat, flex tier": Row(
        f"{LANGCHAIN}, libs/partners/openai, _create_usage_metadata(service_tier='flex')",
        {"input_tokens": 2006, "output_tokens": 300, "total_tokens": 2306,
         "input_token_details": {"flex_cache_read": 1920, "flex": 86},
         "output_token_details": {"flex_reasoning": 200, "flex": 100}},
        {"model_name": "o4-mini", "service_tier": "flex", "finish_reason": "stop"},
        None,
        tokens(2006, 300, 2306, cache_read_tokens=1920, reasoning_tokens=200), "o4-mini", "stop",
    ),
    "openai responses, reasoning, raw only": Row(
        "OpenAI documentation, guide “Reasoning models”",
        None,
        {"usage": {
            "input_tokens": 75, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 1186,
            "output_tokens_details": {"reasoning_tokens": 1024}, "total_tokens": 1261,
        }, "model": "o4-mini", "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
        None,
        tokens(75, 1186, 1261, cache_read_tokens=0, reasoning_tokens=1024), "o4-mini", "max_output_tokens",
    ),
    "openai responses": Row(
        f"{LANGCHAIN}, libs/partners/openai, _construct_lc_result_from_responses_api",
        {"input_tokens": 75, "output_tokens": 1186, "total_tokens": 1261,
         "input_token_details": {"cache_read": 0}, "output_token_details": {"reasoning": 1024}},
        {"id": "resp_1", "created_at": 1777359945.0, "model": "o4-mini-2025-04-16", "object": "response",
         "status": "completed", "model_provider": "openai", "model_name": "o4-mini-2025-04-16"},
        None,
        tokens(75, 1186, 1261, cache_read_tokens=0, reasoning_tokens=1024), "o4-mini-2025-04-16", "completed",
    ),
    "xai, cached": Row(
        "docs.x.ai, “Prompt caching: usage and pricing”",
        None,
        {"token_usage": {
            "prompt_tokens": 125, "completion_tokens": 48, "total_tokens": 173,
            "prompt_tokens_details": {"text_tokens": 125, "audio_tokens": 0, "image_tokens": 0, "cached_tokens": 98},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        }},
        None,
        tokens(125, 48, 173, cache_read_tokens=98, reasoning_tokens=0, audio_input_tokens=0, audio_output_tokens=0),
    ),
    "anthropic": Row(
        METADATA_PAGE,
        None,
        {"id": "msg_01CzQyD7BX8nkhDNfT1QqvEp", "model": "claude-3-sonnet-20240229", "stop_reason": "end_turn",
         "stop_sequence": None, "usage": {"input_tokens": 17, "output_tokens": 296}},
        None,
        tokens(17, 296, 313), "claude-3-sonnet-20240229", "end_turn",
    ),
    "anthropic, cached": Row(
        "LangChain documentation, how-to guide “Multimodal inputs”, section on Anthropic prompt caching",
        {"input_tokens": 1716, "output_tokens": 12, "total_tokens": 1728,
         "input_token_details": {"cache_read": 1582, "cache_creation": 0}},
        {"stop_reason": "end_turn", "model_name": "claude-3-5-sonnet-20240620"},
        None,
        tokens(1716, 12, 1728, cache_read_tokens=1582, cache_write_tokens=0), "claude-3-5-sonnet-20240620", "end_turn",
    ),
    "anthropic, writes by time to live, raw only": Row(
        "Anthropic documentation, “Prompt caching”, section on the 1-hour cache",
        None,
        {"usage": {
            "input_tokens": 2048, "cache_read_input_tokens": 1800, "cache_creation_input_tokens": 248, "output_tokens": 503,
            "cache_creation": {"ephemeral_5m_input_tokens": 148, "ephemeral_1h_input_tokens": 100},
        }},
        None,
        tokens(4096, 503, 4599, cache_read_tokens=1800, cache_write_tokens=248),
    ),
    "anthropic, writes by time to live": Row(
        f"{LANGCHAIN}, libs/partners/anthropic, _create_usage_metadata (the sum is 0 when the parts are given)",
        {"input_tokens": 4096, "output_tokens": 503, "total_tokens": 4599,
         "input_token_details": {"cache_read": 1800, "cache_creation": 0,
                                 "ephemeral_5m_input_tokens": 148, "ephemeral_1h_input_tokens": 100}},
        {"stop_reason": "tool_use", "model_name": "claude-sonnet-4-5-20250929", "model_provider": "anthropic"},
        None,
        tokens(4096, 503, 4599, cache_read_tokens=1800, cache_write_tokens=248),
        "claude-sonnet-4-5-20250929", "tool_use",
    ),
    "anthropic, thinking, raw only": Row(
        "github.com/langchain-ai/langchain-google, pull request 2010 (output_tokens_details.thinking_tokens)",
        None,
        {"usage": {"input_tokens": 60, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0,
                   "output_tokens": 400, "output_tokens_details": {"thinking_tokens": 350}}},
        None,
        tokens(60, 400, 460, cache_read_tokens=0, cache_write_tokens=0, reasoning_tokens=350),
    ),
    "google genai, reasoning": Row(
        "github.com/langchain-ai/langchain-google, libs/genai, docstring of ChatGoogleGenerativeAI",
        {"input_tokens": 12, "output_tokens": 826, "total_tokens": 838,
         "input_token_details": {"cache_read": 0}, "output_token_details": {"reasoning": 777}},
        {"prompt_feedback": {"block_reason": 0, "safety_ratings": []}, "finish_reason": "STOP",
         "model_name": "gemini-3.1-pro-preview", "model_provider": "google_genai"},
        {},
        tokens(12, 826, 838, cache_read_tokens=0, reasoning_tokens=777), "gemini-3.1-pro-preview", "STOP",
    ),
    "google vertex, thoughts left out of the output": Row(
        "github.com/LibreChat-AI/agents, pull request 157; github.com/langchain-ai/langchain-google, pull request 1932",
        {"input_tokens": 80657, "output_tokens": 766, "total_tokens": 83265, "output_token_details": {"reasoning": 1842}},
        {"finish_reason": "STOP", "model_name": "gemini-2.5-pro"},
        None,
        tokens(80657, 2608, 83265, reasoning_tokens=1842), "gemini-2.5-pro", "STOP",
    ),
    "google vertex, raw only": Row(
        METADATA_PAGE,
        None,
        {"is_blocked": False, "usage_metadata": {
            "prompt_token_count": 10, "candidates_token_count": 30, "total_token_count": 40,
        }},
        None,
        tokens(10, 30, 40),
    ),
    "google genai, the api's own spelling": Row(
        "firebase.google.com, reference of UsageMetadata (counts as in langchain-google's docstring)",
        None,
        {"usage_metadata": {"promptTokenCount": 12, "candidatesTokenCount": 49, "totalTokenCount": 838,
                            "thoughtsTokenCount": 777, "cachedContentTokenCount": 4}},
        None,
        tokens(12, 826, 838, cache_read_tokens=4, reasoning_tokens=777),
    ),
    "bedrock converse": Row(
        "github.com/langchain-ai/langchain-aws, libs/aws, docstring of ChatBedrockConverse",
        {"input_tokens": 25, "output_tokens": 11, "total_tokens": 36},
        {"ResponseMetadata": {"HTTPStatusCode": 200, "RetryAttempts": 0}, "stopReason": "end_turn",
         "metrics": {"latencyMs": [609]}, "model_provider": "bedrock_converse",
         "model_name": "anthropic.claude-3-sonnet-20240229-v1:0"},
        None,
        tokens(25, 11, 36), "anthropic.claude-3-sonnet-20240229-v1:0", "end_turn",
    ),
    "bedrock converse, cached": Row(
        "github.com/langchain-ai/langchain-aws, libs/aws, test_bedrock_converse.py, usage with prompt caching",
        {"input_tokens": 2832, "output_tokens": 316, "total_tokens": 3148,
         "input_token_details": {"cache_read": 2830, "cache_creation": 0}},
        {"stopReason": "end_turn"},
        None,
        tokens(2832, 316, 3148, cache_read_tokens=2830, cache_write_tokens=0), None, "end_turn",
    ),
    "bedrock converse, cached, raw only": Row(
        "the same test's input; docs.aws.amazon.com, Bedrock user guide, “Prompt caching”",
        None,
        {},
        {"usage": {"inputTokens": 2, "outputTokens": 316, "totalTokens": 3148,
                   "cacheReadInputTokens": 2830, "cacheWriteInputTokens": 0}},
        tokens(2832, 316, 3148, cache_read_tokens=2830, cache_write_tokens=0),
    ),
    "bedrock converse, writes by time to live": Row(
        "github.com/langchain-ai/langchain-aws, libs/aws, test_bedrock_converse.py, per-TTL cache details",
        {"input_tokens": 800, "output_tokens": 50, "total_tokens": 850,
         "input_token_details": {"cache_read": 200, "cache_creation": 0,
                                 "ephemeral_5m_input_tokens": 300, "ephemeral_1h_input_tokens": 200}},
        {},
        None,
        tokens(800, 50, 850, cache_read_tokens=200, cache_write_tokens=500),
    ),
    "bedrock converse, cache left out of the input": Row(
        "github.com/langchain-ai/langchain-aws before cached tokens were counted in; sum as AWS reports it",
        {"input_tokens": 3000, "output_tokens": 316, "total_tokens": 5816,
         "input_token_details": {"cache_read": 2500, "cache_creation": 0}},
        {},
        None,
        tokens(5500, 316, 5816, cache_read_tokens=2500, cache_write_tokens=0),
    ),
    "bedrock, invoked model": Row(
        METADATA_PAGE,
        None,
        {"model_id": "anthropic.claude-v2", "usage": {"prompt_tokens": 19, "completion_tokens": 371, "total_tokens": 390}},
        None,
        tokens(19, 371, 390), "anthropic.claude-v2",
    ),
    "bedrock, invocation metrics": Row(
        "docs.aws.amazon.com, Bedrock user guide, amazon-bedrock-invocationMetrics of InvokeModelWithResponseStream",
        None,
        {"amazon-bedrock-invocationMetrics": {"inputTokenCount": 15, "outputTokenCount": 21, "invocationLatency": 700}},
        None,
        tokens(15, 21, 36),
    ),
    "mistral": Row(
        "docs.langchain.com, integration page of ChatMistralAI",
        {"input_tokens": 32, "output_tokens": 52, "total_tokens": 84},
        {"token_usage": {"prompt_tokens": 32, "total_tokens": 84, "completion_tokens": 52},
         "model": "mistral-small", "finish_reason": "stop"},
        {"token_usage": {"prompt_tokens": 32, "total_tokens": 84, "completion_tokens": 52}, "model": "mistral-small"},
        tokens(32, 52, 84), "mistral-small", "stop",
    ),
    "mistral, raw only": Row(
        METADATA_PAGE,
        None,
        {"token_usage": {"prompt_tokens": 19, "total_tokens": 141, "completion_tokens": 122},
         "model": "mistral-small", "finish_reason": "stop"},
        None,
        tokens(19, 122, 141), "mistral-small", "stop",
    ),
    "groq": Row(
        METADATA_PAGE,
        None,
        {"token_usage": {"completion_time": 0.243, "completion_tokens": 132, "prompt_time": 0.022, "prompt_tokens": 22,
                         "queue_time": None, "total_time": 0.265, "total_tokens": 154},
         "model_name": "mixtral-8x7b-32768", "finish_reason": "stop"},
        None,
        tokens(22, 132, 154), "mixtral-8x7b-32768", "stop",
    ),
    "deepseek, cached": Row(
        "api-docs.deepseek.com, “Context caching” (prompt_cache_hit_tokens)",
        None,
        {"token_usage": {"completion_tokens": 11, "prompt_tokens": 146, "total_tokens": 157,
                         "prompt_cache_hit_tokens": 128, "prompt_cache_miss_tokens": 18}, "model_name": "deepseek-chat"},
        None,
        tokens(146, 11, 157, cache_read_tokens=128), "deepseek-chat",
    ),
    "ollama": Row(
        "docs.langchain.com, integration page of ChatOllama",
        {"input_tokens": 35, "output_tokens": 22, "total_tokens": 57},
        {"model": "llama3.1", "created_at": "2025-06-25T18:43:00.483666Z", "done": True, "done_reason": "stop",
         "total_duration": 619971208, "load_duration": 27793125, "prompt_eval_count": 35, "eval_count": 22,
         "model_name": "llama3.1"},
        None,
        tokens(35, 22, 57), "llama3.1", "stop",
    ),
    "ollama, completion or raw only": Row(
        "the same page's response_metadata; OllamaLLM keeps it in generation_info",
        None,
        {"model": "llama3.1", "done": True, "done_reason": "length", "prompt_eval_count": 35, "eval_count": 22},
        None,
        tokens(35, 22, 57), "llama3.1", "length",
    ),
}  # fmt: skip


def messages_of(row: Row) -> tuple[Message, ...]:
    return (Message("ai", "", usage=row.usage, response=row.response),)


@pytest.mark.parametrize("name", TABLE)
def test_the_counts_of_every_provider_are_parsed(name: str):
    row = TABLE[name]
    usage = usage_of(messages_of(row), row.llm_output)
    assert usage is not None
    counts = {key: value for key, value in asdict(usage).items() if value is not None and key != "raw"}
    assert counts == row.tokens
    assert usage.raw, "what the provider sent is kept"


@pytest.mark.parametrize("name", TABLE)
def test_the_model_and_finish_reason_of_every_provider_are_parsed(name: str):
    row = TABLE[name]
    assert model_name_of(messages_of(row), row.llm_output) == row.model
    assert finish_reason_of(messages_of(row), row.llm_output) == row.finish


@pytest.mark.parametrize(
    ("usage", "response", "llm_output"),
    [
        (None, None, None),
        (None, {"finish_reason": "stop", "model_name": "gpt-4o"}, None),  # streamed with a base_url: no usage is sent
        (None, {}, {"token_usage": {}, "model_name": "gpt-4o"}),
        (None, {"token_usage": None}, {"token_usage": {"prompt_tokens": None, "completion_tokens": None}}),
        ({"total_cost": 0}, {}, None),
        ({"input_tokens": -1, "output_tokens": "many", "total_tokens": True}, {}, None),
    ],
)
def test_unreported_tokens_are_unknown(usage: Any, response: Any, llm_output: Any):
    assert usage_of((Message("ai", "", usage=usage, response=response),), llm_output) is None


def test_zero_is_a_count():
    zero = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
    usage = usage_of((Message("ai", "", usage=zero),), None)
    assert usage == Usage(0, 0, 0, raw=zero)


def test_usage_metadata_precedes_llm_output_and_the_response():
    metadata = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    output = {"token_usage": {"prompt_tokens": 2, "completion_tokens": 2}}
    response = {"token_usage": {"prompt_tokens": 3, "completion_tokens": 3}}
    first = usage_of((Message("ai", "", usage=metadata, response=response),), output)
    second = usage_of((Message("ai", "", response=response),), output)
    third = usage_of((Message("ai", "", response=response),), None)
    assert [u.input_tokens for u in (first, second, third) if u] == [1, 2, 3]


def test_the_providers_raw_counts_are_kept():
    row = TABLE["openai chat"]
    usage = usage_of(messages_of(row), row.llm_output)
    assert usage is not None
    assert usage.raw == row.response["token_usage"]


def test_the_usage_of_candidates_is_not_added_up():
    whole = {"input_tokens": 10, "output_tokens": 30, "total_tokens": 40}
    candidates = tuple(Message("ai", "", usage=whole) for _ in range(3))
    output = {"token_usage": {"prompt_tokens": 10, "completion_tokens": 31, "total_tokens": 41}}
    usage = usage_of(candidates, output)
    streamed = usage_of(candidates, None)
    assert usage is not None
    assert usage.output_tokens == 31
    assert streamed is not None
    assert streamed.output_tokens == 30


@pytest.mark.parametrize("key", ["cache_read_input_tokens", "cache_creation_input_tokens"])
def test_a_total_decides_whether_the_input_includes_the_cache(key: str):
    inclusive = usage_of(
        (Message("ai", "", usage={"input_tokens": 150, "output_tokens": 40, "total_tokens": 190, key: 100}),)
    )
    exclusive = usage_of(
        (Message("ai", "", usage={"input_tokens": 50, "output_tokens": 40, "total_tokens": 190, key: 100}),)
    )
    without = usage_of((Message("ai", "", usage={"input_tokens": 50, "output_tokens": 40, key: 100}),))
    for usage in (inclusive, exclusive, without):
        assert usage is not None
        assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (150, 40, 190)


def test_cache_writes_that_only_the_raw_counts_have_are_added():
    raw = {"prompt_tokens": 110, "completion_tokens": 5, "total_tokens": 115, "cache_creation_input_tokens": 100}
    message = Message("ai", "", usage=tokens(110, 5, 115), response={"token_usage": raw})
    usage = usage_of((message,))
    assert usage is not None
    assert (usage.input_tokens, usage.cache_write_tokens) == (110, 100)
    nested = {"prompt_tokens": 110, "completion_tokens": 5, "prompt_tokens_details": {"cache_creation_tokens": 100}}
    usage = usage_of((Message("ai", "", response={"token_usage": nested}),))
    assert usage is not None
    assert usage.cache_write_tokens == 100


def test_the_reasoning_of_a_streamed_vertex_answer_is_read_from_langchains_details():
    both = {"prompt_token_count": 10, "candidates_token_count": 5, "total_token_count": 25, "input_tokens": 10,
            "output_tokens": 5, "total_tokens": 25, "output_token_details": {"reasoning": 10}}  # fmt: skip
    usage = usage_of((Message("ai", "", usage=both),))
    assert usage is not None
    assert (usage.output_tokens, usage.reasoning_tokens, usage.total_tokens) == (15, 10, 25)


def test_an_answer_from_langchains_cache_is_recognized():
    cached = {"input_tokens": 31, "output_tokens": 5, "total_tokens": 36, "total_cost": 0}
    assert is_cached((Message("ai", "", usage=cached),))
    assert not is_cached((Message("ai", "", usage={**cached, "total_cost": 0.1}), Message("ai", "")))
    usage = usage_of((Message("ai", "", usage=cached),), None)
    assert usage is not None
    assert usage.input_tokens == 31


def test_the_model_name_of_the_response_precedes_the_requested_one():
    metadata, params = {"ls_model_name": "gpt-4o"}, {"model": "gpt-4o-alias", "model_name": "x"}
    serialized = {"kwargs": {"model_name": "gpt-4o-configured"}}
    answered = (Message("ai", "", response={"model_name": "gpt-4o-2024-08-06"}),)
    silent = (Message("ai", ""),)
    assert model_name_of(answered, None, metadata, params, serialized) == "gpt-4o-2024-08-06"
    assert model_name_of(silent, {"model": "from-output"}, metadata, params, serialized) == "from-output"
    assert model_name_of(silent, None, metadata, params, serialized) == "gpt-4o"
    assert model_name_of(silent, None, {}, params, serialized) == "x"
    assert model_name_of(silent, None, None, None, serialized) == "gpt-4o-configured"
    assert model_name_of((), None) is None


def test_repetition_from_joined_chunks_is_undone():
    doubled = (Message("ai", "", response={"model_name": "gpt-4ogpt-4o", "finish_reason": "stopstop"}),)
    assert model_name_of(doubled) == "gpt-4o"
    assert finish_reason_of(doubled) == "stop"


def test_the_provider_and_the_service_tier_are_read():
    answer = (Message("ai", "", response={"model_provider": "bedrock_converse", "service_tier": "flex"}),)
    assert provider_of(answer, {"ls_provider": "amazon_bedrock"}) == "amazon_bedrock"
    assert provider_of(answer) == "bedrock_converse"
    assert provider_of((), None) is None
    assert service_tier_of(answer) == "flex"
    assert (
        service_tier_of((Message("ai", "", response={"usage": {"input_tokens": 1, "service_tier": "batch"}}),))
        == "batch"
    )
    assert service_tier_of(()) is None


# -- any value ----------------------------------------------------------------------------

_NAMES = sorted(
    {"token_usage", "usage", "usage_metadata", "model_name", "model", "finish_reason", "cache_creation", "incomplete_details",
     "ephemeral_5m_input_tokens", "prompt_tokens_details", "cached_tokens", "cache_read", "reasoning", "thoughtsTokenCount"}
    | {key for row in TABLE.values() for key in (row.usage or {})}
    | {key for row in TABLE.values() for raw in (*row.response.values(), *(row.llm_output or {}).values())
       if isinstance(raw, dict) for key in raw}
)  # fmt: skip
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_NAMES), inner, max_size=8),
    max_leaves=20,
)
MESSAGE = st.tuples(ANYTHING, ANYTHING).map(lambda pair: Message("ai", "", usage=pair[0], response=pair[1]))


@given(st.lists(MESSAGE, max_size=3).map(tuple), ANYTHING)
def test_the_counts_of_any_value_are_consistent(messages: tuple[Message, ...], llm_output: Any):
    usage = usage_of(messages, llm_output)
    for function in (model_name_of, finish_reason_of, service_tier_of):
        value = function(messages, llm_output)
        assert value is None or isinstance(value, str)
    assert is_cached(messages) in {True, False}
    if usage is None:
        return
    counts = {key: value for key, value in asdict(usage).items() if key != "raw" and value is not None}
    assert counts
    assert all(type(value) is int and value >= 0 for value in counts.values())
    if usage.input_tokens is not None:
        assert usage.input_tokens >= (usage.cache_read_tokens or 0) + (usage.cache_write_tokens or 0)
    if usage.output_tokens is not None:
        assert usage.output_tokens >= (usage.reasoning_tokens or 0)
        if usage.input_tokens is not None:
            assert (usage.total_tokens or 0) >= usage.input_tokens + usage.output_tokens
