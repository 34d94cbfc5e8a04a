"""Surviving mutants that tests cannot or need not detect: (module, line, replacement) → reason."""

from __future__ import annotations

_RETRY = "gati.pipeline.retry"
_OUTCOMES = "gati.exporters.http_outcome"
_MAPPING = "gati.exporters.greenflash.turn_encoder"
_MESSAGES = "gati.exporters.greenflash.encoder"

_PACK = "if index - start == self._most or (size + draft.size > self._largest and index > start):"
_JOIN = "if opened.request.items + len(found) > self._most or size > self._largest // 6:"
_MEASURE = "if size > self._largest // 6 and len(orjson.dumps(body)) > self._largest:"
_SHORTEN = "while size > 64 and len(orjson.dumps(message)) > limit:"
_FEEL = "an arbitrary memory limit"
_ESTIMATE = "an estimate; the real size is measured before sending"
_SIXTH = "a threshold for an estimate; a smaller one only measures or splits earlier"

REASONS: dict[tuple[str, str, str], str] = {
    (_RETRY, "own = _random.uniform(0, min(self.cap, self.first * 2 ** min(failures - 1, 30)))", "31"): (
        "only bounds the exponent; the cap is reached long before"
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
    (_MAPPING, "_ENVELOPE_BYTES = 300", "301"): "an estimate; what is sent is measured",
    (_MAPPING, '_Texts: TypeAlias = "tuple[tuple[str, str], ...]"', "'tuple[tuple[str, str], ...]-changed'"): (
        "read by the type checker only"
    ),
    (_MAPPING, "(part,) = parts(event, False, True)", "True"): "an end event is encoded the same way in either case",
    (_MAPPING, "(part,) = parts(event, False, True)", "False"): "an end event is encoded the same way in either case",
    (_MAPPING, "self._last = 0", "1"): "a nanosecond after 1970 is earlier than every reported time",
    (_MAPPING, "above = self._at.get(parent, 0)", "1"): "a nanosecond after 1970 is earlier than every reported time",
    (_MAPPING, "size += len(text) if text.isascii() else len(text.encode())", "len(text.encode())"): (
        "the same number; the condition avoids a copy"
    ),
    (_MESSAGES, "_REMEMBERED = 4096", "4097"): _FEEL,
    (_MESSAGES, "_SHOWN = 16_384", "16385"): _FEEL,
    (_MESSAGES, "self.last_ms = 0", "1"): "a millisecond after 1970 is earlier than every reported time",
    (_MESSAGES, "self._second = -1", "2"): "both are before 1970, earlier than every reported time",
    (_MESSAGES, 'self._prefix = ""', "'changed'"): "replaced by the first reported time",
    (_MESSAGES, "return envelope, size + wire.size + 4 * limits.LONGEST_ID", "4 // limits.LONGEST_ID"): _ESTIMATE,
    (_MESSAGES, "return envelope, size + wire.size + 4 * limits.LONGEST_ID", "5"): _ESTIMATE,
    (_MESSAGES, _JOIN, "size >= self._largest // 6"): _SIXTH,
    (_MESSAGES, _JOIN, "7"): _SIXTH,
    (_MESSAGES, _PACK, "size + draft.size >= self._largest"): _ESTIMATE,
    (_MESSAGES, _PACK, "index >= start"): (
        "no single message is estimated that large: each of its fields has an eighth of a request at most"
    ),
    (_MESSAGES, _MEASURE, "size >= self._largest // 6"): _SIXTH,
    (_MESSAGES, _MEASURE, "7"): _SIXTH,
    (
        _MESSAGES,
        'body["messages"] = [shorten(messages[0], self._largest - len(orjson.dumps(envelope)) - 20)]',
        "21",
    ): "space for the name of a field, which is shorter",
    (_MESSAGES, _SHORTEN, "size >= 64"): "an arbitrary limit",
    (_MESSAGES, _SHORTEN, "65"): "an arbitrary limit",
    (_MESSAGES, "size //= 2", "3"): "an arbitrary step",
    (
        _MESSAGES,
        "if all(draft.prompt in (None, MAIN, main) for draft in found):",
        "draft.prompt not in (None, MAIN, main)",
    ): ("a fast path with the same result as the code below; at least one draft always uses the main prompt"),
}
"""Key: module, source line without indentation, replacement. If the line changes, the reason must be reviewed."""
