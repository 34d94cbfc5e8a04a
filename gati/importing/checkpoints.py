"""Conversations from a LangGraph checkpointer, through its public interface.

A checkpoint holds the messages of a thread at one time. When a message appears for the first time is its time. What a
checkpoint does not contain stays unknown: system prompts, latencies, and the calls whose text is not in the state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_core.messages import BaseMessage

from gati.importing.imported_run import ImportedRun, ImportedTurn, to_ns
from gati.langchain.message_snapshot import ROLE_BY_CLASS, snapshot_message
from gati.trace.content import text_of
from gati.trace.record_codec import revived
from gati.trace.records import (
    ASSISTANT_ROLES,
    SYSTEM_ROLES,
    TOOL_ROLES,
    USER_KEYS,
    USER_ROLES,
    ErrorInfo,
    Message,
    ModelCall,
    ModelResult,
)

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple


@dataclass(slots=True)
class _Seen:
    """A message, and when and where it was in the state for the first time."""

    at: int
    position: int
    message: Message


@dataclass
class _Thread:
    """A thread as read so far. Checkpoints arrive with the newest first."""

    id: str
    user_id: str | None = None
    messages: dict[str, _Seen] = field(default_factory=dict)

    def add(self, checkpoint: CheckpointTuple) -> None:
        at = to_ns(checkpoint.checkpoint["ts"]) or 0
        metadata: Any = checkpoint.metadata or {}
        self.user_id = self.user_id or next((str(metadata[key]) for key in USER_KEYS if metadata.get(key)), None)
        for position, item in enumerate(_messages_in_state(checkpoint.checkpoint["channel_values"])):
            key = item.id or f"{position}:{item.type}:{item.text}"
            # The text is the latest one, since a message may grow while it is streamed; the time is the first one.
            if (seen := self.messages.get(key)) is not None:
                seen.at, seen.position = at, position
            else:
                message = revived(snapshot_message(item, result=item.type == "ai"))
                self.messages[key] = _Seen(at, position, message)


def read_checkpoints(saver: BaseCheckpointSaver[Any], threads: Iterable[str] = ()) -> Iterator[ImportedTurn]:
    """Read the turns of all threads, or of the given ones. Messages of subgraphs are part of their parent's state.

    Keeps the messages of the threads in memory until their checkpoints are read.
    """
    found: dict[str, _Thread] = {}
    configs: list[Any] = [{"configurable": {"thread_id": thread}} for thread in threads]
    for config in configs or [None]:
        for checkpoint in saver.list(config):
            configurable = checkpoint.config.get("configurable", {})
            if not configurable.get("checkpoint_ns"):
                thread_id = str(configurable["thread_id"])
                found.setdefault(thread_id, _Thread(thread_id)).add(checkpoint)
    for thread in found.values():
        yield from _turns_of(thread)


def _messages_in_state(state: dict[str, Any]) -> list[BaseMessage]:
    """Return the messages of a state: those under `messages`, else the first list of messages."""
    candidates = [state["messages"], *state.values()] if "messages" in state else list(state.values())
    for value in candidates:
        if isinstance(value, list) and value and all(ROLE_BY_CLASS[type(item)] is not None for item in value):
            return value
    return []


def _turns_of(thread: _Thread) -> Iterator[ImportedTurn]:
    """Begin a turn with each user message that follows an answer."""
    turn: list[_Seen] = []
    for seen in sorted(thread.messages.values(), key=lambda seen: (seen.at, seen.position)):
        is_user = seen.message.role in USER_ROLES
        if is_user and any(earlier.message.role not in USER_ROLES | SYSTEM_ROLES for earlier in turn):
            yield _turn(thread, turn)
            turn = []
        turn.append(seen)
    if turn:
        yield _turn(thread, turn)


def _turn(thread: _Thread, messages: list[_Seen]) -> ImportedTurn:
    first = messages[0]
    given = [seen.message for seen in messages if seen.message.role in USER_ROLES]
    made = [seen.message for seen in messages if seen.message.role not in USER_ROLES]
    root_id = f"{thread.id}/{first.message.id or first.at}"
    root = ImportedRun(
        root_id, "chain", "LangGraph", first.at, messages[-1].at, inputs={"messages": given}, output={"messages": made}
    )
    runs = [root]
    new: list[Message] = []
    requests: dict[str, dict[str, Any]] = {}
    for seen in messages:
        message, run_id = seen.message, f"{root_id}/{seen.message.id or len(runs)}"
        if message.role in ASSISTANT_ROLES:
            requests.update({str(call["id"]): call for call in message.tool_calls if isinstance(call, dict)})
            call, result = ModelCall((), tuple(new), len(new)), ModelResult((message,))
            runs.append(ImportedRun(run_id, "model", "", seen.at, seen.at, root_id, call, result, is_timed=False))
            new = []
        elif message.role in TOOL_ROLES and message.tool_call_id in requests:
            request = requests[message.tool_call_id]
            runs.append(_tool_run(run_id, root_id, seen, request))
            new.append(message)
        else:
            new.append(message)
    return ImportedTurn(runs, thread.id, thread.user_id)


def _tool_run(run_id: str, root_id: str, seen: _Seen, request: dict[str, Any]) -> ImportedRun:
    message = seen.message
    run = ImportedRun(
        run_id, "tool", str(request.get("name") or ""), seen.at, seen.at, root_id, request.get("args"), message,
        tool_call_id=message.tool_call_id, is_timed=False,
    )  # fmt: skip
    if message.status == "error":
        run.output, run.error = None, ErrorInfo("ToolException", text_of(message))
    return run
