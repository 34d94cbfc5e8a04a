"""Whose tests, and which of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Suite:
    """The tests of one package.

    Attributes:
        package: distribution; its source of the installed version carries the tests.
        tests: paths inside the source.
        short: the selection for CI (a few hundred tests).
        arguments: for pytest.
        reasons: tests that differ under gati, each with the reason why that is right.
    """

    package: str
    tests: tuple[str, ...]
    short: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    reasons: dict[str, str] | None = None


REQUIREMENTS = (
    "pytest", "pytest-asyncio", "pytest-mock", "pytest-dotenv", "pytest-repeat", "pytest-socket", "pytest-benchmark",
    "pytest-codspeed", "pytest-xdist", "pytest-cov", "pytest-watcher", "syrupy", "httpx", "freezegun", "grandalf",
    "responses", "blockbuster", "numpy", "psutil", "toml", "langchain-tests", "langchain-openai", "redis", "uvloop",
    "langgraph-checkpoint-sqlite", "langgraph-checkpoint-postgres", "psycopg[binary]", "pycryptodome",
)  # fmt: skip
"""What their tests need beside themselves, as their own pyproject files say."""

SUITES = {
    "langgraph": Suite(
        "langgraph",
        ("tests",),
        ("tests/test_pregel.py", "tests/test_interruption.py", "tests/test_parent_command.py", "tests/test_retry.py"),
        ("-k", "not redis and not postgres and not sqlite"),
    ),
    "langchain-core": Suite(
        "langchain-core",
        tuple(f"tests/unit_tests/{room}" for room in ("runnables", "callbacks", "tracers", "language_models", "prompts"))
        + ("tests/unit_tests/test_tools.py", "tests/unit_tests/test_messages.py"),
        ("tests/unit_tests/runnables/test_runnable.py", "tests/unit_tests/callbacks", "tests/unit_tests/tracers"),
    ),
    "langchain": Suite(
        "langchain",
        ("tests/unit_tests/agents", "tests/unit_tests/chat_models", "tests/unit_tests/tools"),
        ("tests/unit_tests/agents/middleware/core", "tests/unit_tests/agents/test_create_agent_tool_validation.py"),
    ),
}
