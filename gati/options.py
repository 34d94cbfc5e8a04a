"""The options of gati: names, environment variables, defaults, descriptions and validation.

`docs/generate.py` generates the tables of `docs/options.md` from this module. `gati.settings` collects the values.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias
from urllib.parse import unquote, urlsplit
from uuid import UUID

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    SecretStr,
    field_serializer,
    field_validator,
)

from gati.errors import ConfigurationError
from gati.events import Prompt
from gati.prompt_model import PromptSpec, describe_prompt, parse_prompt
from gati.queues.address import ALLOWED, QueueAddress, hide_malformed_host

Mask: TypeAlias = Callable[[str, str, str], str]
"""Takes a text, its path (`input.city`) and the message type; returns the text to send. See `docs/masking.md`."""

OnDrop: TypeAlias = Callable[[Any], object]
"""Receives a `gati.pipeline.stats.Drop`; the return value is ignored."""

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")

_SWITCHES = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def _id_to_str(value: object) -> object:
    # `bool` is a subclass of `int`, but as an id it is a mistake.
    return str(value) if isinstance(value, (int, UUID)) and not isinstance(value, bool) else value


def _parse_uuid(value: object) -> object:
    try:
        return str(UUID(str(value).strip()))
    except ValueError:
        raise ValueError("not a UUID") from None


def _strip_key(value: object) -> object:
    # Whitespace around a key would fail in the HTTP library and look like a network error.
    # So would a character that no header may contain.
    if isinstance(value, str) and not ((value := value.strip()).isascii() and value.isprintable() and value):
        raise ValueError("not a key")
    return value


def _parse_url(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("not an address")
    parts = urlsplit(value.strip())
    parts.port  # noqa: B018  # raises ValueError for a port that is not a number
    is_clean = value.strip().isprintable() and not re.search(r"\s", value.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname or not is_clean:
        raise ValueError("not an address")
    return value.strip().rstrip("/")


def is_url(text: str) -> bool:
    """Return True for an address with a scheme, which is no path: `postgresql://…`, but not `C:/…`.

    A `Path` has only one slash left: `postgresql:/…`.
    """
    return re.match(r"\s*[A-Za-z][A-Za-z0-9+.-]+:/", text) is not None


def _parse_path(value: object) -> object:
    if not isinstance(value, (str, Path)) or not str(value).strip() or is_url(str(value)):
        raise ValueError("not a path")
    if b"\0" in os.fsencode(value):  # raises ValueError for what no file system can store
        raise ValueError("not a path")
    try:
        path = Path(value).expanduser()
    except RuntimeError:  # a user without a home folder
        raise ValueError("no home folder") from None
    try:
        return path.absolute()  # now: the program may change its working directory
    except OSError:  # there is none: it was removed
        return path


def _parse_local(value: object) -> object:
    if isinstance(value, str) and value.lower() in _SWITCHES:
        return _SWITCHES[value.lower()]
    if isinstance(value, (str, Path)) and is_url(str(value)):
        raise ConfigurationError("local", hide_in_address(str(value)), f"{_LOCAL}. {_TEAM_STORE}")
    return value if isinstance(value, bool) else _parse_path(value)


def _parse_queue(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("not an address")
    return QueueAddress.parse(value)


def _parse_headers(value: object) -> object:
    if isinstance(value, str):
        # The format of OTEL_EXPORTER_OTLP_HEADERS, whose values are encoded as in a URL.
        pairs = [pair.partition("=") for pair in value.split(",") if pair.strip()]
        if not all(equals for _, equals, _ in pairs):
            raise ValueError("not a list of pairs")
        value = {name.strip(): unquote(text.strip()) for name, _, text in pairs}
    if not isinstance(value, dict):
        raise ValueError("not an object")
    headers = {name: text.get_secret_value() if isinstance(text, SecretStr) else text for name, text in value.items()}
    for name, text in headers.items():
        if not (isinstance(name, str) and _HEADER_NAME.fullmatch(name) and isinstance(text, str)):
            raise ValueError("not a header")
        if not (text.isascii() and text.isprintable()):
            raise ValueError("not the value of a header")
    return {name.lower(): text for name, text in headers.items()}


def _refuse_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("not a number")
    return value


Id = Annotated[str, BeforeValidator(_id_to_str), Field(min_length=1, max_length=255)]
Key = Annotated[SecretStr, BeforeValidator(_strip_key)]
Url = Annotated[str, BeforeValidator(_parse_url)]
Folder = Annotated[Path, BeforeValidator(_parse_path)]
Whole = Annotated[int, BeforeValidator(_refuse_bool)]
Number = Annotated[float, BeforeValidator(_refuse_bool)]

_MAX_STORAGE = 1024**4
"""Largest limit of a store, a spool or a buffer in bytes: a terabyte. A store of SQLite counts its pages with 32 bits."""
_MAX_SENT = 1024**3
"""Largest limit of a text or a request in bytes."""
_MAX_SECONDS = 3650 * 86_400
"""Longest time: ten years. Times are counted in nanoseconds, with 64 bits."""

_SWITCH = "true or false"
_ID = "a text of 1 to 255 characters, a whole number or a UUID"
_URL = "an address that begins with http:// or https://"
_KEY = "a key of visible ASCII characters that is not blank"
_TEXT = "a text that is not empty"
_LOCAL = "true, false or the path of a file, of valid characters; `~` needs a home folder"
_TEAM_STORE = "A database is a team's store: `gati relay run --to postgresql://…` fills it, and the commands read it with `--store`"


def hide_credentials(text: str) -> str:
    """Hide credentials of addresses in a text: `https://me:secret@host?key=k` → `https://***@host?key=***`.

    A password may contain any character, so everything up to the last `@` is hidden, also in an address that is not
    well-formed.
    """
    text = re.sub(r"(?s)(:/{1,2}).*@", r"\1***@", text)
    return re.sub(r"(:/{1,2}[^\s?#]*)([?#])(\S*)", _hide_values, text)


def hide_in_address(address: str) -> str:
    """Hide credentials like `hide_credentials`, in the value of an option that is an address: `me:secret@host` → `***@host`."""
    shown = re.sub(r"(?s)^((?:https?|kafka|postgres(?:ql)?):/*)?.*@", r"\1***@", address)
    return hide_credentials(hide_malformed_host(shown))


def _hide_values(address: re.Match[str]) -> str:
    query, hash_, fragment = (address[2] + address[3]).partition("#")
    # The names of parameters are no secrets.
    return address[1] + re.sub(r"(?<=[?&])([^&=]*=)?[^&]+", r"\1***", query) + ("#***" if fragment else hash_)


def option(default: Any, meaning: str, allowed: str, *, env: tuple[str, ...] | None = None, **rules: Any) -> Any:
    """Declare a field of `Settings`.

    Args:
        default: the default value, or `dict` for a new dict.
        meaning: description for `docs/options.md`.
        allowed: the accepted values, in words, for error messages.
        env: environment variables, the first one that is set wins; default: `GATI_` and the name in capitals;
            `()` if a variable cannot hold the value.
        rules: constraints of pydantic's `Field`.
    """
    start = {"default_factory": default} if default is dict else {"default": default}
    return Field(
        **start,
        description=meaning,
        json_schema_extra={"allowed": allowed, "env": None if env is None else [*env]},
        **rules,
    )


class Settings(BaseModel):
    """The validated options of one `observe.init`. Immutable; its repr shows no key.

    `gati.settings.load` creates it from arguments and environment; the class itself reads no environment.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, arbitrary_types_allowed=True, hide_input_in_errors=True, allow_inf_nan=False
    )

    # Identity of the program
    agent_name: Id = option("agent", "Name of the program or agent; `name` is an alias.", _ID)
    environment: str | None = option(
        None, "Deployment environment, e.g. `production`; attached to each turn.", _TEXT, min_length=1
    )
    enabled: bool = option(True, "False disables gati: it records nothing.", _SWITCH)
    auto_inject: bool = option(True, "Attach the handler to every LangChain run automatically.", _SWITCH)

    # Destinations
    product_id: Annotated[str, BeforeValidator(_parse_uuid)] | None = option(
        None, "Greenflash product, as shown in its web app.", "a UUID"
    )
    api_key: Key | None = option(None, "Greenflash API key.", _KEY, env=("GREENFLASH_API_KEY",))
    base_url: Url | None = option(
        None,
        "Greenflash API address; default: the SDK's.",
        _URL,
        env=("GREENFLASH_BASE_URL", "GATI_BASE_URL"),
    )
    client: Any = option(
        None,
        "A Greenflash client to use instead of a key; its settings are adopted.",
        "a `Greenflash` or `AsyncGreenflash` client, without `api_key`",
        env=(),
        exclude=True,
        repr=False,
    )
    backend_url: Url | None = option(None, "GATI backend; events are posted to `{backend_url}/api/events`.", _URL)
    backend_api_key: Key | None = option(
        None, "Bearer token of the GATI backend.", _KEY, env=("GATI_BACKEND_API_KEY", "GATI_API_KEY")
    )
    queue: Annotated[InstanceOf[QueueAddress], BeforeValidator(_parse_queue)] | None = option(
        None,
        "Kafka topic or PostgreSQL database to publish to, from which `gati relay` delivers to Greenflash. The program then "
        "needs no key and does not send to Greenflash itself; the embedded store is off by default.",
        ALLOWED,
    )
    otlp_endpoint: Url | None = option(
        None, "OTLP receiver, for example a collector; spans are posted to `{otlp_endpoint}/v1/traces`.", _URL
    )
    otlp_headers: Annotated[dict[str, SecretStr], BeforeValidator(_parse_headers)] | None = option(
        None,
        "Headers for the OTLP receiver, such as its key; `name=value,name=value` in the environment.",
        "an object of texts, or `name=value` pairs with commas between them",
    )
    otlp_content: bool = option(
        False, "Spans contain texts: messages, prompts, arguments and results. Needs `capture_content`.", _SWITCH
    )
    exporters: tuple[Any, ...] | None = option(
        None,
        "Your own exporters, in addition to configured destinations; the embedded store is then off by default.",
        "a list of objects that implement `gati.exporters.base.Exporter`",
        env=(),
        exclude=True,
        repr=False,
    )
    local: Annotated[bool | Path, BeforeValidator(_parse_local)] | None = option(
        None,
        "Embedded store: a path, True for the default path, False for none; "
        "default: used if no other destination is configured.",
        _LOCAL,
    )
    local_max_bytes: Whole = option(
        512 * 1024**2,
        "Maximum size of the embedded store in bytes; the oldest conversations are deleted first.",
        f"a whole number from 1048576 to {_MAX_STORAGE}",
        ge=1024**2,
        le=_MAX_STORAGE,
    )
    retention: Number | None = option(
        None,
        "Days after which turns are deleted from the embedded store; default: kept until the store is full.",
        "a number above 0, at most 36500",
        gt=0,
        le=36_500,
    )

    # Defaults of conversations
    user_id: Id | None = option(None, "Default user id; scopes and run metadata override it.", _ID)
    conversation_id: Id | None = option(None, "Default conversation id; scopes and run metadata override it.", _ID)
    organization_id: Id | None = option(None, "Default organization id; scopes and run metadata override it.", _ID)
    properties: dict[str, Any] = option(
        dict, "Attached to every conversation.", "an object (a dict; JSON in the environment)"
    )
    system_prompt: Annotated[InstanceOf[Prompt], BeforeValidator(parse_prompt)] | None = option(
        None,
        "Explicit system prompt; default: recovered from the model calls.",
        "a text, or an object with some of " + ", ".join(f"`{key}`" for key in PromptSpec.model_fields),
    )
    input_key: str | None = option(
        None, "Key of the root run's input that holds the user's message.", _TEXT, min_length=1
    )
    output_key: str | None = option(None, "Key of the root run's output that holds the answer.", _TEXT, min_length=1)
    import_history: bool = option(
        False,
        "Import conversation history that predates gati, once. Enable only if no other process may already have "
        "reported it, or it will be duplicated.",
        _SWITCH,
    )

    # Content
    detail: Literal["full", "conversation"] = option(
        "full",
        "`full` records every step; `conversation` only user-visible messages, tools and retrievals.",
        "`full` or `conversation`",
    )
    submission: Literal["turn", "incremental"] = option(
        "turn",
        "`turn` delivers a turn when it ends; `incremental` delivers its parts as they complete.",
        "`turn` or `incremental`",
    )
    sample_rate: Number | None = option(
        None,
        "Fraction of conversations to deliver. The program decides by a hash of the conversation id.",
        "a number from 0 to 1",
        ge=0,
        le=1,
    )
    force_sample: bool | None = option(
        None,
        "True delivers all conversations; False leaves the decision to Greenflash, which applies `sample_rate`.",
        _SWITCH,
    )
    mask: Mask | None = option(
        None,
        "Function of text, path and kind that returns the text to send; if it raises, the text is replaced by "
        "`[masked: the mask failed]`.",
        "a function of three arguments",
        env=(),
        exclude=True,
        repr=False,
    )
    capture_content: bool = option(
        True, "False records structure and numbers only; no text leaves the process.", _SWITCH
    )
    max_field_bytes: Whole = option(
        64 * 1024,
        "Maximum size of a text field in bytes; longer texts are truncated and marked.",
        f"a whole number from 256 to {_MAX_SENT}",
        ge=256,
        le=_MAX_SENT,
    )

    # Delivery
    flush_interval: Number = option(
        1.0,
        "Seconds between checks for data to send.",
        "a number above 0, at most 3600",
        gt=0,
        le=3600,
    )
    batch_size: Whole = option(
        100,
        "Maximum number of messages per request; Greenflash accepts at most 100.",
        "a whole number from 1 to 10000",
        ge=1,
        le=10_000,
    )
    max_request_bytes: Whole = option(
        1_000_000,
        "Maximum size of a request in bytes.",
        f"a whole number from 10000 to {_MAX_SENT}",
        ge=10_000,
        le=_MAX_SENT,
    )
    timeout: Number = option(10.0, "Timeout of a request in seconds.", "a number above 0, at most 600", gt=0, le=600)
    connections: Whole = option(
        4,
        "Maximum number of concurrent requests; a conversation uses one at a time.",
        "a whole number from 1 to 64",
        ge=1,
        le=64,
    )
    eager: bool | None = option(
        None,
        "Send a turn as soon as it ends, instead of in intervals. Default: true where the spool would be lost with the "
        "container (on tmpfs, ramfs or overlayfs) or is off. If true, `init` also loads what a delivery needs, which takes "
        "some tenths of a second; otherwise this begins in the background, with the first record.",
        _SWITCH,
    )
    spool: bool = option(True, "False keeps undelivered requests in memory only.", _SWITCH)
    spool_dir: Folder | None = option(
        None,
        "Spool folder; default: in the user's data folder.",
        "a path of valid characters; `~` needs a home folder",
    )
    spool_max_bytes: Whole = option(
        256 * 1024**2,
        "Disk quota of the spool in bytes.",
        f"a whole number from 100000 to {_MAX_STORAGE}",
        ge=100_000,
        le=_MAX_STORAGE,
    )
    journal: bool | None = option(
        None,
        "Keep records that are not in the spool yet in a file that outlives a kill. Default: true on local file systems of "
        "Linux, unless there is a `mask` or `capture_content` is off: the file holds texts before they are masked.",
        _SWITCH,
    )
    buffer_max_bytes: Whole = option(
        64 * 1024**2,
        "Memory limit for waiting records and requests in bytes.",
        f"a whole number from 100000 to {_MAX_STORAGE}",
        ge=100_000,
        le=_MAX_STORAGE,
    )
    on_full: Literal["oldest", "newest"] = option(
        "oldest", "Whether the oldest or the newest turns are dropped at a limit.", "`oldest` or `newest`"
    )
    on_drop: OnDrop | None = option(
        None,
        "Function that is called with an `observe.Drop` when deliveries are dropped, rejected or paused. Runs in a "
        "background thread; its exceptions are contained and counted.",
        "a function of one argument",
        env=(),
        exclude=True,
        repr=False,
    )
    turn_timeout: Number = option(
        3600.0,
        "Seconds without activity after which an open turn is delivered as unfinished.",
        f"a number above 0, at most {_MAX_SECONDS}",
        gt=0,
        le=_MAX_SECONDS,
    )
    shutdown_timeout: Number = option(
        10.0,
        "Maximum number of seconds that process exit waits for delivery.",
        "a number from 0 to 600",
        ge=0,
        le=600,
    )
    debug: bool = option(
        False, "Log internal errors with the locations of their traceback, never with content.", _SWITCH
    )

    @field_validator("client")
    @classmethod
    def _is_client(cls, value: Any) -> Any:
        if value is not None and not callable(getattr(getattr(value, "messages", None), "create", None)):
            raise ValueError("not a client")
        return value

    @field_serializer("base_url", "backend_url", "otlp_endpoint")
    def _hide_in_dumps(self, value: str | None) -> str | None:
        return None if value is None else hide_credentials(value)

    @field_serializer("system_prompt")
    def _describe_prompt(self, value: Prompt | None) -> dict[str, Any] | None:
        return None if value is None else describe_prompt(value)

    @field_serializer("queue")
    def _hide_queue_in_dumps(self, value: QueueAddress | None) -> str | None:
        return None if value is None else value.label

    def __repr_args__(self) -> Any:
        """Hide user and password of addresses."""
        for name, value in super().__repr_args__():
            yield name, hide_credentials(value) if isinstance(value, str) else value

    def __reduce__(self) -> Any:
        """Refuse to pickle, since a pickle would contain the keys."""
        raise TypeError("Settings contain API keys and cannot be pickled")
