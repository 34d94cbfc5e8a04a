"""The test suites, and the tests selected from each."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Suite:
    """The tests of one package.

    Attributes:
        package: Distribution whose source contains the tests.
        tests: Paths inside the source.
        short: Selection for CI (a few hundred tests).
        arguments: Arguments for pytest.
        reasons: Tests whose outcome differs with gati, each with the reason why that is correct.
        never_closed: Tests in which LangChain reports no end of a run to any handler, including a
            bare `BaseCallbackHandler`. gati delivers these turns after `turn_timeout`.
    """

    package: str
    tests: tuple[str, ...]
    short: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    reasons: dict[str, str] = field(default_factory=dict)
    never_closed: frozenset[str] = frozenset()


REQUIREMENTS = (
    "pytest", "pytest-asyncio", "pytest-mock", "pytest-dotenv", "pytest-repeat", "pytest-socket", "pytest-benchmark",
    "pytest-codspeed", "pytest-xdist", "pytest-cov", "pytest-watcher", "syrupy", "httpx", "freezegun", "grandalf",
    "responses", "blockbuster", "numpy", "psutil", "toml", "langchain-tests", "langchain-openai", "redis", "uvloop",
    "langgraph-checkpoint-sqlite", "langgraph-checkpoint-postgres", "psycopg[binary]", "pycryptodome", "pytest-timeout",
    "pytest-retry", "requests-mock", "vcrpy", "lark", "pandas", "cffi", "langchain-aws", "pillow",
)  # fmt: skip
"""Test dependencies according to the pyproject files of the suites."""

_CORE = (
    "runnables", "callbacks", "tracers", "language_models", "prompts", "test_tools.py", "test_messages.py",
)  # fmt: skip

SUITES = {
    "langgraph": Suite(
        "langgraph",
        ("tests",),
        ("tests/test_pregel.py", "tests/test_interruption.py", "tests/test_parent_command.py", "tests/test_retry.py"),
        ("-k", "not redis and not postgres and not sqlite"),
        never_closed=frozenset(
            {
                "test_interleave_releases_projections_on_early_break",
                "test_failed_subgraph_output_raises_terminal_error",
                "test_trace_policy_cancel_at_node_end_still_closes_tracer_run",
            }
        ),
    ),
    "langchain-core": Suite(
        "langchain-core",
        tuple(f"tests/unit_tests/{name}" for name in _CORE),
        ("tests/unit_tests/runnables/test_runnable.py", "tests/unit_tests/callbacks", "tests/unit_tests/tracers"),
        reasons={
            "tests.unit_tests.runnables.test_config::test_merge_config_callbacks": "it counts the handlers of a "
            "callback manager, and injection adds one",
        },
    ),
    "langchain": Suite(
        "langchain",
        ("tests/unit_tests/agents", "tests/unit_tests/chat_models", "tests/unit_tests/tools"),
        ("tests/unit_tests/agents/middleware/core", "tests/unit_tests/agents/test_create_agent_tool_validation.py"),
        never_closed=frozenset({"test_block_strategy_emits_no_pii_and_run_raises"}),
    ),
}
