"""Run the programs of this folder like those of `tests/scenarios`."""

from __future__ import annotations

from tests.scenarios.conftest import server, watch

__all__ = ["server", "watch"]
