"""`gati.trace.cost` compared with `genai-prices`: same costs, more model names, no guesses."""

from __future__ import annotations

import socket
from typing import Any

import genai_prices
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gati.events import Usage
from gati.trace.billing import Billing
from gati.trace.cost import cost_of

USED = Usage(1000, 100, 1100, cache_read_tokens=500)


def listed(model: str, provider: str, usage: Usage = USED, **more: Any) -> float:
    counts = {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
    }
    priced_usage = genai_prices.Usage(**{key: count for key, count in counts.items() if count})
    return float(genai_prices.calc_price(priced_usage, model, provider_id=provider, **more).total_price)


@pytest.mark.parametrize(
    ("model", "provider", "under"),
    [
        ("gpt-4o", "openai", ("gpt-4o", "openai")),
        ("gpt-4o-2024-08-06", "azure", ("gpt-4o", "azure")),
        ("openai/gpt-4o", "openai", ("gpt-4o", "openai")),
        ("openai/gpt-4o", None, ("gpt-4o", "openai")),
        ("openai/gpt-4o", "openrouter", ("openai/gpt-4o", "openrouter")),
        ("anthropic/claude-sonnet-4-5", "openai", ("claude-sonnet-4-5", "anthropic")),
        ("gpt-4o", "scriptedchatmodel", ("gpt-4o", "openai")),
        ("ft:gpt-4o-mini-2024-07-18:org::id", None, ("ft:gpt-4o-mini-2024-07-18:", "openai")),
        ("models/gemini-2.5-flash", "google_genai", ("gemini-2.5-flash", "google")),
        ("publishers/google/models/gemini-2.5-flash", "google_vertexai", ("gemini-2.5-flash", "google")),
        ("claude-3-5-sonnet@20240620", "google_vertexai", ("claude-3-5-sonnet", "google")),
        ("claude-sonnet-4-5-20250929", "anthropic", ("claude-sonnet-4-5", "anthropic")),
        (
            "anthropic.claude-3-5-sonnet-20240620-v1:0",
            "amazon_bedrock",
            ("anthropic.claude-3-5-sonnet-20240620-v1:0", "aws"),
        ),
        ("anthropic.claude-3-5-sonnet-20240620-v1:0", None, ("anthropic.claude-3-5-sonnet-20240620-v1:0", "aws")),
        ("us.amazon.nova-pro-v1:0", "bedrock_converse", ("amazon.nova-pro-v1:0", "aws")),
        ("eu.amazon.nova-pro-v1:0", None, ("amazon.nova-pro-v1:0", "aws")),
        (
            "arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-3-5-sonnet-20240620-v1:0",
            "amazon_bedrock",
            ("anthropic.claude-3-5-sonnet-20240620-v1:0", "aws"),
        ),
        ("mistral-small-latest", "mistralai", ("mistral-small-latest", "mistral")),
        ("llama-3.1-8b-instant", "groq", ("llama-3.1-8b-instant", "groq")),
        ("grok-4", "xai", ("grok-4", "x-ai")),
    ],
)
def test_models_are_found_by_every_name_in_use(model: str, provider: str | None, under: tuple[str, str]):
    assert cost_of(USED, model, provider) == pytest.approx(listed(*under))


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("gpt-99-ultra", "openai"),
        ("my-deployment", "azure"),
        ("llama3.1", "ollama"),
        ("deepseek-r1:7b", None),
        ("deepseek-r1:7b", "ollama"),
        ("gpt-oss:20b", None),
        ("openai/gpt-oss-120b", None),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", "openai"),
        ("FakeListChatModel", "fakelistchatmodel"),
        ("", None),
        (None, "openai"),
        ("\ud800", "openai"),
    ],
)
def test_an_unknown_model_has_no_cost(model: str | None, provider: str | None):
    assert cost_of(USED, model, provider) is None


@pytest.mark.parametrize(
    "usage", [None, Usage(), Usage(0, 0, 0), Usage(10, None), Usage(None, 10), Usage(total_tokens=5)]
)
def test_no_usage_has_no_cost(usage: Usage | None):
    assert cost_of(usage, "gpt-4o", "openai") is None


def test_a_cached_answer_has_no_cost():
    assert cost_of(USED, "gpt-4o", "openai", cached=True) is None


def test_contradictory_counts_have_no_cost():
    assert cost_of(Usage(10, 5, cache_read_tokens=20), "gpt-4o", "openai") is None


def tier(name: str) -> Billing:
    return Billing(context=("service_tier", name))


def test_a_service_tier_has_its_own_price_or_none():
    usual = cost_of(USED, "o4-mini", "openai")
    flex = cost_of(USED, "o4-mini", "openai", tier("flex"))
    assert usual is not None
    assert flex is not None
    assert flex < usual
    assert flex == listed("o4-mini", "openai", price_context={"service_tier": "flex"})
    for usual_tier in ("default", "standard", "auto", ""):
        assert cost_of(USED, "claude-sonnet-4-5", "anthropic", tier(usual_tier)) == listed(
            "claude-sonnet-4-5", "anthropic"
        )
    assert cost_of(USED, "claude-sonnet-4-5", "anthropic", tier("priority")) is None


def test_one_hour_cache_writes_cost_more_than_five_minute_writes():
    parts = {"ephemeral_5m_input_tokens": 400, "ephemeral_1h_input_tokens": 600}
    short = cost_of(Usage(1000, 1, cache_write_tokens=1000), "claude-sonnet-4-5", "anthropic")
    long = cost_of(
        Usage(1000, 1, cache_write_tokens=1000, raw={"cache_creation": parts}), "claude-sonnet-4-5", "anthropic"
    )
    details = cost_of(
        Usage(1000, 1, cache_write_tokens=1000, raw={"input_token_details": parts}), "claude-sonnet-4-5", "anthropic"
    )
    assert short == pytest.approx((1000 * 3.75 + 15) / 1e6)
    assert long == pytest.approx((400 * 3.75 + 600 * 6 + 15) / 1e6)
    assert details == long


def test_audio_has_its_own_price():
    spoken = Usage(1000, 100, audio_input_tokens=900, audio_output_tokens=90)
    silent = Usage(1000, 100)
    audio_cost, text_cost = (cost_of(usage, "gpt-realtime", "openai") for usage in (spoken, silent))
    assert audio_cost is not None
    assert text_cost is not None
    assert audio_cost > text_cost


def test_audio_without_a_price_is_not_priced_as_text():
    assert cost_of(Usage(1000, 100, audio_input_tokens=900), "gpt-4o", "openai") is None


def test_long_prompts_have_the_price_of_their_tier():
    short = cost_of(Usage(200_000, 0), "gemini-2.5-pro", "google_genai")
    long = cost_of(Usage(200_001, 0), "gemini-2.5-pro", "google_genai")
    assert short == pytest.approx(0.25)
    assert long == pytest.approx(0.5000025)


COUNT = st.integers(0, 2_000_000)
NAMES = [
    ("gpt-4o", "openai"), ("gpt-4.1-mini", "openai"), ("o3", "openai"), ("gpt-3.5-turbo", "openai"),
    ("claude-sonnet-4-5", "anthropic"), ("claude-3-haiku-20240307", "anthropic"), ("gemini-2.5-flash", "google"),
    ("gemini-2.5-pro", "google"), ("deepseek-chat", "deepseek"), ("mistral-large-latest", "mistral"),
    ("amazon.nova-pro-v1:0", "aws"), ("sonar", "perplexity"), ("text-embedding-3-small", "openai"),
    ("llama-3.1-8b-instant", "groq"),
]  # fmt: skip


@given(st.sampled_from(NAMES), COUNT, COUNT, COUNT, COUNT)
def test_integer_arithmetic_gives_exactly_the_librarys_result(
    name: tuple[str, str], plain: int, out: int, read: int, write: int
):
    usage = Usage(plain + read + write, out, cache_read_tokens=read, cache_write_tokens=write)
    expected = listed(*name, usage) if usage.input_tokens or out else None
    assert cost_of(usage, *name) == expected


@example(Usage(float("nan"), float("inf")), "gpt-4o", None)
@given(st.builds(Usage, *[st.none() | st.integers() | st.floats() for _ in range(8)]), st.text(), st.none() | st.text())
def test_the_cost_of_any_value_is_a_number_or_none(usage: Usage, model: str, provider: str | None):
    for name in (model, "gpt-4o"):
        cost = cost_of(usage, name, provider, Billing(context=("service_tier", model)))
        assert cost is None or cost >= 0


def test_no_price_is_fetched(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert cost_of(Usage(7, 7), "gpt-4o-2024-05-13", "openai") is not None
