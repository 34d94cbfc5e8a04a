"""Runs gati beside the watchers that people use with it, and tells what one changes for the other.

python -m tests.coexistence               all, in an environment of their own with the newest versions
python -m tests.coexistence openllmetry   one
python -m tests.coexistence --here        in this environment, which has them already
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
    """Exit code 0 when nobody changes anything for anybody."""
    parser = argparse.ArgumentParser(prog="python -m tests.coexistence", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*PACKAGES, []], help="default: all")
    parser.add_argument("--here", action="store_true", help="install nothing")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "gati-coexistence")
    chosen = parser.parse_args()
    names = chosen.names or list(PACKAGES)
    if not chosen.here:
        command = [str(environment(chosen.folder)), "-m", "tests.coexistence", "--here", *names]
        return subprocess.run(command, cwd=ROOT, check=False).returncode
    found = 0
    for name in names:
        told = differences(name)
        print(f"{name} {version(PACKAGES[name])}: {'differs' if told else 'nobody notices the other'}", flush=True)
        print("".join(f"  {line}\n" for line in told), end="")
        found |= bool(told)
    return int(found)


def environment(folder: Path) -> Path:
    """A virtual environment with gati and all neighbours, brought up to date."""
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    wanted = [*PACKAGES.values(), "langgraph", "opentelemetry-sdk", "-e", f"{ROOT}[studio]"]
    subprocess.run([str(python), "-m", "pip", "install", "-q", "--upgrade", *wanted], check=True)
    return python


if __name__ == "__main__":
    sys.exit(main())
