"""Compares the options of two calls of `init`, so that a script that is run again does not start anew."""

from __future__ import annotations

import functools
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gati.settings import Settings

_COMPARED_BY_IDENTITY = frozenset({"client"})
_MAX_DEPTH = 20
_CACHED: type = type(functools.cache(lambda: None))
"""Type of functions decorated with `functools.cache` or `lru_cache`."""


def are_equal(first: Settings, second: Settings) -> bool:
    """Return True if `init` with either of these would do the same.

    Functions are equal if their module, qualified name, code, defaults and closure are: a script or notebook cell that
    is run again creates them anew. Clients and exporters have to be the same objects.
    """
    for name in type(first).model_fields:
        one, other = getattr(first, name), getattr(second, name)
        if one is not other and (name in _COMPARED_BY_IDENTITY or not _same(one, other, _MAX_DEPTH)):
            return False
    return True


def _same(first: Any, second: Any, depth: int) -> bool:
    if first is second:
        return True
    kind = type(first)
    if kind is not type(second) or depth == 0:
        return False
    if kind is FunctionType:
        return _same_function(first, second, depth - 1)
    if kind is MethodType:
        return first.__self__ is second.__self__ and _same(first.__func__, second.__func__, depth - 1)
    if kind is _CACHED:
        same_cache = first.cache_parameters() == second.cache_parameters()
        return same_cache and _same(first.__wrapped__, second.__wrapped__, depth - 1)
    if kind is functools.partial:
        return all(_same(getattr(first, n), getattr(second, n), depth - 1) for n in ("func", "args", "keywords"))
    if kind is tuple or kind is list:
        return len(first) == len(second) and all(
            _same(one, other, depth - 1) for one, other in zip(first, second, strict=True)
        )
    if kind is dict:
        return first.keys() == second.keys() and all(_same(first[key], second[key], depth - 1) for key in first)
    # Only types whose comparison runs no code of the user; other objects have to be the same.
    if kind.__module__.partition(".")[0] in ("builtins", "pathlib", "re", "uuid", "datetime", "pydantic", "gati"):
        return bool(first == second)
    return False


def _same_function(first: FunctionType, second: FunctionType, depth: int) -> bool:
    same_place = (first.__module__, first.__qualname__) == (second.__module__, second.__qualname__)
    return (
        same_place
        and first.__code__ == second.__code__
        and _same(first.__defaults__, second.__defaults__, depth)
        and _same(first.__kwdefaults__, second.__kwdefaults__, depth)
        and _same(_closure(first), _closure(second), depth)
    )


def _closure(function: FunctionType) -> list[Any]:
    values: list[Any] = []
    for cell in function.__closure__ or ():
        try:
            values.append(cell.cell_contents)
        except ValueError:  # not assigned yet
            values.append(None)
    return values
