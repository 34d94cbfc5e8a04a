"""Surviving mutants that tests cannot or need not detect: (module, line, replacement) → reason."""

from __future__ import annotations

_RETRY = "gati.pipeline.retry"
_OUTCOMES = "gati.exporters.http_outcome"
_MAPPING = "gati.exporters.greenflash.turn_encoder"
_MESSAGES = "gati.exporters.greenflash.encoder"
_PACKING = "gati.exporters.packing"

_FAST = "if len(items) <= max_items and total <= max_bytes:"
_SHORTEN = "while size > 64 and len(orjson.dumps(message)) > limit:"
_FEEL = "an arbitrary memory limit"

REASONS: dict[tuple[str, str, str], str] = {
    (_RETRY, "own = _random.uniform(0, min(self.cap, self.first * 2 ** min(failures - 1, 30)))", "31"): (
        "only bounds the exponent; the cap is reached long before"
    ),
    (_RETRY, "self.budget.block(now + self.policy.delay(1, outcome.retry_after))", "2"): (
        "with a delay that the server asked for, the number of failures does not count"
    ),
    (_OUTCOMES, "if status < 400:", "status <= 400"): "400 is handled above",
    (_OUTCOMES, "if status < 400:", "401"): "400 is handled above",
    (
        _OUTCOMES,
        "parsed = email.utils.parsedate_tz(header) if header else None",
        "email.utils.parsedate_tz(header)",
    ): "returns None without a header too; the condition is for the type checker",
    (_OUTCOMES, 'value = float(header or "")', "'changed'"): "neither is a number",
    (_MAPPING, 'MAIN: Final = "main"', "'main-changed'"): "a marker that is only compared with itself",
    (_MAPPING, 'NO_PROMPT: Final = "none"', "'none-changed'"): "a marker that is only compared with itself",
    (_MAPPING, '_Texts: TypeAlias = "tuple[tuple[str, str], ...]"', "'tuple[tuple[str, str], ...]-changed'"): (
        "read by the type checker only"
    ),
    (
        _MAPPING,
        "(fields,) = message_fields(event, False, True)",
        "True",
    ): "an end event is encoded the same way in any case",
    (
        _MAPPING,
        "(fields,) = message_fields(event, False, True)",
        "False",
    ): "an end event is encoded the same way in any case",
    (_MAPPING, "self._latest_ns = 0", "1"): "a nanosecond after 1970 is earlier than every reported time",
    (
        _MAPPING,
        "ns = max(ns, self._times.get(parent, 0))",
        "1",
    ): "a nanosecond after 1970 is earlier than every reported time",
    (_MESSAGES, "self._open.clear()", "pass"): "called at both ends: after an exception, and to free memory",
    (
        _MESSAGES,
        "sanitize.bounded_json(given, self._max_field_bytes)[0] if given else {},",
        "sanitize.bounded_json(given, self._max_field_bytes)[0]",
    ): "only a fast path",
    (_MESSAGES, "sized = [(raw, len(raw) + 1) for raw in encoded]  # with a comma, except for the last one", "2"): (
        "a request holds a byte less for each message"
    ),
    (
        _MESSAGES,
        "packed = pack_items(sized, self._max_messages, self._max_bytes, len(envelope) + JSON_BYTES - 1)",
        "len(envelope) + JSON_BYTES + 1",
    ): "a request holds two bytes less",
    (_MESSAGES, "if size > self._max_bytes:  # a single message", "size >= self._max_bytes"): (
        "a message that fits is not shortened"
    ),
    (_MESSAGES, "_MAX_CONVERSATIONS = 4096", "4097"): _FEEL,
    (_MESSAGES, "_MAX_EVENT_IDS = 16_384", "16385"): _FEEL,
    (_MESSAGES, "self.last_ms = 0", "1"): "a millisecond after 1970 is earlier than every reported time",
    (_MESSAGES, "self._second = -1", "2"): "both are before 1970, earlier than every reported time",
    (_MESSAGES, 'self._prefix = ""', "'changed'"): "the first timestamp replaces it",
    (_PACKING, 'Item = TypeVar("Item")', "'Item-changed'"): "read by the type checker only",
    (_PACKING, _FAST, "len(items) < max_items"): "only a fast path: the loop below gives the same groups",
    (_PACKING, _FAST, "total < max_bytes"): "only a fast path: the loop below gives the same groups",
    (_MESSAGES, _SHORTEN, "size >= 64"): "an arbitrary limit",
    (_MESSAGES, _SHORTEN, "65"): "an arbitrary limit",
    (_MESSAGES, "size //= 2", "3"): "an arbitrary step",
    (
        _MESSAGES,
        "if all(message.prompt in (None, MAIN, main) for message in pending):",
        "message.prompt not in (None, MAIN, main)",
    ): ("only a fast path: the loop below gives the same groups, and the main prompt is that of at least one message"),
}
"""Key: module, source line without indentation, replacement. If the line changes, the reason must be reviewed."""
