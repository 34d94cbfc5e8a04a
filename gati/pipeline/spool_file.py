"""Names of spool files: `{created}-{origin}-{number}-{items}.{owner}.jsonl`.

A name is input like any other: somebody may have put a file there. Numbers beyond any that gati writes make it
invalid, so that they reach no counter and no later name.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from typing import NamedTuple

MAX_CREATED_US = 9_000_000_000_000_000
"""Latest time in a name, in microseconds since the epoch (the year 2255)."""

MAX_ITEMS = 1_000_000
"""Most messages that a name may claim."""

_NAME = re.compile(r"([0-9]{16})-([0-9a-f]{12})-([0-9]{6,13})-([0-9]{1,7})\.([0-9a-f]{12})\.jsonl\Z")


class FileOrigin:
    """Who first wrote a file: one process. Its spools share a sequence of numbers.

    Attributes:
        name: Part of the names of the files, wherever they go. No other process has it.
        last: Number of the last file.
    """

    __slots__ = ("last", "name")

    def __init__(self) -> None:
        self.name = secrets.token_hex(6)
        self.last = 0

    def next_number(self) -> int:
        """Return the number of a new file."""
        self.last += 1
        return self.last


class SpoolFile(NamedTuple):
    """A batch on disk, as parsed from its file name."""

    name: str
    created_us: int
    origin: str
    number: int
    items: int
    owner: str
    size: int = 0

    @classmethod
    def parse(cls, name: str, size: int = 0) -> SpoolFile | None:
        """Parse a file name; return None if it is not the name of a batch."""
        if not (match := _NAME.match(name)):
            return None
        created, origin, number, items, owner = match.groups()
        if int(created) > MAX_CREATED_US or int(items) > MAX_ITEMS:
            return None
        return cls(name, int(created), origin, int(number), int(items), owner, size)

    @property
    def order(self) -> tuple[int, str, int]:
        """Sort key of files whose writers' clocks never stepped back; see `in_order`."""
        return self.created_us, self.origin, self.number

    def renamed(self, *, owner: str | None = None, items: int | None = None) -> SpoolFile:
        """Return the batch with the name it has under another owner, or with another number of items."""
        owner, items = owner or self.owner, self.items if items is None else items
        name = f"{self.created_us:016d}-{self.origin}-{self.number:06d}-{items}.{owner}.jsonl"
        return self._replace(name=name, owner=owner, items=items)


def in_order(files: Iterable[SpoolFile]) -> list[SpoolFile]:
    """Sort files: oldest first, and those of one writer in the order of writing, even if its clock stepped back."""
    latest: dict[str, int] = {}
    keyed = []
    for file in sorted(files, key=lambda file: (file.origin, file.number)):
        latest[file.origin] = max(latest.get(file.origin, 0), file.created_us)
        keyed.append((latest[file.origin], file.origin, file.number, file))
    return [file for *_, file in sorted(keyed)]
