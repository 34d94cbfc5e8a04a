"""An exporter that keeps the turns that an import delivers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gati.events import Item, Turn
from gati.exporters.base import DELIVERED, Outcome, Request


@dataclass
class Collector:
    """Keeps turns, in the order of delivery."""

    turns: list[Turn] = field(default_factory=list)
    name: str = "collector"
    account: str = "collector"
    durable: bool = True

    def encode(self, items: Sequence[Item]) -> list[Request]:
        self.turns += [item for item in items if isinstance(item, Turn)]
        return [Request("c", {}, 1, str(number)) for number, _ in enumerate(items)]

    def send(self, request: Request) -> Outcome:
        return DELIVERED

    def split(self, request: Request) -> None:
        return None

    def after_fork(self) -> None: ...

    def close(self) -> None: ...
