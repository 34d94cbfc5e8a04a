"""Record conversations of LangChain and LangGraph programs and deliver them to Greenflash.

::

    from gati import observe

    observe.init(agent_name="math-tutor")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gati import observe
from gati.errors import ConfigurationError, GatiError, PromptUnavailableError

if TYPE_CHECKING:
    from gati import prompts as prompts
    from gati.events import AgentEndEvent as AgentEndEvent
    from gati.events import AgentStartEvent as AgentStartEvent
    from gati.events import CustomEvent as CustomEvent
    from gati.events import EmbeddingEvent as EmbeddingEvent
    from gati.events import Event as Event
    from gati.events import LLMCallEvent as LLMCallEvent
    from gati.events import MemoryEvent as MemoryEvent
    from gati.events import NodeExecutionEvent as NodeExecutionEvent
    from gati.events import RetrievalEvent as RetrievalEvent
    from gati.events import StepEvent as StepEvent
    from gati.events import ToolCallEvent as ToolCallEvent
    from gati.langchain.callback import GatiLangChainCallback as GatiLangChainCallback

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
    "PromptUnavailableError",
    "RetrievalEvent",
    "StepEvent",
    "ToolCallEvent",
    "__version__",
    "observe",
    "prompts",
]


def __getattr__(name: str) -> Any:
    # Imported late to keep `import gati` fast: the handler loads LangChain, the event classes take 10 ms to
    # create, and the version reads package metadata.
    value: Any
    if name == "GatiLangChainCallback":
        from gati.langchain import callback

        value = callback.GatiLangChainCallback
    elif name == "__version__":
        value = _installed_version()
    elif name == "prompts":
        value = import_module("gati.prompts")
    elif name in __all__:
        from gati import events

        value = getattr(events, name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def _installed_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("gati-greenflash")
    except PackageNotFoundError:  # a source tree that is not installed
        return "0+unknown"


def __dir__() -> list[str]:
    return __all__
