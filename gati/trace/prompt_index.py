"""Find the prompt of a model call: its text, template and name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gati.events import Prompt
from gati.trace.content import text_of
from gati.trace.managed_prompts import managed_prompts
from gati.trace.prompt_builder import UserText, lineage_of, plain_prompt, prompt_of, variable_values
from gati.trace.prompt_names import PromptNames
from gati.trace.records import USER_ROLES, Message, Template
from gati.trace.run_tree import model_messages
from gati.trace.templates import fill_pieces, has_instructions, parse

if TYPE_CHECKING:
    from gati.trace.prompt_names import NumberedPrompts
    from gati.trace.prompt_values import KnownValues
    from gati.trace.run_tree import Run
    from gati.trace.templates import FilledPiece

_MAX_CANDIDATES = 20
"""Latest prompt runs that are compared with the user messages of a model call."""


class PromptIndex:
    """The prompt runs of one trace, by the text that they rendered.

    Equal text links a prompt run to a model call. Object identity cannot: LangChain copies the
    messages of some prompts.

    Args:
        agent_name: first part of the name of a prompt without a name of its own.
        unlinked: prompts rendered outside of any trace, before the model was called.
        values: the data that plain-text prompts may contain.
        numbered: the prompts of earlier traces that share a name with others.
    """

    def __init__(
        self, agent_name: str, unlinked: UnlinkedPrompts, values: KnownValues, numbered: NumberedPrompts
    ) -> None:
        self._names = PromptNames(agent_name, numbered)
        self._unlinked = unlinked
        self._values = values
        self._rendered: dict[str, Run] = {}
        self._user_prompts: list[Run] = []
        self._retrieved: list[str] = []
        self._filled: dict[str, list[FilledPiece] | None] = {}

    def add(self, run: Run) -> None:
        """Add a prompt run, what a node wrote, or the texts of a retriever run, which may be values in a prompt."""
        if run.kind == "prompt":
            if text := _rendered_system_text(run):
                self._rendered[text] = run
            if _has_user_template(run):
                self._user_prompts.append(run)
        elif run.kind == "retriever" and isinstance(run.output, list):
            self._retrieved += [str(item.get("page_content") or "") for item in run.output if isinstance(item, dict)]
        else:
            self._values.add(run)

    def prompt_of(self, model: Run, system: str) -> Prompt | None:
        """Return the prompt of a model call with the system text `system`; None if it has no instructions."""
        if system and (managed := managed_prompts.prompt_of_text(system)) is not None:
            return managed
        run = (self._rendered.get(system) or self._unlinked.get(system)) if system else None
        if run is not None:
            managed = managed_prompts.prompt_of_template(run.extra, _inputs_of(run), system)
            if managed is not None:
                return managed
            return self._template_prompt(model, run, _message_texts(run.output), _user_texts(run, model))
        if system:
            return self._plain_prompt(model, system)
        for run in self._candidates(model):
            if user := _user_texts(run, model):
                return self._template_prompt(model, run, [], user)
        return None

    def _template_prompt(self, model: Run, run: Run, rendered: list[str], user: list[UserText]) -> Prompt:
        lineage = lineage_of(run.extra, run.metadata) or self._names.name_of(model, run.extra)
        return prompt_of(run.extra, _inputs_of(run), rendered, lineage, self._retrieved, user)

    def _plain_prompt(self, model: Run, system: str) -> Prompt:
        if (around := managed_prompts.prompt_around(system)) is not None:
            content = "".join(part.content for part in around.components)
            around.external_id = self._names.name_of(model, content)
            return around
        if system not in self._filled:
            self._filled[system] = self._values.fill(system, self._retrieved)
        pieces = self._filled[system]
        marked = system if pieces is None else "".join("{{" + p.name + "}}" if p.name else p.text for p in pieces)
        return plain_prompt(system, self._names.name_of(model, marked), pieces, self._retrieved)

    def _candidates(self, model: Run) -> list[Run]:
        """Return the prompt runs that may have rendered the user messages of a model call, the likeliest first."""
        earlier = [run for run in reversed(self._user_prompts) if run.started <= model.started]
        earlier.sort(key=lambda run: run.parent is not model.parent)
        return [*earlier[:_MAX_CANDIDATES], *self._unlinked.user_prompts()]


class UnlinkedPrompts:
    """The latest prompts that a program rendered outside of any trace (`prompt.invoke`).

    A later model call with the same text used one of them.
    """

    MAX_PROMPTS = 128

    def __init__(self) -> None:
        self._runs: dict[str, Run] = {}
        self._user_prompts: list[Run] = []

    def add(self, run: Run) -> None:
        """Add a prompt run that is a root."""
        if text := _rendered_system_text(run):
            self._runs[text] = run
            if len(self._runs) > self.MAX_PROMPTS:
                del self._runs[next(iter(self._runs))]
        elif _has_user_template(run):
            self._user_prompts = [run, *self._user_prompts[: _MAX_CANDIDATES - 1]]

    def get(self, system: str) -> Run | None:
        """Return the prompt run that rendered the text `system`."""
        return self._runs.get(system)

    def user_prompts(self) -> list[Run]:
        """Return the latest prompt runs without a system text, the latest first."""
        return self._user_prompts


def _rendered_system_text(run: Run) -> str:
    """Return the system text that a prompt run rendered; "" if its template is not known."""
    if run.kind != "prompt" or not isinstance(run.extra, Template) or not run.extra.system:
        return ""
    return "\n\n".join(_message_texts(run.output))


def _has_user_template(run: Run) -> bool:
    return isinstance(run.extra, Template) and any(map(has_instructions, run.extra.user))


def _user_texts(run: Run, model: Run) -> list[UserText]:
    """Return the user messages of a model call that the templates of a prompt run rendered; [] if one is missing.

    Values that the prompt's inputs do not contain are inferred only if prompt and model are part of one chain.
    """
    if not isinstance(run.extra, Template):
        return []
    texts = [text_of(message) for message in model_messages(model) if message.role in USER_ROLES]
    values = variable_values(run.extra, _inputs_of(run))
    is_linked = run.parent is not None and run.parent is model.parent
    found: list[UserText] = []
    for blocks in filter(has_instructions, run.extra.user):
        pieces = parse(blocks) or ()
        known = is_linked or all(piece.name in values for piece in pieces if piece.name)
        fits = ((text, fill_pieces(pieces, values, text)) for text in reversed(texts) if known)
        text, filled = next(((text, filled) for text, filled in fits if filled is not None), ("", None))
        if filled is None:
            return []
        found.append((text, filled))
    return found


def _inputs_of(run: Run) -> Any:
    return run.inputs if isinstance(run.inputs, (dict, str)) else {}


def _message_texts(rendered: Any) -> list[str]:
    return [text_of(m) for m in rendered if isinstance(m, Message)] if isinstance(rendered, list) else []
