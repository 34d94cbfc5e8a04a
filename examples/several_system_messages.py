"""Requires: gati-greenflash[cli]; with OPENAI_API_KEY also langchain-openai

Several system messages in one call are joined into one prompt and kept apart from the user message.
"""

import os
import uuid
from typing import Any

try:
    from langchain_core.messages import HumanMessage, SystemMessage

    from gati import observe
    from gati.cli.show import print_conversation
    from gati.testing import ScriptedChatModel

    if os.environ.get("OPENAI_API_KEY"):
        from langchain_openai import ChatOpenAI
except ModuleNotFoundError:
    raise SystemExit(str(__doc__).splitlines()[0]) from None

model: Any = ScriptedChatModel(replies=["Ahoy! Twelve, me hearty."])
if os.environ.get("OPENAI_API_KEY"):
    model = ChatOpenAI(model="gpt-4o-mini")

observe.init(agent_name="pirate")

conversation = f"pirate-{uuid.uuid4()}"
with observe.conversation(conversation, user_id="ada"):
    answer = model.invoke(
        [
            SystemMessage("You are a tutor of mathematics."),
            SystemMessage("Speak like a pirate."),
            HumanMessage("What is the square root of 144?"),
        ]
    )
print(answer.text)

print(f"{observe.flush().delivered} messages delivered")
if "GREENFLASH_API_KEY" not in os.environ:
    print_conversation(conversation)
