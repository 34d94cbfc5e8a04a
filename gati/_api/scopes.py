"""`with observe.conversation(...)` and `with observe.paused()`: also async, also decorators."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from contextvars import Token
from typing import TYPE_CHECKING, Any, TypeVar, cast
from uuid import UUID

from gati._context import current_scope, features_used, is_paused

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from gati.trace.records import Scope

F = TypeVar("F", bound=Callable[..., Any])
Id = str | int | UUID


class _Around:
    """What the scopes share: sync and async blocks, and decorating functions of each kind.

    An object may be entered again while it is entered (a decorated function that calls itself).
    """

    def __init__(self) -> None:
        self._tokens: list[Token[Any]] = []

    def _enter(self) -> Token[Any]:
        raise NotImplementedError

    def _leave(self, token: Token[Any]) -> None:
        try:
            token.var.reset(token)
        except ValueError:
            # Left in another context than entered: a generator that was closed elsewhere. That
            # context is gone, and with it the value.
            pass

    def __enter__(self) -> Self:
        self._tokens.append(self._enter())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave(self._tokens.pop())

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def __call__(self, function: F) -> F:
        return cast("F", _decorated(self, function))


def _decorated(scope: _Around, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` inside `scope`; for generators the scope is around each step, not between them."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def run_async(*args: Any, **kwargs: Any) -> Any:
            token = scope._enter()
            try:
                return await function(*args, **kwargs)
            finally:
                scope._leave(token)

        return run_async

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        token = scope._enter()
        try:
            return function(*args, **kwargs)
        finally:
            scope._leave(token)

    return run


class conversation(_Around):  # noqa: N801 - reads as a statement: `with observe.conversation("c-42"):`
    """Says whose conversation the runs inside are; overrides metadata and defaults.

    Inner scopes add to outer ones. What is None is left as it is outside.

    Args:
        conversation_id: your id of the conversation: str, int or UUID.
        user_id: your id of the user.
        organization_id: your id of the user's organization.
        properties: kept with the conversation.
        system_prompt: text, or a dict with `external_prompt_id`, `components`, `variables`.
    """

    def __init__(
        self,
        conversation_id: Id | None = None,
        *,
        user_id: Id | None = None,
        organization_id: Id | None = None,
        properties: Mapping[str, Any] | None = None,
        system_prompt: str | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        from gati.trace.records import Scope  # late: `import gati` must cost next to nothing

        self._scope = Scope(
            _text(conversation_id),
            _text(user_id),
            _text(organization_id),
            dict(properties) if properties else None,
            dict(system_prompt) if isinstance(system_prompt, Mapping) else system_prompt,
        )

    def _enter(self) -> Token[Any]:
        return current_scope.set(_merged(current_scope.get(), self._scope))


class paused(_Around):  # noqa: N801 - reads as a statement: `with observe.paused():`
    """Nothing that starts inside is recorded."""

    def _enter(self) -> Token[Any]:
        features_used.any = True
        return is_paused.set(True)


def _merged(outer: Scope | None, inner: Scope) -> Scope:
    if outer is None:
        return inner
    properties = {**(outer.properties or {}), **(inner.properties or {})}
    return inner._replace(
        conversation_id=inner.conversation_id or outer.conversation_id,
        user_id=inner.user_id or outer.user_id,
        organization_id=inner.organization_id or outer.organization_id,
        properties=properties or None,
        system_prompt=inner.system_prompt or outer.system_prompt,
    )


def _text(value: Id | None) -> str | None:
    return None if value is None else str(value)
