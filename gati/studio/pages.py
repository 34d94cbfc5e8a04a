"""The studio's pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from gati.studio.store import Store


def routes(store: Store) -> list[BaseRoute]:
    """The pages' routes."""
    return []
