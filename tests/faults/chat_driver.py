"""Run an agent in several conversations, and compare the texts with what a server received."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from langchain.agents import create_agent
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.tools import tool

from gati import observe
from gati.testing import ScriptedChatModel
from tests.servers import LocalServer

PRODUCT = "5f2b1d2e-5b7a-4a8e-9f7e-0c1d2e3f4a5b"


@tool
def look_up(word: str) -> str:
    """Look a word up."""
    return f"about {word}"


def _respond(messages: list[BaseMessage]) -> Any:
    if isinstance(messages[-1], ToolMessage):
        return f"Here is {messages[-1].content}."
    return AIMessage("", tool_calls=[{"name": "look_up", "args": {"word": str(messages[-1].content)}, "id": "call_1"}])


class ChatDriver:
    """Runs turns with one agent. Every turn produces the same number of messages."""

    def __init__(self) -> None:
        self.agent: Any = create_agent(ScriptedChatModel(respond=_respond), [look_up])
        self.texts_by_conversation: dict[str, list[str]] = defaultdict(list)

    def turn(self, conversation: str, text: str) -> None:
        """Ask one question. The answer must be correct whatever happens to gati."""
        with observe.conversation(conversation, user_id="u-1"):
            result = self.agent.invoke({"messages": [("user", text)]})
        assert result["messages"][-1].content == f"Here is about {text}."
        self.texts_by_conversation[conversation].append(text)

    def turns(self, conversations: int, each: int, word: str = "word") -> None:
        """Run several conversations, interleaved."""
        for n in range(each):
            for k in range(conversations):
                self.turn(f"c{k}", f"{word} {k}-{n}")

    def check_delivered(self, server: LocalServer, missing: int = 0, links: bool = True) -> None:
        """Check that the server has every turn once, complete, in order and with its parents."""
        everything = server.messages()
        by_conversation: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for message in everything:
            by_conversation[message["conversation"]].append(message)
        ids = [(message["conversation"], message["externalMessageId"]) for message in everything]
        assert len(ids) == len(set(ids))
        assert set(by_conversation) == set(self.texts_by_conversation)
        messages_per_turn, remainder = divmod(len(everything) + missing, self.total)
        assert remainder == 0
        if not missing:
            assert {len(by_conversation[name]) / len(texts) for name, texts in self.texts_by_conversation.items()} == {
                messages_per_turn
            }
        for name, texts in self.texts_by_conversation.items():
            _check_conversation(by_conversation[name], texts, missing, links)

    @property
    def total(self) -> int:
        return sum(map(len, self.texts_by_conversation.values()))


def _check_conversation(messages: list[dict[str, Any]], texts: list[str], missing: int, links: bool) -> None:
    questions = [m["content"] for m in messages if m["messageType"] == "user_message"]
    answers = [m["content"] for m in messages if m["messageType"] == "final_response"]
    if not missing:
        assert questions == texts
        assert answers == [f"Here is about {text}." for text in texts]
    times = [m["createdAt"] for m in messages]
    assert times == sorted(times)
    if not missing:
        assert len(set(times)) == len(times)
    earlier_ids: set[str] = set()
    for message in messages:
        parent = message.get("parentExternalMessageId") or (message.get("properties") or {}).get("parent_id")
        if links and not missing:
            assert parent is None or parent in earlier_ids, message
        earlier_ids.add(message["externalMessageId"])
