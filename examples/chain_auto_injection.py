"""Requires: gati-greenflash[cli]; with OPENAI_API_KEY also langchain-openai

A chain recorded without changing its code: `observe.init` is all it takes.
"""

import os
import uuid
from typing import Any

try:
    from langchain_core.output_parsers import StrOutputParser
    from langchain_core.prompts import ChatPromptTemplate

    from gati import observe
    from gati.cli.show import print_conversation
    from gati.testing import ScriptedChatModel

    if os.environ.get("OPENAI_API_KEY"):
        from langchain_openai import ChatOpenAI
except ModuleNotFoundError:
    raise SystemExit(str(__doc__).splitlines()[0]) from None

model: Any = ScriptedChatModel(replies=["Bonjour, tout le monde!"])
if os.environ.get("OPENAI_API_KEY"):
    model = ChatOpenAI(model="gpt-4o-mini")

observe.init(agent_name="translator")

prompt = ChatPromptTemplate(
    [("system", "You translate into {language}. Answer with the translation only."), ("human", "{text}")]
)
chain = prompt | model | StrOutputParser()

conversation = f"translation-{uuid.uuid4()}"
with observe.conversation(conversation, user_id="ada"):
    print(chain.invoke({"language": "French", "text": "Hello, everybody!"}))

print(f"{observe.flush().delivered} messages delivered")
if "GREENFLASH_API_KEY" not in os.environ:
    print_conversation(conversation)
