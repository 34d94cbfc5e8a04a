"""What stands in a message: its words, its reasoning, its media, the tools it asks for.

Every provider has its own blocks, and so has LangChain in each of its versions; a block is
known here by its type or, where it has none (Bedrock, Google), by its only key. Pure, works
on the plain values of `records.Message`, and never raises.
"""

from __future__ import annotations

import json
from typing import Any

from gati.trace.media import media_of, plain_blocks
from gati.trace.records import Message

__all__ = ["media_of", "plain_blocks", "reasoning_of", "text_of", "tool_requests_of"]

_TEXT_TYPES = frozenset({"text", "input_text", "output_text"})
ASSISTANT_ROLES = frozenset({"ai", "AIMessageChunk", "assistant"})
_CLIENT_CALLS = frozenset({"tool_use", "tool_call", "function_call", "custom_tool_call"})
_SERVER_CALLS = frozenset({"server_tool_call", "server_tool_use", "mcp_tool_use", "executable_code"})
_OPENAI_SERVER_CALLS = frozenset(
    {"web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call", "mcp_call",
     "mcp_list_tools", "tool_search_call"}
)  # fmt: skip
_RESULT_KEYS = ("result", "results", "outputs", "output", "error", "tools")
_NO_ARGUMENT = frozenset({"type", "id", "index", "name", "status", "extras", *_RESULT_KEYS})


def text_of(value: Any) -> str:
    """The words of a message or of its content; reasoning, tools and media are left out.

    Blocks of an answer are joined as they are, since a citation splits a sentence in two, and so
    are blocks of a bare content; those of any other message each begin a line. An answer that is
    a refusal or was spoken gives the refusal or its transcript.
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


def _join_text(content: Any, between: str) -> str:
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, list) else [content]
    return between.join(filter(None, map(_block_text, blocks)))


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
    """What a model thought before it answered; empty when it told nothing or only a signature."""
    content = value.content if isinstance(value, Message) else value
    if type(content) is str and (value is content or not value.additional):
        return ""
    blocks = content if isinstance(content, list) else [content]
    thoughts = [thought for block in blocks if isinstance(block, dict) and (thought := _thought_of_block(block))]
    if not thoughts and isinstance(value, Message) and isinstance(value.additional, dict):
        kept = value.additional
        for key in ("reasoning_content", "reasoning", "thinking", "reasoning_details"):
            if thought := _thought_text(kept.get(key)):
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
    """The text of a thought: itself, or in the parts that it was given in."""
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
    """The tool calls of an answer: ``{id, name, args}`` each.

    A call whose arguments could not be read has ``invalid: True`` and ``error``; one that the
    provider ran itself has ``server: True`` and, where it came along, its ``result``.
    """
    if not isinstance(message, Message):
        return []
    calls: list[dict[str, Any]] = []
    if not (message.tool_calls or message.invalid_tool_calls or message.additional) and type(message.content) is str:
        return calls
    calls = [_tool_request(call) for call in message.tool_calls if isinstance(call, dict)]
    bad = [call for call in message.invalid_tool_calls if isinstance(call, dict)]
    calls += [{**_tool_request(call), "invalid": True, "error": call.get("error")} for call in bad]
    blocks = [block for block in _as_list(message.content) if isinstance(block, dict)]
    if not calls:
        calls = [call for block in blocks if (call := _client_call(block)) is not None]
    if isinstance(message.additional, dict):
        # Where the Responses API's own tools stood before content was a list of blocks.
        blocks += [block for block in _as_list(message.additional.get("tool_outputs")) if isinstance(block, dict)]
    return calls + _server_calls(blocks)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _tool_request(call: dict[Any, Any]) -> dict[str, Any]:
    return {"id": call.get("id"), "name": call.get("name"), "args": _parsed_arguments(call.get("args"))}


def _parsed_arguments(value: Any) -> Any:
    """Arguments as an object, also when they came as JSON text."""
    if isinstance(value, str):
        try:
            loaded = json.loads(value)
        except (ValueError, RecursionError):  # not JSON, or JSON made to exhaust the parser
            return value
        return loaded if isinstance(loaded, dict) else value
    return plain_blocks(value)


def _client_call(block: dict[Any, Any]) -> dict[str, Any] | None:
    """A tool call of content blocks, for messages whose `tool_calls` were not filled."""
    if _as_text(block.get("type")) in _CLIENT_CALLS:
        args: Any = next((block[key] for key in ("args", "input", "arguments") if block.get(key) is not None), {})
        return {
            "id": block.get("call_id") or block.get("id"),
            "name": block.get("name"),
            "args": _parsed_arguments(args),
        }
    for key in ("toolUse", "function_call", "functionCall"):
        if isinstance(inner := block.get(key), dict):
            args = inner.get("input") or inner.get("args") or {}
            return {
                "id": inner.get("toolUseId") or inner.get("id"),
                "name": inner.get("name"),
                "args": _parsed_arguments(args),
            }
    return None


def _server_calls(blocks: list[dict[Any, Any]]) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []
    for block in blocks:
        kind = _as_text(block.get("type"))
        if kind in _SERVER_CALLS:
            name = block.get("name") or ("code_execution" if kind == "executable_code" else None)
            args: Any = next((block[k] for k in ("args", "input", "executable_code") if block.get(k) is not None), {})
            calls.append({"id": block.get("id"), "name": name, "args": _parsed_arguments(args), "server": True})
        elif kind in _OPENAI_SERVER_CALLS:
            calls.append(_openai_server_call(block, kind))
        elif kind == "server_tool_result" or kind.endswith("_tool_result") or kind == "code_execution_result":
            _add_result(calls, block)
    return calls


def _openai_server_call(block: dict[Any, Any], kind: str) -> dict[str, Any]:
    name = block.get("name") or kind.removesuffix("_call")
    args = {
        key: _parsed_arguments(value) for key, value in block.items() if key not in _NO_ARGUMENT and value is not None
    }
    call = {"id": block.get("id"), "name": name, "args": args, "server": True}
    result = next((block[key] for key in _RESULT_KEYS if block.get(key) is not None), None)
    if result is not None:
        call["result"] = plain_blocks({"type": kind, "result": result})["result"]
    return call


def _add_result(calls: list[dict[str, Any]], block: dict[Any, Any]) -> None:
    """Puts a server-side tool's result beside the call that it names, else the one before it."""
    wanted = block.get("tool_call_id") or block.get("tool_use_id")
    call = next((call for call in calls if call["id"] == wanted), calls[-1] if calls and wanted is None else None)
    keys = ("output", "content", "code_execution_result")
    result = plain_blocks(next((block[key] for key in keys if block.get(key) is not None), None))
    if call is not None:
        call["result"] = result
    else:
        calls.append({"id": wanted, "name": block.get("type"), "args": {}, "server": True, "result": result})
