"""Flushes before the server's process ends: it ends by a signal, without Python's exit hooks."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette

from gati import observe


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    yield
    await observe.aflush()


app = Starlette(lifespan=lifespan)
