"""Extract text, reasoning, media and tool requests from the content of a message.

Providers and LangChain versions use different content blocks. A block is recognized by its type or,
if it has none (Bedrock, Google), by its only key. These functions are pure, take the plain values
of `records.Message`, and never raise.
"""

from __future__ import annotations

import json
from typing import Any

from gati.trace.media import media_of, plain_blocks
from gati.trace.records import ASSISTANT_ROLES, Message

__all__ = ["media_of", "plain_blocks", "reasoning_of", "text_of", "tool_requests_of"]

_TEXT_TYPES = frozenset({"text", "input_text", "output_text"})
_CLIENT_CALLS = frozenset({"tool_use", "tool_call", "function_call", "custom_tool_call"})
_SERVER_CALLS = frozenset({"server_tool_call", "server_tool_use", "mcp_tool_use", "executable_code"})
_OPENAI_SERVER_CALLS = frozenset(
    {"web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call", "mcp_call",
     "mcp_list_tools", "tool_search_call"}
)  # fmt: skip
_RESULT_KEYS = ("result", "results", "outputs", "output", "error", "tools")
_NO_ARGUMENT = frozenset({"type", "id", "index", "name", "status", "extras", *_RESULT_KEYS})


def text_of(value: Any) -> str:
    """Return the text of a message or of its content, without reasoning, tool calls and media.

    Blocks of an answer and of a bare content are joined without a separator, because a citation
    splits a sentence into blocks. Blocks of other messages are joined by line breaks. For a refusal
    or a spoken answer, return the refusal or the transcript.
    """
    if not isinstance(value, Message):
        return _join_text(value, "")
    if type(value.content) is str and value.content:
        return value.content
    text = _join_text(value.content, "" if value.role in ASSISTANT_ROLES else "\n")
    if not text and isinstance(value.additional, dict):
        audio = value.additional.get("audio")
        spoken = audio.get("transcript") if isinstance(audio, dict) else None
        return _as_text(value.additional.get("refusal")) or _as_text(spoken)
    return text


def _join_text(content: Any, separator: str) -> str:
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, list) else [content]
    return separator.join(filter(None, map(_block_text, blocks)))


def _block_text(block: Any) -> str:
    if isinstance(block, str):
        return block
    if not isinstance(block, dict) or block.get("thought") is True:
        return ""
    kind = block.get("type", "text")
    if kind == "refusal":
        return _as_text(block.get("refusal"))
    return _as_text(block.get("text")) if _as_text(kind) in _TEXT_TYPES else ""


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def reasoning_of(value: Any) -> str:
    """Return the reasoning of an answer; "" if there is none or only a signature."""
    content = value.content if isinstance(value, Message) else value
    if type(content) is str and (value is content or not value.additional):
        return ""
    blocks = content if isinstance(content, list) else [content]
    thoughts = [thought for block in blocks if isinstance(block, dict) and (thought := _thought_of_block(block))]
    if not thoughts and isinstance(value, Message) and isinstance(value.additional, dict):
        for key in ("reasoning_content", "reasoning", "thinking", "reasoning_details"):
            if thought := _thought_text(value.additional.get(key)):
                return thought
    return "\n\n".join(thoughts)


def _thought_of_block(block: dict[Any, Any]) -> str:
    kind = block.get("type")
    if kind == "thinking":  # Anthropic, Google, Mistral
        return _thought_text(block.get("thinking"))
    if kind == "reasoning":  # OpenAI's Responses API, v1
        return (
            _thought_text(block.get("reasoning"))
            or _thought_text(block.get("summary"))
            or _thought_text(block.get("content"))
        )
    if kind == "reasoning_content" or "reasoningContent" in block:  # Bedrock
        return _thought_text(block.get("reasoning_content") or block.get("reasoningContent"))
    return _as_text(block.get("text")) if block.get("thought") is True else ""


def _thought_text(value: Any, depth: int = 4) -> str:
    r"""Return the text of a reasoning value: a text, or nested lists and dicts of texts.

    Example: ``[{"text": "First,"}, {"text": "add."}]`` → ``"First,\n\nadd."``.
    """
    if isinstance(value, str) or depth == 0:
        return _as_text(value)
    if isinstance(value, list):
        return "\n\n".join(filter(None, (_thought_text(part, depth - 1) for part in value)))
    if isinstance(value, dict):
        for key in ("text", "summary", "content", "reasoningText", "reasoning", "thinking"):
            if thought := _thought_text(value.get(key), depth - 1):
                return thought
    return ""


def tool_requests_of(message: Any) -> list[dict[str, Any]]:
    """Return the tool calls of an answer as ``{id, name, args}``.

    A call whose arguments could not be parsed also has ``invalid: True`` and ``error``. A call that
    the provider ran itself has ``server: True`` and, if the message contains it, its ``result``.
    """
    if not isinstance(message, Message):
        return []
    calls: list[dict[str, Any]] = []
    if not (message.tool_calls or message.invalid_tool_calls or message.additional) and type(message.content) is str:
        return calls
    calls = [_tool_request(call) for call in message.tool_calls if isinstance(call, dict)]
    invalid = [call for call in message.invalid_tool_calls if isinstance(call, dict)]
    calls += [{**_tool_request(call), "invalid": True, "error": call.get("error")} for call in invalid]
    blocks = [block for block in _as_list(message.content) if isinstance(block, dict)]
    if not calls:
        calls = [call for block in blocks if (call := _client_call(block)) is not None]
    if isinstance(message.additional, dict):
        # Older versions keep the results of the Responses API's built-in tools here.
        blocks += [block for block in _as_list(message.additional.get("tool_outputs")) if isinstance(block, dict)]
    return calls + _server_calls(blocks)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _tool_request(call: dict[Any, Any]) -> dict[str, Any]:
    return {"id": call.get("id"), "name": call.get("name"), "args": parsed_arguments(call.get("args"))}


def parsed_arguments(value: Any) -> Any:
    """Return arguments as an object. Example: ``'{"a": 1}'`` → ``{"a": 1}``."""
    if isinstance(value, str):
        try:
            loaded = json.loads(value)
        except (ValueError, RecursionError):  # not JSON, or JSON nested too deeply for the parser
            return value
        return loaded if isinstance(loaded, dict) else value
    return plain_blocks(value)


def _client_call(block: dict[Any, Any]) -> dict[str, Any] | None:
    """Return the tool call in a content block, for messages whose `tool_calls` are empty."""
    if _as_text(block.get("type")) in _CLIENT_CALLS:
        args: Any = next((block[key] for key in ("args", "input", "arguments") if block.get(key) is not None), {})
        return {
            "id": block.get("call_id") or block.get("id"),
            "name": block.get("name"),
            "args": parsed_arguments(args),
        }
    for key in ("toolUse", "function_call", "functionCall"):
        if isinstance(call := block.get(key), dict):
            args = call.get("input") or call.get("args") or {}
            return {
                "id": call.get("toolUseId") or call.get("id"),
                "name": call.get("name"),
                "args": parsed_arguments(args),
            }
    return None


def _server_calls(blocks: list[dict[Any, Any]]) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []
    for block in blocks:
        kind = _as_text(block.get("type"))
        if kind in _SERVER_CALLS:
            name = block.get("name") or ("code_execution" if kind == "executable_code" else None)
            # A streamed block of Anthropic has an empty input, and the arguments as JSON beside it.
            names = ("args", "input", "executable_code", "partial_json")
            args: Any = next((block[k] for k in names if block.get(k)), {})
            calls.append({"id": block.get("id"), "name": name, "args": parsed_arguments(args), "server": True})
        elif kind in _OPENAI_SERVER_CALLS:
            calls.append(_openai_server_call(block, kind))
        elif kind == "server_tool_result" or kind.endswith("_tool_result") or kind == "code_execution_result":
            _add_result(calls, block)
    return calls


def _openai_server_call(block: dict[Any, Any], kind: str) -> dict[str, Any]:
    name = block.get("name") or kind.removesuffix("_call")
    args = {
        key: parsed_arguments(value) for key, value in block.items() if key not in _NO_ARGUMENT and value is not None
    }
    call = {"id": block.get("id"), "name": name, "args": args, "server": True}
    result = next((block[key] for key in _RESULT_KEYS if block.get(key) is not None), None)
    if result is not None:
        call["result"] = plain_blocks({"type": kind, "result": result})["result"]
    return call


def _add_result(calls: list[dict[str, Any]], block: dict[Any, Any]) -> None:
    """Add the result of a server-side tool to the call that it names, else to the last call."""
    call_id = block.get("tool_call_id") or block.get("tool_use_id")
    call = next((call for call in calls if call["id"] == call_id), calls[-1] if calls and call_id is None else None)
    keys = ("output", "content", "code_execution_result")
    result = plain_blocks(next((block[key] for key in keys if block.get(key) is not None), None))
    if call is not None:
        call["result"] = result
    else:
        calls.append({"id": call_id, "name": block.get("type"), "args": {}, "server": True, "result": result})
