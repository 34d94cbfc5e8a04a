"""Options from arguments, environment and `.env`: who wins, and what is said when one is wrong.

The options themselves: `gati.options`.
"""

from __future__ import annotations

import difflib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from gati.errors import ConfigurationError
from gati.options import Mask, Settings

__all__ = ["ALIASES", "Mask", "Settings", "allowed", "load", "variables"]

logger = logging.getLogger("gati")

ALIASES = {"name": "agent_name"}
"""Other names by which `observe.init` takes an option."""

MASKED = "**********"
_SECRET_NAME = re.compile(r"key|secret|token|passw|credential", re.IGNORECASE)
_SECRET_VALUE = re.compile(r"\s*(gf_|sk-|Bearer )", re.IGNORECASE)
_GREENFLASH_KEY = re.compile(r"\s*gf_")
_JSON = frozenset({"properties", "system_prompt"})
"""Options whose variable may hold a JSON object."""


def load(**given: Any) -> Settings:
    """The options of `observe.init`, completed from the environment and `.env`, checked.

    `None` means "not given". An `api_key` beside a `backend_url` that is no Greenflash key is
    the backend's, as it was in the gati before this one; and a Greenflash key in
    ``GATI_API_KEY`` is Greenflash's.

    Raises:
        ConfigurationError: an option is unknown, contradicts another or has a wrong value;
            names the option, its variable if it came from one, the value unless it is
            secret, and what is allowed.
    """
    arguments = _arguments(given)
    found = dict(_environment())
    values = {name: value for name, (value, _) in found.items()} | arguments
    origin = {name: variable for name, (_, variable) in found.items() if name not in arguments}
    _sort_keys(values, arguments, found)
    if "client" in arguments:
        key = values.pop("api_key", None)
        if key is not None and key == arguments.get("api_key"):
            raise ConfigurationError("client", _shown("client", arguments["client"]), "a client or `api_key`, not both")
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
    # Outside the handler: pydantic's own error may quote the value.
    name = str(fault["loc"][0])
    cause = fault.get("ctx", {}).get("error")
    if isinstance(cause, ConfigurationError):  # names a place inside the value
        raise ConfigurationError(cause.option, cause.given, cause.allowed, source=origin.get(name))
    raise ConfigurationError(name, _shown(name, values[name]), allowed(name), source=origin.get(name))


def variables(name: str) -> tuple[str, ...]:
    """Environment variables of an option, the first that is set wins; empty if it has none."""
    env = _extra(name)["env"]
    return (f"GATI_{name.upper()}",) if env is None else tuple(env)


def allowed(name: str) -> str:
    """What an option accepts, in words."""
    return cast("str", _extra(name)["allowed"])


def _extra(name: str) -> dict[str, Any]:
    return cast("dict[str, Any]", Settings.model_fields[name].json_schema_extra)


def _arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    for spelled, value in given.items():
        name = ALIASES.get(spelled, spelled)
        if name not in Settings.model_fields:
            raise ConfigurationError(spelled, _shown(spelled, value), _suggestion(spelled))
        if value is None:
            continue
        if name in arguments and arguments[name] != value:
            raise ConfigurationError(spelled, _shown(spelled, value), f"the same value as `{name}`, or one of the two")
        arguments[name] = value
    return arguments


def _suggestion(unknown: str) -> str:
    known = sorted({*Settings.model_fields, *ALIASES})
    near = difflib.get_close_matches(unknown.lower(), known, n=1, cutoff=0.6)
    return (f"did you mean {near[0]!r}? " if near else "") + "there are " + ", ".join(known)


def _environment() -> Iterator[tuple[str, tuple[Any, str]]]:
    """Each option that a variable gives, with the variable's name."""
    layers = (os.environ, _dotenv())
    for name in Settings.model_fields:
        names = [(layer, variable) for layer in layers for variable in variables(name)]
        for layer, variable in names:
            text = layer.get(variable)
            if text:
                yield name, (_parsed(name, text, variable), variable)
                break


def _parsed(name: str, text: str, variable: str) -> Any:
    if name not in _JSON or not text.lstrip().startswith("{"):
        return text
    try:
        return json.loads(text)
    except ValueError:
        pass
    raise ConfigurationError(name, _shown(name, text), allowed(name), source=variable)


def _dotenv() -> Mapping[str, str | None]:
    path = Path(".env")
    if not path.is_file():
        return {}
    from dotenv import dotenv_values  # late: most programs in production have no such file

    try:
        return dotenv_values(path)
    except (OSError, UnicodeDecodeError) as fault:
        logger.warning("gati: .env is ignored, it cannot be read (%s)", type(fault).__name__)
        return {}


def _sort_keys(values: dict[str, Any], arguments: Mapping[str, Any], found: Mapping[str, tuple[Any, Any]]) -> None:
    """Whose key is whose, where names from before do not say it."""
    backend_key, variable = found.get("backend_api_key", (None, None))
    if "backend_api_key" in arguments or variable == "GATI_BACKEND_API_KEY":
        return
    given = arguments.get("api_key")
    old = isinstance(given, str) and not _GREENFLASH_KEY.match(given) and "base_url" not in arguments
    if backend_key and _GREENFLASH_KEY.match(backend_key):
        del values["backend_api_key"]
        found = {"api_key": (backend_key, variable), **found}
        values.setdefault("api_key", backend_key)
    if old and "backend_url" in values:
        values["backend_api_key"] = values.pop("api_key")
        if "api_key" in found:
            values["api_key"] = found["api_key"][0]


def _shown(name: str, value: Any) -> object:
    """A value as an error may show it: no secret, nothing long, no repr of the user's objects."""
    if isinstance(value, str):
        if value.strip() and (_SECRET_NAME.search(name) or _SECRET_VALUE.match(value)):
            return MASKED
        value = re.sub(r"//[^/@]*@", "//***@", value)
        return value if len(value) <= 80 else value[:79] + "…"
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return f"<{type(value).__name__}>" if not _SECRET_NAME.search(name) else MASKED
