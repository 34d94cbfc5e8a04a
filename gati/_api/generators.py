"""Run each step of a generator inside a context manager.

Between two steps the caller's code runs, which must not be inside. Values and exceptions that the caller sends or
throws are passed on to the wrapped generator.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractContextManager
from typing import Any


class GeneratorSteps:
    """Code around the steps of one generator. Subclasses override the methods that they need."""

    def enclose(self) -> AbstractContextManager[object]:
        """Return a context manager for the creation of the generator, a step of it, or its close."""
        raise NotImplementedError

    def on_item(self, item: Any) -> None:
        """Called with each item, before the caller gets it."""

    def on_end(self) -> None:
        """Called when the generator has ended normally."""

    def on_close(self, closed: GeneratorExit) -> None:
        """Called when the caller has closed the generator early."""


def around_generator(
    function: Callable[..., Any], begin: Callable[[Any, Any], GeneratorSteps]
) -> Callable[..., Generator[Any, Any, Any]]:
    """Wrap a generator function. `begin` is called with its arguments when the first item is requested."""

    def run(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        steps = begin(args, kwargs)
        with steps.enclose():
            inner: Generator[Any, Any, Any] = function(*args, **kwargs)
        resume: Callable[[], Any] = functools.partial(next, inner)
        while True:
            try:
                with steps.enclose():
                    item = resume()
            except StopIteration as stop:
                steps.on_end()
                return stop.value
            steps.on_item(item)
            try:
                sent = yield item
            except GeneratorExit as closed:
                with steps.enclose():
                    inner.close()
                steps.on_close(closed)
                raise
            except BaseException as thrown:  # noqa: BLE001 - any exception is passed on to the wrapped generator
                resume = functools.partial(inner.throw, thrown)
            else:
                resume = functools.partial(inner.send, sent)

    return run


def around_async_generator(
    function: Callable[..., Any], begin: Callable[[Any, Any], GeneratorSteps]
) -> Callable[..., AsyncGenerator[Any, Any]]:
    """Wrap an async generator function; otherwise like `around_generator`."""

    async def run(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        steps = begin(args, kwargs)
        with steps.enclose():
            inner: AsyncGenerator[Any, Any] = function(*args, **kwargs)
        resume: Callable[[], Any] = inner.__anext__
        while True:
            try:
                with steps.enclose():
                    item = await resume()
            except StopAsyncIteration:
                steps.on_end()
                return
            steps.on_item(item)
            try:
                sent = yield item
            except GeneratorExit as closed:
                with steps.enclose():
                    await inner.aclose()
                steps.on_close(closed)
                raise
            except BaseException as thrown:  # noqa: BLE001 - any exception is passed on to the wrapped generator
                resume = functools.partial(inner.athrow, thrown)
            else:
                resume = functools.partial(inner.asend, sent)

    return run
