"""Whole programs whose turns arrive at an OTLP receiver as spans."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("langchain", reason="the programs are agents of `langchain`")
pytest.importorskip("opentelemetry.proto.trace.v1.trace_pb2", reason="needs opentelemetry-proto")

from langchain.agents import create_agent
from langchain_core.messages import HumanMessage

from gati import observe
from tests.otlp_receiver import Receiver
from tests.scenarios.scripts import call, model, reply, tool_request, weather

QUESTION = "How is the weather in Rome?"


def run_agent(**options: Any) -> None:
    observe.init(agent_name="guide", user_id="u-7", spool=False, **options)
    agent = create_agent(model(tool_request(call("weather", city="Rome")), reply("It is sunny.")), [weather])
    agent.invoke({"messages": [HumanMessage(QUESTION)]}, {"configurable": {"thread_id": "c-1"}})
    assert observe.flush(timeout=30)


def test_an_agent_arrives_as_a_tree_of_spans_without_texts(receiver: Receiver):
    run_agent(otlp_endpoint=receiver.url)
    agent = receiver.named("invoke_agent guide")
    names = [span.name for span in receiver.spans]
    assert names[0] == agent.name
    assert [name for name in names if not name.startswith(("model", "tools"))] == [
        agent.name, "chat gpt-4o-mini", "execute_tool weather", "chat gpt-4o-mini",
    ]  # fmt: skip
    ids = {span.span_id for span in receiver.spans}
    assert all(span.parent_id in ids for span in receiver.spans if span is not agent)
    assert {span.attributes["gen_ai.conversation.id"] for span in receiver.spans} == {"c-1"}
    assert agent.attributes["gen_ai.usage.input_tokens"] == 20
    assert not {"gen_ai.input.messages", "gen_ai.tool.call.arguments"} & {key for s in receiver.spans for key in s.attributes}  # fmt: skip
    assert "Rome" not in str(receiver.spans)


def test_texts_are_opt_in_and_masked(receiver: Receiver):
    run_agent(
        otlp_endpoint=receiver.url, otlp_content=True, mask=lambda text, path, kind: text.replace("Rome", "[city]")
    )
    assert "Rome" not in str(receiver.spans)
    agent, tool = receiver.named("invoke_agent guide"), receiver.named("execute_tool weather")
    assert agent.json("gen_ai.input.messages") == [
        {"role": "user", "parts": [{"type": "text", "content": "How is the weather in [city]?"}]}
    ]
    assert agent.json("gen_ai.output.messages")[0]["parts"] == [{"type": "text", "content": "It is sunny."}]
    assert tool.json("gen_ai.tool.call.arguments") == {"city": "[city]"}
    assert tool.json("gen_ai.tool.call.result") == {"output": "sunny in [city]"}


def test_conversations_that_are_sampled_out_send_no_spans(receiver: Receiver):
    run_agent(otlp_endpoint=receiver.url, sample_rate=0)
    assert (receiver.spans, observe.stats().sampled_out) == ([], 1)


@pytest.mark.parametrize("submission", ["turn", "incremental"])
def test_concurrent_turns_are_traces_of_their_own(receiver: Receiver, submission: Any):
    observe.init(agent_name="guide", otlp_endpoint=receiver.url, submission=submission, spool=False)
    agent = create_agent(model(*(reply("It is sunny.") for _ in range(5))), [weather])

    async def main() -> None:
        asked = {"messages": [HumanMessage(QUESTION)]}
        await asyncio.gather(*(agent.ainvoke(asked, {"configurable": {"thread_id": f"c-{n}"}}) for n in range(5)))

    asyncio.run(main())
    assert observe.flush(timeout=30)
    roots = [span for span in receiver.spans if not span.parent_id]
    assert len({span.trace_id for span in roots}) == len(roots) == 5
    assert {(s.trace_id, s.attributes["gen_ai.conversation.id"]) for s in receiver.spans} == {
        (s.trace_id, s.attributes["gen_ai.conversation.id"]) for s in roots
    }
