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
        repository: Git repository with the tests, if the source distribution has none. The tag of a version is
            `<package>==<version>`.
        subdirectory: Folder of the package in the repository.
    """

    package: str
    tests: tuple[str, ...]
    short: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    reasons: dict[str, str] = field(default_factory=dict)
    never_closed: frozenset[str] = frozenset()
    repository: str = ""
    subdirectory: str = ""


REQUIREMENTS = (
    "pytest", "pytest-asyncio", "pytest-mock", "pytest-dotenv", "pytest-repeat", "pytest-socket", "pytest-benchmark",
    "pytest-codspeed", "pytest-xdist", "pytest-cov", "pytest-watcher", "syrupy", "httpx", "freezegun", "grandalf",
    "responses", "blockbuster", "numpy", "psutil", "toml", "langchain-tests", "langchain-openai", "redis", "uvloop",
    "langgraph-checkpoint-sqlite", "langgraph-checkpoint-postgres", "psycopg[binary]", "pycryptodome", "pytest-timeout",
    "pytest-retry", "requests-mock", "vcrpy", "lark", "pandas", "cffi", "langchain-aws", "pillow",
    "sqlalchemy[asyncio]", "aiosqlite",
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
    "langgraph-prebuilt": Suite(
        "langgraph-prebuilt",
        ("tests",),
        ("tests/test_tool_node.py", "tests/test_on_tool_call.py", "tests/test_tool_call_transformer.py"),
        ("-k", "not redis and not postgres and not sqlite"),
    ),
    "langchain-openai": Suite(
        "langchain-openai",
        ("tests/unit_tests",),
        ("tests/unit_tests/chat_models/test_responses_stream.py", "tests/unit_tests/chat_models/test_base_standard.py"),
        ("--disable-socket", "--allow-unix-socket", "--allow-hosts=127.0.0.1", "--benchmark-skip"),
    ),
    "langchain-classic": Suite(
        "langchain-classic",
        ("tests/unit_tests",),
        ("tests/unit_tests/agents", "tests/unit_tests/chains", "tests/unit_tests/memory"),
    ),
    "deepagents": Suite(
        "deepagents",
        ("tests/unit_tests",),
        ("tests/unit_tests/test_subagents.py", "tests/unit_tests/test_deep_agent_streaming.py"),
        # Warnings are errors in this suite, also those of plugins that it does not use. syrupy has an equal option.
        ("-o", "asyncio_default_fixture_loop_scope=function", "-p", "no:syrupy", "--benchmark-skip"),
        repository="https://github.com/langchain-ai/deepagents",
        subdirectory="libs/deepagents",
    ),
}
