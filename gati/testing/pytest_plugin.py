"""The pytest plugin of gati, which pytest loads in every environment that gati is installed in.

During a test run nothing is delivered: gati is off, for child processes as well. The fixture `gati` captures the
conversations of a test. `--gati-deliver` keeps the delivery as configured, for tests of the delivery itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from gati.testing.conversations import Conversations, Golden

_ENABLED = "GATI_ENABLED"
_earlier_values = pytest.StashKey[str | None]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("gati")
    group.addoption("--gati-update", action="store_true", help="write golden conversations instead of comparing them")
    group.addoption("--gati-deliver", action="store_true", help="deliver conversations of the tests, as configured")


def pytest_configure(config: pytest.Config) -> None:
    """Switch gati off for this process and its children."""
    if config.getoption("--gati-deliver"):
        return
    from gati._api.runtime import runtime

    config.stash[_earlier_values] = os.environ.get(_ENABLED)
    os.environ[_ENABLED] = "false"
    runtime.substitutes = ()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Restore what `pytest_configure` has changed."""
    if _earlier_values not in config.stash:
        return
    from gati._api.runtime import runtime

    runtime.substitutes = None
    earlier = config.stash[_earlier_values]
    if earlier is None:
        os.environ.pop(_ENABLED, None)
    else:
        os.environ[_ENABLED] = earlier


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say that nothing is delivered."""
    return None if config.getoption("--gati-deliver") else "gati: nothing is delivered (see --gati-deliver)"


@pytest.fixture
def gati(request: pytest.FixtureRequest) -> Iterator[Conversations]:
    """Capture the conversations of the test.

    Options of an `observe.init` of the program apply, whether it was called before or is called in the test.

    ::

        def test_the_agent_asks_for_the_weather(gati):
            agent.invoke({"messages": "Weather in Paris?"})
            conversation = gati.conversation()
            conversation.tools_called("weather", args={"city": "Paris"})
            conversation.answered_without("sorry")
            conversation.cost_below(0.01)
            conversation.matches_golden()
    """
    with _capturing(_golden_of(request)) as conversations:
        yield conversations


def _golden_of(request: pytest.FixtureRequest) -> Golden:
    from gati.testing.conversations import Golden

    update = bool(request.config.getoption("--gati-update"))
    class_name = f"{request.cls.__name__}-" if request.cls else ""
    return Golden(request.path.parent / "goldens" / request.path.stem, class_name + request.node.name, update)


@contextmanager
def _capturing(golden: Golden) -> Iterator[Conversations]:
    from gati._api.runtime import runtime
    from gati.settings import load
    from gati.testing._capture import capture_with
    from gati.testing.conversations import Conversations

    def flush() -> None:
        if (pipeline := runtime.pipeline) is not None:
            pipeline.flush(10.0)

    earlier = runtime.settings
    settings = load(enabled=True) if earlier is None else earlier.model_copy(update={"enabled": True})
    try:
        with capture_with(settings) as captured:
            yield Conversations(captured, golden, flush)
    finally:
        runtime.settings = earlier
