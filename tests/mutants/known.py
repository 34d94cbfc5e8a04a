"""Faults that no test can or need notice: module, line, what stands in the place → why."""

from __future__ import annotations

_RETRY = "gati.pipeline.retry"
_OUTCOMES = "gati.exporters.outcomes"
_MAPPING = "gati.exporters.greenflash.mapping"

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
}
"""By module, line without indentation, and fault: a line that changes loses its reason, and needs a new look."""
