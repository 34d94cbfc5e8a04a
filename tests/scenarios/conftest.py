"""One server for all scenarios of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("tests.scenarios.harness")

from tests.scenarios.harness import Watch  # noqa: E402 - after it is registered
from tests.servers import LocalServer, greenflash_server  # noqa: E402 - as above


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    """A strict local Greenflash."""
    with greenflash_server() as running:
        yield running


@pytest.fixture
def watch(server: LocalServer) -> Watch:
    """Runs programs and compares what arrives with a golden."""
    return Watch(server)
