"""Faults are counted for the process and logged once a minute: each test starts from nothing."""

from __future__ import annotations

import pytest

from gati.pipeline import internal_errors


@pytest.fixture(autouse=True)
def _no_faults_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(internal_errors, "RAISE", False)
    internal_errors.reset()
