"""Run gati together with other tracers, and report how each changes what the other records.

python -m tests.coexistence               all tracers, in a separate environment with the newest versions
python -m tests.coexistence openllmetry   one tracer
python -m tests.coexistence --here        in the current environment, which must have them installed
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import venv
from importlib.metadata import version
from pathlib import Path

from tests.coexistence.compare import ROOT, differences

PACKAGES = {
    "langsmith": "langsmith",
    "usage": "langchain-core",
    "langfuse": "langfuse",
    "openinference": "openinference-instrumentation-langchain",
    "openllmetry": "opentelemetry-instrumentation-langchain",
}


def main() -> int:
    """Compare the chosen tracers; return 0 if there are no differences."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.coexistence", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", choices=[*PACKAGES, []], help="default: all")
    parser.add_argument("--here", action="store_true", help="install nothing")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "gati-coexistence")
    chosen = parser.parse_args()
    names = chosen.names or list(PACKAGES)
    if not chosen.here:
        command = [str(environment(chosen.folder)), "-m", "tests.coexistence", "--here", *names]
        return subprocess.run(command, cwd=ROOT, check=False).returncode
    failed = 0
    for name in names:
        changes = differences(name)
        print(f"{name} {version(PACKAGES[name])}: {'differs' if changes else 'no differences'}", flush=True)
        print("".join(f"  {line}\n" for line in changes), end="")
        failed |= bool(changes)
    return int(failed)


def environment(folder: Path) -> Path:
    """Create or update a virtual environment with gati and all tracers; return its Python."""
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    wanted = [*PACKAGES.values(), "langgraph", "opentelemetry-sdk", "-e", f"{ROOT}[studio]"]
    subprocess.run([str(python), "-m", "pip", "install", "-q", "--upgrade", *wanted], check=True)
    return python


if __name__ == "__main__":
    sys.exit(main())
