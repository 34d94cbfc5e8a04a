"""Compute the cost of a model call in US dollars from the installed price list of `genai-prices`.

A charge that the provider reports is used as it is. The cost is None if the price of the model or of anything that the
response reports (speed, region, searches, kinds of media) is unknown. Nothing is fetched.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from gati.trace.billing import Billing

if TYPE_CHECKING:
    from gati.events import Usage

_USUAL_TIERS = frozenset({"", "auto", "default", "on_demand", "standard", "standard_only"})

_BEDROCK = re.compile(
    r":bedrock:|^(?:[a-z-]+\.)?(?:ai21|amazon|anthropic|cohere|deepseek|meta|mistral|openai|qwen)\.[a-z]"
)
_SINGLE_VENDOR_FAMILIES = (
    (re.compile(r"(?:ft:)?(?:gpt-(?!oss)|chatgpt-|o[134](?:-|$)|text-embedding-)"), "openai"),
    (re.compile("claude"), "anthropic"),
    (re.compile("gemini"), "google"),
    (re.compile("grok"), "x-ai"),
)
"""Model families with the same price through every gateway. Prices of open models depend on the host."""


_LIST_PRICE = Billing()


def cost_of(
    usage: Usage | None,
    model: str | None,
    provider: str | None = None,
    billing: Billing = _LIST_PRICE,
    cached: bool = False,
) -> float | None:
    """Return the dollars for `usage`.

    Return None if the model or its price is unknown, if no tokens were used, or if the answer came
    from LangChain's cache (`cached`). Never raises.
    """
    if cached:
        return None
    if billing.charged is not None:
        return billing.charged
    if usage is None or not model or usage.input_tokens is None or usage.output_tokens is None:
        return None
    if not billing.is_known or not (usage.input_tokens or usage.output_tokens):
        return None
    try:
        price = _price_of(model, provider or "", billing.context)
        cost = None if price is None else price.of(usage, billing)
    except Exception:  # noqa: BLE001 - the library raises for counts that it cannot price; the cost is then unknown
        return None
    return cost if cost is not None and 0 <= cost < float("inf") else None  # counts may be anything, NaN too


@lru_cache(maxsize=1024)
def _price_of(model: str, provider: str, variant: tuple[str, str]) -> _Price | None:
    """Return the price of a model. The lookup is cached, so that most calls cost one multiplication."""
    for name, vendor in _candidates(model, provider):
        calculation = _look_up(name, vendor)
        if calculation is None:
            continue
        context = dict([variant])
        if any(known.when == context for known in getattr(calculation.model, "price_variants", None) or ()):
            return _Price(calculation, name, vendor, context)
        is_usual = variant[0] == "service_tier" and variant[1] in _USUAL_TIERS
        return _Price(calculation, name, vendor, None) if is_usual else None
    return None


def _look_up(name: str, vendor: str) -> Any:
    try:
        # Late import: it takes a quarter of a second, which only the background thread can afford.
        import genai_prices

        return genai_prices.calc_price(genai_prices.Usage(), name, provider_id=vendor)
    except Exception:  # noqa: BLE001 - LookupError for unknown names, others for odd ones, or no list installed
        return None


def _candidates(model: str, provider: str) -> Iterator[tuple[str, str]]:
    """Yield the names and providers under which the price list may contain a model, most specific first.

    Example: ``"openai/gpt-4o"`` at ``"openrouter"`` → ``("openai/gpt-4o", "openrouter")``, ``("gpt-4o", "openai")``.
    """
    name = model.strip().removeprefix("models/")
    if _BEDROCK.search(name):
        yield name, "aws"
    bare = name.rsplit("/", 1)[-1]
    if provider:
        yield name, provider
        if name.startswith((f"{provider}/", "publishers/")):
            yield bare, provider
    # A tag after a colon (`deepseek-r1:7b`) is a self-hosted model.
    if ":" not in bare or bare.startswith("ft:"):
        for family, vendor in _SINGLE_VENDOR_FAMILIES:
            if family.match(bare):
                yield bare, vendor


_SCALE = 18
"""Prices are stored as integers, scaled by ten to this power, in dollars per million tokens."""
_KINDS = ("input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok")


class _Price:
    """The price of one model at one provider and service tier (`context`)."""

    __slots__ = ("context", "name", "priced", "rates", "vendor")

    def __init__(self, calculation: Any, name: str, vendor: str, context: dict[str, str] | None) -> None:
        self.name, self.vendor, self.context = name, vendor, context
        self.priced = {key for key, value in vars(calculation.model_price).items() if value is not None}
        self.rates = None if context else _integer_rates(calculation)

    def of(self, usage: Usage, billing: Billing) -> float | None:
        """Return the dollars for `usage`; None if the price list has no price for some of its tokens or searches."""
        if not self._prices_media(usage, billing):
            return None
        one_hour_writes = _one_hour_cache_writes(usage)
        audio = usage.audio_input_tokens or usage.audio_output_tokens
        if self.rates is not None and not (one_hour_writes or audio or billing.searches):
            exact = _exact_cost(usage, self.rates)
            if exact is not None:
                return exact
        return self._library_cost(usage, one_hour_writes, billing.searches)

    def _prices_media(self, usage: Usage, billing: Billing) -> bool:
        """Return False if a kind of media has a price of its own, and its tokens are not reported separately."""
        unreported_inputs = billing.input_media - {"audio"} if usage.audio_input_tokens else billing.input_media
        unreported_outputs = billing.output_media - {"audio"} if usage.audio_output_tokens else billing.output_media
        return not any(f"input_{kind}_mtok" in self.priced for kind in unreported_inputs) and not any(
            f"output_{kind}_mtok" in self.priced for kind in unreported_outputs
        )

    def _library_cost(self, usage: Usage, one_hour_writes: int, searches: tuple[tuple[str, int], ...]) -> float | None:
        """Let the library compute the cost, for prices that depend on more than token counts."""
        import genai_prices  # loaded already, see `_look_up`

        counts = {
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "cache_read_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
            "input_audio_tokens": usage.audio_input_tokens,
            "output_audio_tokens": usage.audio_output_tokens,
        }
        if (usage.audio_input_tokens and "input_audio_mtok" not in self.priced) or (
            usage.audio_output_tokens and "output_audio_mtok" not in self.priced
        ):
            return None  # the library would use the price of text
        for name, count in searches:
            if f"{name}_kcount" not in self.priced:
                return None
            counts[name] = count
        if "output_reasoning_mtok" in self.priced:
            counts["output_reasoning_tokens"] = usage.reasoning_tokens
        if one_hour_writes:
            if not hasattr(genai_prices.Usage(), "cache_write_1h_tokens"):
                return None  # an older version has one price for all writes
            counts |= {
                "cache_write_5m_tokens": (usage.cache_write_tokens or 0) - one_hour_writes,
                "cache_write_1h_tokens": one_hour_writes,
            }
        options: Any = {"price_context": self.context} if self.context else {}
        priced_usage = genai_prices.Usage(**{key: count for key, count in counts.items() if count})
        return float(genai_prices.calc_price(priced_usage, self.name, provider_id=self.vendor, **options).total_price)


def _integer_rates(calculation: Any) -> tuple[int | None, ...] | None:
    """Return the prices of `_KINDS` as scaled integers.

    Return None if they depend on the time of day or the length of the prompt, if there is a fee per
    request, or if a price is not an integer at this scale; the library then computes the cost.
    """
    prices = {key: value for key, value in vars(calculation.model_price).items() if value is not None}
    if isinstance(calculation.model.prices, list) or prices.keys() & {"requests_kcount", "output_reasoning_mtok"}:
        return None
    rates: list[int | None] = []
    for kind in _KINDS:
        price = prices.get(kind)
        if price is None:
            rates.append(None)
        elif isinstance(price, Decimal) and (scaled := price.scaleb(_SCALE)) == int(scaled):
            rates.append(int(scaled))
        else:
            return None
    return tuple(rates)


def _exact_cost(usage: Usage, rates: tuple[int | None, ...]) -> float | None:
    """Compute the cost with integers and round once at the end: the same result as the library's decimals."""
    read, write = usage.cache_read_tokens or 0, usage.cache_write_tokens or 0
    counts = ((usage.input_tokens or 0) - read - write, usage.output_tokens or 0, read, write)
    total = 0
    for count, rate in zip(counts, rates, strict=True):
        if type(count) is not int or count < 0 or (count and rate is None):
            return None
        total += count * (rate or 0)
    cost: float = total / 10 ** (_SCALE + 6)
    return cost


def _one_hour_cache_writes(usage: Usage) -> int:
    """Return the tokens written to a one-hour cache, which cost more than those for five minutes."""
    raw = usage.raw
    if not isinstance(raw, dict) or not usage.cache_write_tokens:
        return 0
    parts = raw.get("cache_creation") or raw.get("input_token_details")
    one_hour_writes = parts.get("ephemeral_1h_input_tokens") if isinstance(parts, dict) else None
    return (
        one_hour_writes if isinstance(one_hour_writes, int) and 0 < one_hour_writes <= usage.cache_write_tokens else 0
    )
