"""One turn as drafts of Greenflash messages: ids, parents, times, what is told (`docs/mapping.md`). Pure.

A draft knows its time, its size and the system prompt it stands under; `messages.Encoder`
orders drafts, stamps them and packs them into requests.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from gati import contract, events
from gati.exporters import sanitize
from gati.exporters.greenflash.message_fields import Part, error, parts, totals

if TYPE_CHECKING:
    from gati.exporters.greenflash.prompt_encoder import Wires

MAIN: Final = "main"
"""`Draft.prompt` of what a person wrote and saw: the prompt of the call that made the answer."""

NO_PROMPT: Final = "none"
"""`_Writer.main` where the call that made the answer has no prompt, though others of the turn have."""

_CONVERSATION = contract.CONVERSATION_TYPES
_STRUCTURE = contract.names_without_text(contract.PROPERTIES)
_OUTCOME = ("status", "finish_reason")
"""Entries of an output that stay, as properties, with ``capture_content=False``: they are no texts."""

_AGENTIC = (events.NodeExecutionEvent, events.ToolCallEvent)
"""An answer beside one of these (or a nested graph) comes from an agent or a graph, else from a plain chain."""

_ENVELOPE_BYTES = 300
"""What a message's ids, type and time take, about."""

_Texts: TypeAlias = "tuple[tuple[str, str], ...]"


class Draft:
    """A message before it has its place. `prompt`: a key of `Wires`, `MAIN`, or None: its parent's."""

    __slots__ = ("message", "ns", "prompt", "size")

    def __init__(self, message: dict[str, Any], ns: int, size: int, prompt: Hashable) -> None:
        self.message = message
        self.ns = ns
        self.size = size
        self.prompt = prompt


@dataclass(slots=True)
class View:
    """How much is told, and what earlier turns left for later ones.

    Attributes:
        full: everything, not only what a person saw, tools and retrievals.
        content: texts may leave the process.
        limit: most bytes of one field.
        environment: where the program runs.
        shown: id of each event told lately → id of the message that its children hang on.
        agents: open turns, delivered in parts, that are agents or graphs.
    """

    full: bool
    content: bool
    limit: int
    environment: str | None
    wires: Wires
    shown: dict[str, str | None]
    agents: dict[str, None]


def drafts(turn: events.Turn, view: View, by_hand: bool) -> tuple[list[Draft], Hashable]:
    """The turn's messages, parents before children, and the key of its main prompt (None: it has none)."""
    writer = _Writer(turn, view, by_hand)
    writer.write()
    return writer.drafts, writer.main


class _Writer:
    """Puts one turn's parts in their places."""

    __slots__ = (
        "_answered",
        "_at",
        "_by_hand",
        "_explicit",
        "_last",
        "_shown",
        "_top",
        "_turn",
        "_view",
        "drafts",
        "main",
    )

    def __init__(self, turn: events.Turn, view: View, by_hand: bool) -> None:
        self._turn = turn
        self._view = view
        self._by_hand = by_hand
        self._at: dict[str, int] = {}
        self._last = 0
        self._shown = view.shown
        self._top = view.shown.get(turn.run_id)
        """What hangs on nothing else hangs here: the chain_start, else the user's text."""
        self.drafts: list[Draft] = []
        self._explicit = turn.conversation.prompt
        self._answered = False
        self.main: Hashable = view.wires.of(self._explicit)[0] if self._explicit and view.content else None

    def write(self) -> None:
        turn, view = self._turn, self._view
        for said in turn.messages:
            self._said(said)
        end: events.AgentEndEvent | None = None
        agent = turn.graph or turn.run_id in view.agents
        for event in turn.events:
            if isinstance(event, events.AgentEndEvent) and not self._by_hand:
                end = event  # the answer stands before it
            elif isinstance(event, events.AgentStartEvent) and not turn.agentic:
                self._shown.setdefault(event.event_id, self._top)  # a bare model is its own root
            else:
                agent = agent or isinstance(event, _AGENTIC) or getattr(event, "workflow", False)
                self._event(event)
        if turn.answer is not None:
            self._answer(turn.answer, agent and turn.agentic, end)
        if end is not None:
            view.agents.pop(turn.run_id, None)
            if turn.agentic:
                self._end(end)
        elif agent and turn.partial:
            view.agents[turn.run_id] = None

    def _said(self, said: events.ChatMessage) -> None:
        id_ = sanitize.identifier(said.id)
        part = Part(contract.ROLES[said.role], self._own(said))
        if said.role == "system":
            part = part._replace(output={"text": said.text})
            self._put(part, id_, None, said.at_ns, MAIN)
        else:
            self._put(part, id_, None, said.at_ns, MAIN, (("content", said.text),))
        self._shown[said.id] = id_
        if said.role == "user" and (self._top is None or not self._top.startswith(self._turn.run_id)):
            self._top = id_

    def _answer(self, said: events.ChatMessage, agent: bool, end: events.AgentEndEvent | None) -> None:
        turn = self._turn
        properties = self._own(said)
        if turn.status != "completed":
            properties["status"] = turn.status
        if end is not None and not self._view.full:
            properties |= totals(end)  # their place, chain_end, is not told
        # A question to a human is no final word.
        kind = "final_response" if agent and turn.status != "waiting" else "assistant_message"
        part = Part(kind, properties, model=turn.model or None)
        id_ = sanitize.identifier(said.id or f"{turn.run_id}:answer")
        parent = self._shown.get(said.parent_id or turn.run_id, self._top)
        texts: _Texts = (("content", said.text),)
        if turn.context is not None:
            texts = (*texts, ("context", turn.context))
        self._put(part, id_, parent, max(said.at_ns or turn.ended_ns, turn.started_ns), MAIN, texts)
        self._shown[said.id] = id_

    def _own(self, said: events.ChatMessage) -> dict[str, Any]:
        """The user's properties of a text; without content, their numbers and the text's length."""
        if self._view.content:
            return dict(said.properties)
        return {**numbers(said.properties), "content_length": len(said.text)}

    def _end(self, event: events.AgentEndEvent) -> None:
        (part,) = parts(event, False, True)
        if event.error_type or event.error_message:
            part.output["error"] = error(event)
            part.properties["error_type"] = event.error_type
        id_ = sanitize.identifier(f"{self._turn.run_id}:end")
        self._put(part, id_, self._top, max(_ended(event), self._last), MAIN)

    def _event(self, event: events.Event) -> None:
        part, *results = parts(event, self._by_hand, self._turn.answer is not None)
        properties = part.properties
        prompt: Hashable = None
        if isinstance(event, events.LLMCallEvent):
            prompt = self._prompt(event, properties)
        elif isinstance(event, events.AgentStartEvent):
            prompt = MAIN
            self._describe(event, properties)
        part = self._add(event, part, results)
        parent = self._parent(event, properties)
        id_ = self._id(event)
        kept = self._view.full or part.kind in _CONVERSATION
        self._shown[event.event_id] = id_ if kept else parent
        self._put(part, id_, parent, _started(event), prompt)
        for result in results:
            self._put(result, id_ + result.suffix, self._shown[event.event_id], _ended(event))
        if isinstance(event, events.AgentStartEvent) and not self._by_hand:
            self._top = self._shown[event.event_id]

    def _describe(self, event: events.AgentStartEvent, properties: dict[str, Any]) -> None:
        properties["name"] = event.name or self._turn.name
        properties["agent_name"] = event.agent_name or self._turn.agent_name
        metadata = event.metadata
        if self._view.environment:
            properties["environment"] = self._view.environment
            metadata = {k: v for k, v in metadata.items() if k != "environment"}
        if metadata:
            properties["metadata"] = metadata

    def _add(self, event: events.Event, part: Part, results: list[Part]) -> Part:
        """What any event may have: tags, values of the user's own, an error."""
        properties = part.properties
        if event.tags:
            properties["tags"] = event.tags
        if event.data and type(event) is not events.Event:
            properties["data"] = event.data
        if self._by_hand and event.metadata:
            properties["metadata"] = event.metadata
        if event.error_type or event.error_message:
            told = results[-1].properties if part.kind == "tool_call" and results else properties
            told["error_type"] = event.error_type
            if part.kind != "tool_call":
                return part._replace(output={**(part.output or {}), "error": error(event)})
        return part

    def _id(self, event: events.Event) -> str:
        if isinstance(event, events.ToolCallEvent) and event.event_id == event.tool_call_id:
            # It never ran, so it has no run's id. Some providers count their calls from 0 in each turn.
            return sanitize.identifier(f"{self._turn.run_id}:{event.event_id}")
        return sanitize.identifier(event.event_id)

    def _parent(self, event: events.Event, properties: dict[str, Any]) -> str | None:
        """The nearest message above that is told; the id of one that is not known is kept in `properties`."""
        above = event.parent_event_id
        if above is None or above == event.event_id:
            return self._top
        if above in self._shown:
            return self._shown[above]
        if self._by_hand:
            properties["parent_id"] = above
        return self._top

    def _prompt(self, event: events.LLMCallEvent, properties: dict[str, Any]) -> Hashable:
        """The key of the call's system prompt; its lineage goes to `properties`."""
        own = event.structured_prompt or (events.Prompt(event.system_prompt) if event.system_prompt else self._explicit)
        if own is None:
            if event.is_answer:
                self.main, self._answered = None if self.main is None else NO_PROMPT, True
            return None
        found, wire = self._view.wires.of(own)
        if wire.id:
            properties["prompt_id"] = wire.id
        if wire.version:
            properties["prompt_version"] = wire.version
        if self._explicit is not None or not self._view.content:  # one stands for every call, or none is told
            return None
        if event.is_answer or not (self._answered or (event.internal and self.main is not None)):
            self.main, self._answered = found, event.is_answer
        elif self._answered and self.main is None:
            self.main = NO_PROMPT
        return found

    def _put(
        self, part: Part, id_: str, parent: str | None, ns: int, prompt: Hashable = None, said: _Texts | None = None
    ) -> None:
        view = self._view
        if not view.full and part.kind not in _CONVERSATION:
            return
        message: dict[str, Any] = {"externalMessageId": id_, "messageType": part.kind, "createdAt": None}
        size = _ENVELOPE_BYTES
        if parent is not None:
            message["parentExternalMessageId"] = parent
            above = self._at.get(parent, 0)
            ns = max(ns, above)
        if part.tool is not None:
            message["toolName"] = sanitize.identifier(part.tool)
        if part.model is not None:
            message["model"] = sanitize.identifier(part.model)
        if view.content:
            if said is not None:
                for name, text in said:
                    message[name] = text = sanitize.text(text, view.limit)
                    size += len(text) if text.isascii() else len(text.encode())
            if part.input is not None:
                message["input"], used = sanitize.plain(part.input, view.limit)
                size += used
            if part.output is not None:
                message["output"], used = sanitize.plain(part.output, view.limit)
                size += used
            properties = part.properties
        else:
            properties = _structure(part)
        if properties:
            message["properties"], used = sanitize.plain(properties, view.limit)
            size += used
        self._at[id_] = ns
        self._last = max(self._last, ns)
        self.drafts.append(Draft(message, ns, size, prompt))


def numbers(values: dict[str, Any]) -> dict[str, Any]:
    """The numbers among a user's values."""
    return {k: v for k, v in values.items() if isinstance(v, (bool, int, float))}


def _structure(part: Part) -> dict[str, Any]:
    """A part's properties without any text that is not a name from the program."""
    kept = {k: v for k, v in part.properties.items() if k in _STRUCTURE or v is None or isinstance(v, (int, float))}
    if isinstance(part.output, dict):
        kept |= {k: part.output[k] for k in _OUTCOME if k in part.output}
    return kept


def _started(event: events.Event) -> int:
    return event.started_ns or sanitize.nanoseconds(event.timestamp)


def _ended(event: events.Event) -> int:
    return event.ended_ns or _started(event) + int((getattr(event, "latency_ms", None) or 0.0) * 1e6)
