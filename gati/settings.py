"""Collect the options from arguments, environment and `.env`, and validate them.

`gati.options` declares the options.
"""

from __future__ import annotations

import difflib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

from pydantic import SecretStr, ValidationError

from gati.errors import ConfigurationError
from gati.events import Prompt, PromptComponent
from gati.options import Mask, Settings, hide_credentials, hide_in_address, is_url

__all__ = ["ALIASES", "Mask", "Settings", "allowed", "hide_credentials", "load", "variables"]

logger = logging.getLogger("gati")

ALIASES = {"name": "agent_name"}
"""Aliases of options in `observe.init`."""

MASKED = "**********"
_SECRET_NAME = re.compile(r"key|secret|token|passw|credential|header", re.IGNORECASE)
_SECRET_VALUE = re.compile(r"\s*(gf_|sk-|Bearer )", re.IGNORECASE)
_GREENFLASH_KEY = re.compile(r"\s*gf_")
_KEYS = frozenset({"api_key", "backend_api_key"})
_SECRETS = _KEYS | {"otlp_headers"}
_ADDRESSES = ("base_url", "backend_url", "queue", "otlp_endpoint")
_FILES = frozenset({"local", "spool_dir"})
"""Options that are paths. A file may have a name that is no valid text."""
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_MAX_BITS = 1_000
"""Largest number inside a value, which is written with 301 digits."""
_MAX_DEPTH = 24
"""Nesting depth of a value. Deeper ones would be cut when they are sent."""
_OBJECTS = ("client", "exporters", "mask", "on_drop")
TRUST_DOTENV = "GATI_TRUST_DOTENV"
"""Environment variable that allows `.env` to name an address for a key from elsewhere."""

_OTHER_VARIABLES = frozenset({TRUST_DOTENV, "GATI_RAISE_INTERNAL"})
"""Variables that are no options."""

_PREFIX = "GATI_"
_described: set[str] = set()

_JSON = frozenset({"properties", "system_prompt"})
"""Options whose environment variable may contain a JSON object."""


def load(**given: Any) -> Settings:
    """Return validated settings from the options of `observe.init`, the environment and `.env`.

    `None` means "not given". For compatibility with earlier versions, an `api_key` next to a `backend_url` is the
    backend's key unless it is a Greenflash key, and a Greenflash key in `GATI_API_KEY` is used for Greenflash.

    Raises:
        ConfigurationError: an option is unknown, contradicts another one or has an invalid value, or `.env` would
            redirect a key that is not from there. The error names the option, its environment variable if it came from one, the value unless it is secret, and the
            allowed values.
    """
    arguments = _resolve_aliases(given)
    dotenv = _read_dotenv()
    _warn_of_unknown_variables(dotenv)
    environment = dict(_read_environment(dotenv))
    _check_dotenv(dotenv, arguments, environment)
    values = {name: value for name, (value, _) in environment.items()} | arguments
    origin = {name: variable for name, (_, variable) in environment.items() if name not in arguments}
    _assign_api_keys(values, arguments, environment)
    for name, value in values.items():
        if name not in _FILES:
            _check_parts(name, value, origin.get(name))
    if "client" in arguments:
        key = values.pop("api_key", None)
        if key is not None and key == arguments.get("api_key"):
            raise ConfigurationError(
                "client", _display_value("client", arguments["client"]), "a client or `api_key`, not both"
            )
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first_error = error.errors(include_input=False, include_url=False)[0]
    # Raised outside the `except` block, because pydantic's error may contain the value.
    name = str(first_error["loc"][0])
    cause = first_error.get("ctx", {}).get("error")
    if isinstance(cause, ConfigurationError):  # names a place inside the value
        raise ConfigurationError(cause.option, cause.given, cause.allowed, source=origin.get(name))
    raise ConfigurationError(name, _display_value(name, values[name]), allowed(name), source=origin.get(name))


def _check_parts(name: str, value: Any, source: str | None) -> None:
    """Raise for a text or a number inside a value that no destination, journal or store can hold.

    Lone surrogates are refused, not replaced: two ids could become one.
    """
    waiting: list[tuple[str, Any, int]] = [(name, value, 0)]
    while waiting:
        place, part, depth = waiting.pop()
        part = part.get_secret_value() if isinstance(part, SecretStr) else part
        given, wanted = _display_value(place, part), ""
        if isinstance(part, str) and _LONE_SURROGATE.search(part):
            wanted = "texts without lone surrogates"
        elif isinstance(part, int) and depth and part.bit_length() > _MAX_BITS:
            wanted = f"numbers of at most {_MAX_BITS} bits"
        elif depth > _MAX_DEPTH:  # also of a value that contains itself
            wanted = f"at most {_MAX_DEPTH} levels"
        elif isinstance(part, Mapping):
            if wrong := [key for key in part if not isinstance(key, str)] if not depth else []:
                given, wanted = f"a key of type {type(wrong[0]).__name__}", "texts as keys"
            waiting += [(f"{place}.{str(key)[:50]}", item, depth + 1) for key, item in part.items()]
            waiting += [(place, key, depth + 1) for key in part]  # checked first: the places contain them
        elif isinstance(part, (list, tuple)):
            waiting += [(f"{place}[{number}]", item, depth + 1) for number, item in enumerate(part)]
        elif isinstance(part, (Prompt, PromptComponent)):
            waiting += [(f"{place}.{each.name}", getattr(part, each.name), depth + 1) for each in fields(part)]
        if wanted:
            raise ConfigurationError(place, given, f"{allowed(name)}; {wanted}", source=source)


def variables(name: str) -> tuple[str, ...]:
    """Return the environment variables of an option. The first one that is set wins; empty if it has none."""
    env = _field_extra(name)["env"]
    return (f"GATI_{name.upper()}",) if env is None else tuple(env)


def allowed(name: str) -> str:
    """Describe the values that an option accepts."""
    return cast("str", _field_extra(name)["allowed"])


def _field_extra(name: str) -> dict[str, Any]:
    return cast("dict[str, Any]", Settings.model_fields[name].json_schema_extra)


def _resolve_aliases(given: Mapping[str, Any]) -> dict[str, Any]:
    """Replace aliases, drop None values, and raise for unknown or contradictory options."""
    arguments: dict[str, Any] = {}
    for spelled, value in given.items():
        name = ALIASES.get(spelled, spelled)
        if name not in Settings.model_fields:
            raise ConfigurationError(spelled, _display_value(spelled, value), _suggestion(spelled))
        if value is None:
            continue
        if name in _KEYS and isinstance(value, SecretStr):
            value = value.get_secret_value()
        if name in arguments and arguments[name] != value:
            raise ConfigurationError(
                spelled, _display_value(spelled, value), f"the same value as `{name}`, or one of the two"
            )
        arguments[name] = value
    return arguments


def _suggestion(unknown: str) -> str:
    known = sorted({*Settings.model_fields, *ALIASES})
    matches = difflib.get_close_matches(unknown.lower(), known, n=1, cutoff=0.6)
    return (f"did you mean {matches[0]!r}? " if matches else "") + "one of " + ", ".join(known)


def _read_environment(dotenv: Mapping[str, str | None]) -> Iterator[tuple[str, tuple[Any, str]]]:
    """Yield (option, (value, variable)) for each option that is set in the environment or in `.env`."""
    layers = (os.environ, dotenv)
    for name in Settings.model_fields:
        names = [(layer, variable) for layer in layers for variable in variables(name)]
        for layer, variable in names:
            text = layer.get(variable)
            if text:
                yield name, (_parse_variable(name, text, variable), variable)
                break


def _parse_variable(name: str, text: str, variable: str) -> Any:
    if name not in _JSON or not text.lstrip().startswith("{"):
        return text
    try:
        return json.loads(text)
    except ValueError:
        pass
    raise ConfigurationError(name, _display_value(name, text), allowed(name), source=variable)


def _read_dotenv() -> Mapping[str, str | None]:
    path = Path(".env")
    try:
        if not path.is_file():
            return {}
    except OSError:  # the working directory of a container may belong to another user
        return {}
    from dotenv import dotenv_values  # imported late: most deployed programs have no such file

    try:
        return dotenv_values(path)
    except (OSError, UnicodeDecodeError) as error:
        logger.warning("gati ignores .env because it cannot be read (%s)", type(error).__name__)
        return {}


def describe_unknown_variables(dotenv: Mapping[str, str | None] | None = None) -> str:
    """Name the variables of the environment and of `.env` that begin with `GATI_` but are none of gati's.

    ``"GATI_FLUSH_INTERVALL (did you mean GATI_FLUSH_INTERVAL?), GATI_X"``; empty if there are none. Values are not shown.
    What was returned once is not logged by `load`.
    """
    known = {variable for name in Settings.model_fields for variable in variables(name)}
    given = {*os.environ, *(_read_dotenv() if dotenv is None else dotenv)} - known - _OTHER_VARIABLES
    unknown = sorted(name for name in given if name.upper().startswith(_PREFIX))
    described = ", ".join(_printable(name) + _similar_variable(name, known) for name in unknown)
    _described.add(described)
    return described


def _printable(name: str) -> str:
    """Escape a name from `.env` that could control a terminal."""
    return name if name.isprintable() else ascii(name)[1:-1]


def _similar_variable(name: str, known: set[str]) -> str:
    ends = {variable.removeprefix(_PREFIX): variable for variable in sorted(known, reverse=True)}
    matches = difflib.get_close_matches(name.upper().removeprefix(_PREFIX), ends, n=1, cutoff=0.6)
    return f" (did you mean {ends[matches[0]]}?)" if matches else ""


def _warn_of_unknown_variables(dotenv: Mapping[str, str | None]) -> None:
    """Log unknown variables in one line, once per process."""
    before = _described.copy()
    unknown = describe_unknown_variables(dotenv)
    if unknown and unknown not in before:
        logger.warning("gati does not know these environment variables, which have no effect: %s", unknown)


def _check_dotenv(
    dotenv: Mapping[str, str | None], arguments: Mapping[str, Any], environment: Mapping[str, tuple[Any, str]]
) -> None:
    """Raise if an address from `.env` would be used while a key is from elsewhere.

    `.env` belongs to the working directory, for example to a repository that was just cloned. It must not send the
    key and the conversations of this user to another host.
    """
    if os.environ.get(TRUST_DOTENV, "").strip().lower() in ("1", "true", "yes", "on"):
        return
    for name in _ADDRESSES:
        if name in arguments or name not in environment or (name == "base_url" and "client" in arguments):
            continue
        value, variable = environment[name]
        if os.environ.get(variable) or not (outside := _key_outside_dotenv(arguments)):
            continue
        advice = f"an address from the same place as {outside}; set {TRUST_DOTENV}=1 in the environment to trust .env"
        raise ConfigurationError(name, _display_value(name, value), advice, source=f"{variable} in .env")


def _key_outside_dotenv(arguments: Mapping[str, Any]) -> str:
    """Return the name of an argument or a variable that holds a key or a client; empty if all keys are in `.env`."""
    for name in (*sorted(_SECRETS), "client"):
        if name in arguments:
            return f"the argument `{name}`"
    return next((variable for name in sorted(_SECRETS) for variable in variables(name) if os.environ.get(variable)), "")


def _assign_api_keys(
    values: dict[str, Any], arguments: Mapping[str, Any], environment: Mapping[str, tuple[Any, Any]]
) -> None:
    """Assign keys that were given under former names to Greenflash or to the backend, in `values`."""
    backend_key, variable = environment.get("backend_api_key", (None, None))
    if "backend_api_key" in arguments or variable == "GATI_BACKEND_API_KEY":
        return
    argument = arguments.get("api_key")
    is_backend_key = isinstance(argument, str) and not _GREENFLASH_KEY.match(argument) and "base_url" not in arguments
    if backend_key and _GREENFLASH_KEY.match(backend_key):
        del values["backend_api_key"]
        environment = {"api_key": (backend_key, variable), **environment}
        values.setdefault("api_key", backend_key)
    if is_backend_key and "backend_url" in values:
        values["backend_api_key"] = values.pop("api_key")
        if "api_key" in environment:
            values["api_key"] = environment["api_key"][0]


def _display_value(name: str, value: Any) -> object:
    """Return a value as an error message may show it: secrets masked, texts shortened, objects as their type."""
    if name in _OBJECTS and value is not None:  # a text in its place may be a key
        return f"<{type(value).__name__}>"
    if isinstance(value, str):
        if value.strip() and (_SECRET_NAME.search(name) or _SECRET_VALUE.match(value)):
            return MASKED
        value = hide_in_address(value) if name in _ADDRESSES or is_url(value) else hide_credentials(value)
        return value if len(value) <= 80 else value[:79] + "…"
    if isinstance(value, int) and value.bit_length() > _MAX_BITS:  # Python refuses to print the longest
        return f"<int of {value.bit_length()} bits>"
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return f"<{type(value).__name__}>" if not _SECRET_NAME.search(name) else MASKED
