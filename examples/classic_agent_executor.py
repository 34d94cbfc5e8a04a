"""Requires: gati-greenflash[cli,classic]; with OPENAI_API_KEY also langchain-openai

The classic `AgentExecutor`.
"""

import os
import uuid
from typing import Any

try:
    from langchain_classic.agents import AgentExecutor, create_tool_calling_agent
    from langchain_core.messages import AIMessage
    from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
    from langchain_core.tools import tool

    from gati import observe
    from gati.cli.show import print_conversation
    from gati.testing import ScriptedChatModel

    if os.environ.get("OPENAI_API_KEY"):
        from langchain_openai import ChatOpenAI
except ModuleNotFoundError:
    raise SystemExit(str(__doc__).splitlines()[0]) from None


@tool
def square_root(number: float) -> float:
    """Return the square root of a number."""
    return float(number**0.5)


model: Any = ScriptedChatModel(
    replies=[
        AIMessage("", tool_calls=[{"name": "square_root", "args": {"number": 2}, "id": "call_1", "type": "tool_call"}]),
        "About 1.414.",
    ]
)
if os.environ.get("OPENAI_API_KEY"):
    model = ChatOpenAI(model="gpt-4o-mini")

observe.init(agent_name="math-tutor")

prompt = ChatPromptTemplate(
    [("system", "You are a tutor of mathematics."), ("human", "{input}"), MessagesPlaceholder("agent_scratchpad")]
)
tools = [square_root]
executor = AgentExecutor(agent=create_tool_calling_agent(model, tools, prompt), tools=tools)

conversation = f"classic-{uuid.uuid4()}"
with observe.conversation(conversation, user_id="ada"):
    print(executor.invoke({"input": "What is the square root of 2?"})["output"])

print(f"{observe.flush().delivered} messages delivered")
if "GREENFLASH_API_KEY" not in os.environ:
    print_conversation(conversation)
