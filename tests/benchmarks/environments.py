"""A virtual environment for each contender, in a cache folder, with the newest versions."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import platformdirs

from tests.benchmarks.contenders import CONTENDERS, LANGCHAIN, Contender

ROOT = Path(__file__).parents[2]
SINK = "sink"
_SHARED = ("langchain", "langchain-core", "langgraph", "langgraph-checkpoint", "langgraph-prebuilt", "pydantic")
"""Packages pinned to the same version in all environments, so that all contenders run the same program."""

_OPTIONS = ("GATI_", "GREENFLASH_", "LANGSMITH_", "LANGCHAIN_", "LANGFUSE_", "OTEL_", "TRACELOOP_", "PYTHON")


def default_folder() -> Path:
    """Return the folder that keeps the environments between runs."""
    return Path(platformdirs.user_cache_dir("gati-benchmarks", appauthor=False))


class Environments:
    """The environments below `folder`. With `install`, each is created or updated on first use."""

    def __init__(self, folder: Path, install: bool = True) -> None:
        self._folder = folder
        self._install = install
        self._ready: set[str] = set()
        self._constraints = folder / "constraints.txt"

    def python(self, name: str) -> str:
        """Return the Python of the environment of a contender or the sink."""
        path = self._folder / name / ("Scripts" if os.name == "nt" else "bin") / "python"
        if name not in self._ready:
            if self._install or not path.exists():
                self._make(name, path)
            self._ready.add(name)
        return str(path)

    def _make(self, name: str, python: Path) -> None:
        if name != "none" and (self._install or not self._constraints.exists()):
            # The environment without tracers determines the versions for all.
            self._constraints.write_text("".join(f"{p}=={v}\n" for p, v in self._shared().items()), "utf-8")
        print(f"environment {name}", file=sys.stderr)
        uv = _uv()
        if not python.exists():
            new = [uv, "venv", "-q", "--python", sys.executable] if uv else [sys.executable, "-m", "venv"]
            subprocess.run([*new, str(python.parents[1])], check=True)
        wanted = ["-q", "--upgrade", *_requirements(name)]
        if name != "none":
            wanted += ["-c", str(self._constraints)]
        pip = [uv, "pip", "install", "--python", str(python)] if uv else [str(python), "-m", "pip", "install"]
        subprocess.run([*pip, *wanted], check=True)

    def _shared(self) -> dict[str, str]:
        return {name: version for name, version in self.versions("none").items() if name in _SHARED}

    def versions(self, name: str) -> dict[str, str]:
        """Return the versions of all packages in an environment."""
        code = (
            "import json, importlib.metadata as m;"
            "print(json.dumps({d.name.lower().replace('_', '-'): d.version for d in m.distributions()}))"
        )
        done = subprocess.run([self.python(name), "-c", code], check=True, capture_output=True, text=True, env=clean())
        versions: dict[str, str] = json.loads(done.stdout)
        return versions


def clean() -> dict[str, str]:
    """Return environment variables without those that configure a tracer."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_OPTIONS)} | {
        "PYTHONHASHSEED": "0"
    }


def _requirements(name: str) -> list[str]:
    if name == SINK:
        return ["-e", f"{ROOT}[studio]", "opentelemetry-proto", "zstandard"]
    of_name: list[Contender] = [c for c in CONTENDERS.values() if c.environment == name]
    ours = ["-e", str(ROOT)] if name == "gati" else []
    return [*ours, *LANGCHAIN, *of_name[0].requires]


def _uv() -> str | None:
    beside = Path(sys.executable).parent / "uv"
    return shutil.which("uv") or (str(beside) if beside.exists() else None)
