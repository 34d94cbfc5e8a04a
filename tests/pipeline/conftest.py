"""Resets internal errors before each test: they are counted per process and logged once a minute."""

from __future__ import annotations

import pytest

from gati.pipeline import internal_errors


@pytest.fixture(autouse=True)
def _no_internal_errors_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(internal_errors, "RAISE", False)
    internal_errors.reset()
