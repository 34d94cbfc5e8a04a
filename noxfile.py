"""The project's commands. `nox -l` lists them; `docs/contributing.md` says when to use which."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import nox

nox.options.sessions = ["check"]
nox.options.default_venv_backend = "virtualenv"
nox.options.error_on_missing_interpreters = False

PYTHONS = ["3.10", "3.11", "3.12", "3.13", "3.14"]
"""Those that are not on this machine are skipped, each with a word."""

if (pyenv := Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions").is_dir():
    # Its shims find only the versions that are switched on: here, all there are.
    os.environ.setdefault("PYENV_VERSION", ":".join(sorted(found.name for found in pyenv.iterdir())))

OF_THAT_DAY = "langgraph-prebuilt>=1.0"
"""LangGraph before 1.1.5 accepts younger versions of it than it can import."""

PYTHON = sys.executable
PUBLIC = (
    *("gati/observe.py", "gati/errors.py", "gati/events.py", "gati/options.py", "gati/settings.py"),
    *("gati/testing/__init__.py", "gati/testing/capturing.py", "gati/testing/scripted_model.py"),
    *("gati/langchain/callback.py", "gati/exporters/base.py", "gati/pipeline/stats.py"),
    # `observe` shows their names.
    *("gati/_scopes.py", "gati/_spans.py", "gati/_told.py", "gati/langchain/wrappers.py"),
    *("gati/demo.py", "gati/cli"),
)
GATES = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("mypy",),
    ("interrogate", "-q", *PUBLIC),
    ("vulture",),
)


@nox.session(venv_backend="none")
def check(session: nox.Session) -> None:
    """Everything that CI asks for, in the environment that nox itself runs in."""
    _browser(session)
    for gate in GATES:
        session.run(PYTHON, "-m", *gate)
    session.run(PYTHON, "-m", "pytest", *session.posargs)
    session.run(PYTHON, "-m", "tests.packaging", "bare", "studio")
    session.run(PYTHON, "-m", "tests.foreign", "--short")


@nox.session(venv_backend="none")
def slow(session: nox.Session) -> None:
    """The tests that take more than a few seconds each."""
    _browser(session)
    session.run(PYTHON, "-m", "pytest", "-m", "slow", *session.posargs)


@nox.session(venv_backend="none")
def soak(session: nox.Session) -> None:
    """The tests that run for minutes to hours (`GATI_SOAK_SECONDS`)."""
    session.run(PYTHON, "-m", "pytest", "-m", "soak", "--timeout=0", *session.posargs)


@nox.session(venv_backend="none")
def coverage(session: nox.Session) -> None:
    """Branch coverage of `gati/`, processes started by tests included."""
    session.run(PYTHON, "-m", "coverage", "erase")
    session.run(PYTHON, "-m", "coverage", "run", "-m", "pytest", *session.posargs)
    session.run(PYTHON, "-m", "coverage", "combine", "-q")
    session.run(PYTHON, "-m", "coverage", "report", "--skip-covered")


FAST = "not slow and not soak and not benchmark and not browser"


@nox.session(python=PYTHONS)
def newest(session: nox.Session) -> None:
    """The newest versions of everything, on each Python."""
    session.install("-e", ".[dev]")
    session.run("pytest", "-m", FAST, *session.posargs)


@nox.session(python=PYTHONS)
def floors(session: nox.Session) -> None:
    """The oldest versions that we accept, of LangChain, LangGraph, Greenflash and all else: what pyproject.toml says."""
    session.install("uv")  # it can choose the lowest versions that fit together; pip cannot
    install = ("uv", "pip", "install", "-q", "--python", session.virtualenv.location)
    session.run(*install, "--resolution", "lowest-direct", "-e", ".[studio]", OF_THAT_DAY)
    chosen = session.run(
        "uv", "pip", "freeze", "--python", session.virtualenv.location, "--exclude-editable", silent=True
    )
    held = Path(session.virtualenv.location, "floors.txt")
    held.write_text("\n".join(line for line in str(chosen).splitlines() if "==" in line), "utf-8")
    # Tools as they are today, none of which may lift a floor.
    session.run(*install, "-c", str(held), "-e", ".[studio,test]", "langgraph-checkpoint-sqlite", "numpy")
    # Versions of that day warn of each other.
    session.run("pytest", "-m", FAST, "-W", "default::DeprecationWarning", *session.posargs)


@nox.session(python=PYTHONS)
def bare(session: nox.Session) -> None:
    """Only langchain-core and langgraph: no `langchain`, no integrations."""
    session.install("-e", ".[studio,test]", "langgraph-checkpoint-sqlite", "numpy")
    session.run("pytest", "-m", FAST, *session.posargs)


@nox.session(venv_backend="none")
def package(session: nox.Session) -> None:
    """Wheel and sdist, installed with each extra in an empty environment: import, demo, `pip check`, types."""
    session.run(PYTHON, "-m", "tests.packaging", *session.posargs)


@nox.session(venv_backend="none")
def foreign(session: nox.Session) -> None:
    """The tests of LangGraph, langchain-core and langchain, without and with gati (a quarter of an hour)."""
    session.run(PYTHON, "-m", "tests.foreign", *session.posargs)


@nox.session(venv_backend="none")
def neighbours(session: nox.Session) -> None:
    """Side by side with LangSmith, Langfuse, OpenInference and OpenLLMetry, in their newest versions."""
    session.run(PYTHON, "-m", "tests.neighbours", *session.posargs)


@nox.session(venv_backend="none")
def mutants(session: nox.Session) -> None:
    """Small faults put into mapping, identity and retry policy: the tests must notice each (half an hour)."""
    session.run(PYTHON, "-m", "tests.mutants", *session.posargs)


@nox.session(venv_backend="none")
def constraints(session: nox.Session) -> None:
    """Make `.ci/constraints.txt` anew: versions only, no addresses (needs uv)."""
    session.run(
        *("uv", "pip", "compile", "-q", "--upgrade", "pyproject.toml", "--all-extras", "--universal"),
        *("--python-version", "3.10", "--no-header", "--no-annotate", "--no-emit-index-url"),
        *("-o", ".ci/constraints.txt"),
        external=True,
    )


def _browser(session: nox.Session) -> None:
    """Debian's Chromium for the tests in a browser, if there is none and apt can bring it."""
    if shutil.which("chromium") or not shutil.which("apt-get"):
        return
    session.run("apt-get", "update", "-qq", external=True)
    silent = {"DEBIAN_FRONTEND": "noninteractive"}
    session.run("apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium", env=silent, external=True)
