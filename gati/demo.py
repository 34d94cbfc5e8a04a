"""A LangGraph agent to look at: a bicycle shop's assistant with a handbook and a calculator.

`gati demo` runs it. The agent itself knows nothing of gati; `observe.init` is all that watches it.
"""

from __future__ import annotations

import ast
import operator
import os
import re
from typing import TYPE_CHECKING, Any

from langchain_core.documents import Document
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.retrievers import BaseRetriever
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from gati.testing.scripted_model import ScriptedChatModel

if TYPE_CHECKING:
    from langchain_core.callbacks import CallbackManagerForRetrieverRun
    from langchain_core.language_models import BaseChatModel

QUESTIONS = (
    "What does it cost to rent two city bikes for three days?",
    "And if we bring them back two hours late?",
)
SYSTEM = """You are the assistant of Wheelhouse, a bicycle shop. Answer from the handbook, in one or two sentences.
Calculate every amount with the tool.

Handbook:
{handbook}"""
HANDBOOK = {
    "prices": "To rent a city bike costs 18.00 a day, an e-bike 35.00 a day. From three days on: 10 % off.",
    "late": "Who brings a bike back late pays 4.00 an hour for each bike.",
    "helmets": "A helmet is free with each bike.",
    "hours": "Wheelhouse is open from 9 to 18, on Sundays from 10 to 16.",
}


class Handbook(BaseRetriever):
    """Finds the pages of the handbook that share most words with the question."""

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        scores = {page: len(_words(query) & _words(text)) for page, text in HANDBOOK.items()}
        best = sorted(scores, key=lambda page: scores[page], reverse=True)[:2]
        return [Document(HANDBOOK[page], metadata={"page": page, "score": scores[page]}) for page in best]


def _words(text: str) -> set[str]:
    return {word.removesuffix("s") for word in re.findall(r"[a-z]{3,}", text.lower())}


_OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


@tool
def calculate(expression: str) -> float:
    """Calculate an expression of numbers, + - * / and brackets."""

    def value(node: ast.expr) -> float:
        if isinstance(node, ast.BinOp) and (operation := _OPERATORS.get(type(node.op))):
            return float(operation(value(node.left), value(node.right)))
        if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
            return node.value
        raise ValueError(f"cannot calculate {ast.unparse(node)}")

    return round(value(ast.parse(expression, mode="eval").body), 2)


class State(MessagesState):
    """The conversation, and what the handbook says of the newest question."""

    handbook: str


def agent(model: BaseChatModel) -> Any:
    """The compiled graph; conversations are kept by `thread_id`."""
    handbook = Handbook()
    prompt = ChatPromptTemplate([("system", SYSTEM), MessagesPlaceholder("messages")])
    chain = prompt | model.bind_tools([calculate])

    def search(state: State) -> dict[str, Any]:
        pages = handbook.invoke(str(state["messages"][-1].content))
        return {"handbook": "\n".join(page.page_content for page in pages)}

    def answer(state: State) -> dict[str, Any]:
        return {"messages": [chain.invoke({"handbook": state["handbook"], "messages": state["messages"]})]}

    graph = StateGraph(State)
    graph.add_node("search", search)
    graph.add_node("answer", answer)
    graph.add_node("tools", ToolNode([calculate]))
    graph.add_edge(START, "search")
    graph.add_edge("search", "answer")
    graph.add_conditional_edges("answer", tools_condition)
    graph.add_edge("tools", "answer")
    return graph.compile(checkpointer=InMemorySaver(), name="wheelhouse")


def model() -> BaseChatModel:
    """`ChatOpenAI` when there is a key and the package, else one that answers from a script."""
    if os.environ.get("OPENAI_API_KEY"):
        try:
            from langchain_openai import ChatOpenAI
        except ImportError:
            pass  # the extra `openai` is not installed; the caller says which model it was
        else:
            return ChatOpenAI(model=os.environ.get("OPENAI_MODEL", "gpt-4o-mini"), streaming=True, stream_usage=True)
    return ScriptedChatModel(respond=_respond, streaming=True, seconds_per_word=0.015)


def talk(model: BaseChatModel, conversation_id: str, user_id: str = "ada") -> list[str]:
    """Ask the agent both questions, in one conversation; returns its answers."""
    shop = agent(model)
    config = {"configurable": {"thread_id": conversation_id, "user_id": user_id}}
    return [shop.invoke({"messages": [("user", question)]}, config)["messages"][-1].text for question in QUESTIONS]


def _respond(messages: list[BaseMessage]) -> AIMessage:
    """The script: calculate first, then answer with the tool's result."""
    turn = sum(message.type == "human" for message in messages)
    if messages[-1].type == "tool":
        amount = float(str(messages[-1].content))
        return AIMessage(
            f"Two city bikes for three days come to {amount:.2f}; the 10 % for three days are already off."
            if turn == 1
            else f"Two hours late would add {amount:.2f}: 4.00 an hour for each of the two bikes."
        )
    expression = "2 * 3 * 18.00 * 0.9" if turn == 1 else "2 * 2 * 4.00"
    call = {"name": "calculate", "args": {"expression": expression}, "id": f"call_{turn}", "type": "tool_call"}
    return AIMessage("Let me calculate that.", tool_calls=[call])
