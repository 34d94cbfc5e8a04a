"""Requires: gati-greenflash[cli]; with OPENAI_API_KEY also langchain-openai

No automatic injection: pass the handler to the calls that should be recorded.
"""

import os
import uuid
from typing import Any

try:
    from langchain_core.runnables import RunnableConfig

    from gati import observe
    from gati.cli.show import print_conversation
    from gati.testing import ScriptedChatModel

    if os.environ.get("OPENAI_API_KEY"):
        from langchain_openai import ChatOpenAI
except ModuleNotFoundError:
    raise SystemExit(str(__doc__).splitlines()[0]) from None

model: Any = ScriptedChatModel(replies=["4"])
if os.environ.get("OPENAI_API_KEY"):
    model = ChatOpenAI(model="gpt-4o-mini")

observe.init(agent_name="calculator", auto_inject=False)

conversation = f"explicit-{uuid.uuid4()}"
config: RunnableConfig = {
    "callbacks": observe.get_callbacks(),
    "metadata": {"conversation_id": conversation, "user_id": "ada"},
}
print(model.invoke("What is 2 + 2? Answer with the number only.", config).text)
model.invoke("This call is not recorded.")

print(f"{observe.flush().delivered} messages delivered")
if "GREENFLASH_API_KEY" not in os.environ:
    print_conversation(conversation)
