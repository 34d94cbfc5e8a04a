"""Mutation tests: change small parts of critical modules and check that a test fails.

    python -m tests.mutants                      all
    python -m tests.mutants gati.pipeline.retry  one module
    python -m tests.mutants --sample 100         100 random mutants per module (fixed seed)
    python -m tests.mutants --from-line 214 ...  start at a line, to continue an interrupted run

Each mutant runs in a fork of a process that has imported the large dependencies, with only the tests that
call the changed function. Prints the survivors, except those with a reason in `known`.
"""

from __future__ import annotations

import argparse
import ast
import gc
import importlib.abc
import importlib.util
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from tests.mutants.known import REASONS
from tests.mutants.mutations import Mutant, mutants

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 120
"""Timeout of the tests. A timeout counts as a failure."""

_GREENFLASH = tuple(
    f"tests/exporters/greenflash/test_{name}.py"
    for name in ("message_fields", "turn_encoder", "encoder", "prompt_encoder", "actions", "exporter")
)
MODULES = {
    "gati.pipeline.retry": ("tests/pipeline/test_retry.py", "tests/pipeline/test_outbox.py"),
    "gati.trace.identity": ("tests/trace/test_identity.py", "tests/scenarios/test_identity.py"),
    "gati.exporters.http_outcome": (
        "tests/exporters/test_http_outcome.py",
        "tests/exporters/greenflash/test_exporter.py",
    ),
    "gati.exporters.greenflash.turn_encoder": (*_GREENFLASH, "tests/scenarios/test_agents.py"),
    "gati.exporters.greenflash.message_fields": (*_GREENFLASH, "tests/scenarios/test_agents.py"),
    "gati.exporters.greenflash.encoder": _GREENFLASH,
    "gati.exporters.packing": ("tests/exporters/test_packing.py", "tests/exporters/greenflash/test_encoder.py"),
}
"""Retry policy, identity and mapping, each with its tests. The most sensitive tests come first."""

PLUGINS = ("pytest_asyncio.plugin", "pytest_timeout", "_hypothesis_pytestplugin")
HEAVY = (
    *("pytest", *PLUGINS, "hypothesis.strategies", "hypothesis.internal.conjecture.engine", "unittest.mock", "pdb"),
    *("greenflash", "langchain_core.language_models", "langchain_core.runnables", "langchain_core.tools", "orjson"),
    *("langgraph.graph", "langgraph.prebuilt", "pydantic", "jsonschema", "sqlite3", "platformdirs"),
    *("starlette.applications", "uvicorn.protocols.http.h11_impl"),
)


def main() -> int:
    """Test the chosen modules; return 0 if no mutant survives without a reason."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("modules", nargs="*", choices=[*MODULES, []], help="default: all")
    parser.add_argument("--sample", type=int, help="number of mutants per module (default: all)")
    parser.add_argument("--from-line", type=int, default=0, help="skip mutants above this line of each module")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args()
    _load_what_is_heavy()
    found = 0
    for module in chosen.modules or MODULES:
        found += attempt(module, chosen.sample, chosen.workers, chosen.from_line)
    return 1 if found else 0


def attempt(module: str, sample: int | None, workers: int, from_line: int = 0) -> int:
    """Test the mutants of one module; return how many survive without a known reason."""
    path = ROOT / Path(*module.split(".")).with_suffix(".py")
    lines = path.read_text("utf-8").splitlines()
    faults = [fault for fault in mutants("\n".join(lines)) if fault.line >= from_line]
    if sample is not None and sample < len(faults):
        faults = sorted(random.Random(7).sample(faults, sample), key=lambda fault: fault.line)
    whole = ast.parse("\n".join(lines))
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        calls_file = Path(folder, "calls.json")
        assert survives(module, path, whole, calls_file=calls_file), f"{module}: the tests fail without a change"
        calls: dict[str, list[str]] = json.loads(calls_file.read_text("utf-8"))

    with ThreadPoolExecutor(workers) as pool:
        tests_by_fault = [calls.get(str(_function(whole, fault.line))) for fault in faults]
        survived = list(
            pool.map(lambda fault, tests: survives(module, path, fault.tree, tests), faults, tests_by_fault)
        )
    survivors = [fault for fault, alive in zip(faults, survived, strict=True) if alive]
    unknown = [fault for fault in survivors if _key(module, lines, fault) not in REASONS]
    took = f"{time.monotonic() - began:.0f} s"
    print(f"{module}: {len(faults)} mutants, {len(survivors)} survive, {len(unknown)} without a reason ({took})")
    for fault in unknown:
        print(f"  {path.relative_to(ROOT)}:{fault.line}: {fault.was}  →  {fault.now}", flush=True)
    return len(unknown)


def _key(module: str, lines: list[str], fault: Mutant) -> tuple[str, str, str]:
    return module, lines[fault.line - 1].strip(), fault.now


def _function(tree: ast.Module, line: int) -> int | None:
    """Return the first line of the innermost function around a line, including decorators; None outside functions."""
    around = [
        node
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.lineno <= line <= (node.end_lineno or 0)
    ]
    if not around:
        return None
    inner = max(around, key=lambda node: node.lineno)
    return min(inner.lineno, *(decorator.lineno for decorator in inner.decorator_list), inner.lineno)


def survives(
    module: str, path: Path, tree: ast.Module, tests: Sequence[str] | None = None, calls_file: Path | None = None
) -> bool:
    """Return True if the tests pass with `tree` in place of the module.

    Args:
        module: Name of the module.
        path: File of the module.
        tree: Syntax tree to load instead.
        tests: Tests to run; None runs all tests of the module.
        calls_file: File to write which tests called which function.
    """
    chosen = MODULES[module] if tests is None else tests
    child = os.fork()
    if child == 0:
        code = 99
        try:
            signal.alarm(SECONDS if calls_file is None else 10 * SECONDS)  # recording calls is slow
            calls = None if calls_file is None else _Calls(str(path))
            code = _tests(module, path, tree, chosen, calls)
            if calls_file is not None and calls is not None:
                calls_file.write_text(json.dumps(calls.found), "utf-8")
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if tests is not None and os.WIFEXITED(status) and os.WEXITSTATUS(status) in (4, 5):
        return survives(module, path, tree)  # pytest rejected a test id or selected no test: run all
    return status == 0


def _tests(module: str, path: Path, tree: ast.Module, tests: Sequence[str], calls: _Calls | None) -> int:
    import pytest

    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    sys.meta_path.insert(0, _Finder(module, path, tree))
    # Searching for plugins takes longer than most tests.
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    quiet = ["-x", "-q", "-p", "no:cacheprovider", *(word for name in PLUGINS for word in ("-p", name)), "--timeout=0"]
    # The plugins were imported before pytest could rewrite their assertions.
    some = ["-W", "ignore::pytest.PytestAssertRewriteWarning", "-m", "not slow and not browser"]
    some += ["-k", "not memory_does_not_grow"]  # slow, and not sensitive to mutants
    return int(pytest.main([*quiet, *some, *tests], [] if calls is None else [calls]))


class _Calls:
    """Pytest plugin that records which tests call which functions of a file, by first line."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.test = ""
        self.found: dict[int, list[str]] = {}

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.test = nodeid.partition("[")[0]
        threading.setprofile(self.called)
        sys.setprofile(self.called)

    def called(self, frame: Any, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename == self.path:
            tests = self.found.setdefault(frame.f_code.co_firstlineno, [])
            if not tests or tests[-1] != self.test:
                tests.append(self.test)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from a syntax tree instead of its file."""

    def __init__(self, module: str, path: Path, tree: ast.Module) -> None:
        self.module, self.path, self.tree = module, path, tree

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != self.module:
            return None
        return importlib.util.spec_from_file_location(name, self.path, loader=self)

    def exec_module(self, module: Any) -> None:
        exec(compile(self.tree, str(self.path), "exec"), vars(module))


def _load_what_is_heavy() -> None:
    """Import the dependencies of the tests. gati itself is imported in the fork, with the mutant."""
    for name in HEAVY:
        importlib.import_module(name)
    gc.freeze()  # forks share it
    assert not [name for name in sys.modules if name.partition(".")[0] == "gati"]


if __name__ == "__main__":
    sys.exit(main())
