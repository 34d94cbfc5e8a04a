"""A finished trace → a turn of a conversation: who said what, what was done, how it ended."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Literal

from gati.events import (
    AgentEndEvent,
    AgentStartEvent,
    Conversation,
    CustomEvent,
    Event,
    RetrievalEvent,
    Said,
    Status,
    ToolCallEvent,
    Turn,
)
from gati.trace.content import text_of
from gati.trace.identity import Defaults, own_metadata, resolve
from gati.trace.media import plain_blocks
from gati.trace.memory import Thread, Threads
from gati.trace.promptbook import PromptBook
from gati.trace.prompts import explicit_prompt
from gati.trace.records import COMMAND, Message, ModelCall, ModelResult, Scope
from gati.trace.said import ANSWERS, PEOPLE, SYSTEM, Heard, answer_in, as_message, heard_in
from gati.trace.steps import Steps, as_object, status_of
from gati.trace.tree import Run, Trace

_SUMMARY = "summarization"


@dataclass(frozen=True, slots=True)
class Options:
    """What the settings say of making turns."""

    agent_name: str = "agent"
    environment: str | None = None
    input_key: str | None = None
    output_key: str | None = None
    system_prompt: Any = None
    defaults: Defaults = field(default_factory=Defaults)


def identify(trace: Trace, options: Options) -> Conversation:
    """Whose conversation a trace belongs to, with the system prompt if one was given."""
    root = trace.root
    conversation = resolve(str(root.id), trace.scope, root.metadata, trace.configurable, options.defaults)
    given = trace.scope.system_prompt if trace.scope is not None else None
    given = given or root.metadata.get("system_prompt") or options.system_prompt
    if given:
        conversation.prompt = explicit_prompt(given)
    return conversation


def build(trace: Trace, options: Options, threads: Threads) -> Turn:
    """The turn that a trace amounts to."""
    return _Build(trace, options, threads).turn()


class _Build:
    """One turn in the making."""

    def __init__(self, trace: Trace, options: Options, threads: Threads) -> None:
        self.trace = trace
        self.options = options
        self.root = trace.root
        self.id = str(trace.root.id)
        self.conversation = identify(trace, options)
        self.thread: Thread = threads.of(self.conversation.id)
        self.known = threads.knew
        self.agentic = self.root.kind in ("chain", "prompt", "step")
        self.steps = Steps(trace, options.agent_name, PromptBook(trace, options.agent_name))
        self.start_ns = self.root.started + trace.offset
        self.end_ns = (self.root.ended or trace.touched) + trace.offset

    def turn(self) -> Turn:
        self.steps.collect(self.root)
        interrupts = self._interrupts()
        status = self._status(bool(interrupts))
        said = self._said()
        answer, status = self._answer(interrupts, status)
        self._mark_models(answer)
        self._drop_known_messages(said)
        events: list[Event] = [
            *self._resumption(),
            *self.steps.events,
            *self._decided(),
            *self._questions(interrupts, answer),
        ]
        turn = Turn(
            run_id=self.id,
            conversation=self.conversation,
            name=self.root.name,
            agent_name=self.options.agent_name,
            status=status,
            started_ns=self.start_ns,
            ended_ns=self.end_ns,
            said=said,
            events=events,
            answer=answer,
            agentic=self.agentic,
            context=self._context(),
            model=self._model_of_answer(),
        )
        if self.agentic:
            turn.events = [self._start_event(), *events, self._end_event(status)]
        for event in turn.events:
            self.own(event)
        if status == "waiting":
            self.thread.waiting = self.steps.calls.open_requests()
        return turn

    def own(self, event: Event) -> None:
        """Say whose an event is."""
        event.conversation_id = self.conversation.id
        event.user_id = self.conversation.user_id
        event.organization_id = self.conversation.organization_id
        event.run_name = self.root.name

    # -- what was said ---------------------------------------------------------------------

    def _said(self) -> list[Said]:
        heard = self._heard()
        if heard is None:
            return []
        said: list[Said] = []
        if heard.history and not self.known and self.conversation.id != self.id:
            said = self._imported(heard.history)
        number = 0
        for message in heard.news:
            role: Literal["user", "system"]
            if message.role in PEOPLE:
                role = "user"
            elif message.role in SYSTEM and number:
                role = "system"
            else:
                continue
            text = text_of(message)
            media = _media(message)
            if not text and not media:
                continue
            suffix = f":{number}" if number else ""
            said.append(Said(f"{self.id}:user{suffix}", role, text, self.start_ns, properties=media))
            self.thread.tell(text)
            number += 1
        return said

    def _heard(self) -> Heard | None:
        root = self.root
        if root.kind in ("tool", "retriever", "embedding", "memory_read", "memory_write"):
            return None
        resume = _resume_of(root.inputs)
        if resume is not None:
            return Heard([], [Message("human", resume)]) if isinstance(resume, str) else None
        if isinstance(root.inputs, ModelCall):
            return heard_in(list(root.inputs.messages))
        if root.inputs is None and self.trace.resumed:
            return None
        heard = heard_in(root.inputs, self.options.input_key)
        if heard is not None or (isinstance(root.inputs, dict) and COMMAND in root.inputs):
            return heard
        return self._heard_by_model()

    def _heard_by_model(self) -> Heard | None:
        """The words that the first model was given: for roots whose input does not tell."""
        for run in self.trace.models():
            if isinstance(run.inputs, ModelCall):
                heard = heard_in(list(run.inputs.messages))
                if heard is not None and any(m.role in PEOPLE for m in heard.news):
                    return Heard([], heard.news)
        return None

    def _imported(self, history: list[Message]) -> list[Said]:
        """A history that began before gati watched. Ids are made of conversation, position and
        text, so that every process that meets it makes the same ones."""
        said: list[Said] = []
        for position, message in enumerate(history):
            role: Literal["user", "assistant"]
            if message.role in PEOPLE:
                role = "user"
            elif message.role in ANSWERS and not message.tool_calls:
                role = "assistant"
            else:
                continue
            text = text_of(message)
            if not text:
                continue
            key = hashlib.sha256(f"{self.conversation.id}\n{position}\n{role}\n{text}".encode("utf-8", "replace"))
            at = self.start_ns - (len(history) - position) * 1_000_000
            said.append(Said(f"history:{key.hexdigest()[:32]}", role, text, at, properties={"imported": True}))
            self.thread.tell(text)
        return said

    # -- what was answered --------------------------------------------------------------------

    def _status(self, waiting: bool) -> Status:
        status = status_of(self.root)
        if self.root.ended is None:
            return "unfinished"
        return "waiting" if waiting and status in ("completed", "waiting") else status

    def _answer(self, interrupts: list[dict[str, Any]], status: Status) -> tuple[Said | None, Status]:
        text = ""
        if status == "waiting":
            text = next((i["value"] for i in interrupts if isinstance(i.get("value"), str)), "")
        elif status == "completed":
            text = self._full_answer()
        else:
            text, complete = self._cut_off()
            if complete and status == "aborted":
                status = "completed"
        if not text:
            return None, status
        properties = {} if status == "completed" else {"status": status}
        self.thread.tell(text)
        return Said(f"{self.id}:answer", "assistant", text, self.end_ns, self.id, properties), status

    def _full_answer(self) -> str:
        output = self.root.output
        if isinstance(output, ModelResult):
            return "" if not output.messages or output.messages[0].tool_calls else text_of(output.messages[0])
        if self.root.kind in ("chain", "prompt"):
            plain_chain = bool(self.steps.models) and not any(r.node is not None for r in self.root.walk())
            return answer_in(output, self.options.output_key, structured=plain_chain)
        return answer_in(output) if self.root.kind == "step" else ""

    def _cut_off(self) -> tuple[str, bool]:
        """The text so far of a turn that ended early, and whether it was all there: a person who
        stops reading after the last word has stopped nothing."""
        for run, event in reversed(self.steps.models):
            if _is_main(run):
                complete = run.ended is not None and run.fault is None and not event.tool_requests
                return (event.completion if complete or not event.tool_requests else ""), complete
        return "", False

    def _mark_models(self, answer: Said | None) -> None:
        marked = False
        for run, event in reversed(self.steps.models):
            if not marked and answer is not None and event.completion and event.completion == answer.text:
                event.shown = marked = True
            else:
                event.internal = bool(event.completion) and not event.tool_requests

    def _model_of_answer(self) -> str | None:
        names = [event.model for _, event in self.steps.models if event.shown and event.model]
        names = names or [event.model for _, event in self.steps.models if event.model]
        return names[-1] if names else None

    # -- interrupts ----------------------------------------------------------------------------

    def _interrupts(self) -> list[dict[str, Any]]:
        """What humans were asked, once each: an interrupt passes through every enclosing graph."""
        found: dict[str, dict[str, Any]] = {}
        payloads = [run.fault.payload for run in self.root.walk() if run.fault is not None and run.interrupted]
        for payload in (*payloads, self.trace.interrupts):
            for item in payload if isinstance(payload, (list, tuple)) else [payload]:
                asked = item if isinstance(item, dict) else {"value": item}
                found.setdefault(str(asked.get("id") or asked.get("value")), asked)
        return list(found.values())

    def _questions(self, interrupts: list[dict[str, Any]], answer: Said | None) -> list[Event]:
        return [
            self._lifecycle("interrupt", number, asked, "waiting", self.end_ns)
            for number, asked in enumerate(interrupts)
            if answer is None or asked.get("value") != answer.text
        ]

    def _resumption(self) -> list[Event]:
        resume = _resume_of(self.root.inputs)
        if resume is None or isinstance(resume, str):
            return []
        return [self._lifecycle("resume", 0, {"value": resume}, "resumed", self.start_ns)]

    def _lifecycle(self, name: str, number: int, data: dict[str, Any], status: Status, at: int) -> Event:
        return CustomEvent(
            event_id=f"{self.id}:{name}:{number}",
            timestamp="-",
            run_id=self.id,
            agent_name=self.options.agent_name,
            parent_event_id=self.id,
            name=name,
            payload={"name": name, "data": plain_blocks(data)},
            status=status,
            started_ns=at,
            ended_ns=at,
        )

    def _decided(self) -> list[Event]:
        """Calls of an earlier, waiting turn that a human refused: no tool ran, a message tells."""
        made: list[Event] = []
        for message in self.steps.calls.strangers():
            call_id = str(message.tool_call_id)
            request = self.thread.waiting.pop(call_id, None)
            if request is None and message.status != "error":
                continue
            failed = message.status == "error"
            made.append(
                ToolCallEvent(
                    event_id=call_id,
                    timestamp="-",
                    run_id=self.id,
                    agent_name=self.options.agent_name,
                    parent_event_id=self.id,
                    tool_name=str((request or {}).get("name") or message.name or ""),
                    input=as_object((request or {}).get("args"), "input"),
                    output={} if failed else {"output": text_of(message)},
                    tool_call_id=call_id,
                    handled=True if failed else None,
                    status="error" if failed else "completed",
                    error_type="ToolNotRun" if failed else None,
                    error_message=text_of(message) if failed else None,
                    metadata={"never_run": True},
                    started_ns=self.start_ns,
                    ended_ns=self.start_ns,
                )
            )
        return made

    # -- beginning and end ------------------------------------------------------------------------

    def _start_event(self) -> Event:
        metadata = plain_blocks(own_metadata(self.root.metadata))
        if self.options.environment:
            metadata["environment"] = self.options.environment
        return AgentStartEvent(
            event_id=self.id,
            timestamp="-",
            run_id=self.id,
            agent_name=self.options.agent_name,
            name=self.root.name,
            input=_rest_of_input(self.root.inputs),
            metadata=metadata,
            tags=[tag for tag in self.root.tags if ":" not in tag],
            started_ns=self.start_ns,
            ended_ns=self.start_ns,
        )

    def _end_event(self, status: Status) -> Event:
        models = [event for _, event in self.steps.models]
        fault = self.root.fault
        failed = fault is not None and fault.control is None
        return AgentEndEvent(
            event_id=f"{self.id}:end",
            timestamp="-",
            run_id=self.id,
            agent_name=self.options.agent_name,
            parent_event_id=self.id,
            name=self.root.name,
            status=status,
            error_type=fault.type if failed and fault is not None else None,
            error_message=fault.message if failed and fault is not None else None,
            total_duration_ms=(self.end_ns - self.start_ns) / 1e6,
            tokens_in=_sum([m.tokens_in for m in models]),
            tokens_out=_sum([m.tokens_out for m in models]),
            total_cost=_sum([m.cost for m in models]),
            model_calls=len(models),
            tool_calls=sum(isinstance(event, ToolCallEvent) for event in self.steps.events),
            started_ns=self.end_ns,
            ended_ns=self.end_ns,
        )

    def _context(self) -> str | None:
        texts = [
            d["text"] for e in self.steps.events if isinstance(e, RetrievalEvent) for d in e.documents if d["text"]
        ]
        return "\n\n".join(texts) or None

    def _drop_known_messages(self, said: list[Said]) -> None:
        """Leave with each model call only what stands nowhere else in the conversation."""
        here = {text.text for text in said}
        for _, event in self.steps.models:
            if event.new_messages:
                event.new_messages = [m for m in event.new_messages if self._is_news(m, here)]

    def _is_news(self, told: dict[str, Any], here: set[str]) -> bool:
        text = text_of(told.get("content"))
        if text and (text in here or self.thread.was_told(text)):
            return False
        self.thread.tell(text)
        return True


def _is_main(run: Run) -> bool:
    """Whether a model speaks to the person: not a summariser, not inside a tool."""
    if run.metadata.get("lc_source") == _SUMMARY:
        return False
    return not any(above.kind == "tool" for above in run.above())


def _sum(values: list[Any]) -> Any:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _media(message: Message) -> dict[str, Any]:
    """What is not text in a person's message: pictures, files."""
    if isinstance(message.content, str):
        return {}
    blocks = plain_blocks(message.content)
    others = (
        [b for b in blocks if isinstance(b, dict) and b.get("type") not in (None, "text")]
        if isinstance(blocks, list)
        else []
    )
    return {"attachments": others} if others else {}


def _resume_of(inputs: Any) -> Any:
    """The value with which a graph is resumed; None if it is not."""
    if isinstance(inputs, dict) and COMMAND in inputs:
        resume = inputs[COMMAND].get("resume")
        # One interrupt answered by its id is an answer all the same.
        if isinstance(resume, dict) and len(resume) == 1 and _is_interrupt_id(next(iter(resume))):
            return next(iter(resume.values()))
        return resume
    return None


def _is_interrupt_id(key: Any) -> bool:
    return isinstance(key, str) and len(key) == 32 and all(c in "0123456789abcdef" for c in key)


def _rest_of_input(inputs: Any) -> dict[str, Any]:
    """The part of a root's input that is no text of a person."""
    if not isinstance(inputs, dict) or COMMAND in inputs:
        return {}
    return {
        key: plain_blocks(value)
        for key, value in inputs.items()
        if not isinstance(value, Message)
        and not (isinstance(value, list) and value and as_message(value[-1]) is not None)
    }


def build_late(trace: Trace, options: Options, threads: Threads) -> Turn:
    """Work that began after its turn had ended, as a further part of that turn."""
    assert trace.late is not None
    root_id, conversation = trace.late
    build = _Build(trace, options, threads)
    build.steps.root_id = root_id
    build.steps.collect(trace.root)
    build.conversation = conversation
    build._mark_models(None)
    for event in build.steps.events:
        event.parent_event_id = event.parent_event_id or root_id
        build.own(event)
    return Turn(
        run_id=root_id,
        conversation=conversation,
        name=trace.root.name,
        agent_name=options.agent_name,
        started_ns=build.start_ns,
        ended_ns=build.end_ns,
        events=build.steps.events,
        agentic=True,
        partial=True,
    )


def complete_event(event: Event, scope: Scope | None, options: Options) -> Event:
    """A hand-made event with what it does not say itself: whose it is."""
    if event.conversation_id is None or event.user_id is None:
        whose = resolve(event.run_id or event.event_id, scope, None, None, options.defaults)
        event.conversation_id = event.conversation_id or whose.id
        event.user_id = event.user_id or whose.user_id
        event.organization_id = event.organization_id or whose.organization_id
    event.agent_name = event.agent_name or options.agent_name
    event.run_id = event.run_id or event.event_id
    return event
