"""Read the arguments of LangChain callbacks, in the user's thread."""

from __future__ import annotations

from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from gati.langchain._compat import runtime_context
from gati.langchain.snapshot import IMMUTABLE_TYPES, take_snapshot, text_limit

NODE_TAG = "graph:step:"
_OWN_KEYS = ("__", "checkpoint")
"""Prefixes of LangGraph's own keys in `configurable`."""
_GRAPH_KEYS = "langgraph_"
"""Prefix of LangGraph's own keys in a run's metadata."""


def as_run_id(value: Any) -> Any:
    """Convert a text that a program passed as `run_id` to a UUID; return other values unchanged.

    A text that is no UUID becomes one of version 5, the same in every process.
    """
    if type(value) is not str:
        return value
    try:
        return UUID(value)
    except ValueError:
        return uuid5(NAMESPACE_URL, value)


def is_graph_node(tags: Any) -> bool:
    """Return True if a run is a LangGraph node. Only node runs have a tag with this prefix."""
    if tags:
        for tag in tags:
            if tag.startswith(NODE_TAG):
                return True
    return False


def component_name(serialized: Any) -> str:
    """Return the name of a serialized component, by default the name of its class."""
    if not serialized:
        return ""
    return serialized.get("name") or (serialized.get("id") or [""])[-1] or ""


_PARAMETERS = frozenset(
    {"model", "model_name", "model_id", "temperature", "max_tokens", "max_completion_tokens", "top_p", "top_k", "stop",
     "seed", "n", "instructions", "tool_choice", "reasoning_effort", "reasoning", "response_format", "_type"}
)  # fmt: skip


def invocation_parameters(more: dict[str, Any]) -> dict[str, Any] | None:
    """Return the parameters of a model call and the names of its tools.

    Example: `{"temperature": 0.5, "tools": ["search"]}`
    """
    parameters = more.get("invocation_params")
    if not parameters:
        return None
    copied = {}
    for key, value in parameters.items():
        if value is not None and key in _PARAMETERS:
            copied[key] = value if type(value) in IMMUTABLE_TYPES else take_snapshot(value, 50)
    tools = parameters.get("tools") or parameters.get("functions")
    if tools:
        copied["tools"] = [_tool_name(tool) for tool in tools]
    return copied


def _tool_name(tool: Any) -> str:
    if not isinstance(tool, dict):
        return str(getattr(tool, "name", "") or type(tool).__name__)
    function = tool.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    return str(name or tool.get("name") or tool.get("type") or "")


def metadata_below_root(metadata: dict[str, Any]) -> dict[str, Any]:
    """Copy the metadata of a run below a root, without LangGraph's tuples, which are not used."""
    limit = text_limit.chars
    return {
        key: value if (len(value) <= limit if kind is str else kind in IMMUTABLE_TYPES) else take_snapshot(value)
        for key, value in metadata.items()
        if (kind := type(value)) is not tuple or type(key) is not str or not key.startswith(_GRAPH_KEYS)
    }


def values_of_config(config: Any) -> dict[str, Any] | None:
    """Return the user's values in a running config: its `configurable`, and LangGraph's runtime `context`.

    They name the user and the conversation, and prompts may contain them. None without a `configurable`.
    """
    configurable = config.get("configurable") if config else None
    if configurable is None:
        return None
    values = {
        key: value if type(value) in IMMUTABLE_TYPES else take_snapshot(value, 50)
        for key, value in configurable.items()
        if type(key) is str and not key.startswith(_OWN_KEYS)
    }
    if (context := runtime_context(configurable)) is not None and type(copied := take_snapshot(context, 100)) is dict:
        return copied | values
    return values


def text_of_token(token: Any) -> str:
    """Return the text of a streamed token that is not a plain `str`: a list of content blocks, or a subclass of `str`.

    LangChain's `TextAccessor`, in which several integrations pass tokens, is such a subclass.
    """
    if issubclass(type(token), str):
        return str.__str__(token)
    if not isinstance(token, list):
        return ""
    return "".join(b if isinstance(b, str) else str(b.get("text") or "") for b in token if isinstance(b, (str, dict)))


def text_of_stream_event(event: Any) -> str:
    """Return the text that an event of LangChain's streaming protocol adds to the answer; "" for any other event."""
    if type(event) is not dict or event.get("event") != "content-block-delta":
        return ""
    delta = event.get("delta")
    if type(delta) is not dict or delta.get("type") != "text-delta":
        return ""
    return text_of_token(delta.get("text"))
