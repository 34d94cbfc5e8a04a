"""The explicit system prompt: one model for `observe.init`, `observe.conversation` and run metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator

from gati.errors import ConfigurationError
from gati.events import Prompt, PromptComponent

_TEXT = "a text that is not empty"
_TEXT_OR_DICT = "a text or a dict"
_COMPONENTS = "a list of texts or dicts, not empty"
_VARIABLES = "a dict with texts as keys"

ComponentType: TypeAlias = Literal["system", "user", "tool", "guardrail", "rag", "agent", "other"]
ComponentSource: TypeAlias = Literal["customer", "participant", "greenflash", "agent"]

_ALLOWED = {"type": ", ".join(get_args(ComponentType)), "source": ", ".join(get_args(ComponentSource))}
"""Fields that accept a fixed set of values → the values, for error messages."""


class _PromptError(ValueError):
    """Raised by validators with the words for `ConfigurationError`; `given` defaults to the value itself."""

    def __init__(self, allowed: str, given: str | None = None) -> None:
        super().__init__(allowed)
        self.allowed = allowed
        self.given = given


def _not_blank(value: object) -> object:
    if not isinstance(value, str) or not value.strip():
        raise _PromptError(_TEXT)
    return value


def _true_or_false(value: object) -> object:
    if not isinstance(value, bool):
        raise _PromptError("true or false")
    return value


def _component_list(value: object) -> object:
    if not isinstance(value, (list, tuple)) or not value:
        raise _PromptError(_COMPONENTS)
    return value


def _texts_by_name(value: object) -> object:
    """Convert the values to text. Example: ``{"n": 3}`` → ``{"n": "3"}``."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise _PromptError(_VARIABLES)
    try:
        return {key: str(item) for key, item in value.items()}
    except Exception as error:  # a value's `__str__` is the user's code
        raise _PromptError("values that have a text", type(error).__name__) from error


_Text = Annotated[str, BeforeValidator(_not_blank)]
_Flag = Annotated[bool, BeforeValidator(_true_or_false)]


def _renamed(value: Mapping[Any, Any], names: Mapping[str, str]) -> dict[Any, Any]:
    """Drop entries that are None and rename the others; keep unknown keys, which pydantic then refuses.

    Example: ``{"isDynamic": True, "name": None}`` → ``{"is_dynamic": True}``.
    """
    result: dict[Any, Any] = {}
    for key, item in value.items():
        if item is None:
            continue
        name = names.get(key, key) if isinstance(key, str) else str(key)
        if name in result and result[name] != item:
            raise _PromptError(f"one {name}", ", ".join(sorted(map(str, (result[name], item)))))
        result[name] = item
    return result


class ComponentSpec(BaseModel):
    """One component of an explicit prompt. A bare text is its `content`."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    content: _Text
    name: _Text | None = None
    type: ComponentType = "system"
    source: ComponentSource | None = None
    is_dynamic: _Flag = False
    external_id: _Text | None = None

    @model_validator(mode="before")
    @classmethod
    def _accept_every_form(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"content": _not_blank(value)}
        if isinstance(value, PromptComponent):
            return {key: item for key in cls.model_fields if (item := getattr(value, key)) is not None}
        if not isinstance(value, Mapping):
            raise _PromptError(_TEXT_OR_DICT)
        return _renamed(value, _COMPONENT_NAMES)

    def to_component(self) -> PromptComponent:
        """Return the component as events contain it."""
        return PromptComponent(**dict(self))


_COMPONENT_NAMES = {
    "isDynamic": "is_dynamic",
    "external_component_id": "external_id",
    "externalComponentId": "external_id",
}


class PromptSpec(BaseModel):
    """An explicit system prompt.

    A bare text is its `content`. A spec with a name and no text refers to the prompt that the
    destination has under that name. Keys may be in camel case; `external_template_id` is the old
    name of `external_prompt_id`.
    """

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    external_prompt_id: _Text | None = None
    content: _Text | None = None
    components: Annotated[list[ComponentSpec], BeforeValidator(_component_list)] | None = None
    variables: Annotated[dict[str, str], BeforeValidator(_texts_by_name)] = {}

    @model_validator(mode="before")
    @classmethod
    def _accept_every_form(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"content": _not_blank(value)}
        if not isinstance(value, Mapping):
            raise _PromptError(_TEXT_OR_DICT)
        return _renamed(value, _PROMPT_NAMES)

    @model_validator(mode="after")
    def _has_one_text_or_name(self) -> PromptSpec:
        if self.content is not None and self.components is not None:
            raise _PromptError("one of the two", "content and components")
        if self.content is None and self.components is None and self.external_prompt_id is None:
            raise _PromptError(
                "external_prompt_id, content or components", ", ".join(self.model_fields_set) or "nothing"
            )
        return self

    def to_prompt(self) -> Prompt:
        """Return the prompt as events contain it. A content without variables has no components."""
        components = [part.to_component() for part in self.components or ()]
        text = "\n\n".join(part.render(self.variables) for part in components)
        if self.content is not None:
            component = PromptComponent(self.content)
            text = component.render(self.variables)
            components = [component] if self.variables else []
        return Prompt(text, self.external_prompt_id, components, self.variables)


_PROMPT_NAMES = {
    "externalPromptId": "external_prompt_id",
    "external_template_id": "external_prompt_id",
    "externalTemplateId": "external_prompt_id",
}


def parse_prompt(value: Any) -> Prompt:
    """Convert a text, a dict or a `Prompt` to a `Prompt`.

    Raises:
        ConfigurationError: the value is invalid; names the place (``system_prompt.components[0].type``),
            what was given and what is allowed.
    """
    if isinstance(value, Prompt):
        return value
    if isinstance(value, str) and value.strip():
        return Prompt(value)  # same as below, without the model: scopes are often created per request
    try:
        return PromptSpec.model_validate(value).to_prompt()
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
    # Outside the handler: pydantic's own error may quote the prompt.
    raise _configuration_error(fault)


def describe_prompt(prompt: Prompt) -> dict[str, Any]:
    """Return a dict of JSON values that `parse_prompt` converts to an equal prompt."""
    parts = [
        {key: item for key in ComponentSpec.model_fields if (item := getattr(part, key)) is not None}
        for part in prompt.components
    ]
    spec = {
        "external_prompt_id": prompt.external_id,
        "content": "" if parts else prompt.text,
        "components": parts,
        "variables": prompt.variables,
    }
    return {key: item for key, item in spec.items() if item}


def _configuration_error(fault: Mapping[str, Any]) -> ConfigurationError:
    """Convert pydantic's description of an error.

    Example: loc ``("components", 0, "type")`` → option ``system_prompt.components[0].type``.
    """
    place = "system_prompt"
    model: type[BaseModel] = PromptSpec
    for step in fault["loc"]:
        place += f"[{step}]" if isinstance(step, int) else f".{step}"
        model = ComponentSpec if isinstance(step, int) else model
    value = fault["input"]
    if fault["type"] == "missing":
        return ConfigurationError(place, "nothing", _TEXT)
    if fault["type"] == "extra_forbidden":
        return ConfigurationError(place, type(value).__name__, "only " + ", ".join(model.model_fields))
    given = value[:50] if isinstance(value, str) else type(value).__name__
    cause = fault.get("ctx", {}).get("error")
    if isinstance(cause, _PromptError):
        return ConfigurationError(place, cause.given or given, cause.allowed)
    return ConfigurationError(place, given, _ALLOWED.get(str(fault["loc"][-1]), fault["msg"]))
