"""Snapshots and records as the background thread sees them: packed and unpacked again."""

from __future__ import annotations

import functools
import marshal
from collections.abc import Callable
from typing import Any

from gati.trace.record_codec import VERSION, flattened, revived, unpack_record


def unpacked(value: Any) -> Any:
    """Return a snapshot, or a tuple of lists of them, as it comes out of a record."""
    if type(value) is tuple and value and type(value[0]) is list:
        return tuple([unpacked(item) if type(item) is list else item for item in value])
    objects: list[Any] = []
    data = marshal.dumps(flattened(value, objects), VERSION)
    return revived(marshal.loads(data), tuple(objects))


def unpacks(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function that returns snapshots."""

    @functools.wraps(function)
    def wrapped(*args: Any, **more: Any) -> Any:
        return unpacked(function(*args, **more))

    return wrapped


class Records(list[Any]):
    """Unpacked records in order of creation. `keep` is the `put` of a recorder."""

    def keep(self, record: Any) -> None:
        self.append(unpack_record(record))

    def of(self, kind: type) -> list[Any]:
        return [record for record in self if type(record) is kind]
