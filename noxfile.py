"""Development commands. `nox -l` lists them; `CONTRIBUTING.md` explains when to run each."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import nox

nox.options.sessions = ["check"]
nox.options.default_venv_backend = "virtualenv"
nox.options.error_on_missing_interpreters = False

PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
"""Supported versions. Sessions for interpreters that are not installed are skipped with a warning."""

if (pyenv := Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions").is_dir():
    # pyenv's shims run only activated versions, so activate every installed one.
    os.environ.setdefault("PYENV_VERSION", ":".join(sorted(version.name for version in pyenv.iterdir())))

PREBUILT_FLOOR = "langgraph-prebuilt>=1.0"
"""Listed as a direct requirement so that `lowest-direct` picks an old version: LangGraph before 1.1.5 allows newer
releases of it than it can import."""

PYTHON = sys.executable
PUBLIC = (
    *("gati/observe.py", "gati/errors.py", "gati/events.py", "gati/options.py", "gati/settings.py"),
    *("gati/testing/__init__.py", "gati/testing/_capture.py", "gati/testing/scripted_model.py"),
    *("gati/testing/conversations.py", "gati/testing/pytest_plugin.py"),
    *("gati/langchain/callback.py", "gati/exporters/base.py", "gati/pipeline/stats.py"),
    # `observe` re-exports from these.
    *(
        "gati/_api/log_filter.py",
        "gati/_api/scopes.py",
        "gati/_api/spans.py",
        "gati/_api/manual.py",
        "gati/langchain/wrappers.py",
    ),
    *("gati/prompts/__init__.py", "gati/prompts/managed_prompt.py", "gati/feedback/__init__.py"),
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
    """Run everything that CI requires, in the environment nox runs in (about 35 minutes on two cores)."""
    _install_services(session)
    for gate in GATES:
        session.run(PYTHON, "-m", *gate)
    session.run(PYTHON, "-m", "pytest", *PARALLEL, *session.posargs)
    session.run(PYTHON, "-m", "tests.packaging", "bare", "studio")
    session.run(PYTHON, "-m", "tests.third_party", "--short")


@nox.session(venv_backend="none")
def slow(session: nox.Session) -> None:
    """Run the tests that take more than a few seconds each."""
    _install_services(session)
    session.run(PYTHON, "-m", "pytest", "-m", "slow", *session.posargs)


@nox.session(venv_backend="none")
def ecosystem(session: nox.Session) -> None:
    """Run all programs of deepagents, supervisor, swarm, langmem, MCP and langchain's middleware."""
    session.run(PYTHON, "-m", "pytest", "tests/ecosystem", "-m", "slow or not slow", *session.posargs)


@nox.session(venv_backend="none")
def soak(session: nox.Session) -> None:
    """Run the soak tests, for ten minutes or `GATI_SOAK_SECONDS`."""
    session.run(PYTHON, "-m", "pytest", "-m", "soak", "--timeout=0", *session.posargs)


@nox.session(venv_backend="none")
def chaos(session: nox.Session) -> None:
    """Run the chaos test, for four minutes or `GATI_CHAOS_SECONDS`. It prints its seed; `GATI_CHAOS_SEED` repeats it."""
    session.run(PYTHON, "-m", "pytest", "-m", "chaos", "--timeout=0", *session.posargs)


@nox.session(venv_backend="none")
def fleet(session: nox.Session) -> None:
    """Kill 100 relays and 100 programs on each broker, and let relays join and leave for ten minutes on each."""
    session.env["GATI_FLEET_KILLS"] = session.env["GATI_TEST_QUEUE_KILLS"] = "100"
    session.env["GATI_FLEET_SECONDS"] = "600"
    session.run(PYTHON, "-m", "pytest", "tests/relay", "tests/queues", "--timeout=0", *session.posargs)


@nox.session(venv_backend="none")
def coverage(session: nox.Session) -> None:
    """Measure branch coverage of `gati/`, including child processes of tests (half an hour)."""
    session.run(PYTHON, "-m", "coverage", "erase")
    session.run(PYTHON, "-m", "coverage", "run", "-m", "pytest", *session.posargs)
    session.run(PYTHON, "-m", "coverage", "combine", "-q")
    session.run(PYTHON, "-m", "coverage", "report", "--skip-covered")


CHECK_IMPORT = """
import sys
import gati
from gati import observe
assert "site-packages" in gati.__file__, gati.__file__
assert sys.argv[1].split("-")[1] == gati.__version__, gati.__version__
observe.get_callbacks()
"""
"""Program that `release` runs with the installed wheel; its argument is the wheel's file name."""

REPOSITORY = "https://github.com/greenflash-ai/gati"

GUIDE_REQUIRES = re.compile(r"^<!-- requires: (.*?) -->$", re.MULTILINE)
"""The line of a guide that names the packages it needs."""

GUIDES = [page for page in sorted(Path("docs/guides").glob("*.md")) if GUIDE_REQUIRES.search(page.read_text("utf-8"))]
"""Guides that name packages. `nox -s check` runs the others, and those whose packages are installed."""

PARALLEL = ("-n", "2", "--dist", "worksteal")
FAST = "not slow and not soak and not chaos and not benchmark and not browser"


@nox.session(python=PYTHONS)
def newest(session: nox.Session) -> None:
    """Test with the newest version of every dependency, on each Python (half an hour each)."""
    session.install("-e", ".[dev]")
    session.run("pytest", *PARALLEL, "-m", FAST, *session.posargs)


@nox.session(python=PYTHONS)
def floors(session: nox.Session) -> None:
    """Test with the oldest versions that pyproject.toml accepts, on each Python (half an hour each)."""
    session.install("uv")  # resolves to the lowest compatible versions, which pip cannot do
    install = ("uv", "pip", "install", "-q", "--python", session.virtualenv.location)
    session.run(*install, "--resolution", "lowest-direct", "-e", ".[studio]", PREBUILT_FLOOR)
    frozen = session.run(
        "uv", "pip", "freeze", "--python", session.virtualenv.location, "--exclude-editable", silent=True
    )
    floor_pins = Path(session.virtualenv.location, "floors.txt")
    floor_pins.write_text("\n".join(line for line in str(frozen).splitlines() if "==" in line), "utf-8")
    # Install current test tools without letting them raise a floor.
    session.run(*install, "-c", str(floor_pins), "-e", ".[studio,test]", "langgraph-checkpoint-sqlite", "numpy")
    # Old versions raise deprecation warnings about each other.
    session.run("pytest", *PARALLEL, "-m", FAST, "-W", "default::DeprecationWarning", *session.posargs)


@nox.session(python=PYTHONS)
def bare(session: nox.Session) -> None:
    """Test with langchain-core and langgraph only: no `langchain`, no integrations."""
    session.install("-e", ".[studio,test]", "langgraph-checkpoint-sqlite", "numpy")
    session.run("pytest", *PARALLEL, "-m", FAST, *session.posargs)


@nox.session(venv_backend="none")
def package(session: nox.Session) -> None:
    """Build wheel and sdist, and try each extra in an empty environment: imports, demo, `pip check`, types."""
    session.run(PYTHON, "-m", "tests.packaging", *session.posargs)


@nox.session
def release(session: nox.Session) -> None:
    """Build, check and try the distributions of a release, and write its SBOM, all into `dist/`."""
    session.install("build", "twine", "cyclonedx-bom")
    dist = Path("dist")
    shutil.rmtree(dist, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(dist))
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    session.run("twine", "check", "--strict", str(wheel), str(sdist))

    # Without pip inside, the environment holds exactly what a user's installation would add, and so does the SBOM.
    empty = Path(session.create_tmp(), "installed")
    session.run("python", "-m", "venv", "--clear", "--without-pip", str(empty))
    python = str(empty / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
    install = ("python", "-m", "pip", "--python", python, "install", "-q", "-c", ".ci/constraints.txt")
    session.run(*install, str(wheel))
    session.run(python, "-I", "-W", "error", "-c", CHECK_IMPORT, wheel.name, external=True)
    sbom = dist / f"{sdist.name.removesuffix('.tar.gz')}.cdx.json"
    describe = ("cyclonedx-py", "environment", "--pyproject", "pyproject.toml", "--mc-type", "library")
    session.run(*describe, "--output-reproducible", "--of", "JSON", "-o", str(sbom), python)


@nox.session(venv_backend="none")
def foreign(session: nox.Session) -> None:
    """Run the test suites of LangChain, LangGraph, integrations and deepagents with and without gati (half an hour)."""
    session.run(PYTHON, "-m", "tests.third_party", *session.posargs)


@nox.session(venv_backend="none")
def coexistence(session: nox.Session) -> None:
    """Test gati next to the newest LangSmith, Langfuse, OpenInference and OpenLLMetry in one process."""
    session.run(PYTHON, "-m", "tests.coexistence", *session.posargs)


@nox.session(venv_backend="none")
def docs(session: nox.Session) -> None:
    """Regenerate the tables in `docs/` that are generated from the code."""
    session.run(PYTHON, "docs/generate.py")


@nox.session
def site(session: nox.Session) -> None:
    """Build the documentation site into `site/`; broken links are errors (a minute the first time)."""
    session.install("-c", ".ci/constraints.txt", "-e", ".[docs]")
    session.run("mkdocs", "build", "--strict", env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session
@nox.parametrize("guide", [nox.param(path, id=path.stem) for path in GUIDES])
def guides(session: nox.Session, guide: Path) -> None:
    """Run each guide in an environment of its own, with the newest versions of the packages that it needs."""
    (required,) = GUIDE_REQUIRES.findall(guide.read_text("utf-8"))
    session.install("-e", ".[studio]", "langchain-openai", *required.split())
    session.run("python", "-m", "tests.docs", str(guide))


@nox.session
def installation(session: nox.Session) -> None:
    """Run the installation command of the quick start. Git reads this checkout instead of the address in it."""
    redirect = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{Path.cwd().as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": REPOSITORY,
    }
    (command,) = re.findall(r'^pip install "(.+)"$', Path("docs/quickstart.md").read_text("utf-8"), re.MULTILINE)
    session.run("pip", "install", "-q", command, env=redirect)
    session.run("gati", "--version")


@nox.session
def server(session: nox.Session) -> None:
    """Run graphs on a real LangGraph Server, `langgraph dev` (two minutes)."""
    session.install("-e", ".[studio,test]", "langgraph-cli[inmem]")
    session.run("pytest", "-m", "slow", "tests/langgraph_server", *session.posargs)


@nox.session(venv_backend="none")
def mutants(session: nox.Session) -> None:
    """Run mutation tests on mapping, identity and retry policy (half an hour)."""
    session.run(PYTHON, "-m", "tests.mutants", *session.posargs)


@nox.session(venv_backend="none")
def constraints(session: nox.Session) -> None:
    """Regenerate `.ci/constraints.txt` with the newest versions, without index addresses (needs uv)."""
    session.run(
        *("uv", "pip", "compile", "-q", "--upgrade", "pyproject.toml", "--all-extras", "--universal"),
        *("--python-version", "3.11", "--no-header", "--no-annotate", "--no-emit-index-url"),
        *("-o", ".ci/constraints.txt"),
        external=True,
    )


def _install_services(session: nox.Session) -> None:
    """Install Debian's Chromium for the browser tests, PostgreSQL and Redis for those of queues, as far as they are missing.

    Where this cannot be done, those tests are skipped. Kafka is downloaded by `tests/brokers.py` with Maven.
    """
    missing = [package for package in ("chromium", "redis-server") if not shutil.which(package)]
    if not shutil.which("initdb") and not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        missing.append("postgresql")
    if not missing or not shutil.which("apt-get") or os.geteuid() != 0:
        return
    environment = {"DEBIAN_FRONTEND": "noninteractive"}
    session.run("apt-get", "update", "-qq", external=True)
    session.run(
        *("apt-get", "install", "-y", "-qq", "--no-install-recommends"), *missing, env=environment, external=True
    )
