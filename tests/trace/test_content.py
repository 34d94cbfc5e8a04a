"""`gati.trace.content`: the content blocks of every provider and LangChain version."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gati.trace.content import media_of, plain_blocks, reasoning_of, text_of, tool_requests_of
from gati.trace.records import Message

PIXEL = "iVBORw0KGgoAAAANSUhEUg=="
THOUGHT, ANSWER = "First, add them.", "It is 4."

# Provider → content with THOUGHT as reasoning, ANSWER as text, and blocks that are neither.
ANSWERS: dict[str, list[Any]] = {
    "anthropic": [
        {"type": "thinking", "thinking": THOUGHT, "signature": "EuYBCkQ"},
        {"type": "redacted_thinking", "data": "EmwKAhgB"},
        {"type": "text", "text": "It is "},
        {"type": "text", "text": "4.", "citations": [{"type": "char_location", "cited_text": "2+2"}]},
        {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 2}},
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "2+2"}},
        {
            "type": "web_search_tool_result",
            "tool_use_id": "srvtoolu_1",
            "content": [{"type": "web_search_result", "url": "u"}],
        },
        {"type": "input_json_delta", "partial_json": '{"a"'},
    ],
    "openai responses": [
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": THOUGHT}]},
        {"type": "text", "text": ANSWER, "annotations": [], "id": "msg_1"},
        {"type": "function_call", "name": "add", "arguments": "{}", "call_id": "call_1", "id": "fc_1"},
        {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "2+2"}},
    ],
    "openai responses, raw": [
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": THOUGHT}]},
        {"type": "output_text", "text": ANSWER, "annotations": []},
    ],
    "google": [
        {"type": "thinking", "thinking": THOUGHT},
        {"type": "executable_code", "executable_code": "print(2+2)", "language": "PYTHON", "id": "1"},
        {"type": "code_execution_result", "code_execution_result": "4", "outcome": 1},
        {"type": "text", "text": ANSWER, "extras": {"signature": "Cv4B"}},
    ],
    "google, strings between blocks": [{"type": "thinking", "thinking": THOUGHT}, "It is ", "4."],
    "google, raw parts": [
        {"text": THOUGHT, "thought": True},
        {"text": ANSWER},
        {"functionCall": {"name": "add", "args": {}}},
    ],
    "bedrock converse": [
        {"type": "reasoning_content", "reasoning_content": {"text": THOUGHT, "signature": "EsQB"}},
        {"type": "text", "text": ANSWER},
        {"type": "tool_use", "name": "add", "input": {"a": 2}, "id": "tooluse_1"},
    ],
    "bedrock converse, raw": [
        {"reasoningContent": {"reasoningText": {"text": THOUGHT, "signature": "EsQB"}}},
        {"text": ANSWER},
        {"toolUse": {"toolUseId": "tooluse_1", "name": "add", "input": {"a": 2}}},
    ],
    "mistral": [
        {"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]},
        {"type": "text", "text": ANSWER},
        {"type": "reference", "reference_ids": [1]},
    ],
    "v1": [
        {"type": "reasoning", "reasoning": THOUGHT},
        {"type": "text", "text": ANSWER, "annotations": [{"type": "citation", "url": "https://example.com"}]},
        {"type": "tool_call", "id": "call_1", "name": "add", "args": {"a": 2}},
        {"type": "server_tool_call", "id": "ws_1", "name": "web_search", "args": {"query": "2+2"}},
        {"type": "server_tool_result", "tool_call_id": "ws_1", "status": "success", "output": "4"},
        {"type": "image", "base64": PIXEL, "mime_type": "image/png"},
        {"type": "text-plain", "text": "an attached file", "mime_type": "text/plain"},
        {"type": "non_standard", "value": {"type": "text", "text": "not for a reader"}},
    ],
}


@pytest.mark.parametrize("provider", ANSWERS)
def test_text_and_reasoning_are_separated(provider: str):
    answer = Message("ai", ANSWERS[provider])
    assert text_of(answer) == ANSWER
    assert text_of(ANSWERS[provider]) == ANSWER
    assert reasoning_of(answer) == THOUGHT


@pytest.mark.parametrize(
    "kept",
    [
        {"reasoning_content": THOUGHT},  # DeepSeek, Ollama, Groq, xAI
        {"reasoning": THOUGHT},  # OpenRouter
        {"reasoning": {"id": "rs_1", "summary": [{"type": "summary_text", "text": THOUGHT}]}},  # OpenAI responses, v0
        {"reasoning_details": [{"type": "reasoning.text", "text": THOUGHT}]},
    ],
)
def test_reasoning_outside_of_the_content_is_found(kept: dict[str, Any]):
    assert reasoning_of(Message("ai", ANSWER, additional=kept)) == THOUGHT
    assert text_of(Message("ai", ANSWER, additional=kept)) == ANSWER


def test_several_reasoning_blocks_are_joined_by_blank_lines():
    blocks = [
        {"type": "reasoning", "summary": [{"text": "One."}, {"text": "Two."}]},
        {"type": "thinking", "thinking": "Three."},
    ]
    assert reasoning_of(Message("ai", blocks)) == "One.\n\nTwo.\n\nThree."


def test_blocks_of_a_user_message_are_joined_by_line_breaks():
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    content = [{"type": "text", "text": "What is this?"}, image, {"type": "input_text", "text": "Be brief."}]
    assert text_of(Message("human", content)) == "What is this?\nBe brief."


def test_a_refusal_and_the_transcript_of_a_spoken_answer_are_text():
    assert text_of(Message("ai", [{"type": "refusal", "refusal": "I can't."}])) == "I can't."
    assert text_of(Message("ai", "", additional={"refusal": "I can't."})) == "I can't."
    assert text_of(Message("ai", "", additional={"audio": {"id": "a", "data": PIXEL, "transcript": "Hi."}})) == "Hi."
    assert text_of(Message("ai", "Hello", additional={"refusal": "I can't."})) == "Hello"


@pytest.mark.parametrize("content", ["", None, [], 42, {}, [None], [{"type": "tool_use"}]])
def test_content_without_text_blocks_is_an_empty_text(content: Any):
    assert text_of(content) == ""
    assert reasoning_of(content) == ""


# -- tools --------------------------------------------------------------------------------


def test_valid_and_invalid_tool_calls_are_requests():
    calls = ({"name": "add", "args": {"a": 2}, "id": "call_1", "type": "tool_call"},)
    bad = ({"name": "add", "args": '{"a": 2', "id": "call_2", "error": "not JSON", "type": "invalid_tool_call"},)
    assert tool_requests_of(Message("ai", "", tool_calls=calls, invalid_tool_calls=bad)) == [
        {"id": "call_1", "name": "add", "args": {"a": 2}},
        {"id": "call_2", "name": "add", "args": '{"a": 2', "invalid": True, "error": "not JSON"},
    ]


def test_a_call_that_the_content_repeats_is_returned_once():
    calls = ({"name": "add", "args": {"a": 2}, "id": "toolu_1", "type": "tool_call"},)
    requests = tool_requests_of(Message("ai", ANSWERS["anthropic"], tool_calls=calls))
    assert [request["name"] for request in requests] == ["add", "web_search"]


@pytest.mark.parametrize(
    "provider", ["anthropic", "openai responses", "bedrock converse", "bedrock converse, raw", "v1"]
)
def test_calls_are_read_from_blocks_if_tool_calls_is_empty(provider: str):
    assert tool_requests_of(Message("ai", ANSWERS[provider]))[0]["name"] == "add"


def test_server_side_calls_are_marked_and_have_their_results():
    assert tool_requests_of(Message("ai", ANSWERS["anthropic"]))[1] == {
        "id": "srvtoolu_1",
        "name": "web_search",
        "args": {"query": "2+2"},
        "server": True,
        "result": [{"type": "web_search_result", "url": "u"}],
    }
    assert tool_requests_of(Message("ai", ANSWERS["v1"]))[1] == {
        "id": "ws_1", "name": "web_search", "args": {"query": "2+2"}, "server": True, "result": "4",
    }  # fmt: skip
    assert tool_requests_of(Message("ai", ANSWERS["google"])) == [
        {"id": "1", "name": "code_execution", "args": "print(2+2)", "server": True, "result": "4"}
    ]


def test_openais_built_in_tools_are_read_from_blocks_and_from_tool_outputs():
    search = {
        "type": "file_search_call",
        "id": "fs_1",
        "status": "completed",
        "queries": ["2+2"],
        "results": [{"text": "4"}],
    }
    image = {"type": "image_generation_call", "id": "ig_1", "output_format": "png", "result": PIXEL}
    remote = {
        "type": "mcp_call",
        "id": "m_1",
        "name": "roll",
        "arguments": '{"dice": 2}',
        "server_label": "dnd",
        "output": "7",
    }
    wanted = [
        {"id": "fs_1", "name": "file_search", "args": {"queries": ["2+2"]}, "server": True, "result": [{"text": "4"}]},
        {"id": "ig_1", "name": "image_generation", "args": {"output_format": "png"}, "server": True},
        {
            "id": "m_1",
            "name": "roll",
            "args": {"arguments": {"dice": 2}, "server_label": "dnd"},
            "server": True,
            "result": "7",
        },
    ]
    for message in (
        Message("ai", [search, image, remote]),
        Message("ai", "", additional={"tool_outputs": [search, image, remote]}),
    ):
        requests = tool_requests_of(message)
        assert requests[1].pop("result")["bytes"] == 16
        assert requests == wanted


def test_a_result_without_its_call_is_kept():
    block = {"type": "mcp_tool_result", "tool_use_id": "mcptoolu_1", "content": "7"}
    assert tool_requests_of(Message("ai", [block])) == [
        {"id": "mcptoolu_1", "name": "mcp_tool_result", "args": {}, "server": True, "result": "7"}
    ]


# -- any value ----------------------------------------------------------------------------

_KINDS = sorted(
    {
        str(block["type"])
        for content in ANSWERS.values()
        for block in content
        if isinstance(block, dict) and "type" in block
    }
)
_KEYS = ["type", "text", "thinking", "reasoning", "summary", "content", "source", "data", "mime_type", "image_url", "url", "id",
         "name", "args", "input", "output", "result", "toolUse", "tool_use_id", "reasoning_content", "audio"]  # fmt: skip
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=20)
    | st.sampled_from(_KINDS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(_KEYS), inner, max_size=6),
    max_leaves=25,
)
CALLS = st.lists(ANYTHING, max_size=3).map(tuple)
MESSAGES = st.tuples(st.sampled_from(["ai", "human", ""]), ANYTHING, CALLS, CALLS, ANYTHING).map(
    lambda v: Message(v[0], v[1], tool_calls=v[2], invalid_tool_calls=v[3], additional=v[4])
)


def test_the_arguments_of_a_streamed_server_tool_are_read():
    block = {
        "type": "server_tool_use",
        "id": "s1",
        "name": "web_search",
        "input": {},
        "partial_json": '{"query": "otters"}',
    }
    (request,) = tool_requests_of(Message("ai", [block]))
    assert request == {"id": "s1", "name": "web_search", "args": {"query": "otters"}, "server": True}


@given(MESSAGES | ANYTHING)
def test_no_message_raises(value: Any):
    assert isinstance(text_of(value), str)
    assert isinstance(reasoning_of(value), str)
    assert isinstance(tool_requests_of(value), list)
    assert isinstance(media_of(value), list)
    plain_blocks(value)
