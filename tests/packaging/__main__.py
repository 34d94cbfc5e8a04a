"""Build sdist and wheel, and test the wheel with each extra in a new virtual environment.

    python -m tests.packaging            sdist and wheel, all extras, types
    python -m tests.packaging studio     one extra ("bare": no extras)

Requires `build` and a package index for pip. Leaves only `dist/` behind.
"""

from __future__ import annotations

import argparse
import email.parser
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = Path(__file__).with_name("sample.py")
BARE = "bare"
NOT_TRIED = {"dev"}
"""The environment that this runs in has it."""

DATA = (
    "gati/py.typed",
    "gati/studio/api/messages.schema.json",
    "gati/studio/templates/base.html",
    "gati/studio/static/htmx.min.js",
)
IN_SDIST = (
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "pyproject.toml",
    "noxfile.py",
    "docs/versioning.md",
    "examples/agent_with_tools.py",
)
MODULES = {
    BARE: (
        "gati",
        "gati.observe",
        "gati.testing",
        "gati.demo",
        "gati.exporters.greenflash.exporter",
        "gati.store.store",
    ),
    "cli": ("gati.cli.commands",),
    "studio": ("gati.cli.commands", "gati.studio.server", "gati.studio.pages", "gati.testing.server.app"),
    "openai": ("langchain_openai",),
    "classic": ("langchain_classic",),
    "kafka": ("gati.queues.kafka", "confluent_kafka.admin"),
    "postgres": ("gati.queues.postgres", "psycopg"),
}
"""Modules that must be importable with an extra, in addition to those of "bare"."""


def main() -> int:
    """Build and test; raise at the first error."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.packaging", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("extras", nargs="*", help="default: each")
    chosen = parser.parse_args()
    wheel = build(ROOT / "dist")
    known = extras_of(wheel)
    for extra in chosen.extras or [BARE, *(name for name in known if name not in NOT_TRIED)]:
        assert extra in (BARE, *known), f"no such extra: {extra}"
        with tempfile.TemporaryDirectory(prefix="gati-packaging-") as folder:
            attempt(extra, wheel, Path(folder))
        print(f"{extra}: installed, checked, loaded", flush=True)
    return 0


def build(dist: Path) -> Path:
    """Build the sdist, and the wheel from it. Check their contents; return the wheel."""
    shutil.rmtree(dist, ignore_errors=True)
    run(sys.executable, "-m", "build", "--outdir", dist, ROOT, cwd=ROOT)
    (sdist,), (wheel,) = dist.glob("*.tar.gz"), dist.glob("*.whl")
    with tarfile.open(sdist) as archive:
        source = {name.partition("/")[2] for name in archive.getnames()}
    with zipfile.ZipFile(wheel) as packed:
        installed = set(packed.namelist())
    for names in (source, installed):
        # The samples of earlier versions include a store.
        own = [name for name in names if not name.startswith("tests/upgrades/samples/")]
        litter = [name for name in own if "__pycache__" in name or name.endswith((".pyc", ".db", ".env"))]
        assert litter == [], litter
        assert set(DATA) <= names, set(DATA) - names
    assert set(IN_SDIST) <= source, set(IN_SDIST) - source
    tracked = run("git", "ls-files", "gati", "tests", cwd=ROOT).split() if (ROOT / ".git").exists() else []
    assert set(tracked) <= source, set(tracked) - source
    assert {name for name in tracked if name.startswith("gati/")} <= installed
    assert {name.split("/")[0] for name in installed if ".dist-info" not in name} == {"gati"}
    print(f"{sdist.name}: {len(source)} files, {wheel.name}: {len(installed)} files", flush=True)
    return wheel


def extras_of(wheel: Path) -> list[str]:
    """Check the metadata of the wheel; return its extras."""
    with zipfile.ZipFile(wheel) as packed:
        (name,) = (name for name in packed.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.parser.Parser().parsestr(packed.read(name).decode())
    for field in ("Name", "Version", "Summary", "License-Expression", "License-File", "Requires-Python", "Keywords"):
        assert metadata.get(field), f"the metadata has no {field}"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])
    return metadata.get_all("Provides-Extra", [])


def attempt(extra: str, wheel: Path, folder: Path) -> None:
    """Install the wheel with one extra into an empty environment, and use it."""
    venv.create(folder / "venv", with_pip=True)
    scripts = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / "python"
    wanted = str(wheel) if extra == BARE else f"{wheel}[{extra}]"
    pinned = ("-c", ROOT / ".ci" / "constraints.txt") if (ROOT / ".ci").exists() else ()
    run(python, "-m", "pip", "install", "-q", *pinned, wanted, cwd=folder)
    run(python, "-m", "pip", "check", cwd=folder)
    for module in (*MODULES[BARE], *MODULES.get(extra, ())):
        run(python, "-W", "error", "-c", f"import {module}", cwd=folder)
    shutil.copy(SAMPLE, folder / "sample.py")
    run(python, "sample.py", cwd=folder, HOME=str(folder))
    demo = [scripts / "gati", "demo"]
    has_command = extra in ("cli", "studio")
    output = run(*demo, cwd=folder, code=0 if has_command else 4, HOME=str(folder), GATI_LOCAL=str(folder / "demo.db"))
    assert ("97.20" in output) if has_command else ("gati-greenflash[cli]" in output), output
    if extra == "studio":
        run(python, "-m", "pip", "install", "-q", *pinned, "mypy", cwd=folder)
        strict = ("--strict", "--warn-unreachable", "--disallow-any-unimported", "--extra-checks")
        run(python, "-m", "mypy", *strict, "sample.py", cwd=folder)
        print("the sample program passes mypy --strict against the wheel", flush=True)


def run(*command: object, cwd: Path, code: int = 0, **variables: str) -> str:
    """Run a command, check its exit code, and return its output."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("GATI_", "GREENFLASH_", "OPENAI_", "PYTHONPATH"))}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env={**clean, **variables},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    output = done.stdout + done.stderr
    assert done.returncode == code, f"{' '.join(map(str, command))}: {done.returncode}\n{output}"
    return output


if __name__ == "__main__":
    sys.exit(main())
