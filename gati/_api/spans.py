"""`observe.span`, `@observe.step`, `@observe.tool`: code that is not LangChain's joins the tree.

What runs inside a span hangs on it, and the span hangs on the run around it, whichever of both
is LangChain's. Before `init` a decorated function is just called.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from contextvars import Token
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast, overload

from gati._context import OpenSpan, current_span, features_used
from gati.langchain.current import current
from gati.pipeline.internal_errors import guard

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

F = TypeVar("F", bound=Callable[..., Any])
Kind = Literal["step", "tool", "retriever", "embedding", "memory_read", "memory_write"]

_PIECES = 1_000
"""Most items of a generator that are kept as its output."""


class _Running:
    """One execution of a span; silent when nothing is watched.

    ``with running:`` is around the span's own code. An exception that leaves it ends the span,
    but for those in `last`, which are how a generator says that it has no more.
    """

    __slots__ = ("_last", "_span", "_token")

    def __init__(self, kind: str, name: str, given: Any, last: tuple[type[BaseException], ...] = ()) -> None:
        self._last = last
        self._span: OpenSpan | None = None
        self._token: Token[OpenSpan | None] | None = None
        if (recorder := current.recorder) is not None:
            with guard("span"):
                self._span = recorder.span_started(kind, name, given)

    def __enter__(self) -> None:
        if self._span is not None:
            features_used.any = True
            self._token = current_span.set(self._span)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        token, self._token = self._token, None
        if token is not None:
            try:
                current_span.reset(token)
            except ValueError:
                pass  # closed in another context than it was entered in; that context is gone
        if error is not None and not isinstance(error, self._last):
            self.fail(error)

    def end(self, output: Any) -> None:
        """The span is over and well."""
        if self._span is not None and (recorder := current.recorder) is not None:
            with guard("span"):
                recorder.run_ended(output, self._span.id)

    def fail(self, error: BaseException) -> None:
        """The span is over with an exception, which the caller passes on."""
        if self._span is not None and (recorder := current.recorder) is not None:
            with guard("span"):
                recorder.run_failed(error, self._span.id, {})


class span:  # noqa: N801 - reads as a statement: `with observe.span("rank"):`
    """A block of the program's own as a step of the conversation; sync and async.

    Args:
        name: what the step is called.
        input: what it is given, as plain values.
        kind: ``step``, ``tool``, ``retriever``, ``embedding``, ``memory_read`` or ``memory_write``.

    `output` may be set inside the block.
    """

    def __init__(self, name: str, *, input: Any = None, kind: Kind = "step") -> None:  # noqa: A002 - the field's word
        self.name = name
        self.input = input
        self.kind = kind
        self.output: Any = None
        self._running: list[_Running] = []

    def __enter__(self) -> Self:
        running = _Running(self.kind, self.name, self.input)
        running.__enter__()
        self._running.append(running)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        running = self._running.pop()
        running.__exit__(kind, error, trace)
        if error is None:
            running.end(self.output)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)


@overload
def step(function: F) -> F: ...
@overload
def step(*, name: str | None = None) -> Callable[[F], F]: ...
def step(function: Any = None, *, name: str | None = None) -> Any:
    """Decorates a function, a coroutine function or a generator: each call is a step."""
    return _decorator(function, "step", name)


@overload
def tool(function: F) -> F: ...
@overload
def tool(*, name: str | None = None) -> Callable[[F], F]: ...
def tool(function: Any = None, *, name: str | None = None) -> Any:
    """Decorates a function that an agent of your own uses as a tool: each call is a tool call."""
    return _decorator(function, "tool", name)


def _decorator(function: Any, kind: str, name: str | None) -> Any:
    def decorate(target: F) -> F:
        title = name or target.__name__
        for matches, wrap in _WRAPPERS:
            if matches(target):
                return cast("F", functools.wraps(target)(wrap(target, kind, title)))
        return cast("F", functools.wraps(target)(_around_call(target, kind, title)))

    return decorate if function is None else decorate(function)


def _started(
    function: Callable[..., Any], kind: str, name: str, args: Any, kwargs: Any, *last: type[BaseException]
) -> _Running:
    return _Running(kind, name, _arguments(function, args, kwargs) if current.recorder is not None else None, last)


def _arguments(function: Callable[..., Any], args: Any, kwargs: Any) -> dict[str, Any]:
    try:
        bound = inspect.signature(function).bind(*args, **kwargs).arguments
    except (TypeError, ValueError):
        return {"args": list(args), **kwargs}  # the call itself will say what is wrong with it
    return {key: value for key, value in bound.items() if key not in ("self", "cls")}


def _around_call(function: Callable[..., Any], kind: str, name: str) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        with (running := _started(function, kind, name, args, kwargs)):
            result = function(*args, **kwargs)
        running.end(result)
        return result

    return run


def _around_coroutine(function: Callable[..., Any], kind: str, name: str) -> Callable[..., Any]:
    async def run(*args: Any, **kwargs: Any) -> Any:
        with (running := _started(function, kind, name, args, kwargs)):
            result = await function(*args, **kwargs)
        running.end(result)
        return result

    return run


def _around_generator(function: Callable[..., Any], kind: str, name: str) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        running = _started(function, kind, name, args, kwargs, StopIteration)
        inner: Generator[Any, Any, Any] = function(*args, **kwargs)
        pieces: list[Any] = []
        resume: Callable[[], Any] = functools.partial(next, inner)
        while True:
            try:
                # Only while the generator's own code runs: between its steps the caller's does.
                with running:
                    item = resume()
            except StopIteration as stop:
                running.end(_pieced(pieces))
                return stop.value
            if len(pieces) < _PIECES:
                pieces.append(item)
            try:
                sent = yield item
            except GeneratorExit as closed:
                running.fail(closed)
                inner.close()
                raise
            except BaseException as thrown:  # noqa: BLE001 - whatever was thrown in goes on inside
                resume = functools.partial(inner.throw, thrown)
            else:
                resume = functools.partial(inner.send, sent)

    return run


def _around_async_generator(function: Callable[..., Any], kind: str, name: str) -> Callable[..., Any]:
    async def run(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        running = _started(function, kind, name, args, kwargs, StopAsyncIteration)
        inner: AsyncGenerator[Any, Any] = function(*args, **kwargs)
        pieces: list[Any] = []
        resume: Callable[[], Any] = inner.__anext__
        while True:
            try:
                with running:
                    item = await resume()
            except StopAsyncIteration:
                running.end(_pieced(pieces))
                return
            if len(pieces) < _PIECES:
                pieces.append(item)
            try:
                sent = yield item
            except GeneratorExit as closed:
                running.fail(closed)
                await inner.aclose()
                raise
            except BaseException as thrown:  # noqa: BLE001 - whatever was thrown in goes on inside
                resume = functools.partial(inner.athrow, thrown)
            else:
                resume = functools.partial(inner.asend, sent)

    return run


def _pieced(pieces: list[Any]) -> Any:
    return "".join(pieces) if pieces and all(isinstance(piece, str) for piece in pieces) else pieces


_WRAPPERS: tuple[tuple[Callable[[Any], bool], Callable[..., Callable[..., Any]]], ...] = (
    (inspect.isasyncgenfunction, _around_async_generator),
    (inspect.isgeneratorfunction, _around_generator),
    (inspect.iscoroutinefunction, _around_coroutine),
)
