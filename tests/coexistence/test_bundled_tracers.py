"""gati together with the tracers that LangChain installs. For others, run `python -m tests.coexistence`."""

from __future__ import annotations

import pytest

from tests.coexistence.compare import differences


@pytest.mark.parametrize("name", ["langsmith", "usage"])
def test_gati_and_the_other_tracer_do_not_affect_each_other(name: str) -> None:
    assert "\n".join(differences(name)) == ""
