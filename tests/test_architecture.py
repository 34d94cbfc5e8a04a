"""The allowed imports: which package may import which, and which modules may import third-party packages."""

from __future__ import annotations

import ast
import importlib
import re
import sys
import tokenize
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parent.parent / "gati"

LEAVES = {
    "gati._deprecation",
    "gati.clock",
    "gati.contract",
    "gati.errors",
    "gati.events",
    "gati.input_hash",
    "gati.limits",
    "gati.semconv",
}
"""Modules that any package may import. They import nothing from gati themselves."""

ARROWS: dict[str, set[str]] = {
    "gati": {"gati.observe", "gati.langchain", "gati.prompts"},
    "gati.observe": {"gati._api", "gati.settings", "gati.pipeline", "gati.langchain"},
    "gati._api": {
        "gati._context", "gati.langchain", "gati.metrics", "gati.trace", "gati.exporters", "gati.pipeline",
        "gati.prompt_model", "gati.queues", "gati.settings", "gati.store",
    },
    "gati._context": {"gati.trace"},
    "gati.settings": {"gati.options"},
    "gati.options": {"gati.prompt_model", "gati.queues.address"},
    "gati.prompt_model": set(),
    "gati.feedback": {"gati.observe", "gati._api"},
    "gati.prompts": {
        "gati._api", "gati._context", "gati.exporters", "gati.langchain", "gati.pipeline", "gati.settings", "gati.store",
        "gati.trace",
    },
    "gati.langchain": {"gati._context", "gati.trace"},
    "gati.trace": {"gati.prompt_model"},
    "gati.pipeline": {"gati._context", "gati.data_folder", "gati.trace", "gati.exporters", "gati.settings"},
    "gati.exporters": {"gati.settings", "gati.store"},
    "gati.queues": {"gati.exporters", "gati.pipeline", "gati.queues.address"},
    "gati.queues.address": set(),
    "gati.store": {"gati.data_folder"},
    "gati.data_folder": set(),
    "gati.studio": {"gati.store"},
    "gati.team_store": {"gati.store", "gati.exporters", "gati.queues"},
    "gati.push": {"gati.push_requests", "gati.store", "gati.exporters", "gati.pipeline"},
    "gati.push_requests": {"gati.store", "gati.exporters"},
    "gati.importing": {"gati.exporters", "gati.langchain", "gati.pipeline", "gati.settings", "gati.trace"},
    "gati.demo": {"gati.testing"},
    "gati.relay": {"gati.exporters", "gati.pipeline", "gati.queues", "gati.queues.address"},
    "gati.masks": set(),
    "gati.metrics": {"gati.pipeline"},
    "gati.testing": {"gati._api", "gati.settings", "gati.exporters"},
    "gati.testing.server": {"gati.store", "gati.studio"},
    "gati.cli": {
        "gati", "gati.observe", "gati.demo", "gati.settings", "gati.options", "gati.store", "gati.studio", "gati.pipeline",
        "gati.langchain", "gati.exporters", "gati.testing", "gati.testing.server", "gati._api", "gati.push",
        "gati.prompts", "gati.queues", "gati.queues.address",
        "gati.importing", "gati.relay", "gati.team_store",
    },
}  # fmt: skip
"""Package → packages that it may import. Each entry is a design decision."""

APART = {"gati.testing.server", "gati.queues.address"}
"""Modules with an entry of their own. The test server may import more than its parent, since it builds on the studio. The
options check the addresses of queues, which therefore import nothing."""

NARROW = {
    ("gati._api", "gati.store"): {"gati.store.store"},
    ("gati.langchain", "gati.trace"): {"gati.trace.records", "gati.trace.record_codec", "gati.trace.deferred_media"},
    ("gati.pipeline", "gati.exporters"): {"gati.exporters.base", "gati.exporters.sanitize"},
    ("gati.pipeline", "gati.trace"): {f"gati.trace.{name}" for name in ("records", "record_codec", "stored_records")},
    ("gati.exporters", "gati.store"): {"gati.store.store", "gati.store.retention"},
    ("gati.queues", "gati.exporters"): {"gati.exporters.base", "gati.exporters.deadline_call"},
    ("gati.team_store", "gati.queues"): {"gati.queues.bounded_connection"},
    ("gati.queues", "gati.pipeline"): {"gati.pipeline.codec"},
    ("gati.team_store", "gati.exporters"): {
        f"gati.exporters.{name}" for name in ("base", "local", "greenflash.encoder")
    },
    ("gati.relay", "gati.exporters"): {"gati.exporters.base"},
    ("gati.relay", "gati.pipeline"): {
        f"gati.pipeline.{name}"
        for name in ("codec", "internal_errors", "journal", "outbox", "request_queue", "retry", "sender", "stats")
    },
    ("gati.feedback", "gati._api"): {"gati._api.arguments"},
    ("gati.prompts", "gati._api"): {"gati._api.runtime", "gati._api.destinations"},
    ("gati.prompts", "gati.exporters"): {
        "gati.exporters.prompt_source",
        "gati.exporters.greenflash.connection",
        "gati.exporters.greenflash.prompts",
    },
    ("gati.prompts", "gati.langchain"): {"gati.langchain.handover", "gati.langchain.managed_template"},
    ("gati.prompts", "gati.pipeline"): {
        f"gati.pipeline.{name}" for name in ("filesystem", "internal_errors", "process_hooks", "safe_files")
    },
    ("gati.prompts", "gati.store"): {f"gati.store.{name}" for name in ("prompt_records", "store", "store_file")},
    ("gati.prompts", "gati.trace"): {"gati.trace.managed_prompts", "gati.trace.records"},
    ("gati.metrics", "gati.pipeline"): {f"gati.pipeline.{name}" for name in ("listeners", "process_hooks", "stats")},
    ("gati.importing", "gati.exporters"): {"gati.exporters.base"},
    ("gati.importing", "gati.langchain"): {"gati.langchain.message_snapshot"},
    ("gati.importing", "gati.pipeline"): {"gati.pipeline.pipeline"},
    ("gati.demo", "gati.testing"): {"gati.testing.scripted_model"},
    ("gati.push", "gati.exporters"): {"gati.exporters.base"},
    ("gati.push", "gati.pipeline"): {
        f"gati.pipeline.{name}" for name in ("outbox", "request_queue", "retry", "sender", "stats")
    },
    ("gati.push_requests", "gati.exporters"): {"gati.exporters.base", "gati.exporters.packing"},
}
"""Pairs of packages where only some modules may be imported."""

OWNERS = {
    "langchain_core": ("gati.langchain", "gati.importing.checkpoints", "gati.demo", "gati.testing.scripted_model"),
    "langgraph": ("gati.langchain", "gati.demo", "gati.cli.importing"),
    "langchain_openai": ("gati.demo",),
    "greenflash": ("gati.exporters.greenflash.exporter",),
    "starlette": ("gati.studio", "gati.testing.server", "gati.feedback.web"),
    "uvicorn": ("gati.studio.server", "gati.testing.server.fault_middleware"),
    "jinja2": ("gati.studio.pages",),
    "jsonschema": ("gati.studio.api.validation",),
    "markdown_it": ("gati.studio.rendering",),
    "nh3": ("gati.studio.rendering",),
    "pygments": ("gati.studio.rendering",),
    "typer": ("gati.cli",),
    "rich": ("gati.cli",),
    "pydantic": ("gati.options", "gati.prompt_model", "gati.settings", "gati.langchain", "gati.testing.scripted_model"),
    "genai_prices": ("gati.trace.cost",),
    "prometheus_client": ("gati.metrics.prometheus", "gati._api.metrics", "gati.relay.relay_metrics"),
    "opentelemetry": ("gati.metrics.opentelemetry", "gati._api.metrics", "gati.exporters.otlp.wire"),
    "google": ("gati.exporters.otlp.wire",),
    "confluent_kafka": ("gati.queues", "gati.cli.queue_check"),
    "psycopg": ("gati.queues", "gati.cli.queue_check", "gati.team_store"),
    "pytest": ("gati.testing.pytest_plugin",),
}
"""The only modules that may import a third-party package. Imports for type checking are not counted."""


class Import(NamedTuple):
    source: str
    target: str
    line: int


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        yield ".".join(part for part in parts if part != "__init__"), path


def imports(name: str, path: Path, for_types: bool = False) -> Iterator[Import]:
    """Yield every import that runs, late ones too, and with `for_types` also those for type checking."""
    names = {module for module, _ in modules()}

    def visit(node: ast.AST) -> Iterator[Import]:
        if not for_types and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield from visit(other)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(name, alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield Import(name, full if full in names else str(node.module), node.lineno)
        else:
            for child in ast.iter_child_nodes(node):
                yield from visit(child)

    yield from visit(ast.parse(path.read_text("utf-8")))


def package_of(module: str) -> str:
    apart = next((name for name in APART if module == name or module.startswith(name + ".")), None)
    return apart or ".".join(module.split(".")[:2])


IMPORTS = [found for name, path in modules() for found in imports(name, path)]


def test_arrows_run_downwards_only():
    wrong = [
        f"{found.source}:{found.line} imports {found.target}"
        for found in IMPORTS
        if found.target.split(".")[0] == "gati"
        and (source := package_of(found.source)) != (target := package_of(found.target))
        and target not in LEAVES
        and (
            target not in ARROWS[source]
            or not any(
                found.target == allowed or found.target.startswith(allowed + ".")
                for allowed in NARROW.get((source, target), {target})
            )
        )
    ]
    assert wrong == []


def test_every_package_has_an_entry():
    assert {package_of(name) for name, _ in modules()} - LEAVES <= set(ARROWS)


@pytest.mark.parametrize("package", OWNERS)
def test_a_package_is_imported_by_its_owner_only(package: str):
    strangers = [
        f"{found.source}:{found.line}"
        for found in IMPORTS
        if found.target.split(".")[0] == package
        and not any(found.source == owner or found.source.startswith(owner + ".") for owner in OWNERS[package])
    ]
    assert strangers == []


@pytest.mark.parametrize("leaf", sorted(LEAVES))
def test_a_leaf_imports_the_standard_library_only(leaf: str):
    targets = {found.target for found in IMPORTS if found.source == leaf} - LEAVES
    assert {target.split(".")[0] for target in targets} <= set(sys.stdlib_module_names)


def test_the_store_imports_the_standard_library_only():
    allowed = {*sys.stdlib_module_names, "gati"}
    strangers = [
        f"{found.source}:{found.line} {found.target}"
        for found in IMPORTS
        if found.source.startswith("gati.store") and found.target.split(".")[0] not in allowed
    ]
    assert strangers == []


PRIVATE = {"gati.langchain._compat", "gati.exporters.greenflash._compat", "gati.pipeline._compat"}
"""The only modules that may use private names of other packages."""

DOCUMENTED = {"_replace", "_fields", "_value_", "_getframe", "_type"}
"""Documented names with an underscore, from the standard library and LangChain (invocation parameters)."""


def underscored(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield names with one leading underscore that are imported or accessed as attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.lineno, node.attr
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "hasattr"):
            if len(node.args) > 1 and isinstance(node.args[1], ast.Constant):
                yield node.lineno, str(node.args[1].value)
        elif isinstance(node, ast.ImportFrom) and not str(node.module).startswith("gati"):
            for part in (*str(node.module).split("."), *(alias.name for alias in node.names)):
                yield node.lineno, part


def own_names() -> set[str]:
    """Return every name that gati defines: functions, classes, variables and attributes."""
    found: set[str] = set()
    for _, path in modules():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                found.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                found.add(node.attr)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
    return found


def test_names_of_others_that_are_not_public_are_in_three_modules_only():
    own = own_names() | DOCUMENTED
    strangers = [
        f"{name}:{line} {found}"
        for name, path in modules()
        if name not in PRIVATE
        for line, found in underscored(ast.parse(path.read_text("utf-8")))
        if found.startswith("_") and not found.startswith("__") and found not in own
    ]
    assert strangers == []


def test_what_is_imported_of_langchain_is_in_its_public_lists():
    """Each name is in the `__all__` of a public module, or its module has no `__all__`. Packages may be missing."""
    unlisted = []
    for name, path in modules():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.ImportFrom) or name in PRIVATE:
                continue
            if str(node.module).split(".")[0] not in ("langchain_core", "langgraph", "langchain", "greenflash"):
                continue
            try:
                listed = getattr(importlib.import_module(str(node.module)), "__all__", None)
            except ModuleNotFoundError:
                continue
            unlisted += [
                f"{name}:{node.lineno} {node.module}.{alias.name}"
                for alias in node.names
                if listed is not None and alias.name not in listed
            ]
    assert unlisted == []


EXCEPTION = re.compile(r"# *(noqa|type: *ignore|pragma: *no)")
EXPLAINED = re.compile(
    r"# (noqa: [A-Z]+\d+(, [A-Z]+\d+)*|type: ignore\[[^]]+\]|pragma: no (cover|branch))\s+(# |- )?\w+,? \w+"
)


def test_every_exception_from_a_rule_has_its_reason_beside_it():
    root = PACKAGE.parent
    silent = []
    for path in (
        root / "noxfile.py",
        *(found for folder in ("gati", "tests", "examples") for found in (root / folder).rglob("*.py")),
    ):
        with path.open(encoding="utf-8") as lines:
            comments = [token for token in tokenize.generate_tokens(lines.readline) if token.type == tokenize.COMMENT]
        silent += [
            f"{path.relative_to(root)}:{token.start[0]} {token.string}"
            for token in comments
            if EXCEPTION.search(token.string) and not EXPLAINED.search(token.string)
        ]
    assert silent == []


def test_the_arrows_have_no_circle():
    done: set[str] = set()

    def walk(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " → ".join((*path, name))
        if name not in done:
            for other in sorted(ARROWS.get(name, ())):
                walk(other, (*path, name))
            done.add(name)

    for name in sorted(ARROWS):
        walk(name, ())


def test_no_modules_import_each_other_in_a_cycle_not_even_for_types():
    graph = {name: {found.target for found in imports(name, path, for_types=True)} - {name} for name, path in modules()}
    TopologicalSorter(graph).prepare()  # raises CycleError with the modules of a cycle
