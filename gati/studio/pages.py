"""The studio's pages."""

from __future__ import annotations

from starlette.routing import BaseRoute

from gati.studio.store import Store


def routes(store: Store) -> list[BaseRoute]:
    """The pages' routes."""
    return []
