"""Every regular expression of gati takes linear time.

Python does not interrupt a regular expression, and other threads wait for it: one that takes long for the text of a user
would stop the program. A pattern whose time grows with the square of the text's length needs hours for these texts.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

import gati

PACKAGE = Path(gati.__file__).parent
LENGTH = 100_000
PIECES = (
    "a", " ", "\n", "0", "-", ".", "_", "@", "(", "{", "<", '"', "\\", "/", ":", "=", "A1", "a.", "a@b.", "1 ", "{{",
)  # fmt: skip
"""Each text repeats one of these, perhaps after an opening."""
METHODS = frozenset({"search", "match", "fullmatch", "findall", "finditer", "sub", "split"})


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def patterns() -> Iterator[Any]:
    """Yield each pattern at the top of a module, with the methods that are called of it anywhere."""
    trees = {path: ast.parse(path.read_text("utf-8")) for path in PACKAGE.rglob("*.py")}
    calls: dict[str, set[str]] = {}
    for tree in trees.values():
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Attribute)
                and node.attr in METHODS
                and isinstance(node.value, (ast.Name, ast.Attribute))
            ):
                name = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
                calls.setdefault(name, set()).add(node.attr)
    for path, tree in trees.items():
        for node in tree.body:
            if isinstance(node, (ast.Assign, ast.AnnAssign)) and "re.compile" in ast.unparse(node):
                name = ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
                # A pattern in a table is called by another name: assume the methods that may be slow.
                methods = calls.get(name, {"search", "fullmatch"})
                yield pytest.param(path, name, methods, id=f"{module_name(path)}.{name}")


def compiled(value: Any) -> Iterator[re.Pattern[Any]]:
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(value, (list, tuple, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from compiled(item)


def openings(pattern: re.Pattern[Any]) -> set[str]:
    """Return texts after which a pattern may read on to the end: nothing, and the first literal characters in it."""
    source = pattern.pattern.decode("latin-1") if isinstance(pattern.pattern, bytes) else pattern.pattern
    literal = re.search(r"(?:\\[^\w\s]|[^\s\\()\[\]{}|?*+.^$])++", re.sub(r"\(\?[^()]*\)", "", source))
    return {"", literal[0].replace("\\", "")} if literal else {""}


@pytest.mark.parametrize(("path", "name", "methods"), list(patterns()))
def test_a_pattern_takes_linear_time(path: Path, name: str, methods: set[str]):
    try:
        module = importlib.import_module(module_name(path))
    except ImportError as missing:
        pytest.skip(f"{missing.name} is not installed")
    for pattern in compiled(getattr(module, name)):
        for opening, piece in product(openings(pattern), PIECES):
            text: Any = opening + piece * (LENGTH // len(piece)) + "!"
            subject = text.encode() if isinstance(pattern.pattern, bytes) else text
            for method in methods:
                arguments = (subject[:0], subject) if method == "sub" else (subject,)
                result = getattr(pattern, method)(*arguments)
                if method == "finditer":
                    for _ in result:
                        pass
