"""Faults that no test can or need notice: module, line, what stands in the place → why."""

from __future__ import annotations

REASONS: dict[tuple[str, str, str], str] = {}
