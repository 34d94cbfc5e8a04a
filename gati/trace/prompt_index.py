"""Find the prompt of a model call: its text, template and name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gati.events import Prompt
from gati.trace.content import text_of
from gati.trace.prompt_builder import lineage_of, prompt_of
from gati.trace.records import Message, Template

if TYPE_CHECKING:
    from gati.trace.run_tree import Run


class PromptIndex:
    """The prompt runs of one trace, by the system text that they rendered.

    Equal text links a prompt run to a model call. Object identity cannot: LangChain copies the
    messages of some prompts.

    Args:
        agent_name: first part of the name of a prompt without a name of its own.
        unlinked: prompts rendered outside of any trace, before the model was called.
    """

    def __init__(self, agent_name: str, unlinked: UnlinkedPrompts) -> None:
        self._agent_name = agent_name
        self._unlinked = unlinked
        self._rendered: dict[str, Run] = {}
        self._retrieved: list[str] = []

    def add(self, run: Run) -> None:
        """Add a prompt run, or the texts of a retriever run, which may be values of a prompt's variables."""
        if run.kind == "prompt":
            if text := _rendered_system_text(run):
                self._rendered[text] = run
        elif run.kind == "retriever" and isinstance(run.output, list):
            self._retrieved += [str(item.get("page_content") or "") for item in run.output if isinstance(item, dict)]

    def prompt_of(self, model: Run, system: str) -> Prompt | None:
        """Return the prompt of a model call with the system text `system`; None if the text is empty."""
        if not system:
            return None
        run = self._rendered.get(system) or self._unlinked.get(system)
        if run is None:
            return Prompt(system, external_id=self._default_name(model))
        return prompt_of(
            run.extra,
            run.inputs if isinstance(run.inputs, dict) else {},
            _message_texts(run.output),
            lineage_of(run.extra, run.metadata, self._default_name(model)),
            self._retrieved,
        )

    def _default_name(self, model: Run) -> str:
        """Return a name that stays when the text changes. Example: agent "tutor", node "model" → ``"tutor/model"``."""
        agent = str(model.metadata.get("lc_agent_name") or self._agent_name)
        node = model.metadata.get("langgraph_node")
        return f"{agent}/{node}" if node else agent


class UnlinkedPrompts:
    """The latest prompts that a program rendered outside of any trace (`prompt.invoke`).

    A later model call with the same system text used one of them.
    """

    MAX_PROMPTS = 128

    def __init__(self) -> None:
        self._runs: dict[str, Run] = {}

    def add(self, run: Run) -> None:
        """Add a prompt run that is a root."""
        if text := _rendered_system_text(run):
            self._runs[text] = run
            if len(self._runs) > self.MAX_PROMPTS:
                del self._runs[next(iter(self._runs))]

    def get(self, system: str) -> Run | None:
        """Return the prompt run that rendered the text `system`."""
        return self._runs.get(system)


def _rendered_system_text(run: Run) -> str:
    """Return the system text that a prompt run rendered; "" if its template is not known."""
    return "\n\n".join(_message_texts(run.output)) if run.kind == "prompt" and isinstance(run.extra, Template) else ""


def _message_texts(rendered: Any) -> list[str]:
    return [text_of(m) for m in rendered if isinstance(m, Message)] if isinstance(rendered, list) else []
