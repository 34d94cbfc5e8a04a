"""Names of LangChain and LangGraph that are not part of their stable public API.

Each name is looked up here only. If one is missing, gati keeps working and loses only the feature named
in its comment.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from functools import lru_cache
from types import FrameType
from typing import Any
from uuid import UUID

from langchain_core.callbacks import AsyncCallbackManager, BaseCallbackHandler

RunningConfig = ContextVar[Any]

try:
    # Without it: no parent for runs that start without their parent's callbacks (fallbacks, models
    # with their own handlers), and no user id from LangGraph's `configurable`.
    from langchain_core.runnables.config import var_child_runnable_config

    running_config: RunningConfig = var_child_runnable_config
except ImportError:
    running_config = ContextVar("gati_no_running_config", default=None)

GraphHandlerBase: type[BaseCallbackHandler]
try:
    # Public, but newer than the oldest supported LangGraph. Without it: no static interrupts.
    from langgraph.callbacks import GraphCallbackHandler as GraphHandlerBase
except ImportError:
    GraphHandlerBase = BaseCallbackHandler


def register_hook(variable: Any) -> bool:
    """Have LangChain call `variable.get()` for a handler at the root of every run; False if it cannot.

    Without it: no automatic injection. Handlers passed by the user still work.
    """
    try:
        from langchain_core.tracers.context import register_configure_hook  # imported late: it loads LangSmith's client
    except ImportError:
        return False
    register_configure_hook(variable, inheritable=True)
    return True


def enclosing_run(config: Any) -> Any:
    """Return the id of the run to which a running config belongs, or None."""
    if config is None:
        return None
    # Without `parent_run_id`: the same loss as without the running config.
    return getattr(config.get("callbacks"), "parent_run_id", None)


_CALL_FRAMES = 16
"""Most frames between a callback and the call of the user's program that are searched."""


def called_with() -> Any:
    """Return the config of the call that starts a model, a prompt or a retriever, None if it is not found.

    LangChain passes its callbacks the metadata of a config only, and sets the running config inside of chains.
    """
    # `config` is the name of a parameter. Without it: no conversation of models called directly, nor of `chain.batch`,
    # that only `configurable` names.
    frame: FrameType | None = sys._getframe(1)
    for _ in range(_CALL_FRAMES):
        if frame is None:
            return None
        code = frame.f_code
        module = frame.f_globals.get("__name__")
        if (
            type(module) is str
            and module.startswith("langchain_core.")
            and ("config" in code.co_varnames or "config" in code.co_cellvars)
        ):
            config = frame.f_locals.get("config")
            return config if isinstance(config, dict) else None
        frame = frame.f_back
    return None


_CHAIN_MODULES = ("langchain_classic.chains.base", "langchain.chains.base")
"""Modules of the classic `Chain`, whose memory calls models without the chain's callbacks. Without `_MEMORY_METHODS`, which read
and write the memory, or `run_manager` in the method that calls them: the calls of the memory are turns of their own."""
_MEMORY_METHODS = ("prep_inputs", "aprep_inputs", "prep_outputs", "aprep_outputs")
_MAX_FRAMES = 100

NOT_STARTED = UUID(int=0)
"""Result of `chain_of_memory` for a chain whose run has not begun."""


@lru_cache(maxsize=4)
def _codes_of(chains: tuple[Any, ...]) -> frozenset[Any]:
    return frozenset(
        getattr(getattr(chain, name, None), "__code__", None) for chain in chains for name in _MEMORY_METHODS
    )


def chain_of_memory() -> UUID | None:
    """Return the id of the run of the classic chain whose memory is calling, `NOT_STARTED` while it is read, else None."""
    if sys.modules.keys().isdisjoint(_CHAIN_MODULES):
        return None
    codes = _codes_of(tuple([getattr(sys.modules.get(name), "Chain", None) for name in _CHAIN_MODULES]))
    frame: FrameType | None = sys._getframe(1)
    for _ in range(_MAX_FRAMES):
        if frame is None or frame.f_back is None:
            return None
        if frame.f_code in codes:
            run_id = getattr(frame.f_back.f_locals.get("run_manager"), "run_id", None)
            return run_id if isinstance(run_id, UUID) else NOT_STARTED
        frame = frame.f_back
    return None


def runtime_context(configurable: Any) -> Any:
    """Return the `context` with which a LangGraph graph was called, given the `configurable` of a node; else None."""
    # The key is private, and newer than the oldest supported LangGraph. Without it: no user id from `context`, and no
    # values of `context` as variables of plain-text prompts.
    return getattr(configurable.get("__pregel_runtime"), "context", None)


RUN_TYPE = "run_type"
"""Keyword of `on_chain_start` that distinguishes prompts, parsers and decision models from other chains. Without it: no
prompt templates, no template variables, and decision models are chains."""

DEFERS_INPUTS = "defers_inputs"


def is_input_deferred(inputs: Any, more: Mapping[str, Any]) -> bool:
    """Return True if a run's input arrives with its end, as for a streamed chain.

    langchain-core 1.2.4 and later pass a flag; every version passes the placeholder `{"input": ""}`. Either is
    enough. Without both: no user message for streamed chains.
    """
    if DEFERS_INPUTS in more:
        return True
    return type(inputs) is dict and len(inputs) == 1 and type(text := inputs.get("input")) is str and not text


RUN_MARKERS = {
    "graph:step:": "graph nodes as steps",
    "langsmith:hidden": "hiding of internal steps",
    "langgraph_node": "node names in prompt ids; functional API tasks as steps",
    "langgraph_step": "the step number of a task",
    "langgraph_checkpoint_ns": "tasks as steps; the attempt number of a node's run",
    "langgraph_auth_user_id": "the user that LangGraph Server authenticated, if nothing else names one",
    "load_history": "history reads of `RunnableWithMessageHistory`",
    "ls_integration": "recognition of a graph none of whose nodes ran",
    "ls_provider": "provider and price of models that do not name their provider",
    "ls_model_name": "the model name, if the response does not contain it",
    "lc_agent_name": "agent names in prompt ids",
    "lc_source": "recognition of calls by LangChain's middleware, which are internal, and their names in prompt ids",
    "lc_internal_call": "recognition of calls by LangChain's middleware, which are internal",
    "lc_hub_owner": "the name of a prompt from the hub",
    "lc_hub_repo": "the name of a prompt from the hub",
}
"""Tags, metadata keys and run names written by LangChain and LangGraph, and what is lost without each. They are
read in this package and in `gati.trace`; a test checks that the list is complete."""

_ON_LLM_START_CODE = getattr(AsyncCallbackManager.on_llm_start, "__code__", None)


class RunInline:
    """The handler's attribute `run_inline`: True, except when `AsyncCallbackManager.on_llm_start` reads it.

    For completion models, that method calls either the inline handlers or, if there are none, the others. If ours
    claims to be inline, LangChain's own handlers miss the start; if ours does not while another one is inline, ours
    misses it. So ours is inline there only beside another inline handler. `ahandle_event`, which reads the attribute
    again, runs it inline either way. If the code object cannot be found, the value is always True.
    """

    def __get__(self, handler: Any, owner: type) -> bool:
        if handler is None:
            return True
        frame: FrameType | None = sys._getframe(1)
        if frame is not None and frame.f_code.co_name == "<listcomp>":  # has its own frame before Python 3.12
            frame = frame.f_back
        if frame is None or frame.f_code is not _ON_LLM_START_CODE:
            return True
        beside = getattr(frame.f_locals.get("self"), "handlers", ())
        return any(getattr(other, "run_inline", False) for other in beside if not isinstance(other, owner))


def with_shared_objects(serializer: Any, most: int) -> Any:
    """Return a serializer of checkpoints that decodes equal bytes once, for the `most` objects that it met last.

    The objects that it returns are shared, so they are for reading only. Without the name, or with a serializer other than
    LangGraph's: each checkpoint decodes all its messages again.
    """
    hook = getattr(serializer, "_unpack_ext_hook", None)
    if not callable(hook):
        return serializer
    sharing = copy.copy(serializer)
    sharing._unpack_ext_hook = lru_cache(most)(hook)
    return sharing
