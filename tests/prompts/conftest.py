"""A program with managed prompts, a local Greenflash, and tools to wait for background fetches."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from gati import observe
from gati.prompts import service as service_module
from gati.prompts.service import service
from gati.store import prompt_records
from tests.servers import LocalServer

PRODUCT = "0b9f1c5e-7a44-4c63-9f0e-5f2b1f7c3a10"


@dataclass
class ManagedProgram:
    """A program that `observe.init` connected to `server`."""

    server: LocalServer

    def add_version(self, name: str, text: str, *, activate: bool = True) -> str:
        """Create a version of a prompt and activate it as a person would do. Return its id."""
        body = {
            "name": name, "productId": PRODUCT, "role": "agent", "externalPromptId": name,
            "components": [{"content": text}],
        }  # fmt: skip
        answer = self.server.post(body, "/prompts")
        assert answer.status_code == 201
        version: str = answer.json()["versionId"]
        if activate:
            assert prompt_records.activate_version(self.server.store, version)
        return version

    def system_prompts(self) -> list[Any]:
        """Flush, and return the distinct system prompts of all requests, in order of arrival."""
        assert observe.flush(timeout=20.0)
        found: list[Any] = []
        for body in self.server.bodies():
            if body.get("systemPrompt") not in [*found, None]:
                found.append(body["systemPrompt"])
        return found

    def model_calls(self) -> list[dict[str, Any]]:
        """Flush, and return the properties of all model calls."""
        assert observe.flush(timeout=20.0)
        messages = [message for body in self.server.bodies() for message in body["messages"]]
        return [message["properties"] for message in messages if message["messageType"] == "llm"]

    def break_prompts(self, kind: str, **options: Any) -> None:
        """Let requests for prompts fail."""
        options = {"path": "/api/v1/prompts", "methods": ("GET",), **options}
        self.server.faults.add(self.server.faults.create(kind, **options))

    def restart(self) -> None:
        """Forget what is in memory, as a new process would have."""
        service.reset()


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait longer: the first fetch loads the SDK, which may take more than a second on a busy machine."""
    monkeypatch.setattr(service_module, "FIRST_WAIT_SECONDS", 30.0)


@pytest.fixture
def program(greenflash: LocalServer) -> ManagedProgram:
    observe.init(api_key=greenflash.api_key, base_url=greenflash.url, product_id=PRODUCT, agent_name="support")
    return ManagedProgram(greenflash)


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for work in a background thread."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
