"""The project's commands. `nox -l` lists them; `docs/contributing.md` says when to use which."""

from __future__ import annotations

import shutil
import sys

import nox

nox.options.sessions = ["check"]
nox.options.default_venv_backend = "virtualenv"

PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
FLOORS = (
    *("langchain-core==1.0.0", "langgraph==1.0.0", "greenflash==1.2.1", "langchain==1.0.0", "langchain-openai==1.0.0"),
    "langgraph-prebuilt==1.0.0",  # langgraph 1.0.0 accepts newer ones that it cannot work with
)
PYTHON = sys.executable
PUBLIC = (
    *("gati/observe.py", "gati/errors.py", "gati/events.py", "gati/options.py", "gati/settings.py", "gati/testing.py"),
    *("gati/langchain/callback.py", "gati/langchain/scripted.py", "gati/exporters/base.py", "gati/pipeline/stats.py"),
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
    """The oldest LangChain, LangGraph and Greenflash that we accept."""
    session.install("-e", ".[studio,openai,classic,test]", "langgraph-checkpoint-sqlite", "numpy", *FLOORS)
    # Versions of that day warn of each other.
    session.run("pytest", "-m", FAST, "-W", "default::DeprecationWarning", *session.posargs)


@nox.session(python=PYTHONS)
def bare(session: nox.Session) -> None:
    """Only langchain-core and langgraph: no `langchain`, no integrations."""
    session.install("-e", ".[studio,test]")
    session.run("pytest", "-m", FAST, *session.posargs)


@nox.session(python="3.11")
def package(session: nox.Session) -> None:
    """Wheel and sdist; the wheel alone in an empty environment: import, demo, `pip check`."""
    session.install("build", "twine")
    shutil.rmtree("dist", ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", "dist")
    session.run("python", "-m", "twine", "check", "--strict", "dist/*")
    session.run("python", "-m", "venv", "--clear", session.create_tmp() + "/empty")
    empty = session.create_tmp() + "/empty/bin/"
    session.run(empty + "pip", "install", "-q", *_wheels("gati_greenflash-*.whl"), external=True)
    session.run(empty + "python", "-c", "import gati; print(gati.__version__)", external=True)
    session.run(empty + "pip", "check", external=True)
    session.run(empty + "pip", "install", "-q", *_wheels("gati_greenflash-*.whl", "[studio]"), external=True)
    session.run(empty + "gati", "demo", external=True)
    session.run(empty + "pip", "check", external=True)


@nox.session(venv_backend="none")
def constraints(session: nox.Session) -> None:
    """Make `.ci/constraints.txt` anew: versions only, no addresses (needs uv)."""
    session.run(
        *("uv", "pip", "compile", "-q", "--upgrade", "pyproject.toml", "--all-extras", "--universal"),
        *("--python-version", "3.10", "--no-header", "--no-annotate", "--no-emit-index-url"),
        *("-o", ".ci/constraints.txt"),
        external=True,
    )


def _wheels(pattern: str, extra: str = "") -> list[str]:
    from pathlib import Path

    return [f"{path}{extra}" for path in Path("dist").glob(pattern)]


def _browser(session: nox.Session) -> None:
    """Debian's Chromium for the tests in a browser, if there is none and apt can bring it."""
    if shutil.which("chromium") or not shutil.which("apt-get"):
        return
    session.run("apt-get", "update", "-qq", external=True)
    silent = {"DEBIAN_FRONTEND": "noninteractive"}
    session.run("apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium", env=silent, external=True)
