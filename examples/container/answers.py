"""Requires: gati-greenflash; with OPENAI_API_KEY also langchain-openai

A program for a container: it answers the lines of its standard input, until they end or SIGTERM arrives.
"""

import os
import signal
import sys
from typing import Any

try:
    from langchain_core.messages import BaseMessage

    from gati import observe
    from gati.testing import ScriptedChatModel

    if os.environ.get("OPENAI_API_KEY"):
        from langchain_openai import ChatOpenAI
except ModuleNotFoundError:
    raise SystemExit(str(__doc__).splitlines()[0]) from None


def echo(messages: list[BaseMessage]) -> str:
    return f"You said: {messages[-1].text}"


def stop(*_: object) -> None:
    sys.exit(0)  # runs the exit hooks, which deliver


model: Any = ScriptedChatModel(respond=echo)
if os.environ.get("OPENAI_API_KEY"):
    model = ChatOpenAI(model="gpt-4o-mini")

signal.signal(signal.SIGTERM, stop)  # without a handler, process 1 ignores SIGTERM, and other processes end at once
observe.init(agent_name="answers")
for line in sys.stdin:
    with observe.conversation("standard-input", user_id="operator"):
        print(model.invoke(line.strip()).text, flush=True)
