"""`observe.conversation` and `observe.paused`: context managers, sync and async, and decorators."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from contextvars import Token
from typing import TYPE_CHECKING, Any, TypeVar, cast
from uuid import UUID

from gati._context import current_scope, features_used, is_paused
from gati.langchain.current import current

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from gati.events import Prompt
    from gati.trace.records import Scope

F = TypeVar("F", bound=Callable[..., Any])
ScopeId = str | int | UUID


class _Scope:
    """Base class of the scopes: a sync and async context manager and a decorator.

    A scope is reentrant, since a decorated function may call itself.
    """

    def __init__(self) -> None:
        self._tokens: list[Token[Any]] = []

    def _enter(self) -> Token[Any]:
        raise NotImplementedError

    def _leave(self, token: Token[Any]) -> None:
        try:
            token.var.reset(token)
        except ValueError:
            # The token belongs to another context, e.g. of a generator that was closed from a different task.
            # That context no longer exists, so there is nothing to restore.
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
        return cast("F", _run_inside(self, function))


def _run_inside(scope: _Scope, function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function or coroutine function so that it runs inside `scope`."""
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


class conversation(_Scope):  # noqa: N801 - reads as a statement: `with observe.conversation("c-42"):`
    """Set the conversation of the runs inside; overrides run metadata and the defaults of `init`.

    Scopes can be nested: an argument that is None is inherited from the enclosing scope, and properties are merged.

    Args:
        conversation_id: your id of the conversation.
        user_id: your id of the user.
        organization_id: your id of the user's organization.
        properties: attached to the conversation.
        system_prompt: a text, or a dict with `external_prompt_id`, `content` or `components`, and `variables`.
            An invalid one is ignored and counted in `stats().faults`.
    """

    def __init__(
        self,
        conversation_id: ScopeId | None = None,
        *,
        user_id: ScopeId | None = None,
        organization_id: ScopeId | None = None,
        properties: Mapping[str, Any] | None = None,
        system_prompt: str | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        from gati.trace.records import Scope  # imported late to keep `import gati` fast

        self._prompt_error: Exception | None = None
        self._scope = Scope(
            id_to_str(conversation_id),
            id_to_str(user_id),
            id_to_str(organization_id),
            self._copy(properties) if properties else None,
            self._parse(system_prompt) if system_prompt is not None else None,
        )

    def _copy(self, properties: Any) -> dict[str, Any] | None:
        """Copy plain values, and describe other objects by their type: their code must not run in the background."""
        from gati._api.arguments import report_call, to_properties

        try:
            return to_properties(properties)
        except Exception as error:  # noqa: BLE001 - invalid properties must not raise into the program
            report_call("conversation", error)
            return None

    def _parse(self, system_prompt: Any) -> Prompt | None:
        from gati.prompt_model import parse_prompt  # imported late: it loads pydantic

        try:
            return parse_prompt(system_prompt)
        except Exception as error:  # noqa: BLE001 - an invalid prompt must not raise into the program
            self._prompt_error = error
            return None

    def _enter(self) -> Token[Any]:
        if self._prompt_error is not None:
            # Not in `__init__`: a decorator may be created before `init`.
            current.report_error("conversation.system_prompt", self._prompt_error)
        return current_scope.set(_merge_scopes(current_scope.get(), self._scope))


class paused(_Scope):  # noqa: N801 - reads as a statement: `with observe.paused():`
    """Do not record runs that start inside."""

    def _enter(self) -> Token[Any]:
        features_used.any = True
        return is_paused.set(True)


def _merge_scopes(outer: Scope | None, inner: Scope) -> Scope:
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


def id_to_str(value: ScopeId | None) -> str | None:
    """Convert an id to a string; None stays None."""
    return None if value is None else str(value)
