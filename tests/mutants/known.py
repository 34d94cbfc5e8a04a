"""Faults that no test can or need notice: module, line, what stands in the place → why."""

from __future__ import annotations

_RETRY = "gati.pipeline.retry"
_OUTCOMES = "gati.exporters.http_outcome"
_MAPPING = "gati.exporters.greenflash.turn_encoder"
_MESSAGES = "gati.exporters.greenflash.encoder"

_PACK = "if index - start == self._most or (size + draft.size > self._largest and index > start):"
_JOIN = "if opened.request.items + len(found) > self._most or size > self._largest // 6:"
_MEASURE = "if size > self._largest // 6 and len(orjson.dumps(body)) > self._largest:"
_SHORTEN = "while size > 64 and len(orjson.dumps(message)) > limit:"
_FEEL = "a bound of memory, chosen by feel"
_ESTIMATE = "an estimate; what is sent is measured"
_SIXTH = "a share of an estimate; one that is smaller only measures or parts sooner"

REASONS: dict[tuple[str, str, str], str] = {
    (_RETRY, "own = _random.uniform(0, min(self.cap, self.first * 2 ** min(failures - 1, 30)))", "31"): (
        "it only keeps the power from growing without end; the cap is reached long before"
    ),
    (_OUTCOMES, "if status < 400:", "status <= 400"): "400 is answered above",
    (_OUTCOMES, "if status < 400:", "401"): "400 is answered above",
    (
        _OUTCOMES,
        "parsed = email.utils.parsedate_tz(header) if header else None",
        "email.utils.parsedate_tz(header)",
    ): "without a header it gives None too; the condition is for the type checker",
    (_OUTCOMES, 'value = float(header or "")', "'changed'"): "neither is a number",
    (_MAPPING, 'MAIN: Final = "main"', "'main-changed'"): "a mark that is compared with itself only",
    (_MAPPING, 'NO_PROMPT: Final = "none"', "'none-changed'"): "a mark that is compared with itself only",
    (_MAPPING, "_ENVELOPE_BYTES = 300", "301"): "an estimate; what is sent is measured",
    (_MAPPING, '_Texts: TypeAlias = "tuple[tuple[str, str], ...]"', "'tuple[tuple[str, str], ...]-changed'"): (
        "read by the type checker only"
    ),
    (_MAPPING, "(part,) = parts(event, False, True)", "True"): "an end is told the same way in any case",
    (_MAPPING, "(part,) = parts(event, False, True)", "False"): "an end is told the same way in any case",
    (_MAPPING, "self._last = 0", "1"): "a nanosecond after 1970 is before every time that is told",
    (_MAPPING, "above = self._at.get(parent, 0)", "1"): "a nanosecond after 1970 is before every time that is told",
    (_MAPPING, "size += len(text) if text.isascii() else len(text.encode())", "len(text.encode())"): (
        "the same number; the condition spares a copy"
    ),
    (_MESSAGES, "_REMEMBERED = 4096", "4097"): _FEEL,
    (_MESSAGES, "_SHOWN = 16_384", "16385"): _FEEL,
    (_MESSAGES, "self.last_ms = 0", "1"): "a millisecond after 1970 is before every time that is told",
    (_MESSAGES, "self._second = -1", "2"): "both are before 1970, and before every second that is told",
    (_MESSAGES, 'self._prefix = ""', "'changed'"): "the first time that is told replaces it",
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
    ): "room for the name of a field; it takes fewer",
    (_MESSAGES, _SHORTEN, "size >= 64"): "where to give up, chosen by feel",
    (_MESSAGES, _SHORTEN, "65"): "where to give up, chosen by feel",
    (_MESSAGES, "size //= 2", "3"): "how fast it gets shorter, chosen by feel",
    (
        _MESSAGES,
        "if all(draft.prompt in (None, MAIN, main) for draft in found):",
        "draft.prompt not in (None, MAIN, main)",
    ): (
        "a short way: below, the same comes out; and never do all drafts stand under other prompts, for the main one "
        "is that of one of them"
    ),
}
"""By module, line without indentation, and fault: a line that changes loses its reason, and needs a new look."""
