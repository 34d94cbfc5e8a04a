"""A strict OTLP receiver for each test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.otlp_receiver import Receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver that fails the test if a request violates the protocol."""
    from tests.otlp_receiver import otlp_receiver  # late: needs `opentelemetry-proto`

    with otlp_receiver() as running:
        yield running
        assert running.problems == []
