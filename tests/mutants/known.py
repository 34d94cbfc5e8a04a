"""Faults that no test can or need notice: module, line, what stands in the place → why."""

from __future__ import annotations

_RETRY = "gati.pipeline.retry"
_OUTCOMES = "gati.exporters.outcomes"

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
}
"""By module, line without indentation, and fault: a line that changes loses its reason, and needs a new look."""
