"""The sample agent of `gati demo`: a bicycle shop's assistant in LangGraph, with a handbook and a calculator.

Its code does not use gati. `gati demo` calls `observe.init` and runs it.
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
    "prices": "A city bike costs 18.00 a day to rent, an e-bike 35.00 a day. Three days or more: 10 % off.",
    "late": "Bikes returned late cost 4.00 an hour each.",
    "helmets": "A helmet is included with each bike.",
    "hours": "Wheelhouse is open from 9 to 18, on Sundays from 10 to 16.",
}


class Handbook(BaseRetriever):
    """Retrieves the pages of the handbook that have the most words in common with the question."""

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        scores = {page: len(_word_set(query) & _word_set(text)) for page, text in HANDBOOK.items()}
        best = sorted(scores, key=lambda page: scores[page], reverse=True)[:2]
        return [Document(HANDBOOK[page], metadata={"page": page, "score": scores[page]}) for page in best]


def _word_set(text: str) -> set[str]:
    """Return the words of a text: ``"Two city bikes"`` becomes ``{"two", "city", "bike"}``."""
    return {word.removesuffix("s") for word in re.findall(r"[a-z]{3,}", text.lower())}


_OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


@tool
def calculate(expression: str) -> float:
    """Calculate an arithmetic expression of numbers, + - * / and parentheses."""

    def value(node: ast.expr) -> float:
        if isinstance(node, ast.BinOp) and (operation := _OPERATORS.get(type(node.op))):
            return float(operation(value(node.left), value(node.right)))
        if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
            return node.value
        raise ValueError(f"cannot calculate {ast.unparse(node)}")

    return round(value(ast.parse(expression, mode="eval").body), 2)


class State(MessagesState):
    """The conversation, and the handbook pages found for the newest question."""

    handbook: str


def create_shop_agent(model: BaseChatModel) -> Any:
    """Return the compiled graph. Its checkpointer keeps conversations in memory, by `thread_id`."""
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


def create_model() -> BaseChatModel:
    """Return `ChatOpenAI` if `OPENAI_API_KEY` is set and the package is installed, otherwise a scripted model."""
    if os.environ.get("OPENAI_API_KEY"):
        try:
            from langchain_openai import ChatOpenAI
        except ImportError:
            pass  # the extra `openai` is not installed; the command prints which model it used
        else:
            return ChatOpenAI(model=os.environ.get("OPENAI_MODEL", "gpt-4o-mini"), streaming=True, stream_usage=True)
    return ScriptedChatModel(respond=_scripted_response, streaming=True, seconds_per_word=0.015)


def ask_questions(model: BaseChatModel, conversation_id: str, user_id: str = "ada") -> list[str]:
    """Ask the agent both questions in one conversation, and return its answers."""
    agent = create_shop_agent(model)
    config = {"configurable": {"thread_id": conversation_id, "user_id": user_id}}
    return [agent.invoke({"messages": [("user", question)]}, config)["messages"][-1].text for question in QUESTIONS]


def _scripted_response(messages: list[BaseMessage]) -> AIMessage:
    """Call the calculator first, then answer with its result."""
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
