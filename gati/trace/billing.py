"""Read from a response what its price depends on, beside the number of tokens.

A provider may state the charge itself, charge for searches, or price the speed, the region or the kind of media
differently. These functions are pure and never raise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from gati.trace.records import ModelCall
from gati.trace.usage import raw_usage, service_tier_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gati.trace.records import Message
    from gati.trace.run_tree import Run

_CHARGE_KEYS = ("cost", "response_cost", "total_cost")
"""Where OpenRouter and Perplexity (`cost`) and LiteLLM (`response_cost`) report the charge in dollars."""
_CHARGE_KEY_SET = frozenset(_CHARGE_KEYS)
_ANY_REGION = frozenset({"", "global", "not_available"})
_MEDIA = {
    "image": "image",
    "image_url": "image",
    "input_image": "image",
    "audio": "audio",
    "input_audio": "audio",
    "video": "video",
}
"""Type of a content block → the kind of media in it, as the price list names it."""
_FAMILIES = ("image", "audio", "video")
_SEARCHES = {"web_search_call": "web_searches", "file_search_call": "storage_searches"}
"""Type of an output block of the Responses API → what the price list calls the search."""
_UNPRICED_CALLS = frozenset({"code_interpreter_call", "image_generation_call", "computer_call"})
"""Types of output blocks whose price does not follow from anything that the response reports."""


class Billing(NamedTuple):
    """The facts that a price depends on, besides model and number of tokens.

    Attributes:
        charged: the dollars that the provider says it charged; None if it does not say.
        context: the price list's name and value of a variant, such as ``{"speed": "fast"}``.
        searches: number of searches by the price list's name for them.
        input_media: kinds of media in the request.
        output_media: kinds of media in the answer.
        is_known: False if the response reports something that the price list has no price for.
    """

    charged: float | None = None
    context: tuple[str, str] = ("service_tier", "")
    searches: tuple[tuple[str, int], ...] = ()
    input_media: frozenset[str] = frozenset()
    output_media: frozenset[str] = frozenset()
    is_known: bool = True


NO_MEDIA: frozenset[str] = frozenset()


def billing_of(
    messages: tuple[Message, ...], llm_output: Any, model: str | None, input_media: frozenset[str] = NO_MEDIA
) -> Billing:
    """Return what the price of a call depends on.

    Args:
        messages: the candidates of the call.
        llm_output: LangChain's description of the call.
        model: the name of the model that answered.
        input_media: kinds of media in the request, see `media_kinds`.
    """
    sources = [source for source in (*(m.response for m in messages), llm_output) if isinstance(source, dict)]
    usages = [usage for source in sources if (usage := raw_usage(source))]
    searches, is_known = _searches(sources, usages, messages, model or "")
    speed = _first_name(usages, "speed")
    region = _first_name(usages, "inference_geo")
    tier = (service_tier_of(messages, llm_output) or "").lower()
    context = ("service_tier", tier)
    if tier == "batch":
        context = ("processing", "batch")
    elif speed not in ("", "standard"):
        context = ("speed", speed)
    return Billing(
        charged=_charge(sources, usages),
        context=context,
        searches=searches,
        input_media=input_media,
        output_media=media_kinds(messages),
        is_known=is_known and region in _ANY_REGION,
    )


def request_media(run: Run) -> frozenset[str]:
    """Return the kinds of media among the new messages of a model call."""
    return media_kinds(run.inputs.messages) if isinstance(run.inputs, ModelCall) else NO_MEDIA


def media_kinds(messages: Iterable[Any]) -> frozenset[str]:
    """Return the kinds of media in messages: "image", "audio", "video"."""
    kinds: set[str] = set()
    for message in messages:
        content = getattr(message, "content", None)
        if type(content) is list:
            kinds.update(kind for block in content if isinstance(block, dict) and (kind := _media_kind(block)))
        additional = getattr(message, "additional", None)
        if additional and "audio" in additional:
            kinds.add("audio")
    return frozenset(kinds) if kinds else NO_MEDIA


def _media_kind(block: dict[Any, Any]) -> str | None:
    """Return the kind of media in a content block. Example: ``{"type": "media", "mime_type": "audio/wav"}`` → "audio"."""
    block_type = block.get("type")
    if isinstance(block_type, str) and block_type in _MEDIA:
        return _MEDIA[block_type]
    for key in ("mime_type", "media_type"):
        if isinstance(mime := block.get(key), str):
            return next((family for family in _FAMILIES if mime.startswith(family)), None)
    return None


def _charge(sources: list[dict[Any, Any]], usages: list[dict[Any, Any]]) -> float | None:
    """Return the dollars that the provider reports. With a key of the user's own, OpenRouter's fee and the upstream
    cost are added."""
    for source in (*usages, *sources):
        if _CHARGE_KEY_SET.isdisjoint(source):
            continue
        for key in _CHARGE_KEYS:
            charge = source.get(key)
            if isinstance(charge, dict):
                charge = charge.get("total_cost")
            if (dollars := _dollars(charge)) is None:
                continue
            details = source.get("cost_details")
            upstream = _dollars(details.get("upstream_inference_cost")) if isinstance(details, dict) else None
            return dollars + upstream if upstream and source.get("is_byok") else dollars
    return None


def _dollars(value: Any) -> float | None:
    if isinstance(value, (int, float)) and value.__class__ is not bool and 0 <= value < float("inf"):
        return float(value)
    return None


def _searches(
    sources: list[dict[Any, Any]], usages: list[dict[Any, Any]], messages: tuple[Message, ...], model: str
) -> tuple[tuple[tuple[str, int], ...], bool]:
    """Return the searches by their name in the price list, and whether all charges are known."""
    counts: dict[str, int] = {}
    is_known = True
    for usage in usages:
        tools = usage.get("server_tool_use")
        requests = tools.get("web_search_requests") if isinstance(tools, dict) else None
        if isinstance(requests, int) and requests > 0:
            counts["web_searches"] = requests
            break
    for source in sources:
        if (found := source.get("grounding_metadata") or source.get("groundingMetadata")) is None:
            continue
        queries = found.get("web_search_queries") or found.get("webSearchQueries") if isinstance(found, dict) else None
        if isinstance(queries, (list, tuple)) and queries:
            counts["web_searches"] = len(queries)
            # Models before Gemini 3 are charged by the prompt, beyond a daily allowance that no response reports.
            is_known = "gemini-1" not in model and "gemini-2" not in model
            break
    for kind in _output_calls(messages):
        if kind in _UNPRICED_CALLS:
            is_known = False
        elif name := _SEARCHES.get(kind):
            counts[name] = counts.get(name, 0) + 1
    return tuple(counts.items()), is_known


def _output_calls(messages: tuple[Message, ...]) -> Iterator[str]:
    """Yield the types of the output blocks of the Responses API, in each `output_version` of LangChain.

    "responses/v1" keeps the blocks, "v0" puts calls into `tool_outputs`, and "v1" makes them calls of one type with a
    name, as it does with those of other providers.
    """
    for message in messages:
        outputs = (message.additional or {}).get("tool_outputs")
        is_responses_api = (message.response or {}).get("model_provider") == "openai"
        for blocks in (message.content, outputs):
            for block in blocks if type(blocks) is list else ():
                value = block.get("value") if isinstance(block, dict) and block.get("type") == "non_standard" else block
                if not isinstance(value, dict) or not isinstance(kind := value.get("type"), str):
                    continue
                if kind == "server_tool_call":
                    if is_responses_api:
                        yield f"{value.get('name')}_call"
                else:
                    yield kind


def _first_name(sources: list[dict[Any, Any]], key: str) -> str:
    return next((value.lower() for source in sources if isinstance(value := source.get(key), str)), "")
