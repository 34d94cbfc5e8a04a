"""Agents with middleware: its effects are recorded, and its own model calls are internal."""

from __future__ import annotations

from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import (
    AgentMiddleware,
    AgentState,
    ModelFallbackMiddleware,
    ModelRequest,
    SummarizationMiddleware,
    ToolCallLimitMiddleware,
    ToolRetryMiddleware,
    after_model,
    before_agent,
    before_model,
    dynamic_prompt,
    wrap_tool_call,
)
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import BaseModel

from tests.optional import middleware
from tests.scenarios.harness import Program, Watch, each_method
from tests.scenarios.scripts import call, model, reply, tool_request, turns, weather

ASKED = {"messages": [("user", "How is the weather in Oslo?")]}
BOTH = "invoke ainvoke"


def agent(*replies: Any, tools: Any = (weather,), only: str = BOTH, given: Any = ASKED, **more: Any) -> list[Program]:
    """Return programs of an agent. Stateful middleware is created anew for each run."""
    made = {k: v() if callable(v) and k == "middleware" else v for k, v in more.items()}
    return each_method(lambda: create_agent(model(*replies), list(tools), **made), given, only=only)


def test_a_summary_is_internal(watch: Watch):
    history = [
        HumanMessage("Hello."),
        AIMessage("Hello, how can I help?"),
        HumanMessage("I am in Norway."),
        AIMessage("A fine place."),
        HumanMessage("How is the weather in Oslo?"),
    ]
    watch(
        """
        user_message   "How is the weather in Oslo?"
        chain_start    LangGraph
          task         SummarizationMiddleware.before_model
            llm        gpt-4o-mini 10>5 $ internal input human:"Sum up what was said." => "They are in Norway."
          task         model
            llm        gpt-4o-mini 10>5 $ input human:"Here is a summary of the conversation to date:\\n\\nThey are in Norway."
          final_response "It is sunny."
          chain_end    completed
        """,
        *each_method(
            lambda: create_agent(
                model("It is sunny."),
                middleware=[
                    SummarizationMiddleware(
                        model("They are in Norway."),
                        trigger=("messages", 4),
                        keep=("messages", 1),
                        token_counter=len,
                        summary_prompt="Sum up what was said.",
                    )
                ],
            ),
            {"messages": history},
            only=BOTH,
        ),
    )


def test_a_retried_tool_call_reports_each_attempt(watch: Watch):
    def make() -> Any:
        tries = []

        @tool
        def shaky(city: str) -> str:
            """Fail once."""
            tries.append(city)
            if len(tries) == 1:
                raise ConnectionError("gone")
            return f"rain in {city}"

        return create_agent(
            model(tool_request(call("shaky", city="Oslo")), "Rain."),
            [shaky],
            middleware=[ToolRetryMiddleware(max_retries=2, initial_delay=0.0, jitter=False)],
        )

    traced = watch(
        """
        user_message   "How is the weather in Oslo?"
        chain_start    LangGraph
          task         model
            llm        gpt-4o-mini 10>5 $ calls=shaky
          task         tools
            tool_call  shaky {"city":"Oslo"}
              tool_error ConnectionError: gone handled
            tool_call  shaky {"city":"Oslo"}
              observation {"output":"rain in Oslo"}
          task         model
            llm        gpt-4o-mini 10>5 $
          final_response "Rain."
          chain_end    completed
        """,
        *each_method(make, ASKED, only=BOTH),
    )
    assert [m["properties"]["tool_call_id"] for m in traced.of_type("tool_call")] == ["c1", "c1"]


def test_a_fallback_model_reports_both_calls(watch: Watch):
    watch(
        """
        user_message   "How is the weather in Oslo?"
        chain_start    LangGraph
          task         model
            llm        gpt-4o-mini ?>? error RuntimeError: overloaded
            llm        gpt-4o 10>5 $
          final_response "It is sunny."
          chain_end    completed
        """,
        *each_method(
            lambda: create_agent(
                model(RuntimeError("overloaded")),
                middleware=[ModelFallbackMiddleware(model("It is sunny.", model_name="gpt-4o"))],
            ),
            ASKED,
        ),
    )


def test_a_retried_model_call_reports_each_attempt(watch: Watch):
    watch(
        """
        user_message   "How is the weather in Oslo?"
        chain_start    LangGraph
          task         model
            llm        gpt-4o-mini ?>? error RuntimeError: overloaded
            llm        gpt-4o-mini 10>5 $
          final_response "It is sunny."
          chain_end    completed
        """,
        *each_method(
            lambda: create_agent(
                model(RuntimeError("overloaded"), "It is sunny."),
                middleware=[middleware("ModelRetryMiddleware", max_retries=2, initial_delay=0.0, jitter=False)],
            ),
            ASKED,
            only=BOTH,
        ),
    )


def test_the_error_of_a_model_can_be_the_answer(watch: Watch):
    """`on_failure="continue"` makes the error the answer that the user reads."""
    watch(
        """
        user_message   "How is the weather in Oslo?"
        chain_start    LangGraph
          task         model
            llm        gpt-4o-mini ?>? error RuntimeError: overloaded
            llm        gpt-4o-mini ?>? error RuntimeError: overloaded
          final_response "Please try later."
          chain_end    completed
        """,
        *agent(
            RuntimeError("overloaded"),
            RuntimeError("overloaded"),
            middleware=[
                middleware(
                    "ModelRetryMiddleware",
                    max_retries=1,
                    initial_delay=0.0,
                    jitter=False,
                    on_failure=lambda error: "Please try later.",
                )
            ],
        )[:1],
    )


def test_a_prompt_from_middleware_is_the_prompt_of_the_call(watch: Watch):
    @dynamic_prompt
    def mood(request: ModelRequest) -> str:
        return f"You are patient. {len(request.messages)} messages so far."

    watch(
        """
        prompt @1 agent/model "You are patient. 3 messages so far."
        prompt @2 agent/model "You are patient. 1 messages so far."
        user_message   "How is the weather in Oslo?"
        chain_start    LangGraph
          task         model
            llm        gpt-4o-mini 10>5 $ calls=weather @2
          task         tools
            tool_call  weather {"city":"Oslo"}
              observation {"output":"sunny in Oslo"}
          task         model
            llm        gpt-4o-mini 10>5 $ @1
          final_response "It is sunny." @1
          chain_end    completed
        """,
        *agent(tool_request(call("weather", city="Oslo")), "It is sunny.", middleware=[mood]),
    )


def test_hooks_are_steps(watch: Watch):
    @before_agent
    def greet(state: AgentState[Any], runtime: Any) -> None:
        return None

    @before_model
    def check(state: AgentState[Any], runtime: Any) -> None:
        return None

    @after_model
    def polish(state: AgentState[Any], runtime: Any) -> dict[str, Any]:
        last = state["messages"][-1]
        return {"messages": [AIMessage("It is very sunny.", id=last.id)]}

    watch(
        """
        user_message   "How is the weather in Oslo?"
        chain_start    LangGraph
          task         greet.before_agent
          task         check.before_model
          task         model
            llm        gpt-4o-mini 10>5 $ => "It is sunny."
          task         polish.after_model
          final_response "It is very sunny."
          chain_end    completed
        """,
        *agent("It is sunny.", middleware=[greet, check, polish]),
    )


def test_a_hook_can_answer_in_place_of_the_model(watch: Watch):
    @before_model(can_jump_to=["end"])
    def guard(state: AgentState[Any], runtime: Any) -> dict[str, Any]:
        return {"messages": [AIMessage("I may not say.")], "jump_to": "end"}

    watch(
        """
        user_message   "How is the weather in Oslo?"
        chain_start    LangGraph
          task         guard.before_model => {"jump_to":"end"}
          final_response "I may not say."
          chain_end    completed
        """,
        *agent("never", middleware=[guard]),
    )


def test_a_tool_call_limit_reports_the_blocked_call(watch: Watch):
    traced = watch.trace(
        agent(
            tool_request(call("weather", "c1", city="Oslo")),
            tool_request(call("weather", "c2", city="Rome")),
            "Enough.",
            middleware=[ToolCallLimitMiddleware(run_limit=1)],
        )[0]
    )
    ran, refused = traced.of_type("tool_call")
    assert (ran["input"], refused["input"]) == ({"city": "Oslo"}, {"city": "Rome"})
    (error,) = traced.of_type("tool_error")
    assert error["parentExternalMessageId"] == refused["externalMessageId"]
    assert error["output"]["type"] == "ToolNotRun"
    assert traced.transcript() == [("user", "How is the weather in Oslo?"), ("assistant", "Enough.")]


def test_middleware_can_answer_a_tool_call(watch: Watch):
    @wrap_tool_call
    def cached(request: Any, handler: Any) -> ToolMessage:
        return ToolMessage("rain, as an hour ago", tool_call_id=request.tool_call["id"])

    watch(
        """
        user_message   "How is the weather in Oslo?"
        chain_start    LangGraph
          task         model
            llm        gpt-4o-mini 10>5 $ calls=weather
              tool_call weather {"city":"Oslo"}
                observation {"output":"rain, as an hour ago"}
          task         tools
          task         model
            llm        gpt-4o-mini 10>5 $
          final_response "Rain."
          chain_end    completed
        """,
        *agent(tool_request(call("weather", city="Oslo")), "Rain.", middleware=[cached])[:1],
    )


class Forecast(BaseModel):
    """The requested answer."""

    sky: str
    degrees: int


def test_structured_output_from_a_tool_is_the_answer_and_not_a_tool_call(watch: Watch):
    watch(
        """
        user_message   "How is the weather in Oslo?"
        chain_start    LangGraph
          task         model => {"structured_response":{"sky":"clear","degrees":4}}
            llm        gpt-4o-mini 10>5 $ calls=Forecast
          final_response "{\\"sky\\":\\"clear\\",\\"degrees\\":4}"
          chain_end    completed
        """,
        *agent(
            tool_request(call("Forecast", sky="clear", degrees=4)), tools=(), response_format=ToolStrategy(Forecast)
        ),
    )


def test_invalid_structured_output_is_requested_again(watch: Watch):
    traced = watch.trace(
        agent(
            tool_request(call("Forecast", "c1", sky="clear", degrees="cold")),
            tool_request(call("Forecast", "c2", sky="clear", degrees=4)),
            tools=(),
            response_format=ToolStrategy(Forecast),
        )[0]
    )
    (refused,) = traced.of_type("tool_call")
    assert refused["input"] == {"sky": "clear", "degrees": "cold"}
    assert len(traced.of_type("tool_error")) == 1
    assert traced.transcript()[-1] == ("assistant", '{"sky":"clear","degrees":4}')


def test_the_next_turn_does_not_repeat_the_result_of_a_structured_answer(watch: Watch):
    """LangChain writes a tool message, "Returning structured response: …", into the thread."""

    def make() -> Any:
        asked = [tool_request(call("Forecast", f"c{n}", sky="clear", degrees=n)) for n in (4, 5)]
        return create_agent(model(*asked), [], response_format=ToolStrategy(Forecast), checkpointer=InMemorySaver())

    watch(
        """
        conversation c-1 of anonymous
        user_message   "Today?"
        chain_start    LangGraph
          task         model => {"structured_response":{"sky":"clear","degrees":4}}
            llm        gpt-4o-mini 10>5 $ calls=Forecast
          final_response "{\\"sky\\":\\"clear\\",\\"degrees\\":4}"
          chain_end    completed
        user_message   "Tomorrow?"
        chain_start    LangGraph
          task         model => {"structured_response":{"sky":"clear","degrees":5}}
            llm        gpt-4o-mini 10>5 $ calls=Forecast
          final_response "{\\"sky\\":\\"clear\\",\\"degrees\\":5}"
          chain_end    completed
        """,
        *turns(make, *({"messages": [("user", asked)]} for asked in ("Today?", "Tomorrow?")), only=BOTH),
    )


def test_structured_output_from_the_provider_is_the_answer(watch: Watch):
    watch(
        """
        user_message   "How is the weather in Oslo?"
        chain_start    LangGraph
          task         model => {"structured_response":{"sky":"clear","degrees":4}}
            llm        gpt-4o-mini 10>5 $
          final_response "{\\"sky\\": \\"clear\\", \\"degrees\\": 4}"
          chain_end    completed
        """,
        *agent('{"sky": "clear", "degrees": 4}', tools=(), response_format=ProviderStrategy(Forecast)),
    )


def test_custom_middleware_may_call_another_model(watch: Watch):
    class Titles(AgentMiddleware[Any, Any]):
        def before_agent(self, state: Any, runtime: Any) -> dict[str, Any] | None:
            model("Weather in Oslo").invoke([HumanMessage("A title for: " + state["messages"][-1].text)])
            return None

    watch(
        """
        user_message   "How is the weather in Oslo?"
        chain_start    LangGraph
          task         Titles.before_agent
            llm        gpt-4o-mini 10>5 $ internal input human:"A title for: How is the weather in Oslo?" => "Weather in Oslo"
          task         model
            llm        gpt-4o-mini 10>5 $
          final_response "It is sunny."
          chain_end    completed
        """,
        *agent("It is sunny.", middleware=[Titles()])[:1],
    )


def test_a_model_in_middleware_that_rewrites_the_answer_made_it(watch: Watch):
    @after_model
    def moderate(state: Any, runtime: Any) -> dict[str, Any]:
        last = state["messages"][-1]
        moderator = model("Please call billing.").with_config(run_name="moderator")
        polite = moderator.invoke([("system", "Be polite."), ("user", last.text)])
        return {"messages": [AIMessage(polite.text, id=last.id)]}

    watch(
        """
        prompt agent/moderate.after_model/moderator "Be polite."
        user_message   "How is the weather in Oslo?"
        chain_start    LangGraph
          task         model
            llm        gpt-4o-mini 10>5 $ internal => "Call the idiots of billing."
          task         moderate.after_model
            llm        gpt-4o-mini 10>5 $ input human:"Call the idiots of billing."
          final_response "Please call billing."
          chain_end    completed
        """,
        *agent("Call the idiots of billing.", tools=(), middleware=[moderate])[:1],
    )


def test_the_prompt_of_middleware_is_not_the_prompt_of_the_agent(watch: Watch):
    """The tool selector has a prompt and the agent has none, so messages have no prompt."""
    selects = [tool_request(call("ToolSelectionResponse", f"s{n}", tools=["weather"])) for n in range(2)]

    def selecting() -> Any:
        selector = middleware("LLMToolSelectorMiddleware", model=model(*selects), max_tools=1, system_prompt="Select.")
        return create_agent(
            model(tool_request(call("weather", city="Oslo")), "It is sunny."), [weather], middleware=[selector]
        )

    traced = watch.trace(each_method(selecting, ASKED, only="invoke")[0])
    assert [m["prompt"] is not None for m in traced.of_type("llm")] == [True, False, True, False]
    assert {m["messageType"] for m in traced.messages if m["prompt"] is not None} == {"llm"}
    assert traced.transcript() == [("user", "How is the weather in Oslo?"), ("assistant", "It is sunny.")]


def test_a_thought_before_a_structured_answer_stays_a_thought(watch: Watch):
    with_thought = reply(
        [{"type": "reasoning", "reasoning": "It is clear."}], tool_calls=[call("Forecast", sky="clear", degrees=4)]
    )
    watch(
        """
        user_message   "How is the weather in Oslo?"
        chain_start    LangGraph
          task         model => {"structured_response":{"sky":"clear","degrees":4}}
            llm        gpt-4o-mini 10>5 $ calls=Forecast
              thought  "It is clear."
          final_response "{\\"sky\\":\\"clear\\",\\"degrees\\":4}"
          chain_end    completed
        """,
        *agent(with_thought, tools=(), response_format=ToolStrategy(Forecast)),
    )


def _limited_turns(*ids: str) -> Program:
    """Return a program with two turns of a thread. The limit ends the second call of the first turn or of each one."""

    def run(config: Any) -> Any:
        config = {**config, "configurable": {"thread_id": "c-1"}}
        requests = [tool_request(call("weather", made, city=str(n))) for n, made in enumerate(ids)]
        limited = create_agent(
            model(*requests, "Fine."),
            [weather],
            middleware=[ToolCallLimitMiddleware(run_limit=1, exit_behavior="end")],
            checkpointer=InMemorySaver(),
        )
        limited.invoke(ASKED, config)
        return limited.invoke({"messages": [("user", "And now?")]}, config)

    return run


def test_the_result_of_a_blocked_call_is_not_repeated_in_the_next_turn(watch: Watch):
    traced = watch.trace(_limited_turns("c1", "c2"))
    assert [error["output"]["type"] for error in traced.of_type("tool_error")] == ["ToolNotRun"]
    assert not any(message.get("input") for message in traced.of_type("llm"))


def test_a_blocked_call_is_reported_if_a_tool_of_an_earlier_turn_had_its_id(watch: Watch):
    traced = watch.trace(_limited_turns("call_0", "call_1", "call_1", "call_0"))
    assert [made["input"]["city"] for made in traced.of_type("tool_call")] == ["0", "1", "2", "3"]
    assert [error["output"]["type"] for error in traced.of_type("tool_error")] == ["ToolNotRun", "ToolNotRun"]
    assert [end["properties"]["tool_calls"] for end in traced.of_type("chain_end")] == [2, 2]
