"""The page `docs/options.md`, made from `gati.options`: `python -m gati.cli.options > docs/options.md`."""

from __future__ import annotations

import re
from typing import Any

from gati.options import Settings
from gati.settings import allowed, variables

_HEAD = """# Options

Made by `python -m gati.cli.options > docs/options.md`; a test asserts that this page is current.

Each option is a keyword of `observe.init`. Values come, first hit wins, from the arguments, the environment, the file
`.env` of the working directory, the defaults. `None`, and a variable that is empty, mean "not given". An unknown option
or a wrong value raises `gati.errors.ConfigurationError`, which names the option (and the variable), the value unless it
is a secret, and what is allowed.

`api_key` beside `backend_url`, without `backend_api_key` and `base_url`, is the backend's key unless it begins with
`gf_`, as it was in the gati before this one; and a key in `GATI_API_KEY` that begins with `gf_` is Greenflash's.
The SDK reads `GREENFLASH_CUSTOM_HEADERS` by itself.
"""
_TABLE = "| Option | Variable | Default | Meaning | Allowed |\n|---|---|---|---|---|\n"
_SECTIONS = {
    "agent_name": "Who you are",
    "product_id": "Where it goes",
    "user_id": "Whose conversation",
    "detail": "What is told",
    "flush_interval": "How it travels",
}


def page() -> str:
    """The whole page."""
    parts = [_HEAD]
    for name, field in Settings.model_fields.items():
        if name in _SECTIONS:
            parts.append(f"\n## {_SECTIONS[name]}\n\n{_TABLE}")
        names = ", ".join(f"`{variable}`" for variable in variables(name)) or "none"
        start = field.get_default(call_default_factory=True)
        parts.append(f"| `{name}` | {names} | {_value(start)} | {field.description} | {_plain(allowed(name))} |\n")
    return "".join(parts)


def _value(value: Any) -> str:
    return "none" if value is None else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _plain(text: str) -> str:
    return re.sub(r"\d{5,}", lambda number: f"{int(number[0]):,}".replace(",", " "), text)


if __name__ == "__main__":
    print(page(), end="")
