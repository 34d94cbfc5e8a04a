"""Name prompts: the id under which the versions of one prompt are collected.

A name is made of what stays when texts, steps and other prompts of the program change: the agent, the
graph, the tool and the node that contain the call, run names, and the variables of the template.
Prompts that share all of these in one run of a node are numbered in the order of their first use. A process remembers
the numbers, so a prompt keeps its own when another one is called only sometimes.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from typing import TYPE_CHECKING, TypeAlias

from gati.trace.content import text_of
from gati.trace.records import ModelCall, Template
from gati.trace.templates import has_instructions, parse

if TYPE_CHECKING:
    from collections.abc import Collection

    from gati.trace.run_tree import Run

TemplateKey: TypeAlias = "str | Template"
"""What distinguishes two prompts with one name: the template, or the text with its variables marked."""

_DEFAULT_GRAPH_NAME = "LangGraph"
_FALLBACKS = "RunnableWithFallbacks"
_MAP_KEY, _SEQUENCE_STEP = "map:key:", "seq:step:"
_GENERIC = re.compile(r"Runnable\w*(<.*>)?|ChatPromptTemplate|ChannelWrite.*|LangGraph|_\w+|<lambda>")
"""Run names that LangChain makes of class names."""
_CHANGING = re.compile(r"(?<![\s_:-])[\s_:-]*+\d[\w:-]*+")
"""Part of a run name that may differ from run to run, such as a number or a UUID."""
_MAX_VARIABLES_CHARS = 80
"""Longest list of variables in a name; a longer one is replaced by its hash."""
_REMEMBERED_CHARS = 2_000
"""Characters remembered of the beginning and of the end of a prompt."""
_SAME_WORDS = 6
_SAME_PART = 0.6
"""Two texts are one prompt, filled with different data, if this many words and this part of the shorter one are common
at their beginnings and ends."""


class NumberedPrompts:
    """The prompts of this process that share a name, in the order of their numbers; bounded in number and size."""

    MAX_NAMES = 256
    MAX_PROMPTS = 16

    def __init__(self) -> None:
        self._prompts: OrderedDict[str, list[TemplateKey]] = OrderedDict()

    def of(self, name: str) -> list[TemplateKey]:
        """Return the latest version of each prompt with this name."""
        return self._prompts.get(name, [])

    def remember(self, name: str, number: int, key: TemplateKey) -> None:
        """Remember which prompt has a number, counted from 0."""
        known = self._prompts[name] = self._prompts.pop(name, [])
        if isinstance(key, str) and len(key) > 2 * _REMEMBERED_CHARS:
            key = key[:_REMEMBERED_CHARS] + key[-_REMEMBERED_CHARS:]
        known[number : number + 1] = [key]
        del known[self.MAX_PROMPTS :]
        if len(self._prompts) > self.MAX_NAMES:
            self._prompts.popitem(last=False)


class PromptNames:
    """The names of the prompts of one trace.

    Args:
        agent_name: first part of a name, unless LangChain names the agent.
        numbered: the prompts of earlier traces.
    """

    def __init__(self, agent_name: str, numbered: NumberedPrompts) -> None:
        self._agent_name = agent_name
        self._numbered = numbered
        self._used: dict[tuple[Run, str], dict[int, TemplateKey]] = {}

    def name_of(self, model: Run, key: TemplateKey) -> str:
        """Return the name of the prompt of a model call. Example: agent "tutor", node "model" → ``"tutor/model"``."""
        name = "/".join([str(model.metadata.get("lc_agent_name") or self._agent_name), *_place_of(model)])
        if isinstance(key, Template):
            name += _variables_of(key)
        step = _enclosing_step(model)
        used = self._used.setdefault((step, name), {})
        number = next((n for n, other in used.items() if _is_same_prompt(key, other)), None)
        if number is None:
            known = self._numbered.of(name)
            if known and not used and known[0] == key:
                number = 0
            else:
                number = self._new_number(step, known, key, used)
                self._numbered.remember(name, number, key)
            used[number] = key
        return f"{name}#{number + 1}" if number else name

    @staticmethod
    def _new_number(step: Run, known: list[TemplateKey], key: TemplateKey, used: Collection[int]) -> int:
        """Return the number that a prompt had before; else the first that no other prompt in the same step has."""
        for number, other in enumerate(known):
            if number not in used and _is_same_prompt(key, other):
                return number
        others = [n for n, other in enumerate(known) if n not in used and _contains_prompt(step, other)]
        return next(n for n in range(len(used) + len(others) + 1) if n not in used and n not in others)


def _place_of(model: Run) -> list[str]:
    """Return the parts of the path to a model call, outermost first, from the innermost named graph on."""
    parts: list[str] = []
    if source := model.metadata.get("lc_source"):
        parts.append(str(source))
    if isinstance(model.extra, str) and (label := _stable(model.extra)):
        parts.append(label)
    node = model.metadata.get("langgraph_node")
    below = model
    for run in model.ancestors():
        if run.node is not None and run.parent is not None:
            parts.append(run.node)
            node = None
        elif run.parent is not None and _is_graph(run):
            if node is not None:  # the run of the node is not known
                parts.append(str(node))
                node = None
            if run.name == model.metadata.get("lc_agent_name"):
                break
            if run.name != _DEFAULT_GRAPH_NAME:
                parts.append(run.name)
                break
        elif run.kind == "tool":
            parts.append(run.name)
        elif part := _chain_part(run, below):
            parts.append(part)
        below = run
    if node is not None:
        parts.append(str(node))
    return _without_repeats(parts[::-1])


def _is_graph(run: Run) -> bool:
    return run.kind == "chain" and run.has_nodes


def _chain_part(run: Run, below: Run) -> str | None:
    """Return the name that a chain gives to what is below it: a key of a parallel, a fallback's number, a run name."""
    for tag in run.tags:
        if tag.startswith(_MAP_KEY):
            return tag.removeprefix(_MAP_KEY)
    if run.name == _FALLBACKS and below.kind != "model":
        number = run.children.index(below)
        return f"fallback-{number}" if number and not _repeats_first(run.children[0], below) else None
    is_sequence = any(tag.startswith(_SEQUENCE_STEP) for tag in below.tags)
    if is_sequence and run.parent is not None and run.node is None and not _GENERIC.fullmatch(run.name):
        return _stable(run.name)
    return None


def _repeats_first(first: Run, fallback: Run) -> bool:
    """Return True if a fallback uses the template of the chain that it replaces: only the model differs."""
    templates = [next((run.extra for run in chain.walk() if run.kind == "prompt"), None) for chain in (first, fallback)]
    return templates[0] is not None and templates[0] == templates[1]


def _stable(name: str) -> str:
    """Remove what may change from run to run. Example: ``"answer-42"`` → ``"answer"``."""
    return _CHANGING.sub("", name).strip()


def _without_repeats(parts: list[str]) -> list[str]:
    """Drop parts that repeat the one before. Example: a node and its graph that are both called "writer"."""
    return [part for index, part in enumerate(parts) if part and (not index or part != parts[index - 1])]


def _variables_of(template: Template) -> str:
    """Return the variables in a template's own text as part of its name. Example: ``"[audience]"``; "" without any.

    The variables of a template with logic are all that it accepts.
    """
    names: set[str] = set()
    for blocks in (*template.system, *filter(has_instructions, template.user)):
        pieces = parse(blocks)
        names |= {piece.name for piece in pieces if piece.name} if pieces is not None else set(template.variables)
    joined = ",".join(sorted(names))
    if len(joined) > _MAX_VARIABLES_CHARS:
        joined = hashlib.sha256(joined.encode()).hexdigest()[:8]
    return f"[{joined}]" if joined else ""


def _enclosing_step(model: Run) -> Run:
    """Return the node, tool or root that contains a model call."""
    step = model
    for run in model.ancestors():
        step = run
        if run.node is not None or run.kind == "tool":
            break
    return step


def _contains_prompt(step: Run, key: TemplateKey) -> bool:
    """Return True if a step renders a template, or calls a model with a system prompt."""
    if isinstance(key, Template):
        return any(run.extra == key for run in step.walk() if run.kind == "prompt")
    calls = (run.inputs for run in step.walk() if isinstance(run.inputs, ModelCall))
    return any(_is_same_prompt(key, "\n\n".join(map(text_of, call.system))) for call in calls if call.system)


def _is_same_prompt(key: TemplateKey, other: TemplateKey) -> bool:
    if key == other or isinstance(key, Template) or isinstance(other, Template):
        return key == other
    first, second = key.split(), other.split()
    shorter = min(len(first), len(second))
    common = _common_start(first, second, shorter)
    common += _common_start(first[::-1], second[::-1], shorter - common)
    return common >= max(_SAME_WORDS, _SAME_PART * shorter)


def _common_start(first: list[str], second: list[str], limit: int) -> int:
    return next((n for n in range(limit) if first[n] != second[n]), limit)
