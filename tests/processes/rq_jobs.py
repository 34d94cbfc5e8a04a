"""Jobs that a worker of RQ runs, each in a process of its own."""

from __future__ import annotations

from langchain_core.runnables import RunnableLambda

from gati import observe
from tests.processes.program import MODEL, run_turn

observe.init()


def job(conversation: str) -> str:
    """Run one turn."""
    run_turn(conversation, "1")
    return "done"


async def async_job(conversation: str) -> str:
    """Run one turn in RQ's event loop."""
    with observe.conversation(conversation, user_id="u"):
        await MODEL.ainvoke("1")
    return "done"


def failing_job(conversation: str) -> str:
    """Run one turn that fails."""

    def fail(text: str) -> str:
        MODEL.invoke(text)
        raise LookupError("the job's own")

    with observe.conversation(conversation, user_id="u"):
        return str(RunnableLambda(fail).invoke("1"))
