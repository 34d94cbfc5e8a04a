"""One recorder a process: turns callbacks into records, and remembers which runs are open.

All of it runs in the user's thread, so each method costs microseconds, takes no lock and
touches only what is new. Several handlers (injected, by hand, copies) share one recorder,
which is why each run is recorded once.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns
from typing import Any
from uuid import UUID, uuid4

from gati._context import Span, current_scope, current_span, paused, rare
from gati.langchain import new_messages
from gati.langchain._compat import (
    LOSES_CONTEXT,
    RUN_TYPE,
    enclosing_run,
    enter,
    entered,
    input_comes_late,
    running_config,
)
from gati.langchain.callback_args import identity_in, is_node, name_of, parameters_of, text_of_blocks
from gati.langchain.message_snapshot import ROLES, message, response_metadata, tool_message
from gati.langchain.prompt_templates import template_of
from gati.langchain.snapshot import error_info, freeze
from gati.trace.records import (
    CONVERSATION_KEYS,
    Custom,
    ErrorInfo,
    FirstToken,
    GraphState,
    Message,
    ModelCall,
    ModelResult,
    Record,
    RunEnded,
    RunFailed,
    RunStarted,
)

OPEN_RUNS = 100_000
"""Most runs remembered as open; runs that never end must not fill the memory."""

ROOT, NODE, WATCHED, SEEKS, PROMPT = 1, 2, 4, 8, 16
"""What is known of an open run: it is a root; a graph's node; it reads a new_messages, whose length
is wanted; its `configurable`, which only its children can read, may name the user; it is a prompt."""

_new = tuple.__new__
"""Makes a NamedTuple at half the cost of calling it."""

_HISTORY_RUN = "load_history"
_KINDS = frozenset({"prompt", "parser"})
"""What LangChain says of a chain that is more than one."""


class Recorder:
    """Makes records and hands them to `put`.

    Args:
        put: takes a record; must return at once and never raise.
        conversation_id: the default of `init`, needed to know whether a conversation is new.
        fault: told what went wrong with a snapshot; the record goes without it.
    """

    def __init__(
        self,
        put: Callable[[Record], object],
        conversation_id: str | None = None,
        report_error: Callable[[str, Exception], None] | None = None,
    ) -> None:
        self.put = put
        self.report_error = report_error
        self.default_conversation = conversation_id
        # Keyed by `UUID.int`: hashing a UUID itself runs Python code.
        self.open: dict[int, int] = {}
        self.streams: dict[int, list[str]] = {}
        self.muted = new_messages.Memory(OPEN_RUNS)
        self.answers = new_messages.Memory(50_000)
        self.conversations = new_messages.Memory(50_000)

    # -- starts ---------------------------------------------------------------------------

    def chain_started(
        self,
        serialized: Any,
        inputs: Any,
        run_id: UUID,
        parent: UUID | None,
        tags: Any,
        metadata: Any,
        more: dict[str, Any],
    ) -> None:
        above = self.open.get(parent.int) if parent is not None else None
        if above is None or rare.done or run_id.int in self.open:
            admitted = self._admit(run_id, parent)
            if admitted is None:
                return
            parent, above = admitted
        kind, name = more.get(RUN_TYPE), more.get("name") or name_of(serialized)
        flags, given, template = 0, None, None
        if kind == "prompt":
            flags, template = PROMPT, template_of(serialized)
            given = self._taken(new_messages.state, inputs, new_messages.tail_of_input, False)
        elif above is None:
            given = None if input_comes_late(inputs, more) else self._taken(self._root_input, inputs, metadata)
        elif (metadata and metadata.get("langgraph_node") == name) or is_node(tags):
            flags = NODE
        elif name == _HISTORY_RUN:
            flags = WATCHED
        kind = kind if kind in _KINDS else "chain"
        self._start(kind, run_id, parent, above, name, given, tags, metadata, template, flags)
        # Only where the code that follows is the run's: a graph's or a stream's reader runs in the same context.
        if LOSES_CONTEXT and kind != "prompt":
            if flags & NODE or (RUN_TYPE in more and not input_comes_late(inputs, more)):
                enter(run_id, self.open)

    def model_started(
        self,
        serialized: Any,
        messages: Any,
        run_id: UUID,
        parent: UUID | None,
        tags: Any,
        metadata: Any,
        more: dict[str, Any],
    ) -> None:
        admitted = self._admit(run_id, parent)
        if admitted is None:
            return
        parent, above = admitted
        call: ModelCall | None = None
        try:
            whole = above is None and self._begins(metadata)
            if isinstance(messages, str):
                call = ModelCall((), (Message("human", messages),), 1, parameters_of(more))
            else:
                system, news = new_messages.tail_of_call(messages, self.answers, whole)
                call = _new(ModelCall, (tuple(system), tuple(news), len(messages), parameters_of(more)))
        except Exception as error:  # noqa: BLE001 - as in `_taken`, which costs a call more
            self._missed("model_started", error)
        name = more.get("name") or name_of(serialized)
        self._start("model", run_id, parent, above, name, call, tags, metadata)

    def tool_started(
        self,
        serialized: Any,
        text: Any,
        run_id: UUID,
        parent: UUID | None,
        tags: Any,
        metadata: Any,
        more: dict[str, Any],
    ) -> None:
        admitted = self._admit(run_id, parent)
        if admitted is None:
            return
        inputs = more.get("inputs")
        given = self._taken(freeze, text if inputs is None else inputs)
        name = more.get("name") or name_of(serialized)
        self._start("tool", run_id, *admitted, name, given, tags, metadata, more.get("tool_call_id"))
        if LOSES_CONTEXT:
            enter(run_id, self.open)

    def retriever_started(
        self, serialized: Any, query: Any, run_id: UUID, parent: UUID | None, tags: Any, metadata: Any, name: str | None
    ) -> None:
        admitted = self._admit(run_id, parent)
        if admitted is None:
            return
        self._start("retriever", run_id, *admitted, name or name_of(serialized), freeze(query), tags, metadata)

    def span_started(self, kind: str, name: str, given: Any) -> Span | None:
        """A span of the user's own began; None if it is not to be recorded."""
        run_id = uuid4()
        admitted = self._admit(run_id, None)
        if admitted is None:
            return None
        inputs = self._taken(new_messages.state, given, new_messages.tail_of_input, False)
        self._start(kind, run_id, *admitted, name, inputs, None, None)
        return Span(run_id, admitted[0])

    # -- ends -----------------------------------------------------------------------------

    def chain_ended(self, outputs: Any, run_id: UUID, inputs: Any) -> None:
        at = perf_counter_ns()
        flags = self.open.pop(run_id.int, ROOT)
        if rare.done and run_id.int in self.muted.kept:
            return
        given = output = None
        if flags & NODE:
            try:
                output = new_messages.state(outputs, new_messages.news_of_node, self.answers)
            except Exception as error:  # noqa: BLE001 - as in `_taken`, which costs a call more
                self._missed("state", error)
        elif flags & PROMPT:
            output = self._taken(new_messages.rendered, outputs)
        elif flags & WATCHED:
            output = len(outputs) if isinstance(outputs, list) else None
        elif flags & ROOT:
            output = self._taken(new_messages.state, outputs, new_messages.tail_of_output, self.answers)
        if inputs is not None and flags & ROOT:
            given = self._taken(new_messages.state, inputs, new_messages.tail_of_input, False)
        self.put(_new(RunEnded, (run_id, at, output, given)))

    def model_ended(self, response: Any, run_id: UUID) -> None:
        at = perf_counter_ns()
        self._forget(run_id.int)
        if rare.done and run_id.int in self.muted.kept:
            return
        result: ModelResult | None = None
        try:
            result = self._result(response)
        except Exception as error:  # noqa: BLE001 - as in `_taken`, which costs a call more
            self._missed("_result", error)
        self.put(_new(RunEnded, (run_id, at, result, None)))

    def tool_ended(self, output: Any, run_id: UUID) -> None:
        at = perf_counter_ns()
        take: Callable[[Any], Any] = freeze
        if ROLES[type(output)] is not None:
            take = tool_message
            if type(call_id := output.__dict__.get("tool_call_id")) is str:
                self.answers.add(call_id)
        self._ended(run_id, at, take, output)

    def ended(self, output: Any, run_id: UUID) -> None:
        self._ended(run_id, perf_counter_ns(), freeze, output)

    def _ended(self, run_id: UUID, at: int, take: Callable[[Any], Any], output: Any) -> None:
        self.open.pop(run_id.int, None)
        if not (rare.done and run_id.int in self.muted.kept):
            self.put(_new(RunEnded, (run_id, at, self._taken(take, output), None)))

    def failed(self, error: BaseException, run_id: UUID, more: dict[str, Any]) -> None:
        at = perf_counter_ns()
        flags = self._forget(run_id.int)
        if rare.done and run_id.int in self.muted.kept:
            return
        response = more.get("response")
        output = self._taken(self._result, response) if response is not None else None
        inputs = more.get("inputs")
        given = (
            self._taken(new_messages.state, inputs, new_messages.tail_of_input, False)
            if inputs is not None and flags & ROOT
            else None
        )
        self.put(
            RunFailed(run_id, at, self._taken(error_info, error) or ErrorInfo(type(error).__name__, ""), output, given)
        )

    # -- in between -----------------------------------------------------------------------

    def token(self, token: Any, run_id: UUID) -> None:
        pieces = self.streams.get(run_id.int)
        if pieces is None:
            if run_id.int not in self.open:
                return
            pieces = self.streams[run_id.int] = []
            self.put(FirstToken(run_id, perf_counter_ns(), pieces))
        if type(token) is str:
            pieces.append(token)
        elif token:
            pieces.append(text_of_blocks(token))

    def custom(self, name: str, data: Any, run_id: UUID) -> None:
        if run_id.int in self.open:
            self.put(Custom(run_id, name, perf_counter_ns(), freeze(data)))

    def graph_state(self, state: str, event: Any) -> None:
        """A graph was interrupted or resumed."""
        asked = tuple(freeze(i) for i in getattr(event, "interrupts", ()))
        at = perf_counter_ns()
        self.put(GraphState(event.run_id, state, at, "|".join(event.checkpoint_ns), asked, event.status))

    def given_up(self, run_id: UUID) -> None:
        """Nobody waits for this run's end any more. Called by the background thread."""
        self._forget(run_id.int)

    # -- what they share --------------------------------------------------------------------

    def _taken(self, take: Callable[..., Any], *what: Any) -> Any:
        """A snapshot; None where it fails, so that the run itself is told all the same."""
        try:
            return take(*what)
        except Exception as error:  # noqa: BLE001 - an object of the user may do anything when looked at
            self._missed(getattr(take, "__name__", "snapshot"), error)
            return None

    def _missed(self, what: str, error: Exception) -> None:
        if self.report_error is not None:
            self.report_error(what, error)

    def _admit(self, run_id: UUID, parent: UUID | None) -> tuple[UUID | None, int | None] | None:
        """The run above and what is known of it if it is open; None if this run is not to be recorded.

        A parent that is not open stands all the same: the assembler may know it (work that
        outlives its turn); an id that nobody knows, as under a LangSmith run tree, makes a root.
        """
        opened = self.open
        if run_id.int in opened:
            return None
        if rare.done:
            muted = self.muted.kept
            if paused.get() or (muted and parent is not None and parent.int in muted):
                self.muted.add(run_id.int)
                return None
        above = opened.get(parent.int) if parent is not None else None
        if above is None:
            around = self.around()
            return (parent, None) if around is None else (around, opened.get(around.int))
        if rare.done and (span := current_span.get()) and span.parent_id == parent and span.id.int in opened:
            return span.id, opened.get(span.id.int)  # LangChain passes spans of the user's over: they stand in between
        return parent, above

    def around(self) -> UUID | None:
        """The open run or span that the calling code is in."""
        opened = self.open
        run: UUID | None = enclosing_run(running_config.get())
        if run is not None and run.int not in opened:
            run = None
        if LOSES_CONTEXT and run is None:
            run = entered(opened)
        span = current_span.get()
        if span is not None and span.id.int in opened and (run is None or span.parent_id == run):
            return span.id
        return run

    def _start(
        self, kind: str, run_id: UUID, parent: UUID | None, above: int | None, name: str, inputs: Any, tags: Any,
        metadata: Any, extra: Any = None, flags: int = 0,
    ) -> None:  # fmt: skip
        scope = configurable = None
        if above is None:
            scope, metadata = current_scope.get(), freeze(metadata)
            flags |= ROOT
            if scope is None or scope.user_id is None:
                flags |= SEEKS
        elif above & SEEKS:
            # LangGraph sets the running config after a node's start: then its children look.
            configurable = identity_in(running_config.get())
            if configurable is None:
                flags |= SEEKS
            elif parent is not None:
                self.open[parent.int] = above & ~SEEKS
        self.open[run_id.int] = flags
        if len(self.open) > OPEN_RUNS:
            for old in list(self.open)[: OPEN_RUNS // 2]:
                self._forget(old)
        at, tags = perf_counter_ns(), tuple(tags) if tags else ()
        self.put(_new(RunStarted, (run_id, parent, kind, name, at, inputs, tags, metadata, extra, scope, configurable)))

    def _forget(self, key: int) -> int:
        if self.streams:
            self.streams.pop(key, None)
        return self.open.pop(key, 0)

    def _root_input(self, inputs: Any, metadata: Any) -> Any:
        return new_messages.state(inputs, new_messages.tail_of_input, self._begins(metadata))

    def _begins(self, metadata: Any) -> bool:
        """Whether a root is the first that we see of its conversation."""
        scope = current_scope.get()
        conversation = scope.conversation_id if scope else None
        for key in CONVERSATION_KEYS:
            conversation = conversation or (metadata or {}).get(key)
        conversation = str(conversation or self.default_conversation or "")
        # Without a name of its own the turn is a conversation by itself: there is no history to bring.
        new = bool(conversation) and conversation not in self.conversations
        if new:
            self.conversations.add(conversation)
        return new

    def _result(self, response: Any) -> ModelResult:
        made = []
        generations = response.generations
        for candidate in generations[0] if generations else ():
            answer = getattr(candidate, "message", None)
            if answer is None:
                info = response_metadata(candidate.generation_info)
                made.append(Message("ai", candidate.text, response=info))
                continue
            new_messages.remember(answer, self.answers)
            made.append(message(answer, result=True))
        return _new(ModelResult, (tuple(made), response_metadata(response.llm_output)))
