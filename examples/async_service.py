"""Requires: gati-greenflash[cli]; with OPENAI_API_KEY also langchain-openai

An async service in the style of FastAPI: concurrent requests, each in its own conversation.

`chat` represents a path operation, `lifespan` the lifespan of the application. gati never blocks the event
loop.
"""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

try:
    from langchain_core.messages import BaseMessage
    from langchain_core.prompts import ChatPromptTemplate

    from gati import observe
    from gati.cli.show import print_conversation
    from gati.testing import ScriptedChatModel

    if os.environ.get("OPENAI_API_KEY"):
        from langchain_openai import ChatOpenAI
except ModuleNotFoundError:
    raise SystemExit(str(__doc__).splitlines()[0]) from None


def echo(messages: list[BaseMessage]) -> str:
    return f"You said: {messages[-1].text}"


model: Any = ScriptedChatModel(respond=echo)
if os.environ.get("OPENAI_API_KEY"):
    model = ChatOpenAI(model="gpt-4o-mini")

chain = ChatPromptTemplate([("system", "You are polite."), ("human", "{text}")]) | model


@asynccontextmanager
async def lifespan() -> AsyncIterator[None]:
    observe.init(agent_name="service")
    yield
    result = await observe.aflush()
    print(f"{result.delivered} messages delivered")


async def chat(text: str, conversation_id: str, user_id: str) -> str:
    async with observe.conversation(conversation_id, user_id=user_id):
        return str((await chain.ainvoke({"text": text})).text)


async def main() -> str:
    run = uuid.uuid4()
    async with lifespan():
        answers = await asyncio.gather(*(chat(f"I am user {n}.", f"service-{run}-{n}", f"user-{n}") for n in range(5)))
    print(*answers, sep="\n")
    return f"service-{run}-3"


conversation = asyncio.run(main())
if "GREENFLASH_API_KEY" not in os.environ:
    print_conversation(conversation)
