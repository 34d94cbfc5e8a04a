"""The callback handler. Each `on_*` method passes its arguments to the recorder and catches all exceptions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gati.langchain._compat import GraphHandlerBase, RunInline
from gati.langchain.callback_args import as_run_id
from gati.langchain.current import current
from gati.langchain.prompt_templates import extract_system_and_user_prompts

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID


class GatiLangChainCallback(GraphHandlerBase):  # type: ignore[misc, valid-type]  # the base class depends on the installed version
    """LangChain callback handler that records runs: `callbacks=[handler]` on a model, chain, invocation or graph.

    It is synchronous and inline, so it sees objects before other code changes them and works the same in async code.
    It never raises and never changes its arguments.
    """

    run_inline = RunInline()
    raise_error = False
    ignore_retry = True
    name = "gati"

    def on_chain_start(
        self, serialized: Any, inputs: Any, *, run_id: UUID, parent_run_id: UUID | None = None,
        tags: list[str] | None = None, metadata: dict[str, Any] | None = None, **more: Any,
    ) -> None:  # fmt: skip
        """Record the start of a chain, graph, node, prompt or parser."""
        if (recorder := current.recorder) is not None:
            try:
                recorder.chain_started(serialized, inputs, run_id, parent_run_id, tags, metadata, more)
            except Exception as error:  # an error in gati must not affect the program; the same in all methods
                _report_and_recover(
                    "on_chain_start",
                    error,
                    recorder.chain_started,
                    (serialized, inputs),
                    (run_id, parent_run_id),
                    (tags, metadata, more),
                )

    def on_chain_end(self, outputs: Any, *, run_id: UUID, inputs: Any = None, **more: Any) -> None:
        """Record the end of a chain. A streamed chain passes its `inputs` here."""
        if (recorder := current.recorder) is not None:
            try:
                recorder.chain_ended(outputs, run_id, inputs)
            except Exception as error:
                _report_and_recover("on_chain_end", error, recorder.chain_ended, (outputs,), (run_id,), (inputs,))

    def on_chat_model_start(
        self, serialized: Any, messages: Any, *, run_id: UUID, parent_run_id: UUID | None = None,
        tags: list[str] | None = None, metadata: dict[str, Any] | None = None, **more: Any,
    ) -> None:  # fmt: skip
        """Record a chat model call. LangChain creates one run per prompt, so `messages` contains one list."""
        if (recorder := current.recorder) is not None:
            try:
                recorder.model_started(serialized, messages[0], run_id, parent_run_id, tags, metadata, more)
            except Exception as error:
                _report_and_recover(
                    "on_chat_model_start",
                    error,
                    recorder.model_started,
                    (serialized, _first_of(messages)),
                    (run_id, parent_run_id),
                    (tags, metadata, more),
                )

    def on_llm_start(
        self, serialized: Any, prompts: Any, *, run_id: UUID, parent_run_id: UUID | None = None,
        tags: list[str] | None = None, metadata: dict[str, Any] | None = None, **more: Any,
    ) -> None:  # fmt: skip
        """Record the call of a completion model."""
        if (recorder := current.recorder) is not None:
            try:
                recorder.model_started(serialized, prompts[0], run_id, parent_run_id, tags, metadata, more)
            except Exception as error:
                _report_and_recover(
                    "on_llm_start",
                    error,
                    recorder.model_started,
                    (serialized, _first_of(prompts)),
                    (run_id, parent_run_id),
                    (tags, metadata, more),
                )

    def on_llm_new_token(self, token: Any = "", *, run_id: UUID, **more: Any) -> None:
        """Record a streamed token."""
        if (recorder := current.recorder) is not None:
            try:
                recorder.token_received(token, run_id)
            except Exception as error:
                _report_and_recover("on_llm_new_token", error, recorder.token_received, (token,), (run_id,))

    def on_stream_event(self, event: Any, *, run_id: UUID, **more: Any) -> None:
        """Record the text of a protocol event (`stream_events(version="v3")`)."""
        if (recorder := current.recorder) is not None:
            try:
                recorder.stream_event_received(event, run_id)
            except Exception as error:
                _report_and_recover("on_stream_event", error, recorder.stream_event_received, (event,), (run_id,))

    def on_llm_end(self, response: Any, *, run_id: UUID, parent_run_id: UUID | None = None, **more: Any) -> None:
        """Record the answer of a model."""
        if (recorder := current.recorder) is not None:
            try:
                recorder.model_ended(response, run_id, parent_run_id)
            except Exception as error:
                _report_and_recover("on_llm_end", error, recorder.model_ended, (response,), (run_id, parent_run_id))

    def on_tool_start(
        self, serialized: Any, input_str: str, *, run_id: UUID, parent_run_id: UUID | None = None,
        tags: list[str] | None = None, metadata: dict[str, Any] | None = None, **more: Any,
    ) -> None:  # fmt: skip
        """Record the start of a tool."""
        if (recorder := current.recorder) is not None:
            try:
                recorder.tool_started(serialized, input_str, run_id, parent_run_id, tags, metadata, more)
            except Exception as error:
                _report_and_recover(
                    "on_tool_start",
                    error,
                    recorder.tool_started,
                    (serialized, input_str),
                    (run_id, parent_run_id),
                    (tags, metadata, more),
                )

    def on_tool_end(self, output: Any, *, run_id: UUID, **more: Any) -> None:
        """Record the result of a tool."""
        if (recorder := current.recorder) is not None:
            try:
                recorder.tool_ended(output, run_id)
            except Exception as error:
                _report_and_recover("on_tool_end", error, recorder.tool_ended, (output,), (run_id,))

    def on_retriever_start(
        self, serialized: Any, query: str, *, run_id: UUID, parent_run_id: UUID | None = None,
        tags: list[str] | None = None, metadata: dict[str, Any] | None = None, **more: Any,
    ) -> None:  # fmt: skip
        """Record the start of a retriever."""
        if (recorder := current.recorder) is not None:
            try:
                recorder.retriever_started(serialized, query, run_id, parent_run_id, tags, metadata, more.get("name"))
            except Exception as error:
                _report_and_recover(
                    "on_retriever_start",
                    error,
                    recorder.retriever_started,
                    (serialized, query),
                    (run_id, parent_run_id),
                    (tags, metadata, more.get("name")),
                )

    def on_retriever_end(self, documents: Any, *, run_id: UUID, **more: Any) -> None:
        """Record the documents of a retriever."""
        if (recorder := current.recorder) is not None:
            try:
                recorder.run_ended(documents, run_id)
            except Exception as error:
                _report_and_recover("on_retriever_end", error, recorder.run_ended, (documents,), (run_id,))

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **more: Any) -> None:
        """Record the exception of a chain."""
        self._failed("on_chain_error", error, run_id, more)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **more: Any) -> None:
        """Record the exception of a model; `response` contains the partial answer."""
        self._failed("on_llm_error", error, run_id, more)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **more: Any) -> None:
        """Record the exception of a tool."""
        self._failed("on_tool_error", error, run_id, more)

    def on_retriever_error(self, error: BaseException, *, run_id: UUID, **more: Any) -> None:
        """Record the exception of a retriever."""
        self._failed("on_retriever_error", error, run_id, more)

    def on_custom_event(self, name: str, data: Any, *, run_id: UUID, **more: Any) -> None:
        """Record a custom event of the program."""
        if (recorder := current.recorder) is not None:
            try:
                recorder.custom_event(name, data, run_id)
            except Exception as error:
                _report_and_recover("on_custom_event", error, recorder.custom_event, (name, data), (run_id,))

    def on_interrupt(self, event: Any) -> None:
        """Record that LangGraph interrupted a graph."""
        self._graph_state("interrupted", event)

    def on_resume(self, event: Any) -> None:
        """Record that LangGraph resumed a graph."""
        self._graph_state("resumed", event)

    def _failed(self, place: str, error: BaseException, run_id: UUID, more: dict[str, Any]) -> None:
        if (recorder := current.recorder) is not None:
            try:
                recorder.run_failed(error, run_id, more)
            except Exception as internal_error:
                _report_and_recover(place, internal_error, recorder.run_failed, (error,), (run_id,), (more,))

    def _graph_state(self, state: str, event: Any) -> None:
        if (recorder := current.recorder) is not None:
            try:
                recorder.graph_state_changed(state, event)
            except Exception as error:
                current.report_error("on_" + state, error)

    @staticmethod
    def _extract_system_and_user_prompts(prompts: Any) -> tuple[str, str]:
        """Return the system and user text of `prompts`. Kept for compatibility with earlier versions."""
        return extract_system_and_user_prompts(prompts)

    # LangChain deep-copies and pickles models together with their handlers.
    def __copy__(self) -> GatiLangChainCallback:
        return self

    def __deepcopy__(self, memo: Any) -> GatiLangChainCallback:
        return self

    def __reduce__(self) -> tuple[type[GatiLangChainCallback], tuple[()]]:
        return type(self), ()


def _first_of(batch: Any) -> Any:
    return batch[0] if type(batch) is list and batch else None


def _report_and_recover(
    place: str,
    error: Exception,
    record: Callable[..., None],
    before: tuple[Any, ...],
    ids: tuple[Any, ...],
    after: tuple[Any, ...] = (),
) -> None:
    """Handle an exception of `record(*before, *ids, *after)`: repeat the call with UUIDs, or report the exception.

    Programs may pass a text as `run_id`. The recorder raises at once for it, before it has recorded anything.
    """
    if isinstance(error, AttributeError) and str in map(type, ids):
        try:
            record(*before, *map(as_run_id, ids), *after)
        except Exception as second_error:  # an error in gati must not affect the program
            error = second_error
        else:
            return
    current.report_error(place, error)


handler = GatiLangChainCallback()
"""The process's handler. Injection and `get_callbacks` share one object, because LangChain compares handlers by identity
and would otherwise attach two."""
