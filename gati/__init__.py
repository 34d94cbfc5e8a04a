"""gati: watches LangChain and LangGraph programs, delivers their conversations to Greenflash.

::

    from gati import observe

    observe.init(agent_name="math-tutor")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gati.errors import ConfigurationError, GatiError
from gati.events import (
    AgentEndEvent,
    AgentStartEvent,
    CustomEvent,
    EmbeddingEvent,
    Event,
    LLMCallEvent,
    MemoryEvent,
    NodeExecutionEvent,
    RetrievalEvent,
    StepEvent,
    ToolCallEvent,
)

if TYPE_CHECKING:
    from gati import observe
    from gati.langchain.callback import GatiLangChainCallback

    __version__: str

__all__ = [
    "AgentEndEvent",
    "AgentStartEvent",
    "ConfigurationError",
    "CustomEvent",
    "EmbeddingEvent",
    "Event",
    "GatiError",
    "GatiLangChainCallback",
    "LLMCallEvent",
    "MemoryEvent",
    "NodeExecutionEvent",
    "RetrievalEvent",
    "StepEvent",
    "ToolCallEvent",
    "__version__",
    "observe",
]


def __getattr__(name: str) -> Any:
    # Late: the handler's base class loads LangChain, the version reads the package's metadata.
    if name == "GatiLangChainCallback":
        from gati.langchain.callback import GatiLangChainCallback

        return GatiLangChainCallback
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("gati-greenflash")
        except PackageNotFoundError:  # run from a source tree that was never installed
            return "0+unknown"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
