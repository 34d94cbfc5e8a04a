"""`observe.conversation`, `observe.internal` and `observe.paused`: context managers, sync and async, and decorators."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast
from uuid import UUID

from gati._api.blocks import OpenBlocks
from gati._api.generators import GeneratorSteps, around_async_generator, around_generator
from gati._context import current_scope, features_used, is_internal, is_paused
from gati.langchain.current import current

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType
    from typing import Self

    from gati.events import Prompt
    from gati.trace.records import Scope

F = TypeVar("F", bound=Callable[..., Any])
V = TypeVar("V")
ScopeId = str | int | UUID


class _ScopeBlock(Generic[V]):
    """Base class of the scopes: a sync and async context manager and a decorator.

    Several threads and tasks may enter one object at once, and a decorated function may call itself.
    """

    _open_blocks: OpenBlocks[V]

    def _value(self) -> V:
        """Return the value that is in effect inside a block that is entered now."""
        raise NotImplementedError

    def _apply(self, values: Sequence[V]) -> None:
        """Set the context to the values of the open blocks, outermost first."""
        raise NotImplementedError

    def _enter(self, value: V) -> None:
        self._apply(self._open_blocks.enter(self, value))

    def _leave(self) -> None:
        if (left := self._open_blocks.leave(self)) is not None:
            self._apply(left[1])

    def __enter__(self) -> Self:
        self._enter(self._value())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def __call__(self, function: F) -> F:
        return cast("F", functools.wraps(function)(_run_inside(self, function)))


class _ScopeSteps(GeneratorSteps, Generic[V]):
    """Keeps a scope open while a generator runs, with the value that it had at the generator's first step."""

    def __init__(self, scope: _ScopeBlock[V]) -> None:
        self._scope = scope
        self._value = scope._value()

    @contextmanager
    def _entered(self) -> Iterator[None]:
        self._scope._enter(self._value)
        try:
            yield
        finally:
            self._scope._leave()

    def enclose(self) -> AbstractContextManager[object]:
        return self._entered()


def _run_inside(scope: _ScopeBlock[Any], function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function, coroutine function or generator function so that its code runs inside `scope`."""

    def begin(args: Any, kwargs: Any) -> GeneratorSteps:
        return _ScopeSteps(scope)

    if inspect.isasyncgenfunction(function):
        return around_async_generator(function, begin)
    if inspect.isgeneratorfunction(function):
        return around_generator(function, begin)
    if inspect.iscoroutinefunction(function):

        async def run_async(*args: Any, **kwargs: Any) -> Any:
            with scope:
                return await function(*args, **kwargs)

        return run_async

    def run(*args: Any, **kwargs: Any) -> Any:
        with scope:
            return function(*args, **kwargs)

    return run


class conversation(_ScopeBlock["Scope"]):  # noqa: N801 - reads as a statement: `with observe.conversation("c-42"):`
    """Set the conversation of the runs inside; overrides run metadata and the defaults of `init`.

    Scopes can be nested: an argument that is None is inherited from the enclosing scope, and properties are merged.
    As a decorator of a generator, it applies while the generator runs, and not to the code that reads it. A step that
    contains the only scope belongs to its conversation; of several, each has turns of its own.

    Args:
        conversation_id: your id of the conversation. An id that cannot be converted to text is ignored and counted in
            `stats().faults`.
        user_id: your id of the user.
        organization_id: your id of the user's organization.
        product_id: Greenflash product of the conversation; default: the option of `init`. One that is not a UUID is
            ignored and counted in `stats().faults`.
        properties: attached to the conversation, as they are when the block is entered.
        system_prompt: a text, or a dict with `external_prompt_id`, `content` or `components`, and `variables`.
            An invalid one is ignored and counted in `stats().faults`.
    """

    _open_blocks: OpenBlocks[Scope] = OpenBlocks("gati_open_scopes")

    def __init__(
        self,
        conversation_id: ScopeId | None = None,
        *,
        user_id: ScopeId | None = None,
        organization_id: ScopeId | None = None,
        product_id: str | UUID | None = None,
        properties: Mapping[str, Any] | None = None,
        system_prompt: str | Mapping[str, Any] | None = None,
    ) -> None:
        from gati.trace.records import Scope  # imported late to keep `import gati` fast

        self._errors: list[tuple[str, Exception]] = []
        self._properties = properties
        self._scope = Scope(
            self._parse("conversation_id", id_to_str, conversation_id),
            self._parse("user_id", id_to_str, user_id),
            self._parse("organization_id", id_to_str, organization_id),
            product_id=self._parse("product_id", _uuid_to_str, product_id),
            system_prompt=self._parse("system_prompt", _parse_prompt, system_prompt),
        )

    def _parse(self, name: str, parse: Callable[[Any], V], value: Any) -> V | None:
        if value is None:
            return None
        try:
            return parse(value)
        except Exception as error:  # noqa: BLE001 - an invalid value must not raise into the program
            self._errors.append((f"conversation.{name}", error))
            return None

    def _value(self) -> Scope:
        for place, error in self._errors:
            # Not in `__init__`: a decorator may be created before `init`.
            current.report_error(place, error)
        return self._scope._replace(properties=self._frozen_properties())

    def _frozen_properties(self) -> dict[str, Any] | None:
        properties = self._properties
        if properties is None:
            return None
        from gati.langchain.snapshot import take_snapshot  # imported late: it loads pydantic

        try:
            copied = take_snapshot(properties if isinstance(properties, dict) else dict(properties))
            return cast("dict[str, Any]", copied) or None
        except Exception as error:  # noqa: BLE001 - the user's mapping may raise anything
            current.report_error("conversation.properties", error)
            return None

    def _apply(self, values: Sequence[Scope]) -> None:
        current_scope.set(functools.reduce(_merge_scopes, values) if values else None)


class paused(_ScopeBlock[None]):  # noqa: N801 - reads as a statement: `with observe.paused():`
    """Do not record runs that start inside. As a decorator of a generator, it applies while the generator runs."""

    _open_blocks: OpenBlocks[None] = OpenBlocks("gati_open_pauses")

    def _value(self) -> None:
        features_used.any = True

    def _apply(self, values: Sequence[None]) -> None:
        is_paused.set(bool(values))


class internal(_ScopeBlock[None]):  # noqa: N801 - reads as a statement: `with observe.internal():`
    """Mark the runs that start inside as internal: their texts are not for the user, as of a title or a judge.

    A root run inside is reported as an internal call of its conversation, without user message and answer. If it has
    no conversation id, it is not reported, and counted in `stats().outside_conversation`. Run metadata
    ``gati_internal: True`` has the same effect. As a decorator of a generator, it applies while the generator runs.
    """

    _open_blocks: OpenBlocks[None] = OpenBlocks("gati_open_internal_blocks")

    def _value(self) -> None:
        features_used.any = True

    def _apply(self, values: Sequence[None]) -> None:
        is_internal.set(bool(values))


def _merge_scopes(outer: Scope, inner: Scope) -> Scope:
    properties = {**(outer.properties or {}), **(inner.properties or {})}
    return inner._replace(
        conversation_id=inner.conversation_id or outer.conversation_id,
        user_id=inner.user_id or outer.user_id,
        organization_id=inner.organization_id or outer.organization_id,
        product_id=inner.product_id or outer.product_id,
        properties=properties or None,
        system_prompt=inner.system_prompt or outer.system_prompt,
    )


def _parse_prompt(value: Any) -> Prompt | None:
    from gati.prompt_model import parse_prompt  # imported late: it loads pydantic

    return parse_prompt(value)


def _uuid_to_str(value: str | UUID) -> str:
    return str(UUID(str(value).strip()))


def id_to_str(value: ScopeId | None) -> str | None:
    """Convert an id to a string; None stays None. The methods of a subclass of `str` are not called."""
    if value is None:
        return None
    return str.__str__(value) if isinstance(value, str) else str(value)
