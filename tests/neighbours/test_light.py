"""gati beside the watchers that come with LangChain; the others: `python -m tests.neighbours`."""

from __future__ import annotations

import pytest

from tests.neighbours.compare import differences


@pytest.mark.parametrize("name", ["langsmith", "usage"])
def test_nobody_notices_the_other(name: str) -> None:
    assert "\n".join(differences(name)) == ""
