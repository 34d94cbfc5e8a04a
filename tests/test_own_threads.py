"""Nothing that runs in gati's own threads is recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gati import observe
from gati.testing import ScriptedChatModel
from tests.servers import LocalServer


@pytest.mark.parametrize("explicit", [False, True])
def test_a_mask_that_calls_a_model_is_not_recorded(greenflash: LocalServer, tmp_path: Path, explicit: bool) -> None:
    calls: list[str] = []
    redactor = ScriptedChatModel(respond=lambda messages: "masked")

    def mask(text: str, path: str, kind: str) -> str:
        calls.append(text)
        config: Any = {"callbacks": observe.get_callbacks()} if explicit else None
        observe.log_event("masked", conversation_id="c")
        with observe.span("masking"):
            return str(redactor.invoke(text, config).content)

    observe.init(api_key=greenflash.api_key, base_url=greenflash.url, spool_dir=tmp_path, mask=mask)
    ScriptedChatModel(replies=["x"]).invoke("hello")
    assert observe.flush(timeout=30.0)
    seen = len(calls)
    assert observe.flush(timeout=30.0)
    assert len(calls) == seen
    assert observe.stats().turns == 1
