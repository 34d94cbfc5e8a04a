"""The ways in which a tool can return, fail or never run."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import InjectedToolCallId, ToolException, tool
from langgraph.prebuilt import InjectedState, ToolNode
from langgraph.types import Command

from tests.optional import create_agent
from tests.scenarios.harness import Config, Program, Watch, each_method
from tests.scenarios.scripts import call, model, reply, tool_request, weather

BOTH = "invoke ainvoke"


def asked(used: Any, *replies: Any, only: str = BOTH, **args: Any) -> list[Program]:
    """Return programs of an agent that calls one tool."""
    answers = replies or (tool_request(call(used.name, **args)), "Done.")
    return each_method(lambda: create_agent(model(*answers), [used]), {"messages": [("user", "Do it.")]}, only=only)


def turn(*of_tool: str, called: str, answer: str = '"Done."') -> str:
    """Return the golden of `asked` with these lines of the tool."""
    return "\n".join(
        [
            'user_message   "Do it."',
            "chain_start    LangGraph",
            "  task         model",
            f"    llm        gpt-4o-mini 10>5 $ calls={called}",
            "  task         tools",
            *("    " + line for line in of_tool),
            "  task         model",
            "    llm        gpt-4o-mini 10>5 $",
            f"  final_response {answer}",
            "  chain_end    completed",
        ]
    )


# -- results ----------------------------------------------------------------------------------------


def test_a_tool_may_return_content_and_artifact(watch: Watch):
    @tool(response_format="content_and_artifact")
    def rows(table: str) -> tuple[str, Any]:
        """Rows of a table."""
        return "2 rows", {"table": table, "rows": [1, 2]}

    watch(
        turn(
            'tool_call  rows {"table":"bikes"}',
            '  observation {"output":"2 rows","artifact":{"table":"bikes","rows":[1,2]}}',
            called="rows",
        ),
        *asked(rows, table="bikes"),
    )


def test_a_tool_may_return_content_blocks(watch: Watch):
    @tool
    def picture() -> list[dict[str, Any]]:
        """A picture."""
        return [{"type": "text", "text": "a cat"}, {"type": "image_url", "image_url": {"url": "https://e.org/cat.png"}}]

    watch(
        turn(
            "tool_call  picture {}",
            '  observation {"output":[{"type":"text","text":"a cat"},'
            '{"type":"image_url","image_url":{"url":"https://e.org/cat.png"}}]}',
            called="picture",
        ),
        *asked(picture),
    )


def test_a_tool_may_return_an_object(watch: Watch):
    @tool
    def price(bikes: int) -> dict[str, Any]:
        """The price."""
        return {"total": bikes * 18.5, "discount": None}

    watch(
        turn('tool_call  price {"bikes":2}', '  observation {"total":37.0,"discount":null}', called="price"),
        *asked(price, bikes=2),
    )


def test_a_tool_may_return_nothing(watch: Watch):
    @tool
    def silence() -> None:
        """Nothing."""

    watch(turn("tool_call  silence {}", '  observation {"output":null}', called="silence"), *asked(silence))


def test_a_tool_may_return_a_command(watch: Watch):
    @tool
    def remember(fact: str, tool_call_id: Annotated[str, InjectedToolCallId]) -> Command[Any]:
        """Keep a fact."""
        return Command(update={"messages": [ToolMessage("kept: " + fact, tool_call_id=tool_call_id)]})

    watch(
        turn('tool_call  remember {"fact":"x"}', '  observation {"output":"kept: x"}', called="remember"),
        *asked(remember, fact="x"),
    )


def test_injected_state_is_not_reported_as_an_argument(watch: Watch):
    @tool
    def count(of: str, state: Annotated[dict[str, Any], InjectedState]) -> str:
        """How many messages there are."""
        return str(len(state["messages"]))

    watch(
        turn('tool_call  count {"of":"all"}', '  observation {"output":"2"}', called="count"), *asked(count, of="all")
    )


def test_a_tool_with_return_direct_gives_the_answer(watch: Watch):
    @tool(return_direct=True)
    def hours() -> str:
        """Opening hours."""
        return "We open at 9."

    watch(
        """
        user_message   "Do it."
        chain_start    LangGraph
          task         model
            llm        gpt-4o-mini 10>5 $ calls=hours
          task         tools
            tool_call  hours {}
              observation {"output":"We open at 9."}
          final_response "We open at 9."
          chain_end    completed
        """,
        *asked(hours),
    )


def test_a_standalone_tool_call_is_its_own_message_in_a_conversation(watch: Watch):
    conversation = {"metadata": {"conversation_id": "c-1"}}
    watch(
        """
        conversation c-1 of anonymous
        tool_call      weather {"city":"Oslo"}
          observation  {"output":"sunny in Oslo"}
        """,
        *each_method(lambda: weather, {"city": "Oslo"}, conversation, only=BOTH),
        *each_method(lambda: weather, call("weather", city="Oslo"), conversation, only=BOTH),
    )
    watch(
        """
        conversation c-1 of anonymous
        tool_call      weather {"input":"Oslo"}
          observation  {"output":"sunny in Oslo"}
        """,
        *each_method(lambda: weather, "Oslo", conversation, only=BOTH),
    )


@pytest.mark.parametrize("in_conversation", [True, False])
def test_results_of_functions_that_the_program_calls_itself_are_tool_calls(watch: Watch, in_conversation: bool):
    """The program has no LangChain tools: a loop around a model. Without a conversation id, the history is known."""

    def program(config: Config) -> Any:
        asked = call("weather", city="Oslo"), call("weather", "c2", city="Rome")
        weatherman = model(tool_request(*asked), "Sunny in both.", "You are welcome.")
        history: list[Any] = [HumanMessage("The weather in Oslo and Rome?")]
        config = {**config, "metadata": {"conversation_id": "c-1"}} if in_conversation else config
        history.append(weatherman.invoke(history, config))
        history += [ToolMessage("sunny", tool_call_id=request["id"]) for request in history[-1].tool_calls]
        history.append(weatherman.invoke(history, config))
        history.append(HumanMessage("Thanks."))
        return weatherman.invoke(history, config).text

    traced = watch(
        f"""
        {"conversation c-1 of anonymous" if in_conversation else ""}
        user_message   "The weather in Oslo and Rome?"
        llm            gpt-4o-mini 10>5 $ calls=weather,weather
        llm            gpt-4o-mini 10>5 $
          tool_call    weather {{"city":"Oslo"}}
            observation {{"output":"sunny"}}
          tool_call    weather {{"city":"Rome"}}
            observation {{"output":"sunny"}}
          assistant_message "Sunny in both."
        user_message   "Thanks."
        llm            gpt-4o-mini 10>5 $
          assistant_message "You are welcome."
        """,
        program,
    )
    assert {m["properties"]["requested_by"] for m in traced.of_type("tool_call")} == {
        traced.of_type("llm")[0]["externalMessageId"]
    }


@pytest.mark.parametrize("has_tools", [True, False])
def test_a_question_that_is_passed_again_with_the_results_of_tools_is_reported_once(watch: Watch, has_tools: bool):
    """A loop around a chain with a scratchpad. In the next turn, the user asks the same again."""
    prompt = ChatPromptTemplate([("placeholder", "{chat_history}"), ("human", "{input}"), ("placeholder", "{scratch}")])

    def program(config: Config) -> Any:
        replies = [
            tool_request(call("weather", city="Oslo")),
            "Sunny.",
            tool_request(call("weather", "c2", city="Oslo")),
        ]
        chain, history = prompt | model(*replies, "Still sunny."), list[Any]()
        config = {**config, "metadata": {"conversation_id": "c-1"}}
        for _ in range(2):
            given = {"input": "The weather?", "chat_history": history}
            request = chain.invoke({**given, "scratch": []}, config)
            (asked,) = request.tool_calls
            result = weather.invoke(asked, config) if has_tools else ToolMessage("sunny", tool_call_id=asked["id"])
            answer = chain.invoke({**given, "scratch": [request, result]}, config)
            history += [HumanMessage("The weather?"), request, result, answer]
        return answer.text

    traced = watch.trace(program)
    question = ("user", "The weather?")
    assert traced.transcript() == [question, ("assistant", "Sunny."), question, ("assistant", "Still sunny.")]
    assert [m["input"] for m in traced.of_type("tool_call")] == [{"city": "Oslo"}] * 2


def test_a_standalone_tool_call_outside_a_conversation_has_no_messages_of_a_person(watch: Watch):
    traced = watch(
        """
        tool_call      weather {"city":"Oslo"}
          observation  {"output":"sunny in Oslo"}
        """,
        *each_method(lambda: weather, {"city": "Oslo"}, only=BOTH),
    )
    assert traced.transcript() == []


# -- failures ---------------------------------------------------------------------------------------


@tool
def broken() -> str:
    """Raise."""
    raise ValueError("it is broken")


def test_a_tool_that_raises_ends_the_turn(watch: Watch):
    watch(
        """
        user_message   "Do it."
        chain_start    LangGraph
          task         model
            llm        gpt-4o-mini 10>5 $ calls=broken
          task         tools error ValueError: it is broken
            tool_call  broken {}
              tool_error ValueError: it is broken raised
          chain_end    error ValueError: it is broken
        """,
        *asked(broken, only=""),
    )


def test_a_failure_handled_by_the_tool_is_reported_as_handled(watch: Watch):
    @tool
    def fussy() -> str:
        """Refuse."""
        raise ToolException("not today")

    fussy.handle_tool_error = True
    watch(turn("tool_call  fussy {}", "  tool_error ToolError: not today handled", called="fussy"), *asked(fussy))


@pytest.mark.filterwarnings("ignore:create_react_agent")
def test_a_failure_handled_by_the_tool_node_is_reported_as_handled(watch: Watch):
    from langgraph.prebuilt import create_react_agent

    watch(
        """
        user_message   "Do it."
        chain_start    LangGraph
          task         agent
            llm        gpt-4o-mini 10>5 $ calls=broken
          task         tools
            tool_call  broken {}
              tool_error ValueError: it is broken handled
          task         agent
            llm        gpt-4o-mini 10>5 $
          final_response "Sorry."
          chain_end    completed
        """,
        *each_method(
            lambda: create_react_agent(
                model(tool_request(call("broken")), "Sorry."), ToolNode([broken], handle_tool_errors=True)
            ),
            {"messages": [("user", "Do it.")]},
            only=BOTH,
        ),
    )


def test_invalid_arguments_are_reported(watch: Watch):
    traced = watch.trace(asked(weather, tool_request(call("weather", town="Oslo")), "Sorry.")[0])
    (error,) = traced.of_type("tool_error")
    assert error["output"]["type"] == "ValidationError"
    assert error["properties"]["handled"] is True
    (called,) = traced.of_type("tool_call")
    assert called["input"] == {"town": "Oslo"}
    assert traced.transcript() == [("user", "Do it."), ("assistant", "Sorry.")]


# -- calls that never run ------------------------------------------------------------------------------


def test_a_call_of_an_unknown_tool_is_reported(watch: Watch):
    watch(
        """
        user_message   "Do it."
        chain_start    LangGraph
          task         model
            llm        gpt-4o-mini 10>5 $ calls=wether
              tool_call wether {"city":"Oslo"}
                tool_error ToolNotRun: Error: wether is not a valid tool, try one of [weather]. handled
          task         tools
          task         model
            llm        gpt-4o-mini 10>5 $
          final_response "Sorry."
          chain_end    completed
        """,
        *asked(weather, tool_request(call("wether", city="Oslo")), "Sorry."),
    )


def test_a_tool_call_with_invalid_json_is_reported(watch: Watch):
    invalid = {"name": "weather", "args": '{"city": ', "id": "c9", "error": "not JSON", "type": "invalid_tool_call"}
    traced = watch(
        """
        user_message   "Do it."
        chain_start    LangGraph
          task         model
            llm        gpt-4o-mini 10>5 $ calls=weather
              tool_call weather {"input":"{\\"city\\": "}
                tool_error InvalidToolCall: not JSON handled
          chain_end    completed
        """,
        *asked(weather, AIMessage("", invalid_tool_calls=[invalid], usage_metadata=reply("").usage_metadata)),
    )
    assert traced.of_type("final_response") == []


def test_identical_tool_calls_are_reported_separately(watch: Watch):
    watch(
        """
        user_message   "Do it."
        chain_start    LangGraph
          task         model
            llm        gpt-4o-mini 10>5 $ calls=weather
          task         tools
            tool_call  weather {"city":"Oslo"}
              observation {"output":"sunny in Oslo"}
          task         model
            llm        gpt-4o-mini 10>5 $ calls=weather
          task         tools
            tool_call  weather {"city":"Oslo"}
              observation {"output":"sunny in Oslo"}
          task         model
            llm        gpt-4o-mini 10>5 $
          final_response "Done."
          chain_end    completed
        """,
        *asked(
            weather,
            tool_request(call("weather", "c1", city="Oslo")),
            tool_request(call("weather", "c2", city="Oslo")),
            "Done.",
        ),
    )


def test_tool_calls_with_a_reused_id_are_reported_separately(watch: Watch):
    traced = watch(
        """
        user_message   "Do it."
        chain_start    LangGraph
          task         model
            llm        gpt-4o-mini 10>5 $ calls=weather
          task         tools
            tool_call  weather {"city":"Oslo"}
              observation {"output":"sunny in Oslo"}
          task         model
            llm        gpt-4o-mini 10>5 $ calls=wether
              tool_call wether {"city":"Rome"}
                tool_error ToolNotRun: Error: wether is not a valid tool, try one of [weather]. handled
          task         tools
          task         model
            llm        gpt-4o-mini 10>5 $ calls=wether
              tool_call wether {"city":"Bern"}
                tool_error ToolNotRun: Error: wether is not a valid tool, try one of [weather]. handled
          task         tools
          task         model
            llm        gpt-4o-mini 10>5 $ calls=weather
          task         tools
            tool_call  weather {"city":"Rome"}
              observation {"output":"sunny in Rome"}
          task         model
            llm        gpt-4o-mini 10>5 $
          final_response "Done."
          chain_end    completed
        """,
        *asked(
            weather,
            tool_request(call("weather", "call_0", city="Oslo")),
            tool_request(call("wether", "call_0", city="Rome")),
            tool_request(call("wether", "call_0", city="Bern")),
            tool_request(call("weather", "call_0", city="Rome")),
            "Done.",
        ),
    )
    askers = [m["externalMessageId"] for m in traced.of_type("llm")]
    assert [m["properties"]["requested_by"] for m in traced.of_type("tool_call")] == askers[:4]


def test_a_tool_keeps_its_name_whatever_the_run_name_says(watch: Watch):
    ids: Config = {"metadata": {"conversation_id": "c-1"}}

    async def aprogram(config: Config) -> Any:
        await weather.ainvoke({"city": "Rome"}, {**config, **ids, "run_name": "step 3"})

    named = weather.with_config(run_name="step 4")
    traced = [
        watch.trace(lambda config: weather.invoke({"city": "Rome"}, {**config, **ids, "run_name": "step 3"})),
        watch.trace(aprogram),
        watch.trace(lambda config: named.invoke(call("weather", city="Rome"), {**config, **ids})),
    ]
    for run in traced:
        assert [m["toolName"] for m in run.messages] == ["weather", "weather"]
