"""Fixtures that run the real servers; registered by `conftest.py`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import LocalServer, gati_backend, greenflash_server


@pytest.fixture
def greenflash() -> Iterator[LocalServer]:
    """A strict local Greenflash; the test fails if a request held keys that the contract does not know."""
    with greenflash_server() as server:
        yield server
        assert server.unknown_keys == []


@pytest.fixture
def backend() -> Iterator[LocalServer]:
    """A GATI backend."""
    with gati_backend() as server:
        yield server
