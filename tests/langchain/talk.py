"""A program that uses every name of LangChain and LangGraph that is not public; `test_compat` runs it.

``python -m tests.langchain.talk MODULE NAME`` hides that name from gati. Without arguments nothing is hidden. Prints what
gati recorded, as JSON.
"""

from __future__ import annotations

import asyncio
import builtins
import json
import sys
from typing import Any, cast


def hide(module: str, name: str) -> None:
    """Hide a name from gati, but not from other packages."""
    if name == "on_llm_start":  # gati looks up the code object of this method
        from gati.langchain import _compat

        _compat._ON_LLM_START_CODE = None
        return
    if name in ("run_type", "defers_inputs"):  # keyword arguments of callbacks
        from gati.langchain import _compat

        setattr(_compat, name.upper(), "gone")
        return
    found = builtins.__import__

    def without(wanted: str, scope: Any = None, locals: Any = None, names: Any = (), level: int = 0) -> Any:
        if wanted == module and name in (names or ()) and (scope or {}).get("__name__") == "gati.langchain._compat":
            raise ImportError(f"cannot import name {name!r} from {module!r}")
        return found(wanted, scope, locals, names, level)

    builtins.__import__ = cast("Any", without)


def prompts_of(captured: Any) -> list[dict[str, str]]:
    """Return the prompt variables of each model call."""
    from gati.events import LLMCallEvent

    calls = [event for turn in captured.turns for event in turn.events if isinstance(event, LLMCallEvent)]
    return [call.structured_prompt.variables if call.structured_prompt else {} for call in calls]


def talk() -> dict[str, Any]:
    """Run the programs; return what gati and another handler recorded."""
    from langchain_core.callbacks import BaseCallbackHandler
    from langchain_core.language_models import FakeListLLM
    from langchain_core.prompts import ChatPromptTemplate
    from langchain_core.runnables import RunnableLambda
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.graph import START, MessagesState, StateGraph

    from gati import observe
    from gati.testing import ScriptedChatModel, capture

    model = ScriptedChatModel(replies=["certainly"])
    beside: list[str] = []

    class Other(BaseCallbackHandler):
        def on_llm_start(self, *_: Any, **__: Any) -> None:
            beside.append("start")

    def own_handlers(text: str) -> Any:
        return model.invoke(text, {"callbacks": [*observe.get_callbacks(), Other()]})

    builder = StateGraph(MessagesState)
    builder.add_node("answer", lambda state: {"messages": [model.invoke(state["messages"])]})
    builder.add_edge(START, "answer")
    graph = builder.compile()
    waiting = builder.compile(checkpointer=InMemorySaver(), interrupt_before=["answer"])
    given: Any = {"messages": [("user", "graph")]}

    prompt = ChatPromptTemplate([("system", "You teach {subject}."), ("user", "{text}")])

    seen: dict[str, Any] = {}
    with capture() as captured:
        RunnableLambda(own_handlers).invoke("own handlers", {"metadata": {"thread_id": "own"}})
    seen["own handlers"] = len(captured.turns)
    with capture() as captured:
        graph.invoke(given, {"configurable": {"user_id": "u-7"}})
    seen["user"] = captured.turns[0].conversation.user_id if captured.turns else None
    seen["said"] = captured.transcript()
    with capture(auto_inject=False) as captured:
        graph.invoke(given, {"callbacks": observe.get_callbacks()})
    seen["said to a handler by hand"] = captured.transcript()
    with capture(auto_inject=False) as captured:
        waiting.invoke(given, {"configurable": {"thread_id": "t"}, "callbacks": observe.get_callbacks()})
    seen["static interrupt"] = [str(turn.status) for turn in captured.turns]
    with capture() as captured:
        list((prompt | model).stream({"subject": "maths", "text": "streamed"}))
    seen["streamed"] = captured.transcript()
    seen["variables"] = prompts_of(captured)
    beside.clear()
    with capture():
        asyncio.run(FakeListLLM(responses=["yes"]).ainvoke("completion", {"callbacks": [Other()]}))
    seen["beside"] = beside
    return seen


if __name__ == "__main__":
    if len(sys.argv) > 1:
        hide(sys.argv[1], sys.argv[2])
    print(json.dumps(talk()))
