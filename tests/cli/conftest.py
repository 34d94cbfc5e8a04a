"""Fixtures for tests of the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from gati import observe
from gati.testing import ScriptedChatModel


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Create a store with one conversation."""
    file = tmp_path / "store.db"
    observe.init(local=file, agent_name="tutor")
    with observe.conversation("c-1", user_id="ada"):
        ScriptedChatModel(replies=["Four."]).invoke("What is 2 + 2?")
    assert observe.flush()
    observe.shutdown()
    return file
