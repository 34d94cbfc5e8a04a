"""What stands in the arguments of a callback: small readers, in the user's thread."""

from __future__ import annotations

from typing import Any

from gati.langchain.snapshot import SHARED, freeze
from gati.trace.records import IDENTITY_KEYS

NODE_TAG = "graph:step:"


def is_node(tags: Any) -> bool:
    """Whether a run is a node of LangGraph, by the tag that only node runs carry."""
    if tags:
        for tag in tags:
            if tag.startswith(NODE_TAG):
                return True
    return False


def name_of(serialized: Any) -> str:
    """The name that a model or a tool has of its class."""
    if not serialized:
        return ""
    return serialized.get("name") or (serialized.get("id") or [""])[-1] or ""


_PARAMETERS = frozenset(
    {"model", "model_name", "model_id", "temperature", "max_tokens", "max_completion_tokens", "top_p", "top_k", "stop",
     "seed", "n", "tool_choice", "reasoning_effort", "reasoning", "response_format", "_type"}
)  # fmt: skip


def parameters_of(more: dict[str, Any]) -> dict[str, Any] | None:
    """How a model was called, and the names of the tools it was offered."""
    given = more.get("invocation_params")
    if not given:
        return None
    kept = {}
    for key, value in given.items():
        if value is not None and key in _PARAMETERS:
            kept[key] = value if type(value) in SHARED else freeze(value, 50)
    tools = given.get("tools") or given.get("functions")
    if tools:
        kept["tools"] = [_tool_name(tool) for tool in tools]
    return kept


def _tool_name(tool: Any) -> str:
    if not isinstance(tool, dict):
        return str(getattr(tool, "name", "") or type(tool).__name__)
    inner = tool.get("function")
    name = inner.get("name") if isinstance(inner, dict) else None
    return str(name or tool.get("name") or tool.get("type") or "")


def identity_in(config: Any) -> dict[str, Any] | None:
    """Ids in the `configurable` of a running config; None where there is no such config."""
    configurable = config.get("configurable") if config else None
    if configurable is None:
        return None
    return {key: freeze(configurable[key]) for key in IDENTITY_KEYS if key in configurable}


def text_of_blocks(token: Any) -> str:
    """The words of a streamed piece that is a list of blocks."""
    if not isinstance(token, list):
        return ""
    return "".join(b if isinstance(b, str) else str(b.get("text") or "") for b in token if isinstance(b, (str, dict)))
