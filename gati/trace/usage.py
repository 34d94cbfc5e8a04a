"""Read token counts, model name, provider and finish reason from a model's result.

Sources by precedence: LangChain's `usage_metadata`, `llm_output`, `response_metadata`. Each provider's
format has a small parser. Values that are not reported stay None. These functions are pure and
never raise.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

from gati.events import Usage

if TYPE_CHECKING:
    from gati.trace.records import Message

Raw: TypeAlias = dict[Any, Any]

_USAGE_KEYS = ("token_usage", "usage", "usage_metadata", "token_count", "amazon-bedrock-invocationMetrics")
"""Keys under which providers report their counts; Ollama reports them at the top level."""


def usage_of(messages: tuple[Message, ...], llm_output: Any = None) -> Usage | None:
    """Return the tokens of one model call; None if the provider did not report them.

    With several candidates each may carry the usage of the whole call: they are never added up, and
    `llm_output`, which describes the call, is read first.
    """
    normalized = [
        (message.usage, raw_usage(message.response) or message.usage)
        for message in messages
        if isinstance(message.usage, dict)
    ]
    reported = [(raw, raw) for source in (llm_output, *(m.response for m in messages)) if (raw := raw_usage(source))]
    usage: Usage | None = None
    for counts, raw in reported + normalized if len(messages) > 1 else normalized + reported:
        if usage is None:
            usage = _parse_usage(counts)
            if usage is not None:
                usage.raw = raw
        elif not _DETAIL_KEYS.isdisjoint(counts):
            _add_details(usage, _parse_usage(counts))
    return usage


def is_cached(messages: tuple[Message, ...]) -> bool:
    """Return True if the answer came from LangChain's cache, which sets its `total_cost` to zero."""
    return any(
        isinstance(m.usage, dict) and m.usage.get("total_cost") == 0 and "total_cost" in m.usage for m in messages
    )


def raw_usage(source: Any) -> Raw | None:
    """Return the counts in a provider's response. Example: ``{"token_usage": {…}, …}`` → ``{…}``."""
    if not isinstance(source, dict) or _COUNT_KEYS.isdisjoint(source):
        return None
    for key in _USAGE_KEYS:
        if isinstance(counts := source.get(key), dict) and counts:
            return counts
    return {k: v for k, v in source.items() if k in _OLLAMA_KEYS} if _OLLAMA_KEYS & source.keys() else None


# -- one parser per format ----------------------------------------------------------------


def _langchain(raw: Raw) -> Usage:
    """Parse `usage_metadata`. Service tiers prefix keys with their name: ``flex_cache_read``."""
    inputs, outputs = _details(raw, "input_token_details"), _details(raw, "output_token_details")
    if not inputs and not outputs:
        return Usage(
            _token_count(raw, "input_tokens"), _token_count(raw, "output_tokens"), _token_count(raw, "total_tokens")
        )
    usage = Usage(
        _token_count(raw, "input_tokens"),
        _token_count(raw, "output_tokens"),
        _token_count(raw, "total_tokens"),
        cache_read_tokens=_token_count(inputs, "cache_read", "priority_cache_read", "flex_cache_read"),
        cache_write_tokens=_token_count(inputs, "cache_creation", "priority_cache_creation", "flex_cache_creation"),
        reasoning_tokens=_token_count(outputs, "reasoning", "priority_reasoning", "flex_reasoning"),
        audio_input_tokens=_token_count(inputs, "audio"),
        audio_output_tokens=_token_count(outputs, "audio"),
    )
    # Writes counted by time to live are in these keys, with or without their sum.
    by_ttl = [_token_count(inputs, key) for key in ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")]
    return _set_cache_writes(usage, by_ttl)


def _openai_chat(raw: Raw) -> Usage:
    """Parse Chat Completions, also used by Mistral, Groq, DeepSeek, Together, Fireworks and xAI."""
    inputs, outputs = _details(raw, "prompt_tokens_details"), _details(raw, "completion_tokens_details")
    return Usage(
        _token_count(raw, "prompt_tokens"),
        _token_count(raw, "completion_tokens"),
        _token_count(raw, "total_tokens"),
        cache_read_tokens=_first_known(
            _token_count(inputs, "cached_tokens"),
            _token_count(raw, "prompt_cache_hit_tokens", "cache_read_input_tokens"),
        ),
        cache_write_tokens=_first_known(
            _token_count(inputs, "cache_write_tokens", "cache_creation_tokens"),
            _token_count(raw, "cache_write_input_tokens", "cache_creation_input_tokens"),
        ),
        reasoning_tokens=_token_count(outputs, "reasoning_tokens"),
        audio_input_tokens=_token_count(inputs, "audio_tokens"),
        audio_output_tokens=_token_count(outputs, "audio_tokens"),
    )


def _openai_responses(raw: Raw) -> Usage:
    inputs, outputs = _details(raw, "input_tokens_details"), _details(raw, "output_tokens_details")
    return Usage(
        _token_count(raw, "input_tokens"),
        _token_count(raw, "output_tokens"),
        _token_count(raw, "total_tokens"),
        cache_read_tokens=_token_count(inputs, "cached_tokens"),
        cache_write_tokens=_token_count(inputs, "cache_write_tokens"),
        reasoning_tokens=_token_count(outputs, "reasoning_tokens"),
    )


def _anthropic(raw: Raw) -> Usage:
    """Parse Anthropic's usage, whose input excludes tokens read from and written to the cache.

    Anthropic reports no total. With a total, `_reconcile` finds out what the input includes.
    """
    read, by_ttl = _token_count(raw, "cache_read_input_tokens"), _details(raw, "cache_creation")
    usage = Usage(
        _token_count(raw, "input_tokens"),
        _token_count(raw, "output_tokens"),
        _token_count(raw, "total_tokens"),
        cache_read_tokens=read,
        cache_write_tokens=_token_count(raw, "cache_creation_input_tokens"),
        reasoning_tokens=_token_count(_details(raw, "output_tokens_details"), "thinking_tokens"),
    )
    usage = _set_cache_writes(usage, [_token_count(by_ttl, key) for key in by_ttl])
    return usage if usage.total_tokens is not None else _add_cache_to_input(usage)


def _google(raw: Raw) -> Usage:
    """Parse Google's usage, whose output excludes the thoughts.

    A streamed answer of VertexAI has Google's counts and LangChain's in one dict; only LangChain's have the thoughts.
    """
    thoughts = _first_known(
        _token_count(raw, "thoughts_token_count", "thoughtsTokenCount"),
        _token_count(_details(raw, "output_token_details"), "reasoning"),
    )
    usage = Usage(
        _token_count(raw, "prompt_token_count", "promptTokenCount"),
        _token_count(raw, "candidates_token_count", "candidatesTokenCount"),
        _token_count(raw, "total_token_count", "totalTokenCount"),
        cache_read_tokens=_token_count(raw, "cached_content_token_count", "cachedContentTokenCount"),
        reasoning_tokens=thoughts,
    )
    if thoughts:
        usage.output_tokens = (usage.output_tokens or 0) + thoughts
    return usage


def _bedrock(raw: Raw) -> Usage:
    """Parse the usage of Converse and the metrics of an invoked model; the input excludes the cache."""
    return _add_cache_to_input(
        Usage(
            _token_count(raw, "inputTokens", "inputTokenCount"),
            _token_count(raw, "outputTokens", "outputTokenCount"),
            _token_count(raw, "totalTokens"),
            cache_read_tokens=_token_count(raw, "cacheReadInputTokens", "cacheReadInputTokenCount"),
            cache_write_tokens=_token_count(raw, "cacheWriteInputTokens", "cacheWriteInputTokenCount"),
        )
    )


def _ollama(raw: Raw) -> Usage:
    return Usage(_token_count(raw, "prompt_eval_count"), _token_count(raw, "eval_count"))


_OLLAMA_KEYS = frozenset({"prompt_eval_count", "eval_count"})
_COUNT_KEYS = _OLLAMA_KEYS.union(_USAGE_KEYS)
_PARSERS: tuple[tuple[frozenset[str], Callable[[Raw], Usage]], ...] = (
    (frozenset({"prompt_tokens", "completion_tokens"}), _openai_chat),
    (frozenset({"inputTokens", "outputTokens", "inputTokenCount"}), _bedrock),
    (frozenset({"prompt_token_count", "promptTokenCount", "candidates_token_count"}), _google),
    (_OLLAMA_KEYS, _ollama),
    (frozenset({"cache_read_input_tokens", "cache_creation_input_tokens"}), _anthropic),
    (frozenset({"input_tokens_details", "output_tokens_details"}), _openai_responses),
    (frozenset({"input_tokens", "output_tokens", "total_tokens"}), _langchain),
)
"""Keys that only this format has → its parser; the first match wins. The last also parses bare counts."""


def _parse_usage(raw: Raw) -> Usage | None:
    parser = _parser_for(tuple(raw))
    if parser is None:
        return None
    usage = _reconcile(parser(raw))
    known = (usage.input_tokens, usage.output_tokens, usage.total_tokens)
    return usage if known != (None, None, None) else None


@lru_cache(maxsize=256)
def _parser_for(keys: tuple[Any, ...]) -> Callable[[Raw], Usage] | None:
    """Return the parser for a set of keys. It is cached, because a program sees very few sets."""
    return next((parser for known, parser in _PARSERS if not known.isdisjoint(keys)), None)


_DETAIL_KEYS = frozenset({"prompt_tokens_details", "cache_creation_input_tokens", "cache_read_input_tokens"})
_DETAILS = ("cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "audio_input_tokens", "audio_output_tokens")


def _add_details(usage: Usage, other: Usage | None) -> None:
    """Add the details that `usage` lacks from another report of the same call, if both agree on the sums."""
    if other is None or (other.input_tokens, other.output_tokens) != (usage.input_tokens, usage.output_tokens):
        return
    for name in _DETAILS:
        if getattr(usage, name) is None:
            setattr(usage, name, getattr(other, name))


# -- reconciling counts -------------------------------------------------------------------


def _reconcile(usage: Usage) -> Usage:
    """Add the cache to the input and the thoughts to the output where an older integration excludes them.

    The reported total, or a part larger than its whole, shows that they are excluded. Example: input
    10, cached 90, output 5, total 105 → input 100.
    """
    known = (usage.input_tokens or 0) + (usage.output_tokens or 0)
    cached = (usage.cache_read_tokens or 0) + (usage.cache_write_tokens or 0)
    thoughts, total = usage.reasoning_tokens or 0, usage.total_tokens
    if usage.input_tokens is not None and (cached > usage.input_tokens or (cached and total == known + cached)):
        _add_cache_to_input(usage)
    if usage.output_tokens is not None and (thoughts > usage.output_tokens or (thoughts and total == known + thoughts)):
        usage.output_tokens += thoughts
    if usage.input_tokens is not None and usage.output_tokens is not None:
        usage.total_tokens = max(total or 0, usage.input_tokens + usage.output_tokens)
    return usage


def _add_cache_to_input(usage: Usage) -> Usage:
    cached = (usage.cache_read_tokens or 0) + (usage.cache_write_tokens or 0)
    if usage.input_tokens is not None:
        usage.input_tokens += cached
    return usage


def _set_cache_writes(usage: Usage, by_ttl: list[int | None]) -> Usage:
    counted = [count for count in by_ttl if count is not None]
    if counted:
        usage.cache_write_tokens = max(usage.cache_write_tokens or 0, sum(counted))
    return usage


def _token_count(raw: Raw, *keys: str) -> int | None:
    """Return the first number of tokens under `keys`; negative and non-numeric values count as unknown."""
    for key in keys:
        value = raw.get(key)
        if value is not None and isinstance(value, (int, float)) and value.__class__ is not bool and 0 <= value < 1e15:
            return int(value)
    return None


def _first_known(*counts: int | None) -> int | None:
    return next((count for count in counts if count is not None), None)


def _details(raw: Raw, key: str) -> Raw:
    value = raw.get(key)
    return value if isinstance(value, dict) else {}


# -- names --------------------------------------------------------------------------------

_MODEL_KEYS = ("model_name", "model", "model_id")
_FINISH_KEYS = ("finish_reason", "stop_reason", "stopReason", "done_reason")


def model_name_of(
    messages: tuple[Message, ...],
    llm_output: Any = None,
    metadata: Any = None,
    params: Any = None,
    serialized: Any = None,
) -> str | None:
    """Return the name of the model: from the response, else from the request."""
    for source in (*(message.response for message in messages), llm_output):
        if name := _first_text(source, *_MODEL_KEYS):
            return name
    configured = serialized.get("kwargs") if isinstance(serialized, dict) else None
    return (
        _first_text(metadata, "ls_model_name")
        or _first_text(params, *_MODEL_KEYS)
        or _first_text(configured, *_MODEL_KEYS)
    )


def provider_of(messages: tuple[Message, ...], metadata: Any = None) -> str | None:
    """Return the provider in LangChain's spelling (``openai``, ``anthropic``, ``google_genai`` …)."""
    reported = next((name for message in messages if (name := _first_text(message.response, "model_provider"))), None)
    return _first_text(metadata, "ls_provider") or reported


def finish_reason_of(messages: tuple[Message, ...], llm_output: Any = None) -> str | None:
    """Return the reason why the model stopped, in the provider's words."""
    for source in (*(message.response for message in messages), llm_output):
        if reason := _first_text(source, *_FINISH_KEYS):
            return reason
    response = next((m.response for m in messages if isinstance(m.response, dict)), {})
    # The Responses API reports a status, and a reason only for an incomplete response.
    return _first_text(response.get("incomplete_details"), "reason") or _first_text(response, "status")


def service_tier_of(messages: tuple[Message, ...], llm_output: Any = None) -> str | None:
    """Return the service tier of the call (``flex``, ``priority`` …), which affects the price."""
    for source in (*(message.response for message in messages), llm_output):
        if tier := _first_text(source, "service_tier") or _first_text(raw_usage(source), "service_tier"):
            return tier
    return None


def _first_text(source: Any, *keys: str) -> str | None:
    """Return the first text under `keys` that is not empty."""
    if isinstance(source, dict):
        for key in keys:
            value = source.get(key)
            if value is not None and isinstance(value, str) and value:
                return _undo_repetition(value)
    return None


@lru_cache(maxsize=1024)
def _undo_repetition(text: str) -> str:
    """Undo LangChain's concatenation of streamed metadata. Example: ``"stopstop"`` → ``"stop"``."""
    period = (text + text).find(text, 1)
    return text[:period] if period >= 4 and len(text) < 1_000 else text
