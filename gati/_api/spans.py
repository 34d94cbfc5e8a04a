"""`observe.span`, `@observe.step` and `@observe.tool` record code outside LangChain.

A span becomes a child of the enclosing run or span, and runs inside it become its children. Before `init` a decorated
function is called without recording.
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
SpanKind = Literal["step", "tool", "retriever", "embedding", "memory_read", "memory_write"]

_MAX_ITEMS = 1_000
"""Maximum number of items of a generator that are recorded as its output."""


class _SpanExecution:
    """One execution of a span. Does nothing if gati is not running.

    `with execution:` encloses the span's code. An exception ends the span as failed, except for `end_signals`, the
    exceptions with which a generator ends normally.
    """

    __slots__ = ("_end_signals", "_span", "_token")

    def __init__(self, kind: str, name: str, inputs: Any, end_signals: tuple[type[BaseException], ...] = ()) -> None:
        self._end_signals = end_signals
        self._span: OpenSpan | None = None
        self._token: Token[OpenSpan | None] | None = None
        if (recorder := current.recorder) is not None:
            with guard("span"):
                self._span = recorder.span_started(kind, name, inputs)

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
                pass  # closed in another context than the one it was entered in, which no longer exists
        if error is not None and not isinstance(error, self._end_signals):
            self.fail(error)

    def end(self, output: Any) -> None:
        """Record that the span succeeded."""
        if self._span is not None and (recorder := current.recorder) is not None:
            with guard("span"):
                recorder.run_ended(output, self._span.id)

    def fail(self, error: BaseException) -> None:
        """Record that the span failed. The caller re-raises the exception."""
        if self._span is not None and (recorder := current.recorder) is not None:
            with guard("span"):
                recorder.run_failed(error, self._span.id, {})


class span:  # noqa: N801 - reads as a statement: `with observe.span("rank"):`
    """Record a block of code as a step of the conversation; a sync and async context manager.

    Set the attribute `output` inside the block to record a result.

    Args:
        name: the name of the step.
        input: recorded as the step's input.
        kind: the kind of event that is recorded.
    """

    def __init__(self, name: str, *, input: Any = None, kind: SpanKind = "step") -> None:  # noqa: A002 - named like the field of an event
        self.name = name
        self.input = input
        self.kind = kind
        self.output: Any = None
        self._running: list[_SpanExecution] = []

    def __enter__(self) -> Self:
        execution = _SpanExecution(self.kind, self.name, self.input)
        execution.__enter__()
        self._running.append(execution)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        execution = self._running.pop()
        execution.__exit__(kind, error, trace)
        if error is None:
            execution.end(self.output)

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
    """Record each call of a function, coroutine function or generator function as a step.

    Args:
        function: the decorated function.
        name: the name of the step; default: the function's name.
    """
    return _decorator(function, "step", name)


@overload
def tool(function: F) -> F: ...
@overload
def tool(*, name: str | None = None) -> Callable[[F], F]: ...
def tool(function: Any = None, *, name: str | None = None) -> Any:
    """Record each call of a function as a tool call, for agents that do not use LangChain's tools.

    Args:
        function: the decorated function.
        name: the name of the tool; default: the function's name.
    """
    return _decorator(function, "tool", name)


def _decorator(function: Any, kind: str, name: str | None) -> Any:
    def decorate(target: F) -> F:
        title = name or target.__name__
        for matches, wrap in _WRAPPERS:
            if matches(target):
                return cast("F", functools.wraps(target)(wrap(target, kind, title)))
        return cast("F", functools.wraps(target)(_around_call(target, kind, title)))

    return decorate if function is None else decorate(function)


def _start_execution(
    function: Callable[..., Any], kind: str, name: str, args: Any, kwargs: Any, *end_signals: type[BaseException]
) -> _SpanExecution:
    return _SpanExecution(
        kind, name, _bind_arguments(function, args, kwargs) if current.recorder is not None else None, end_signals
    )


def _bind_arguments(function: Callable[..., Any], args: Any, kwargs: Any) -> dict[str, Any]:
    try:
        bound = inspect.signature(function).bind(*args, **kwargs).arguments
    except (TypeError, ValueError):
        return {"args": list(args), **kwargs}  # the call itself will raise the error
    return {key: value for key, value in bound.items() if key not in ("self", "cls")}


def _around_call(function: Callable[..., Any], kind: str, name: str) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        with (execution := _start_execution(function, kind, name, args, kwargs)):
            result = function(*args, **kwargs)
        execution.end(result)
        return result

    return run


def _around_coroutine(function: Callable[..., Any], kind: str, name: str) -> Callable[..., Any]:
    async def run(*args: Any, **kwargs: Any) -> Any:
        with (execution := _start_execution(function, kind, name, args, kwargs)):
            result = await function(*args, **kwargs)
        execution.end(result)
        return result

    return run


def _around_generator(function: Callable[..., Any], kind: str, name: str) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        execution = _start_execution(function, kind, name, args, kwargs, StopIteration)
        inner: Generator[Any, Any, Any] = function(*args, **kwargs)
        items: list[Any] = []
        resume: Callable[[], Any] = functools.partial(next, inner)
        while True:
            try:
                # Only while the generator's code runs; between its steps the caller's code runs.
                with execution:
                    item = resume()
            except StopIteration as stop:
                execution.end(_join_items(items))
                return stop.value
            if len(items) < _MAX_ITEMS:
                items.append(item)
            try:
                sent = yield item
            except GeneratorExit as closed:
                execution.fail(closed)
                inner.close()
                raise
            except BaseException as thrown:  # noqa: BLE001 - any exception is passed on to the wrapped generator
                resume = functools.partial(inner.throw, thrown)
            else:
                resume = functools.partial(inner.send, sent)

    return run


def _around_async_generator(function: Callable[..., Any], kind: str, name: str) -> Callable[..., Any]:
    async def run(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        execution = _start_execution(function, kind, name, args, kwargs, StopAsyncIteration)
        inner: AsyncGenerator[Any, Any] = function(*args, **kwargs)
        items: list[Any] = []
        resume: Callable[[], Any] = inner.__anext__
        while True:
            try:
                with execution:
                    item = await resume()
            except StopAsyncIteration:
                execution.end(_join_items(items))
                return
            if len(items) < _MAX_ITEMS:
                items.append(item)
            try:
                sent = yield item
            except GeneratorExit as closed:
                execution.fail(closed)
                await inner.aclose()
                raise
            except BaseException as thrown:  # noqa: BLE001 - any exception is passed on to the wrapped generator
                resume = functools.partial(inner.athrow, thrown)
            else:
                resume = functools.partial(inner.asend, sent)

    return run


def _join_items(items: list[Any]) -> Any:
    return "".join(items) if items and all(isinstance(item, str) for item in items) else items


_WRAPPERS: tuple[tuple[Callable[[Any], bool], Callable[..., Callable[..., Any]]], ...] = (
    (inspect.isasyncgenfunction, _around_async_generator),
    (inspect.isgeneratorfunction, _around_generator),
    (inspect.iscoroutinefunction, _around_coroutine),
)
