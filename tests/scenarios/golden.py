"""Render delivered messages as an indented text tree, one line per message.

::

    conversation c-1 of ada
    prompt agent/model
      system "You are a {{mood}} tutor."
      mood = "patient"
    user_message   "What is the square root of 144?"
    chain_start    tutor
      task         model
        llm        gpt-4o-mini 61>17 $ calls=calculator
      task         tools
        tool_call  calculator {"expression":"144**0.5"}
          observation {"output":"12.0"}
      final_response "The square root of 144 is 12."
      chain_end    completed

Children of the user message are not indented. A message that should have a parent but has none is
marked `(no parent)`. `61>17` are input and output tokens (`?`: unknown), `$` is a known cost, `$0` a
cost of zero. Ids that differ from run to run are shown as `~`. The first line of a conversation is
omitted if the user is anonymous and the id is generated.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}")
_WIDTH = 15
_OMITTED_STATUS = (None, "completed")

Message = dict[str, Any]


def tree(messages: list[Message], unordered: bool = False) -> str:
    """Render the messages of `LocalServer.messages`, each with the `envelope` of its request.

    Use `unordered` for concurrent steps: siblings are sorted by their text.
    """
    conversations: dict[str, list[Message]] = {}
    for message in messages:
        conversations.setdefault(message["conversation"], []).append(message)
    by_time = sorted(conversations.items(), key=lambda named: str(named[1][0]["createdAt"]))
    blocks = [_conversation(name, group, unordered) for name, group in by_time]
    if len(blocks) > 1:
        blocks = [block if block.startswith("conversation") else "conversation ~\n" + block for block in blocks]
        if unordered:
            blocks.sort()
    return UUID.sub("~", "\n".join(blocks))


def _conversation(name: str, messages: list[Message], unordered: bool) -> str:
    envelope = messages[0]["envelope"]
    head = []
    user, organization = envelope["externalUserId"], envelope.get("externalOrganizationId")
    if UUID.fullmatch(name) is None or user != "anonymous" or organization:
        head.append(f"conversation {name} of {user}" + (f" at {organization}" if organization else ""))
    own = {k: v for k, v in envelope.get("properties", {}).items() if k != "agent_name"}
    if own:
        head.append(f"  properties {_json(own)}")
    prompts = sorted(_prompts(messages)) if unordered else _prompts(messages)
    head += [line for number, prompt in enumerate(prompts, 1) for line in _prompt(number, prompt, len(prompts) > 1)]
    return "\n".join([*head, *_Tree(messages, prompts, unordered).lines()])


class _Tree:
    """The messages of one conversation, by parent."""

    def __init__(self, messages: list[Message], prompts: list[str], unordered: bool) -> None:
        self.prompts = prompts
        self.unordered = unordered
        if unordered:
            messages = [_sort_questions(message) for message in messages]
        by_id = {m["externalMessageId"]: m for m in messages}
        self.children: dict[str | None, list[Message]] = {}
        for message in messages:
            parent = message.get("parentExternalMessageId")
            parent_message = by_id.get(parent) if parent else None
            # A turn is the child of its user message, but is rendered at the same level.
            key = None if parent_message is None or parent_message["messageType"] == "user_message" else parent
            self.children.setdefault(key, []).append(message)
        self.turns_with_user_message = {
            m["externalMessageId"].removesuffix(":user") for m in messages if m["messageType"] == "user_message"
        }

    def lines(self) -> list[str]:
        return [line for block in self._blocks(None, 0) for line in block]

    def _blocks(self, parent: str | None, depth: int) -> list[list[str]]:
        blocks = []
        for message in self.children.get(parent, ()):
            child_lines = [line for block in self._blocks(message["externalMessageId"], depth + 1) for line in block]
            blocks.append([self._line(message, depth), *child_lines])
        if self.unordered and parent is not None:
            blocks = _sort_siblings(blocks)
        return blocks

    def _line(self, message: Message, depth: int) -> str:
        kind = message["messageType"]
        text = " ".join(part for part in _DESCRIBE.get(kind, _data)(message) if part)
        if len(self.prompts) > 1 and kind in ("llm", "final_response", "assistant_message") and message.get("prompt"):
            text += f" @{self.prompts.index(_json(message['prompt'])) + 1}"
        turn = message["externalMessageId"].split(":")[0]
        if (
            depth == 0
            and kind not in ("user_message", "system_message")
            and turn in self.turns_with_user_message
            and not message.get("parentExternalMessageId")
        ):
            text += " (no parent)"
        return f"{'  ' * depth}{kind.ljust(_WIDTH - 2 * depth - 1)} {text}".rstrip()


def _sort_questions(message: Message) -> Message:
    """Sort questions that were asked concurrently: "b?\\n\\na?" → "a?\\n\\nb?"."""
    if (message.get("properties") or {}).get("status") != "waiting" or not isinstance(message.get("content"), str):
        return message
    return {**message, "content": "\n\n".join(sorted(message["content"].split("\n\n")))}


def _sort_siblings(blocks: list[list[str]]) -> list[list[str]]:
    """Sort the steps by text, and keep the answer and the end of the turn last."""
    last = [b for b in blocks if b[0].split()[0] in ("final_response", "assistant_message", "chain_end")]
    return [*sorted(b for b in blocks if b not in last), *last]


# -- one function per message type ---------------------------------------------------------------------


def _chat_message(message: Message) -> Iterable[str]:
    properties = message.get("properties") or {}
    yield _quoted(message["content"])
    yield properties.get("status", "")
    yield "imported" if properties.get("imported") else ""
    yield f"attachments={_json(properties['attachments'])}" if "attachments" in properties else ""
    yield f"context={_quoted(message['context'])}" if message.get("context") else ""


def _chain_start(message: Message) -> Iterable[str]:
    properties = message["properties"]
    yield properties["name"]
    yield _input(message)
    yield f"tags={','.join(properties['tags'])}" if properties.get("tags") else ""
    yield f"metadata={_json(properties['metadata'])}" if properties.get("metadata") else ""


def _chain_end(message: Message) -> Iterable[str]:
    output = message["output"]
    yield output["status"]
    if "error" in output:
        yield f"{output['error']['type']}: {output['error']['message']}"


def _step(message: Message) -> Iterable[str]:
    properties = message["properties"]
    yield properties.get("node") or properties.get("name") or ""
    yield f"attempt={properties['attempt']}" if properties.get("attempt") else ""
    yield _input(message)
    yield from _status(properties)
    yield _error(properties, message)
    output = {k: v for k, v in (message.get("output") or {}).items() if k != "error"}
    yield f"=> {_json(output)}" if output else ""


def _llm(message: Message) -> Iterable[str]:
    properties, output = message["properties"], message.get("output") or {}
    yield message.get("model") or "?"
    tokens = [properties[key] for key in ("tokens_in", "tokens_out")]
    yield ">".join("?" if count is None else str(count) for count in tokens)
    if properties["cost_usd"] is not None:
        yield "$" if properties["cost_usd"] else "$0"
    yield from (flag for flag in ("cached", "internal") if properties.get(flag))
    yield from _status(properties)
    yield _error(properties, message)
    if "tool_calls" in output:
        yield f"calls={','.join(str(call['name']) for call in output['tool_calls'])}"
    for prompt_message in (message.get("input") or {}).get("messages", ()):
        yield f"input {prompt_message.get('role', '?')}:{_content(prompt_message['content'])}"
    if "text" in output:
        yield f"=> {_quoted(output['text'])}"


def _tool(message: Message) -> Iterable[str]:
    yield message["toolName"]
    yield _json(message["input"])
    yield from _status(message.get("properties") or {})


def _failure(message: Message) -> Iterable[str]:
    output = message["output"]
    yield f"{output['type']}: {output['message']}"
    yield "handled" if message["properties"].get("handled") else "raised"


def _retrieval(message: Message) -> Iterable[str]:
    yield _quoted(message["input"]["query"])
    yield from _status(message["properties"])
    yield _error(message["properties"], message)
    documents = (message.get("output") or {}).get("documents", [])
    yield "=> " + " | ".join(_quoted(document["text"]) for document in documents) if documents else ""


def _callback(message: Message) -> Iterable[str]:
    output = message["output"]
    yield output["name"]
    yield from _status(message["properties"])
    yield _json(output["data"])


def _data(message: Message) -> Iterable[str]:
    properties = message.get("properties") or {}
    yield properties.get("name", "")
    yield from _status(properties)
    yield _input(message)
    if message.get("output"):
        yield ("=> " if message.get("input") else "") + _json(message["output"])


_DESCRIBE: dict[str, Callable[[Message], Iterable[str]]] = {
    "user_message": _chat_message,
    "assistant_message": _chat_message,
    "final_response": _chat_message,
    "system_message": lambda m: [_quoted(m["output"]["text"])],
    "thought": lambda m: [_quoted(m["output"]["text"])],
    "chain_start": _chain_start,
    "chain_end": _chain_end,
    "task": _step,
    "workflow": _step,
    "llm": _llm,
    "tool_call": _tool,
    "observation": lambda m: [_json(m["output"])],
    "tool_error": _failure,
    "retrieval": _retrieval,
    "callback": _callback,
}


def _status(properties: Message) -> Iterable[str]:
    if properties.get("status") not in _OMITTED_STATUS:
        yield properties["status"]


def _error(properties: Message, message: Message) -> str:
    error = (message.get("output") or {}).get("error") or properties.get("error")
    return f"{error['type']}: {error['message']}" if error else ""


def _input(message: Message) -> str:
    return _json(message["input"]) if message.get("input") else ""


def _content(content: Any) -> str:
    return _quoted(content) if isinstance(content, str) else _json(content)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


# -- system prompts ---------------------------------------------------------------------------------


def _prompts(messages: list[Message]) -> list[str]:
    """Return the distinct system prompts of a conversation in the order of first use."""
    return list(dict.fromkeys(_json(m["prompt"]) for m in messages if m.get("prompt") is not None))


def _prompt(number: int, text: str, several: bool) -> list[str]:
    prompt = json.loads(text)
    mark = f"prompt @{number}" if several else "prompt"
    if isinstance(prompt, str):
        return [f"{mark} {_quoted(prompt)}"]
    head = f"{mark} {prompt.get('externalPromptId', '')}".rstrip()
    if "content" in prompt:
        return [f"{head} {_quoted(prompt['content'])}"]
    parts = [
        f"  {part['type']}{'*' if part.get('isDynamic') else ''} {_quoted(part['content'])}"
        for part in prompt.get("components", ())
    ]
    values = [f"  {name} = {_quoted(value)}" for name, value in prompt.get("variables", {}).items()]
    return [head, *parts, *values]
