"""Models by themselves."""

from __future__ import annotations

from langchain_core.messages import HumanMessage, SystemMessage

from gati.langchain.scripted import ScriptedChatModel
from tests.scenarios.harness import Watch, ways


def test_a_bare_model_is_a_turn(watch: Watch):
    watch(
        """
        user_message   "Hello?"
        llm            gpt-4o-mini 5>8 $
          assistant_message "Hello, how are you?"
        """,
        *ways(lambda: ScriptedChatModel(replies=["Hello, how are you?"]), "Hello?"),
    )
