"""Fixtures that run the real servers; registered by `conftest.py`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import LocalServer, gati_backend, greenflash_server


@pytest.fixture
def greenflash() -> Iterator[LocalServer]:
    """A strict local Greenflash. Fails the test if a request holds keys that the API or gati's contract does not list."""
    with greenflash_server() as server:
        yield server
        assert server.unknown_keys == []
        assert server.outside_contract == []


@pytest.fixture
def backend() -> Iterator[LocalServer]:
    """A GATI backend."""
    with gati_backend() as server:
        yield server
