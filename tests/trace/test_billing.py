from __future__ import annotations

from typing import Any

import genai_prices
import pytest

from gati.events import Usage
from gati.trace.billing import Billing, billing_of, media_kinds
from gati.trace.cost import cost_of
from gati.trace.records import Message

USED = Usage(1000, 1000)


def billed(response: dict[str, Any], model: str, provider: str, content: Any = "Hi.", **known: Any) -> float | None:
    answers = (Message("ai", content, response=response),)
    return cost_of(USED, model, provider, billing_of(answers, None, model, **known))


@pytest.mark.parametrize(
    ("response", "dollars"),
    [
        pytest.param({"token_usage": {"prompt_tokens": 1, "cost": 0.009}}, 0.009, id="OpenRouter"),
        pytest.param({"token_usage": {"cost": 0}}, 0.0, id="a free model"),
        pytest.param(
            {"token_usage": {"cost": 0.001, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.02}}},
            0.021,
            id="OpenRouter with a key of the user's own",
        ),
        pytest.param({"usage": {"cost": {"total_cost": 0.006, "request_cost": 0.005}}}, 0.006, id="Perplexity"),
        pytest.param({"response_cost": 0.0042, "token_usage": {"prompt_tokens": 1}}, 0.0042, id="LiteLLM"),
    ],
)
def test_the_charge_that_a_provider_reports_is_the_cost(response: dict[str, Any], dollars: float):
    assert billed(response, "acme/brand-new", "openrouter") == pytest.approx(dollars)
    assert billed(response, "gpt-4o", "openai") == pytest.approx(dollars)


@pytest.mark.parametrize("charge", [-1, "0.1", True, None, float("nan"), float("inf"), {"other": 1}])
def test_a_charge_that_is_no_amount_is_ignored(charge: Any):
    assert billed({"token_usage": {"cost": charge}}, "gpt-4o", "openai") == cost_of(USED, "gpt-4o", "openai")


def test_fast_mode_has_its_own_price_or_none():
    listed = genai_prices.calc_price(genai_prices.Usage(), "claude-opus-5", provider_id="anthropic").model
    has_fast_price = any(
        variant.when == {"speed": "fast"} for variant in listed.price_variants or ()
    )  # newer lists only
    standard = billed({"usage": {"speed": "standard"}}, "claude-opus-5", "anthropic")
    fast = billed({"usage": {"speed": "fast"}}, "claude-opus-5", "anthropic")
    assert standard == pytest.approx(0.03)
    assert fast == (pytest.approx(0.06) if has_fast_price else None)
    assert billed({"usage": {"speed": "fast"}}, "claude-opus-4-5", "anthropic") is None


@pytest.mark.parametrize(
    ("region", "is_known"), [("global", True), ("not_available", True), (None, True), ("us", False)]
)
def test_inference_in_one_region_has_no_listed_price(region: str | None, is_known: bool):
    cost = billed({"usage": {"inference_geo": region}}, "claude-opus-5", "anthropic")
    assert (cost is not None) is is_known


def test_web_searches_are_added_to_the_tokens():
    searches = {"usage": {"server_tool_use": {"web_search_requests": 3}}}
    assert billed(searches, "claude-opus-4-6", "anthropic") == pytest.approx(0.03 + 3 * 0.01)


def test_each_grounding_query_of_gemini_3_is_charged_and_the_fee_of_earlier_models_is_unknown():
    grounded = {"grounding_metadata": {"web_search_queries": ["a", "b"]}}
    assert billed(grounded, "gemini-3-pro-preview", "google_genai") == pytest.approx(0.014 + 2 * 0.014)
    assert billed(grounded, "gemini-2.5-flash", "google_genai") is None
    assert billed({"grounding_metadata": {"web_search_queries": []}}, "gemini-2.5-flash", "google_genai") is not None


def test_searches_of_the_responses_api_are_counted_and_other_tools_have_no_price():
    calls = [{"type": "web_search_call", "id": "ws1"}, {"type": "text", "text": "Found."}]
    text_only = billed({}, "gpt-4o", "openai")
    assert text_only is not None
    assert billed({}, "gpt-4o", "openai", calls) == pytest.approx(text_only + 0.01)
    assert billed({}, "gpt-4o", "openai", [{"type": "code_interpreter_call"}]) is None


@pytest.mark.parametrize(
    ("provider", "searches", "is_known"), [("openai", 1, True), ("openai", 0, False), ("anthropic", 0, True)]
)
def test_calls_of_the_responses_api_count_in_each_output_version(provider: str, searches: int, is_known: bool):
    name = "web_search" if searches else "code_interpreter"
    text_only = billed({}, "gpt-4o", "openai")
    assert text_only is not None
    dollars = pytest.approx(text_only + 0.01 * searches) if is_known else None
    response = {"model_provider": provider}
    block = {"type": "server_tool_call", "name": name, "id": "ws1", "args": {}}
    assert billed(response, "gpt-4o", "openai", [block, {"type": "server_tool_result"}]) == dollars
    if provider == "openai":
        answer = Message("ai", "Found.", response=response, additional={"tool_outputs": [{"type": f"{name}_call"}]})
        assert cost_of(USED, "gpt-4o", "openai", billing_of((answer,), None, "gpt-4o")) == dollars
        computer = {"type": "non_standard", "value": {"type": "computer_call", "call_id": "c1"}}
        assert billed(response, "gpt-4o", "openai", [computer]) is None


def test_media_with_a_price_of_their_own_need_a_count_of_their_own():
    sound = frozenset({"audio"})
    assert billed({}, "gemini-2.5-flash", "google_genai", input_media=sound) is None
    assert billed({}, "gemini-3-pro-preview", "google_genai", input_media=frozenset({"image"})) is not None
    picture = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]
    assert billed({}, "gemini-2.5-flash-image", "google_genai", picture) is None
    counted = Usage(1000, 10, audio_input_tokens=800)
    assert cost_of(counted, "gemini-2.5-flash", "google", Billing(input_media=sound)) == pytest.approx(0.000885)


@pytest.mark.parametrize(
    ("block", "kinds"),
    [
        ({"type": "image", "url": "https://x/y.png"}, {"image"}),
        ({"type": "input_audio", "input_audio": {}}, {"audio"}),
        ({"type": "media", "mime_type": "video/mp4"}, {"video"}),
        ({"type": "file", "mime_type": "application/pdf"}, set()),
        ({"type": "text", "text": "hi"}, set()),
        ("hi", set()),
    ],
)
def test_kinds_of_media_are_read_from_blocks(block: Any, kinds: set[str]):
    assert media_kinds([Message("human", [block])]) == kinds
