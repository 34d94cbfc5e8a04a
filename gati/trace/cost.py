"""What a model call cost in US dollars, from the price list of `genai-prices`.

Unknown stays None: an unknown model, an unknown class of service, tokens that were not
counted. The list is the one that is installed; nothing is fetched.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

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
"""Families that have one price wherever a gateway got them. Open models have one a host."""


def cost_of(
    usage: Usage | None,
    model: str | None,
    provider: str | None = None,
    service_tier: str | None = None,
    cached: bool = False,
) -> float | None:
    """Dollars for `usage`; None if the model or its price is unknown, if nothing was used, or if
    the answer came from LangChain's cache (`cached`). Never raises.
    """
    if cached or usage is None or not model or usage.input_tokens is None or usage.output_tokens is None:
        return None
    if not (usage.input_tokens or usage.output_tokens):
        return None
    try:
        price = _price_of(model, provider or "", (service_tier or "").lower())
        cost = None if price is None else price.of(usage)
    except Exception:  # noqa: BLE001 - the library refuses counts that it cannot price; then the cost is unknown
        return None
    return cost if cost is not None and 0 <= cost < float("inf") else None  # counts may be anything, NaN too


@lru_cache(maxsize=1024)
def _price_of(model: str, provider: str, tier: str) -> _Price | None:
    """The price of a model: found once, then a multiplication."""
    for name, vendor in _candidates(model, provider):
        found = _look_up(name, vendor)
        if found is None:
            continue
        context = {"service_tier": tier}
        if any(variant.when == context for variant in getattr(found.model, "price_variants", None) or ()):
            return _Price(found, name, vendor, context)
        return _Price(found, name, vendor, None) if tier in _USUAL_TIERS else None
    return None


def _look_up(name: str, vendor: str) -> Any:
    try:
        # Here, not above: it takes a quarter of a second, which the background thread has.
        import genai_prices

        return genai_prices.calc_price(genai_prices.Usage(), name, provider_id=vendor)
    except Exception:  # noqa: BLE001 - LookupError for unknown names, others for odd ones, or no list installed
        return None


def _candidates(model: str, provider: str) -> Iterator[tuple[str, str]]:
    """Names and providers under which the price list may know a model, the surest first."""
    name = model.strip().removeprefix("models/")
    if _BEDROCK.search(name):
        yield name, "aws"
    bare = name.rsplit("/", 1)[-1]
    if provider:
        yield name, provider
        if name.startswith((f"{provider}/", "publishers/")):
            yield bare, provider
    # A tag after a colon (`deepseek-r1:7b`) is somebody's own copy of a model.
    if ":" not in bare or bare.startswith("ft:"):
        for family, vendor in _SINGLE_VENDOR_FAMILIES:
            if family.match(bare):
                yield bare, vendor


_SCALE = 18
"""Decimal places of the price list, in dollars a million tokens."""
_KINDS = ("input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok")


class _Price:
    """The price of one model at one provider and class of service (`context`)."""

    __slots__ = ("context", "name", "priced", "rates", "vendor")

    def __init__(self, found: Any, name: str, vendor: str, context: dict[str, str] | None) -> None:
        self.name, self.vendor, self.context = name, vendor, context
        self.priced = {key for key, value in vars(found.model_price).items() if value is not None}
        self.rates = None if context else _integer_rates(found)

    def of(self, usage: Usage) -> float | None:
        one_hour_writes = _one_hour_cache_writes(usage)
        if self.rates is not None and not (one_hour_writes or usage.audio_input_tokens or usage.audio_output_tokens):
            exact = _exact_cost(usage, self.rates)
            if exact is not None:
                return exact
        return self._library_cost(usage, one_hour_writes)

    def _library_cost(self, usage: Usage, one_hour_writes: int) -> float | None:
        """What the library says, where the price is not a plain one."""
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
            return None  # the library would take the price of text
        if "output_reasoning_mtok" in self.priced:
            counts["output_reasoning_tokens"] = usage.reasoning_tokens
        if one_hour_writes:
            if not hasattr(genai_prices.Usage(), "cache_write_1h_tokens"):
                return None  # an older list knows one price for all writes
            counts |= {
                "cache_write_5m_tokens": (usage.cache_write_tokens or 0) - one_hour_writes,
                "cache_write_1h_tokens": one_hour_writes,
            }
        more: Any = {"price_context": self.context} if self.context else {}
        told = genai_prices.Usage(**{key: count for key, count in counts.items() if count})
        return float(genai_prices.calc_price(told, self.name, provider_id=self.vendor, **more).total_price)


def _integer_rates(found: Any) -> tuple[int | None, ...] | None:
    """The price as whole numbers, where it is a plain one: the same at any hour and any length,
    without a fee for the request. What is not a whole number at this scale is asked for.
    """
    prices = {key: value for key, value in vars(found.model_price).items() if value is not None}
    if isinstance(found.model.prices, list) or prices.keys() & {"requests_kcount", "output_reasoning_mtok"}:
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
    """The cost in whole numbers, rounded once at the end, as the library has it in decimals."""
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
    """Tokens written to a cache for an hour, which cost more than those for five minutes."""
    raw = usage.raw
    if not isinstance(raw, dict) or not usage.cache_write_tokens:
        return 0
    parts = raw.get("cache_creation") or raw.get("input_token_details")
    one_hour_writes = parts.get("ephemeral_1h_input_tokens") if isinstance(parts, dict) else None
    return (
        one_hour_writes if isinstance(one_hour_writes, int) and 0 < one_hour_writes <= usage.cache_write_tokens else 0
    )
