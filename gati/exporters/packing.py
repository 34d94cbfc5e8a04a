"""Packs items with known sizes into requests that stay below a number of items and of bytes.

The only packer in gati. The Greenflash encoder, the GATI events encoder and `gati push` use it.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

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
