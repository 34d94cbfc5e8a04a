"""Which prompt a model call stood under: its text, its template, its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gati.events import Prompt
from gati.trace.content import text_of
from gati.trace.prompts import lineage_of, prompt_of
from gati.trace.records import Message, Template

if TYPE_CHECKING:
    from gati.trace.tree import Run


class PromptBook:
    """The prompt runs of one trace by the system text that they rendered.

    Equal text within one trace is what links a prompt run to a model call: LangChain copies
    the messages of some prompts, so that their identity is no help.
    """

    def __init__(self, agent_name: str) -> None:
        self._agent_name = agent_name
        self._rendered: dict[str, Run] = {}
        self._retrieved: list[str] = []

    def note(self, run: Run) -> None:
        """Take in what a run tells of prompts and of what goes into them."""
        if run.kind == "prompt" and isinstance(run.extra, Template):
            texts = _texts(run.output)
            if texts:
                self._rendered["\n\n".join(texts)] = run
        elif run.kind == "retriever" and isinstance(run.output, list):
            self._retrieved += [str(item.get("page_content") or "") for item in run.output if isinstance(item, dict)]

    def prompt_of(self, model: Run, system: str) -> Prompt | None:
        """The prompt of a model call whose system text is `system`; None if it has none."""
        if not system:
            return None
        run = self._rendered.get(system)
        if run is None:
            return Prompt(system, external_id=self._place(model))
        return prompt_of(
            run.extra,
            run.inputs if isinstance(run.inputs, dict) else {},
            _texts(run.output),
            lineage_of(run.extra, run.metadata, self._place(model)),
            self._retrieved,
        )

    def _place(self, model: Run) -> str:
        """Name of the agent and of the node that the call is in: stays when the text changes."""
        agent = str(model.metadata.get("lc_agent_name") or self._agent_name)
        node = model.metadata.get("langgraph_node")
        return f"{agent}/{node}" if node else agent


def _texts(rendered: Any) -> list[str]:
    return [text_of(m) for m in rendered if isinstance(m, Message)] if isinstance(rendered, list) else []
