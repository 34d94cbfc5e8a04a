"""The handler that LangChain calls: each `on_*` hands on to the recorder, guarded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gati.langchain._compat import GraphHandlerBase, RunInline
from gati.langchain.current import current
from gati.langchain.prompt_templates import extract_system_and_user_prompts

if TYPE_CHECKING:
    from uuid import UUID


class GatiLangChainCallback(GraphHandlerBase):  # type: ignore[misc, valid-type]  # which base there is, is known only at run time
    """Attach it to a model, a chain, an invoke or a compiled graph: `callbacks=[handler]`.

    Synchronous and inline, so that it sees objects before anybody edits them and works the
    same under async. It never raises and never alters what it sees.
    """

    run_inline = RunInline()
    raise_error = False
    ignore_retry = True
    name = "gati"

    def on_chain_start(
        self, serialized: Any, inputs: Any, *, run_id: UUID, parent_run_id: UUID | None = None,
        tags: list[str] | None = None, metadata: dict[str, Any] | None = None, **more: Any,
    ) -> None:  # fmt: skip
        """A chain, graph, node, prompt or parser began."""
        if (recorder := current.recorder) is not None:
            try:
                recorder.chain_started(serialized, inputs, run_id, parent_run_id, tags, metadata, more)
            except Exception as error:  # the user's program goes on whatever we do wrong; so in all of these
                current.report_error("on_chain_start", error)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, inputs: Any = None, **more: Any) -> None:
        """A chain ended; `inputs` come when it was streamed."""
        if (recorder := current.recorder) is not None:
            try:
                recorder.chain_ended(outputs, run_id, inputs)
            except Exception as error:
                current.report_error("on_chain_end", error)

    def on_chat_model_start(
        self, serialized: Any, messages: Any, *, run_id: UUID, parent_run_id: UUID | None = None,
        tags: list[str] | None = None, metadata: dict[str, Any] | None = None, **more: Any,
    ) -> None:  # fmt: skip
        """A chat model was called; LangChain makes one run a prompt, so `messages` has one list."""
        if (recorder := current.recorder) is not None:
            try:
                recorder.model_started(serialized, messages[0], run_id, parent_run_id, tags, metadata, more)
            except Exception as error:
                current.report_error("on_chat_model_start", error)

    def on_llm_start(
        self, serialized: Any, prompts: Any, *, run_id: UUID, parent_run_id: UUID | None = None,
        tags: list[str] | None = None, metadata: dict[str, Any] | None = None, **more: Any,
    ) -> None:  # fmt: skip
        """A completion model was called."""
        if (recorder := current.recorder) is not None:
            try:
                recorder.model_started(serialized, prompts[0], run_id, parent_run_id, tags, metadata, more)
            except Exception as error:
                current.report_error("on_llm_start", error)

    def on_llm_new_token(self, token: Any = "", *, run_id: UUID, **more: Any) -> None:
        """A piece of an answer came."""
        if (recorder := current.recorder) is not None:
            try:
                recorder.token_received(token, run_id)
            except Exception as error:
                current.report_error("on_llm_new_token", error)

    def on_llm_end(self, response: Any, *, run_id: UUID, **more: Any) -> None:
        """A model answered."""
        if (recorder := current.recorder) is not None:
            try:
                recorder.model_ended(response, run_id)
            except Exception as error:
                current.report_error("on_llm_end", error)

    def on_tool_start(
        self, serialized: Any, input_str: str, *, run_id: UUID, parent_run_id: UUID | None = None,
        tags: list[str] | None = None, metadata: dict[str, Any] | None = None, **more: Any,
    ) -> None:  # fmt: skip
        """A tool began."""
        if (recorder := current.recorder) is not None:
            try:
                recorder.tool_started(serialized, input_str, run_id, parent_run_id, tags, metadata, more)
            except Exception as error:
                current.report_error("on_tool_start", error)

    def on_tool_end(self, output: Any, *, run_id: UUID, **more: Any) -> None:
        """A tool returned."""
        if (recorder := current.recorder) is not None:
            try:
                recorder.tool_ended(output, run_id)
            except Exception as error:
                current.report_error("on_tool_end", error)

    def on_retriever_start(
        self, serialized: Any, query: str, *, run_id: UUID, parent_run_id: UUID | None = None,
        tags: list[str] | None = None, metadata: dict[str, Any] | None = None, **more: Any,
    ) -> None:  # fmt: skip
        """A retriever began."""
        if (recorder := current.recorder) is not None:
            try:
                recorder.retriever_started(serialized, query, run_id, parent_run_id, tags, metadata, more.get("name"))
            except Exception as error:
                current.report_error("on_retriever_start", error)

    def on_retriever_end(self, documents: Any, *, run_id: UUID, **more: Any) -> None:
        """A retriever found its documents."""
        if (recorder := current.recorder) is not None:
            try:
                recorder.run_ended(documents, run_id)
            except Exception as error:
                current.report_error("on_retriever_end", error)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **more: Any) -> None:
        """A chain raised."""
        self._failed("on_chain_error", error, run_id, more)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **more: Any) -> None:
        """A model raised; `response` holds what there was of an answer."""
        self._failed("on_llm_error", error, run_id, more)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **more: Any) -> None:
        """A tool raised."""
        self._failed("on_tool_error", error, run_id, more)

    def on_retriever_error(self, error: BaseException, *, run_id: UUID, **more: Any) -> None:
        """A retriever raised."""
        self._failed("on_retriever_error", error, run_id, more)

    def on_custom_event(self, name: str, data: Any, *, run_id: UUID, **more: Any) -> None:
        """The program dispatched an event of its own."""
        if (recorder := current.recorder) is not None:
            try:
                recorder.custom_event(name, data, run_id)
            except Exception as error:
                current.report_error("on_custom_event", error)

    def on_interrupt(self, event: Any) -> None:
        """LangGraph paused a graph to ask a human."""
        self._graph_state("interrupted", event)

    def on_resume(self, event: Any) -> None:
        """LangGraph resumed a graph."""
        self._graph_state("resumed", event)

    def _failed(self, place: str, error: BaseException, run_id: UUID, more: dict[str, Any]) -> None:
        if (recorder := current.recorder) is not None:
            try:
                recorder.run_failed(error, run_id, more)
            except Exception as ours:
                current.report_error(place, ours)

    def _graph_state(self, state: str, event: Any) -> None:
        if (recorder := current.recorder) is not None:
            try:
                recorder.graph_state_changed(state, event)
            except Exception as error:
                current.report_error("on_" + state, error)

    @staticmethod
    def _extract_system_and_user_prompts(prompts: Any) -> tuple[str, str]:
        """System and user text of `prompts`, in any form; kept for users of the first gati."""
        return extract_system_and_user_prompts(prompts)

    # LangChain deep-copies and pickles models with their handlers.
    def __copy__(self) -> GatiLangChainCallback:
        return self

    def __deepcopy__(self, memo: Any) -> GatiLangChainCallback:
        return self

    def __reduce__(self) -> tuple[type[GatiLangChainCallback], tuple[()]]:
        return type(self), ()


handler = GatiLangChainCallback()
"""The process's handler. One object for injection and `get_callbacks`, so that LangChain,
which compares handlers by identity, attaches it once."""
