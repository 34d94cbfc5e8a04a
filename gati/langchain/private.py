"""The names of LangChain and LangGraph that are not promised to stay, each probed once.

Without any one of them gati works on and loses only what its line says.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler

RunningConfig = ContextVar[Any]

_NOTHING: RunningConfig = ContextVar("gati_no_running_config", default=None)

try:
    # Lost without it: the parent of runs that start beside their parent's callbacks (fallbacks,
    # models called with handlers of their own), and user ids in LangGraph's `configurable`.
    from langchain_core.runnables.config import var_child_runnable_config as running_config
except ImportError:
    running_config = _NOTHING

GraphHandlerBase: type[BaseCallbackHandler]
try:
    # Public, but younger than our floor. Lost without it: static interrupts.
    from langgraph.callbacks import GraphCallbackHandler as GraphHandlerBase
except ImportError:
    GraphHandlerBase = BaseCallbackHandler


def enclosing_run(config: Any) -> Any:
    """Id of the run that the given running config belongs to, or None."""
    if config is None:
        return None
    return getattr(config.get("callbacks"), "parent_run_id", None)
