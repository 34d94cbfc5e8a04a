"""Packs items with known sizes into requests that stay below a number of items and of bytes.

The only packer in gati. The Greenflash encoder, the GATI events encoder and `gati push` use it.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gati.exporters.base import Request

Item = TypeVar("Item")

_SIZE = itemgetter(1)


def pack_items(
    items: Sequence[tuple[Item, int]], max_items: int, max_bytes: int, base: int = 0
) -> list[tuple[list[Item], int]]:
    """Divide (item, size) pairs into the fewest consecutive groups that fit one request each.

    An item larger than `max_bytes` gets a group of its own.

    Args:
        items: Items with their sizes in bytes, in order.
        max_items: Items per group.
        max_bytes: Bytes per group, `base` included.
        base: Bytes that each request needs besides its items.

    Returns:
        The groups, each with its size. For `max_bytes=100`:
        `[("a", 40), ("b", 40), ("c", 40)]` → `[(["a", "b"], 80), (["c"], 40)]`.
    """
    total = base + sum(map(_SIZE, items))
    if len(items) <= max_items and total <= max_bytes:
        return [([item for item, _ in items], total)]
    groups: list[tuple[list[Item], int]] = []
    group: list[Item] = []
    used = base
    for item, size in items:
        if group and (len(group) == max_items or used + size > max_bytes):
            groups.append((group, used))
            group, used = [], base
        group.append(item)
        used += size
    groups.append((group, used))
    return groups


class OpenRequest:
    """A request that later turns of its conversation may still join.

    Attributes:
        request: The request.
        size: Its size in bytes, approximately.
        fields: Everything in its body that is shared by all its items. A turn must have equal fields to join.
    """

    __slots__ = ("fields", "request", "size")

    def __init__(self, request: Request, size: int, fields: Any = None) -> None:
        self.request = request
        self.size = size
        self.fields = fields


class OpenRequests:
    """The latest request of each conversation, which following turns join whole while they fit.

    Args:
        name: The list in the request's body that holds the items.
        max_items: Items per request.
        max_bytes: Bytes up to which turns may join.
    """

    __slots__ = ("_by_key", "_max_bytes", "_max_items", "_name")

    def __init__(self, name: str, max_items: int, max_bytes: int) -> None:
        self._name = name
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._by_key: dict[str, OpenRequest] = {}

    def join(self, ordering_key: str, items: Sequence[tuple[Any, int]], fields: Any = None) -> bool:
        """Append all items to the conversation's open request. Return False if there is none or they do not fit."""
        opened = self._by_key.get(ordering_key)
        if opened is None:
            return False
        request = opened.request
        size = opened.size + sum(map(_SIZE, items))
        if request.items + len(items) > self._max_items or size > self._max_bytes or opened.fields != fields:
            return False
        request.body[self._name] += [item for item, _ in items]
        request.items += len(items)
        opened.size = size
        return True

    def open(self, request: Request, size: int, fields: Any = None) -> None:
        """Let later turns of the conversation join this request instead of the previous one."""
        self._by_key[request.ordering_key] = OpenRequest(request, size, fields)

    def close(self, ordering_key: str) -> None:
        """Let no more turns join the conversation's request, because another request must follow it."""
        self._by_key.pop(ordering_key, None)

    def clear(self) -> None:
        """Close all requests."""
        self._by_key.clear()
