"""The public face of gati: a module of functions.

::

    from gati import observe

    observe.init(agent_name="math-tutor")

After `init` nothing here raises into the program or blocks it; before `init`, after
`shutdown` and when switched off every function does nothing.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from gati._api.runtime import runtime
from gati._api.scopes import conversation, paused
from gati._api.spans import span, step, tool

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from types import TracebackType
    from uuid import UUID

    from langchain_core.callbacks import BaseCallbackHandler
    from langchain_core.embeddings import Embeddings
    from langgraph.store.base import BaseStore

    from gati.events import Event
    from gati.pipeline.stats import Drop, FlushResult, Stats

__all__ = [
    "Drop",
    "FlushResult",
    "Stats",
    "aflush",
    "conversation",
    "flush",
    "get_callbacks",
    "identify_organization",
    "identify_user",
    "init",
    "log_event",
    "log_rating",
    "paused",
    "shutdown",
    "span",
    "stats",
    "step",
    "tool",
    "track_event",
    "wrap_embeddings",
    "wrap_store",
]


def init(**options: Any) -> None:
    """Begin to watch. A second call replaces the first.

    The options are described in `docs/options.md` and `gati.settings.Settings`; each can also
    come from the environment.

    Raises:
        gati.errors.ConfigurationError: an option is unknown or has a value that cannot be used.
    """
    from gati.settings import load

    runtime.start(load(**options))


def get_callbacks() -> list[BaseCallbackHandler]:
    """The handler in a list, for ``callbacks=``; ``[]`` when nothing is watched."""
    if runtime.pipeline is None:
        return []
    from gati.langchain.callback import handler

    return [handler]


def track_event(event: Event) -> None:
    """Deliver an event made by hand; it belongs to the surrounding conversation if it names none."""
    from gati._api import manual

    manual.event(event)


def wrap_embeddings(embeddings: Embeddings) -> Embeddings:
    """The same embeddings, whose calls are told as `embedding` steps."""
    from gati.langchain.wrappers import TracedEmbeddings

    return TracedEmbeddings(embeddings, span)


def wrap_store(store: BaseStore) -> BaseStore:
    """The same LangGraph store, whose operations are told as `memory_read` and `memory_write`."""
    from gati.langchain.wrappers import TracedStore

    return TracedStore(store, span)


def identify_user(
    user_id: str | int | UUID,
    *,
    name: str | None = None,
    email: str | None = None,
    phone: str | None = None,
    organization_id: str | int | UUID | None = None,
    properties: Mapping[str, Any] | None = None,
) -> None:
    """Tell the destination who a user is. Repeating it updates."""
    from gati._api import manual

    manual.action(
        "users", external_user_id=str(user_id), name=name, email=email, phone=phone,
        external_organization_id=_text(organization_id), properties=properties,
    )  # fmt: skip


def identify_organization(
    organization_id: str | int | UUID, *, name: str | None = None, properties: Mapping[str, Any] | None = None
) -> None:
    """Tell the destination of an organization. Repeating it updates."""
    from gati._api import manual

    manual.action("organizations", external_organization_id=str(organization_id), name=name, properties=properties)


def log_rating(
    *,
    rating: float,
    rating_min: float = 0.0,
    rating_max: float = 1.0,
    run_id: str | UUID | None = None,
    conversation_id: str | int | UUID | None = None,
    feedback: str | None = None,
    rated_at: datetime | None = None,
) -> None:
    """Record a person's rating of an answer (`run_id`: the root run's id) or of a conversation
    (`conversation_id`; the surrounding one when neither is given)."""
    from gati._api import manual

    manual.rating(
        rating=rating, rating_min=rating_min, rating_max=rating_max, run_id=_text(run_id),
        conversation_id=_text(conversation_id), feedback=feedback, rated_at=rated_at,
    )  # fmt: skip


def log_event(
    event_type: str,
    *,
    value: object = "true",
    value_type: Literal["currency", "numeric", "text", "boolean"] = "text",
    influence: Literal["positive", "negative", "neutral"] | None = None,
    quality_impact_score: float | None = None,
    conversation_id: str | int | UUID | None = None,
    user_id: str | int | UUID | None = None,
    insert_id: str | None = None,
    properties: Mapping[str, Any] | None = None,
    event_at: datetime | None = None,
) -> None:
    """Record something that happened in the business, such as an upgrade.

    `insert_id` makes repetitions count once; a random one is made when it is left out.
    `quality_impact_score` lies between -1 and 1.
    """
    from gati._api import manual

    manual.product_event(
        event_type, value=value, value_type=value_type, influence=influence,
        quality_impact_score=quality_impact_score, conversation_id=_text(conversation_id), user_id=_text(user_id),
        insert_id=insert_id, properties=properties, event_at=event_at,
    )  # fmt: skip


def flush(timeout: float = 10.0) -> FlushResult:
    """Deliver what is finished, waiting at most `timeout` seconds; tells what became of it."""
    from gati.pipeline.stats import FlushResult

    pipeline = runtime.pipeline
    return FlushResult() if pipeline is None else pipeline.flush(timeout)


async def aflush(timeout: float = 10.0) -> FlushResult:
    """`flush` without blocking the event loop."""
    from gati.pipeline.stats import FlushResult

    pipeline = runtime.pipeline
    return FlushResult() if pipeline is None else await pipeline.aflush(timeout)


def stats() -> Stats:
    """Counters of this process since `init`."""
    from gati.pipeline.stats import Stats

    pipeline = runtime.pipeline
    return Stats() if pipeline is None else pipeline.stats()


def shutdown(timeout: float = 10.0) -> None:
    """Stop watching; deliver within `timeout` seconds, what is left stays in the spool."""
    runtime.stop(timeout)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


class _Observe(ModuleType):
    """Lets ``with observe:`` of the first gati go on working: delivers when the block ends."""

    def __getattr__(self, name: str) -> Any:
        if name in ("Drop", "FlushResult", "Stats"):  # late: `import gati` must cost next to nothing
            from gati.pipeline import stats

            return getattr(stats, name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def __enter__(self) -> _Observe:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        flush()


sys.modules[__name__].__class__ = _Observe
