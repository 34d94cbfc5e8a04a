"""Separate system and user text, and read the template of a prompt.

`extract_system_and_user_prompts` reads messages in every form that LangChain accepts. `template_of` reads the template
from a prompt run's `serialized`; `gati.trace.prompt_builder` evaluates it in the background.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from gati.trace.record_codec import flattened
from gati.trace.records import Template, TemplateText

_SYSTEM_NAMES = frozenset({"system", "developer"})
_OTHER_NAMES = frozenset({"human", "user", "ai", "assistant", "tool", "function", "placeholder"})
_USER_NAMES = frozenset({"human", "user"})
_Blocks: TypeAlias = "tuple[TemplateText, ...]"
_Messages: TypeAlias = "tuple[_Blocks, ...]"
_TEXT_BLOCKS = frozenset({None, "text", "input_text", "output_text"})
_MAX_DEPTH = 20
"""Nesting depth at which a list is read as text. Only a list that contains itself is deeper."""


def extract_system_and_user_prompts(prompts: Any) -> tuple[str, str]:
    """Return the system text and all other text of `prompts`, each joined with blank lines.

    Accepts message objects, lists of them, prompt values, strings (user text), dicts and tuples with a role, and
    objects with a `type`, a `role` or a class name like `SystemMessage`. Anything else counts as user text, converted
    with `str()`. Never raises.
    """
    system: list[str] = []
    user: list[str] = []
    _collect(prompts, system, user, 0)
    return "\n\n".join(filter(None, system)), "\n\n".join(filter(None, user))


def _collect(value: Any, system: list[str], user: list[str], depth: int) -> None:
    try:
        if value is None or (isinstance(value, (dict, list, tuple)) and not value):
            return
        if isinstance(value, str):
            user.append(value)
        elif (message := _role_and_content(value, depth)) is not None:
            role, content = message
            (system if role in _SYSTEM_NAMES else user).append(_content_text(content))
        elif (nested := _nested_prompts(value)) is not None and depth < _MAX_DEPTH:
            for item in nested:
                _collect(item, system, user, depth + 1)
        else:
            user.append(_to_str(value))
    except Exception:  # noqa: BLE001 - a property or `__str__` of the user's object may raise anything
        user.append(_to_str(value))


def _role_and_content(value: Any, depth: int) -> tuple[str, Any] | None:
    """Return the lower-case role and the content of a message in any form; None if it is not a message."""
    if isinstance(value, dict):
        return _role_and_content_of_dict(value)
    if isinstance(value, (list, tuple)):
        # At the top level a list of two strings is two prompts. A tuple, or a nested list, is a message.
        if len(value) == 2 and isinstance(value[0], str) and (depth or isinstance(value, tuple)):
            role = _normalize_role(value[0])
            return (role, value[1]) if role in _SYSTEM_NAMES or role in _OTHER_NAMES else None
        return None
    if not hasattr(value, "content"):
        return None
    kind = getattr(value, "type", None)
    role = (
        _normalize_role(kind)
        if isinstance(kind, str) and kind != "chat"
        else _normalize_role(getattr(value, "role", None))
    )
    return role or _normalize_role(type(value).__name__), value.content


def _role_and_content_of_dict(value: dict[Any, Any]) -> tuple[str, Any] | None:
    if isinstance(value.get("kwargs"), dict) and isinstance(value.get("id"), list):  # LangChain's serialized form
        return _normalize_role(value["id"][-1] if value["id"] else ""), value["kwargs"].get("content")
    if "content" in value:
        return _normalize_role(value.get("role") or value.get("type")), value["content"]
    return ("user", [value]) if isinstance(value.get("text"), str) else None


def _normalize_role(name: Any) -> str:
    """Normalize a role or class name: `SystemMessageChunk`, `SYSTEM` and `system` → `system`."""
    name = getattr(name, "value", name)  # roles are enums in some programs
    if not isinstance(name, str):
        return ""
    return name.lower().removesuffix("chunk").removesuffix("message")


def _nested_prompts(value: Any) -> Any:
    """Return the messages or prompts in a container or prompt value."""
    if isinstance(value, dict):
        return value.get("messages")
    if isinstance(value, (list, tuple)):
        return value
    messages = getattr(value, "messages", None)
    if isinstance(messages, (list, tuple)):
        return messages
    if callable(to_messages := getattr(value, "to_messages", None)) and not isinstance(value, type):
        return to_messages()
    text = getattr(value, "text", None)
    return [text] if isinstance(text, str) else None


def _content_text(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, (list, tuple)):
        return _to_str(content)
    texts = []
    for block in content:
        if isinstance(block, dict):
            if block.get("type") in _TEXT_BLOCKS:
                text = block.get("text")
                texts.append(text if isinstance(text, str) else _to_str(block))
        else:
            texts.append(block if isinstance(block, str) else _to_str(block))
    return "\n".join(texts)


def _to_str(value: Any) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - the object's `__str__` may raise anything
        return object.__repr__(value)


_CACHE_SIZE = 512
_cache: dict[int, tuple[Any, tuple[Any, ...] | None]] = {}
"""Templates by the id of `serialized`, which LangChain creates once per prompt object. The dict is kept with the result,
so its id is not reused while the entry exists."""


def template_of(serialized: Any) -> tuple[Any, ...] | None:
    """Return the template of a prompt run, as the fields of a `records.Template` that `record_codec` packs.

    None if it has neither system nor user messages, or cannot be read.

    Called in the user's thread; a known dict costs one lookup. Never raises and never changes `serialized`.
    """
    cached = _cache.get(id(serialized))
    if cached is not None and cached[0] is serialized:
        return cached[1]
    template: tuple[Any, ...] | None = None
    try:
        template = flattened(_read_template(serialized), [])
    except Exception:  # noqa: BLE001 - a future version may use another shape; the rendered text is still recorded
        pass
    if isinstance(serialized, dict):
        if len(_cache) >= _CACHE_SIZE:
            # Several threads may run this: each takes a copy of the keys, and a key may be missing.
            for old in list(_cache)[: _CACHE_SIZE // 2]:
                _cache.pop(old, None)
        _cache[id(serialized)] = (serialized, template)
    return template


def _read_template(serialized: Any) -> Template | None:
    if not isinstance(serialized, dict):
        return None
    kwargs = serialized.get("kwargs") or {}
    system, user = _message_templates(serialized, kwargs)
    if not system and not user:
        return None
    partials = kwargs.get("partial_variables") or {}
    metadata = kwargs.get("metadata") or {}
    name = kwargs.get("name") or serialized.get("name")
    return Template(
        system,
        tuple(str(v) for v in kwargs.get("input_variables") or ()),
        {str(k): v for k, v in partials.items() if isinstance(v, (str, int, float, bool))},
        str(name) if name and name != serialized["id"][-1] else None,
        hub_of(metadata),
        user,
    )


def _message_templates(serialized: dict[str, Any], kwargs: dict[str, Any]) -> tuple[_Messages, _Messages]:
    """Return the text blocks of the system messages and of the user messages."""
    system: list[_Blocks] = []
    user: list[_Blocks] = []
    if isinstance(kwargs.get("template"), str):  # a `PromptTemplate`, whose text becomes a user message
        user = [tuple(text for block in (serialized,) if (text := _template_text(block)) is not None)]
    for item in kwargs.get("messages") or ():
        role = _role_of_template(item)
        if role in _SYSTEM_NAMES:
            system.append(_texts_of_template(item))
        elif role in _USER_NAMES:
            user.append(_texts_of_template(item))
    return tuple(system), tuple(user)


def hub_of(metadata: Any) -> str | None:
    """Return `owner/repo` of a prompt from LangChain's hub, from the metadata of the prompt or the run."""
    if not isinstance(metadata, dict) or not metadata.get("lc_hub_repo"):
        return None
    owner = metadata.get("lc_hub_owner")
    return f"{owner}/{metadata['lc_hub_repo']}" if owner and owner != "-" else str(metadata["lc_hub_repo"])


def _role_of_template(item: Any) -> str:
    role = _normalize_role(item["id"][-1].removesuffix("PromptTemplate"))
    return _normalize_role((item.get("kwargs") or {}).get("role")) if role == "chat" else role


def _texts_of_template(item: Any) -> _Blocks:
    """Return the text blocks of a message template."""
    kwargs = item.get("kwargs") or {}
    prompt = kwargs.get("prompt")
    if prompt is None:
        content = kwargs.get("content")
        blocks = content if isinstance(content, list) else [content]
        return tuple(text for block in blocks if (text := _literal(block)) is not None)
    blocks = prompt if isinstance(prompt, list) else [prompt]
    return tuple(text for block in blocks if (text := _template_text(block)) is not None)


def _literal(block: Any) -> TemplateText | None:
    text = block.get("text") if isinstance(block, dict) else block
    return TemplateText(text, "literal") if isinstance(text, str) else None


def _template_text(block: Any) -> TemplateText | None:
    """Return the text of one block of a message template; None for an image."""
    kwargs = block.get("kwargs")
    if kwargs is None:
        return TemplateText("", "")
    text, form = kwargs.get("template"), kwargs.get("template_format") or "f-string"
    if isinstance(text, dict):
        text = text.get("text")
    return TemplateText(text, str(form)) if isinstance(text, str) else None
