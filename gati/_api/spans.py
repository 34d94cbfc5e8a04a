"""`observe.span`, `@observe.step` and `@observe.tool` record code outside LangChain.

A span becomes a child of the enclosing run or span, and runs inside it become its children. Before `init` a decorated
function is called without recording.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from gati._api.arguments import InvalidArgumentError, report_call
from gati._api.blocks import OpenBlocks
from gati._api.generators import GeneratorSteps, around_async_generator, around_generator
from gati._context import OpenSpan, current_span, features_used
from gati.langchain.current import current
from gati.pipeline.internal_errors import guard

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

F = TypeVar("F", bound=Callable[..., Any])
SpanKind = Literal["step", "tool", "retriever", "embedding", "memory_read", "memory_write"]

_MAX_ITEMS = 1_000
"""Maximum number of items of a generator that are recorded as its output. Of texts, all items count as one."""
_MAX_CHARS = 1_000_000
"""Characters after which no further texts of a generator are joined. A record keeps fewer."""


_open_executions: OpenBlocks[_SpanExecution] = OpenBlocks("gati_open_spans")


class _SpanExecution:
    """One execution of a span. Does nothing if gati is not running.

    `with execution:` encloses the span's code. An exception ends the span as failed, except for `end_signals`, the
    exceptions with which a generator ends normally.
    """

    __slots__ = ("_end_signals", "output", "span")

    def __init__(
        self,
        kind: str,
        name: str,
        inputs: Any,
        end_signals: tuple[type[BaseException], ...] = (),
        output: Any = None,
        is_stream: bool = False,
    ) -> None:
        self._end_signals = end_signals
        self.output = output
        self.span: OpenSpan | None = None
        if (recorder := current.recorder) is not None:
            with guard("span"):
                self.span = recorder.span_started(kind, name, inputs, is_stream)

    def __enter__(self) -> None:
        self.open(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(self, error)

    def open(self, owner: object) -> None:
        """Make this the current span, as a block of `owner`."""
        if self.span is not None:
            features_used.any = True
        _set_current_span(_open_executions.enter(owner, self))

    def close(self, owner: object, error: BaseException | None) -> None:
        """End the block of `owner`; record the exception with which it ended."""
        if (left := _open_executions.leave(owner)) is not None:
            _set_current_span(left[1])
        if error is not None and not isinstance(error, self._end_signals):
            self.fail(error)

    def end(self, output: Any) -> None:
        """Record that the span succeeded."""
        if self.span is not None and (recorder := current.recorder) is not None:
            with guard("span"):
                recorder.run_ended(output, self.span.id)

    def fail(self, error: BaseException) -> None:
        """Record that the span failed. The caller re-raises the exception."""
        if self.span is not None and (recorder := current.recorder) is not None:
            with guard("span"):
                recorder.run_failed(error, self.span.id, {})


def _set_current_span(executions: list[_SpanExecution]) -> None:
    current_span.set(next((found.span for found in reversed(executions) if found.span is not None), None))


class span:  # noqa: N801 - reads as a statement: `with observe.span("rank"):`
    """Record a block of code as a step of the conversation; a sync and async context manager.

    Several threads and tasks may enter one object at once; each entry is a step of its own.

    Args:
        name: the name of the step.
        input: recorded as the step's input.
        kind: the kind of event that is recorded.
    """

    def __init__(self, name: str, *, input: Any = None, kind: SpanKind = "step") -> None:  # noqa: A002 - named like the field of an event
        self.name = name
        self.input = input
        self.kind = kind
        self._initial_output: Any = None
        self._last_output: Any = None
        self._entered: list[_SpanExecution] = []

    @property
    def output(self) -> Any:
        """The result to record. Set it inside the block; each entry of the object has its own."""
        execution = _open_executions.innermost(self)
        return self._last_output if execution is None else execution.output

    @output.setter
    def output(self, value: Any) -> None:
        self._last_output = value
        if (execution := _open_executions.innermost(self)) is not None:
            execution.output = value
        else:
            self._initial_output = value

    def __enter__(self) -> Self:
        execution = _SpanExecution(self.kind, self.name, self.input, output=self._initial_output)
        self._entered.append(execution)
        execution.open(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        execution = _open_executions.innermost(self)
        if execution is None:  # entered in another context, which cannot be restored from here
            execution = self._entered[-1]
            execution.output = self._last_output
        self._entered.remove(execution)
        execution.close(self, error)
        if error is None:
            execution.end(execution.output)

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
        function: the decorated function. A tool or runnable of LangChain is returned unchanged: LangChain reports it.
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
    def decorate(target: Any) -> Any:
        if isinstance(target, (classmethod, staticmethod)):
            return type(target)(decorate(target.__func__))
        if hasattr(target, "invoke"):  # of LangChain, which reports its calls
            return target
        if not callable(target):
            report_call(kind, InvalidArgumentError("function", "a function"))
            return target
        # Of an object, its `__call__` says what a call returns.
        called = (
            target if isinstance(target, (type, functools.partial)) or inspect.isroutine(target) else target.__call__
        )
        around = next((wrap for matches, wrap in _WRAPPERS if matches(called)), _around_call)
        return functools.wraps(target)(around(target, kind, name or _name_of(target)))

    if isinstance(function, str):  # the name, given by position
        report_call(kind, InvalidArgumentError("function", "a function; pass the name as `name=`"))
        return decorate
    return decorate if function is None else decorate(function)


def _name_of(function: Any) -> str:
    """Return the name of a function, of that in a `functools.partial`, or of an object's class."""
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__name__", None)
    return name if isinstance(name, str) else type(function).__name__


def _start_execution(
    function: Callable[..., Any], kind: str, name: str, args: Any, kwargs: Any, *end_signals: type[BaseException]
) -> _SpanExecution:
    inputs = _bind_arguments(function, args, kwargs) if current.recorder is not None else None
    return _SpanExecution(kind, name, inputs, end_signals, is_stream=bool(end_signals))


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


class _SpanSteps(GeneratorSteps):
    """Records a generator as one span whose output is its items: texts are joined."""

    def __init__(self, execution: _SpanExecution) -> None:
        self._execution = execution
        self._items: list[Any] = []
        self._left_out = 0
        self._grown: str | None = ""
        """The last item, as long as each one is a text that begins with the item before it."""

    def enclose(self) -> _SpanExecution:
        return self._execution

    def on_item(self, item: Any) -> None:
        if len(self._items) == _MAX_ITEMS and not self._left_out:
            self._join()
        if len(self._items) < _MAX_ITEMS:
            self._items.append(item)
        else:
            self._left_out += 1
        if (grown := self._grown) is not None:
            self._grown = item if isinstance(item, str) and str.startswith(item, grown) else None

    def on_end(self) -> None:
        self._execution.end(self._output())

    def on_close(self, closed: GeneratorExit) -> None:
        self._execution.fail(closed)

    def _join(self) -> None:
        """Make room for further texts."""
        if all(isinstance(item, str) for item in self._items) and sum(map(len, self._items)) < _MAX_CHARS:
            self._items = ["".join(self._items)]

    def _output(self) -> Any:
        items = self._items
        if not items or not all(isinstance(item, str) for item in items):
            return [*items, f"… {self._left_out} more"] if self._left_out else items
        texts = [item for item in items if item]
        if self._grown and self._grown != texts[0]:  # each item is the whole text so far
            return self._grown
        return "".join(texts)


def _around_generator(function: Callable[..., Any], kind: str, name: str) -> Callable[..., Any]:
    def begin(args: Any, kwargs: Any) -> GeneratorSteps:
        return _SpanSteps(_start_execution(function, kind, name, args, kwargs, StopIteration))

    return around_generator(function, begin)


def _around_async_generator(function: Callable[..., Any], kind: str, name: str) -> Callable[..., Any]:
    def begin(args: Any, kwargs: Any) -> GeneratorSteps:
        return _SpanSteps(_start_execution(function, kind, name, args, kwargs, StopAsyncIteration))

    return around_async_generator(function, begin)


_WRAPPERS: tuple[tuple[Callable[[Any], bool], Callable[..., Callable[..., Any]]], ...] = (
    (inspect.isasyncgenfunction, _around_async_generator),
    (inspect.isgeneratorfunction, _around_generator),
    (inspect.iscoroutinefunction, _around_coroutine),
)
