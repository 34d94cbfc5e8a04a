"""The names of LangChain and LangGraph that are not promised to stay, each probed once.

Without any one of them gati works on and loses only what its line says.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from types import FrameType
from typing import Any
from uuid import UUID

from langchain_core.callbacks import AsyncCallbackManager, BaseCallbackHandler

RunningConfig = ContextVar[Any]

_NOTHING: RunningConfig = ContextVar("gati_no_running_config", default=None)

try:
    # Lost without it: the parent of runs that start beside their parent's callbacks (fallbacks,
    # models called with handlers of their own), and user ids in LangGraph's `configurable`.
    from langchain_core.runnables.config import var_child_runnable_config

    running_config: RunningConfig = var_child_runnable_config
except ImportError:
    running_config = _NOTHING

GraphHandlerBase: type[BaseCallbackHandler]
try:
    # Public, but younger than our floor. Lost without it: static interrupts.
    from langgraph.callbacks import GraphCallbackHandler as GraphHandlerBase
except ImportError:
    GraphHandlerBase = BaseCallbackHandler


def attach_to_all(variable: Any) -> bool:
    """Have LangChain ask `variable.get()` for a handler at the root of every run.

    Lost without it: injection. Handlers given by hand work on.
    """
    try:
        from langchain_core.tracers.context import register_configure_hook  # late: it loads LangSmith's client
    except ImportError:
        return False
    register_configure_hook(variable, inheritable=True)
    return True


def enclosing_run(config: Any) -> Any:
    """Id of the run that the given running config belongs to, or None."""
    if config is None:
        return None
    # Lost without it: as without the running config.
    return getattr(config.get("callbacks"), "parent_run_id", None)


LOSES_CONTEXT = sys.version_info < (3, 11)
"""Before Python 3.11 nothing can be awaited in a context of its own, and async code does not see
the running config: what it calls without passing the config on would be a root. There gati notes
by itself which run's code is running."""

_Link = tuple[UUID, Any]
_entered: ContextVar[_Link | None] = ContextVar("gati_entered", default=None)


def enter(run_id: UUID, opened: Mapping[int, Any]) -> None:
    """Note that the code that follows in this context is the run's, until it ends.

    In async code only: elsewhere LangChain knows, and a run that it never closes would take in all that follows.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    _entered.set((run_id, _innermost(opened)))


def entered(opened: Mapping[int, Any]) -> UUID | None:
    """The open run whose code this is, as far as noted."""
    link = _innermost(opened)
    return link[0] if link else None


def _innermost(opened: Mapping[int, Any]) -> _Link | None:
    link = _entered.get()
    while link is not None and link[0].int not in opened:
        link = link[1]
    return link


RUN_TYPE = "run_type"
"""Keyword with which `on_chain_start` tells prompts and parsers from other runs. Lost without it: templates
and their variables; and on Python 3.10 the run that nested async code belongs to."""

DEFERS_INPUTS = "defers_inputs"


def input_comes_late(inputs: Any, more: Mapping[str, Any]) -> bool:
    """Whether a run's input is told with its end: that of a chain that is streamed.

    Its start says so since langchain-core 1.2.4, and has a stand-in for an input in every version: either will do.
    Lost without both: what was said to a streamed chain.
    """
    if DEFERS_INPUTS in more:
        return True
    return type(inputs) is dict and len(inputs) == 1 and type(told := inputs.get("input")) is str and not told


MARKS = {
    "graph:step:": "the nodes of graphs as steps",
    "langsmith:hidden": "that a step is plumbing",
    "langgraph_node": "names of nodes in ids of prompts; tasks of the functional API as steps",
    "langgraph_step": "the number of a task's step",
    "langgraph_checkpoint_ns": "tasks as steps; which attempt a node's run is",
    "load_history": "reads of the history that `RunnableWithMessageHistory` keeps",
    "ls_integration": "that a graph is one although none of its nodes ran",
    "ls_provider": "providers and prices of models that name none",
    "ls_model_name": "names of models whose answer names none",
    "lc_agent_name": "names of agents in ids of prompts",
    "lc_source": "that a call summarises and speaks to nobody",
    "lc_hub_owner": "the name of a prompt from the hub",
    "lc_hub_repo": "the name of a prompt from the hub",
}
"""Tags, keys of metadata and names of runs that LangChain and LangGraph write, and what is lost without each. They
are read where they are needed, here and in `gati.trace`; a test holds that those are all."""

_partition = getattr(AsyncCallbackManager.on_llm_start, "__code__", None)


class RunInline:
    """`run_inline`: True, except to the one place in LangChain where that harms others.

    `AsyncCallbackManager.on_llm_start` (completion models) leaves out every handler that is not
    inline as soon as one is: LangChain's own stream handlers would miss the start. Told that
    ours is not inline either, it calls all of them, and `ahandle_event`, which asks again,
    still runs ours inline. Without the code object that is looked for, the answer is True.
    """

    def __get__(self, handler: Any, owner: type) -> bool:
        if handler is None:
            return True
        frame: FrameType | None = sys._getframe(1)
        if frame is not None and frame.f_code.co_name == "<listcomp>":  # has a frame of its own up to Python 3.11
            frame = frame.f_back
        return frame is None or frame.f_code is not _partition
