"""The prompts of a code base: text files in a folder, and literal fallbacks of `prompts.get` in Python files."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from gati.cli.output import Exit, fail

SUFFIX = ".md"
"""Suffix of files that `gati prompts pull` writes."""
_SUFFIXES = (SUFFIX, ".txt", ".mustache")
_FUNCTIONS = frozenset({"get", "aget"})


class CodePrompt(NamedTuple):
    """A prompt in the code base. `place` is its file, with the line for a Python file."""

    name: str
    text: str
    place: str


def find_prompts(folder: Path, sources: Sequence[Path], names: Sequence[str] = ()) -> list[CodePrompt]:
    """Return the prompts in a folder and in Python files, those called `names` only if there are any.

    Exits with an error if a name has two different texts, or if one of `names` is missing.
    """
    found: dict[str, CodePrompt] = {}
    for prompt in [*_in_folder(folder), *_in_sources(sources)]:
        if (other := found.get(prompt.name)) is not None and other.text != prompt.text:
            fail(f"the prompt {prompt.name!r} has two texts: in {other.place} and in {prompt.place}", Exit.USAGE)
        found.setdefault(prompt.name, prompt)
    if missing := [name for name in names if name not in found]:
        fail(f"there is no prompt {missing[0]!r} in {folder} or in the given sources", Exit.NOT_FOUND)
    return [found[name] for name in (names or sorted(found))]


def path_of(folder: Path, name: str) -> Path:
    """Return the file of a prompt: ``support/agent`` → ``prompts/support/agent.md``. Exits if it is outside of the folder."""
    existing = [folder / f"{name}{suffix}" for suffix in _SUFFIXES if (folder / f"{name}{suffix}").is_file()]
    path = existing[0] if existing else folder / f"{name}{SUFFIX}"
    if not path.resolve().is_relative_to(folder.resolve()) or "\0" in name:
        fail(f"the prompt {name!r} cannot be a file in {folder}", Exit.USAGE)
    return path


def _in_folder(folder: Path) -> Iterator[CodePrompt]:
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.suffix in _SUFFIXES and path.is_file():
            name = path.relative_to(folder).with_suffix("").as_posix()
            yield CodePrompt(name, read_source(path).rstrip("\n"), str(path))


def _in_sources(sources: Sequence[Path]) -> Iterator[CodePrompt]:
    for source in sources:
        if not source.exists():
            fail(f"there is no file or folder {source}", Exit.NOT_FOUND)
        if not source.is_dir() and not source.is_file():  # a device may have no end
            fail(f"{source} is no Python file", Exit.USAGE)
        for path in filter(Path.is_file, sorted(source.rglob("*.py"))) if source.is_dir() else [source]:
            try:
                tree = ast.parse(read_source(path))
            except (SyntaxError, ValueError) as fault:
                fail(f"{path} is no Python file: {fault}", Exit.USAGE)
            yield from _fallbacks_in(tree, path)


def _fallbacks_in(tree: ast.AST, path: Path) -> Iterator[CodePrompt]:
    """Yield the calls of `prompts.get` and `prompts.aget` whose name and fallback are literals, or named constants."""
    constants = {
        target.id: node.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not _is_get(node.func) or not node.args:
            continue
        fallback = next((keyword.value for keyword in node.keywords if keyword.arg == "fallback"), None)
        name, text = _constant_text(node.args[0], constants), _constant_text(fallback, constants)
        if name is not None and text is not None:
            yield CodePrompt(name, text, f"{path}:{node.lineno}")


def _is_get(function: ast.expr) -> bool:
    return (
        isinstance(function, ast.Attribute)
        and function.attr in _FUNCTIONS
        and isinstance(function.value, ast.Name)
        and function.value.id == "prompts"
    )


def _constant_text(node: ast.expr | None, constants: dict[str, str]) -> str | None:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    return constants.get(node.id) if isinstance(node, ast.Name) else None


def read_source(path: Path) -> str:
    """Return the text of a file. Exits if it cannot be read."""
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        fail(f"cannot read {path}: {fault}", Exit.USAGE)
