"""Schemathesis asks the server everything that its own description allows, and much that it does not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

from gati.studio.api import openapi
from tests.servers import LocalServer, greenflash_server

schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis")
schema = schemathesis.openapi.from_dict(openapi.build_openapi(keys=True))


@pytest.fixture(scope="module")
def local() -> Iterator[LocalServer]:
    with greenflash_server() as running:
        yield running


@schema.parametrize()
@settings(
    max_examples=30, deadline=None, phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck),
    derandomize=True, database=None,
)  # fmt: skip
def test_no_request_causes_a_server_error(case: Any, local: LocalServer) -> None:
    key = {"authorization": f"Bearer {local.api_key}"}
    answer = case.call(base_url=local.address, headers=key)
    # Two runs under one name are the backend's 500, on purpose; any other is a fault of ours.
    if answer.status_code == 500 and case.path == "/api/events" and "run" in answer.text:
        return
    if answer.status_code == 413:  # refused before it was read; schemathesis does not count it as a refusal
        return
    case.validate_response(answer, headers=key)
