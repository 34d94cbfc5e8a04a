"""Requires: gati-greenflash[cli,privacy]; with OPENAI_API_KEY also langchain-openai

Personal data: mask every text before it leaves the process, with a library of your choice.

The library is DataFog: patterns for mail addresses, phone and card numbers and the like, no model.
"""

import os
import uuid
from typing import Any

try:
    import datafog

    from gati import observe
    from gati.cli.show import print_conversation
    from gati.testing import ScriptedChatModel

    if os.environ.get("OPENAI_API_KEY"):
        from langchain_openai import ChatOpenAI
except ModuleNotFoundError:
    raise SystemExit(str(__doc__).splitlines()[0]) from None

model: Any = ScriptedChatModel(replies=["I have noted ada@example.org and will write to you."])
if os.environ.get("OPENAI_API_KEY"):
    model = ChatOpenAI(model="gpt-4o-mini")

observe.init(agent_name="helpdesk", mask=lambda text, path, kind: datafog.sanitize(text))

conversation = f"helpdesk-{uuid.uuid4()}"
with observe.conversation(conversation, user_id="u-7"):
    print(model.invoke("Please write to ada@example.org, my card is 4111 1111 1111 1111.").text)

print(f"{observe.flush().delivered} messages delivered")
if "GREENFLASH_API_KEY" not in os.environ:
    print_conversation(conversation)
