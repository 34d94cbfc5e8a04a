"""Requires: gati-greenflash[cli], langchain; with OPENAI_API_KEY also langchain-openai

An agent made with LangChain's `create_agent` that uses a tool.
"""

import os
import uuid
from typing import Any

try:
    from langchain.agents import create_agent
    from langchain_core.messages import AIMessage, HumanMessage
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
        AIMessage(
            "I should use the tool.",
            tool_calls=[{"name": "square_root", "args": {"number": 144}, "id": "call_1", "type": "tool_call"}],
        ),
        "The square root of 144 is 12.",
    ]
)
if os.environ.get("OPENAI_API_KEY"):
    model = ChatOpenAI(model="gpt-4o-mini")

observe.init(agent_name="math-tutor")

agent = create_agent(model, [square_root], system_prompt="You are a tutor of mathematics. Use the tool.")

conversation = f"tutor-{uuid.uuid4()}"
with observe.conversation(conversation, user_id="ada"):
    result = agent.invoke({"messages": [HumanMessage("What is the square root of 144?")]})
print(result["messages"][-1].text)

print(f"{observe.flush().delivered} messages delivered")
if "GREENFLASH_API_KEY" not in os.environ:
    print_conversation(conversation)
