"""Mutations: each changes one place in the syntax tree of a module."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from typing import NamedTuple

COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
CALCULATED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Pow: ast.Mult, ast.BitOr: ast.BitAnd,
}  # fmt: skip


class Mutant(NamedTuple):
    """A mutated module: the line, the original code, its replacement, and the tree."""

    line: int
    was: str
    now: str
    tree: ast.Module


def mutants(source: str) -> Iterator[Mutant]:
    """Yield every mutant of a module in source order."""
    tree = ast.parse(source)
    places = list(_places(tree))
    for number in range(len(places)):
        changed = copy.deepcopy(tree)
        node = list(_places(changed))[number]
        for choice in range(len(_changes(node))):
            one = copy.deepcopy(changed)
            spot = list(_places(one))[number]
            was = ast.unparse(spot)
            new = _changes(spot)[choice]
            _replace(one, spot, new)
            yield Mutant(getattr(spot, "lineno", 0), was, ast.unparse(new), ast.fix_missing_locations(one))


def _places(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that can be mutated. Skip annotations, docstrings and imports for types."""
    for name, value in ast.iter_fields(tree):
        if name in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or _is_type_checking_only(child):
                continue
            if _changes(child):
                yield child
            yield from _places(child)


def _is_type_checking_only(node: ast.AST) -> bool:
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return True
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def _changes(node: ast.AST) -> list[ast.AST]:
    """Return the possible replacements of a node."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARED:
        other = COMPARED[type(node.ops[0])]()
        return [ast.Compare(node.left, [other, *node.ops[1:]], node.comparators)]
    if isinstance(node, ast.BoolOp):
        other_op: ast.boolop = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        return [ast.BoolOp(other_op, node.values)]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return [node.operand]
    if isinstance(node, ast.BinOp) and type(node.op) in CALCULATED:
        return [ast.BinOp(node.left, CALCULATED[type(node.op)](), node.right)]
    if isinstance(node, ast.IfExp):
        return [node.body, node.orelse]
    if isinstance(node, ast.Constant):
        return _constants(node.value)
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return [ast.Pass()]
    if isinstance(node, (ast.Break, ast.Continue)):
        return [ast.Continue() if isinstance(node, ast.Break) else ast.Break()]
    if isinstance(node, ast.Return) and node.value is not None and not isinstance(node.value, ast.Constant):
        return [ast.Return(ast.Constant(None))]
    return []


def _constants(value: object) -> list[ast.AST]:
    if isinstance(value, bool):
        return [ast.Constant(not value)]
    if isinstance(value, (int, float)):
        return [ast.Constant(value + 1)]
    if isinstance(value, str):
        return [ast.Constant(value + "-changed" if value else "changed")]
    return []


def _replace(tree: ast.AST, old: ast.AST, new: ast.AST) -> None:
    ast.copy_location(new, old)
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, name, new)
                return
            if isinstance(value, list):
                for index, item in enumerate(value):
                    if item is old:
                        value[index] = new
                        return
