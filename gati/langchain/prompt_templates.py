"""System and user text apart, and the template behind a prompt.

`extract_system_and_user_prompts` reads messages in every form that LangChain and older
programs know. `template_of` takes from a prompt run's `serialized` what is needed to show
the prompt as a template with variables; `gati.trace.prompt_builder` does so, in the background.
"""

from __future__ import annotations

from typing import Any

from gati.trace.records import Template, TemplateText

SYSTEM_ROLES = frozenset({"system", "developer"})
_OTHER_ROLES = frozenset({"human", "user", "ai", "assistant", "tool", "function", "placeholder"})
_TEXT_BLOCKS = frozenset({None, "text", "input_text", "output_text"})
_DEEPEST = 20
"""Nesting after which a list is taken as text; only a list that holds itself is deeper."""


def extract_system_and_user_prompts(prompts: Any) -> tuple[str, str]:
    """The system text and all other text of `prompts`, each joined with blank lines.

    Takes message objects, lists of them, prompt values, strings (user text), dicts and tuples
    with a role, and objects with `type`, `role` or a telling class name. What cannot be read
    counts as user text under its ``str()``; nothing is lost. Never raises.
    """
    system: list[str] = []
    user: list[str] = []
    _sort(prompts, system, user, 0)
    return "\n\n".join(filter(None, system)), "\n\n".join(filter(None, user))


def _sort(value: Any, system: list[str], user: list[str], depth: int) -> None:
    try:
        if value is None or (isinstance(value, (dict, list, tuple)) and not value):
            return
        if isinstance(value, str):
            user.append(value)
        elif (found := _role_and_content(value, depth)) is not None:
            role, content = found
            (system if role in SYSTEM_ROLES else user).append(_text(content))
        elif (inner := _inner(value)) is not None and depth < _DEEPEST:
            for item in inner:
                _sort(item, system, user, depth + 1)
        else:
            user.append(_fallback(value))
    except Exception:  # noqa: BLE001 - a property or `__str__` of the user's object may raise anything; it is still told
        user.append(_fallback(value))


def _role_and_content(value: Any, depth: int) -> tuple[str, Any] | None:
    """Role in small letters and content of a message in any form; None if it is no message."""
    if isinstance(value, dict):
        return _of_dict(value)
    if isinstance(value, (list, tuple)):
        # A list of two strings on the outside is two prompts; a tuple, or one further in, is a message.
        if len(value) == 2 and isinstance(value[0], str) and (depth or isinstance(value, tuple)):
            role = _role(value[0])
            return (role, value[1]) if role in SYSTEM_ROLES or role in _OTHER_ROLES else None
        return None
    if not hasattr(value, "content"):
        return None
    kind = getattr(value, "type", None)
    role = _role(kind) if isinstance(kind, str) and kind != "chat" else _role(getattr(value, "role", None))
    return role or _role(type(value).__name__), value.content


def _of_dict(value: dict[Any, Any]) -> tuple[str, Any] | None:
    if isinstance(value.get("kwargs"), dict) and isinstance(value.get("id"), list):  # LangChain's serialised form
        return _role(value["id"][-1] if value["id"] else ""), value["kwargs"].get("content")
    if "content" in value:
        return _role(value.get("role") or value.get("type")), value["content"]
    return ("user", [value]) if isinstance(value.get("text"), str) else None


def _role(name: Any) -> str:
    """``SystemMessageChunk``, ``SYSTEM`` and ``system`` are all ``system``."""
    name = getattr(name, "value", name)  # roles are enums in some programs
    if not isinstance(name, str):
        return ""
    return name.lower().removesuffix("chunk").removesuffix("message")


def _inner(value: Any) -> Any:
    """The messages or prompts that a container or a prompt value holds."""
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


def _text(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, (list, tuple)):
        return _fallback(content)
    texts = []
    for block in content:
        if isinstance(block, dict):
            if block.get("type") in _TEXT_BLOCKS:
                text = block.get("text")
                texts.append(text if isinstance(text, str) else _fallback(block))
        else:
            texts.append(block if isinstance(block, str) else _fallback(block))
    return "\n".join(texts)


def _fallback(value: Any) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - the object's own `__str__`; that there was something is still told
        return object.__repr__(value)


_CACHE_SIZE = 512
_cache: dict[int, tuple[Any, Template | None]] = {}
"""By identity of `serialized`, which LangChain makes once a prompt object. The dict itself is
kept beside the result, so its id cannot be given to another while it stands here."""


def template_of(serialized: Any) -> Template | None:
    """The template of a prompt run; None if it makes no system message or cannot be read.

    Called in the user's thread: a dict seen before costs a look into a dict. Never raises,
    never edits `serialized`.
    """
    known = _cache.get(id(serialized))
    if known is not None and known[0] is serialized:
        return known[1]
    try:
        template = _read_template(serialized)
    except Exception:  # noqa: BLE001 - a shape of a version to come; the rendered text is still there
        template = None
    if isinstance(serialized, dict):
        if len(_cache) >= _CACHE_SIZE:
            # Several threads may be here: each takes the keys as they stand, and a missing one is fine.
            for old in list(_cache)[: _CACHE_SIZE // 2]:
                _cache.pop(old, None)
        _cache[id(serialized)] = (serialized, template)
    return template


def _read_template(serialized: Any) -> Template | None:
    if not isinstance(serialized, dict):
        return None
    kwargs = serialized.get("kwargs") or {}
    system = tuple(texts for item in kwargs.get("messages") or () if (texts := _system_texts(item)) is not None)
    if not system:
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
    )


def hub_of(metadata: Any) -> str | None:
    """``owner/repo`` of a prompt pulled from LangChain's hub, from the prompt's or the run's metadata."""
    if not isinstance(metadata, dict) or not metadata.get("lc_hub_repo"):
        return None
    owner = metadata.get("lc_hub_owner")
    return f"{owner}/{metadata['lc_hub_repo']}" if owner and owner != "-" else str(metadata["lc_hub_repo"])


def _system_texts(item: Any) -> tuple[TemplateText, ...] | None:
    """Text blocks of one message template; None if it does not make a system message."""
    kwargs = item.get("kwargs") or {}
    role = _role(item["id"][-1].removesuffix("PromptTemplate"))
    if role == "chat":
        role = _role(kwargs.get("role"))
    if role not in SYSTEM_ROLES:
        return None
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
    """One block of a message template; None for an image, which has no text."""
    kwargs = block.get("kwargs")
    if kwargs is None:
        return TemplateText("", "")
    text, form = kwargs.get("template"), kwargs.get("template_format") or "f-string"
    if isinstance(text, dict):
        text = text.get("text")
    return TemplateText(text, str(form)) if isinstance(text, str) else None
