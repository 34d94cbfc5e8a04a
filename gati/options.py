"""Every option of gati, once: its name, environment variables, default and meaning.

The tables of `docs/options.md` are generated from this module by `docs/generate.py`. How values are
found and what is said of wrong ones: `gati.settings`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, field_validator

Mask: TypeAlias = Callable[[str, str, str], str]
"""Takes a text, where it stands (``messages.0.content``) and the kind of item; returns what may be sent."""

PROMPT_KEYS = frozenset({"external_prompt_id", "external_template_id", "content", "components", "variables"})
"""Keys of a structured `system_prompt`; the second is the older name of the first."""

_SWITCHES = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def _id_text(value: object) -> object:
    # bool is an int to Python and a mistake here.
    return str(value) if isinstance(value, (int, UUID)) and not isinstance(value, bool) else value


def _uuid_text(value: object) -> object:
    try:
        return str(UUID(str(value).strip()))
    except ValueError:
        raise ValueError("no UUID") from None


def _key(value: object) -> object:
    # Blanks around a key fail inside the HTTP library and look like a network fault.
    if isinstance(value, str) and not (value := value.strip()):
        raise ValueError("blank")
    return value


def _url(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("no address")
    parts = urlsplit(value.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"\s", value.strip()):
        raise ValueError("no address")
    return value.strip().rstrip("/")


def _path(value: object) -> object:
    if not isinstance(value, (str, Path)) or not str(value).strip():
        raise ValueError("no path")
    return Path(value).expanduser()


def _switch_or_path(value: object) -> object:
    if isinstance(value, str) and value.lower() in _SWITCHES:
        return _SWITCHES[value.lower()]
    return value if isinstance(value, bool) else _path(value)


def _number(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("no number")
    return value


Id = Annotated[str, BeforeValidator(_id_text), Field(min_length=1, max_length=255)]
Key = Annotated[SecretStr, BeforeValidator(_key)]
Url = Annotated[str, BeforeValidator(_url)]
Folder = Annotated[Path, BeforeValidator(_path)]
Whole = Annotated[int, BeforeValidator(_number)]
Number = Annotated[float, BeforeValidator(_number)]

_SWITCH = "true or false"
_ID = "a text of 1 to 255 characters, a whole number or a UUID"
_URL = "an address that begins with http:// or https://"
_KEY = "a key that is not blank"
_TEXT = "a text that is not empty"


def option(default: Any, meaning: str, allowed: str, *, env: tuple[str, ...] | None = None, **rules: Any) -> Any:
    """A field of `Settings` with its documentation.

    `allowed` says in words what is accepted. `env` names its variables where they are not
    just ``GATI_`` and the name in capitals; ``()`` for what no variable can hold.
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

    Made by `gati.settings.load`; the class itself reads no environment.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, arbitrary_types_allowed=True, hide_input_in_errors=True, allow_inf_nan=False
    )

    # Who you are
    agent_name: Id = option("agent", "Name of the program or agent; `name=` is accepted too.", _ID)
    environment: str | None = option(
        None, "Where it runs, e.g. `production`; kept with each turn.", _TEXT, min_length=1
    )
    enabled: bool = option(True, "False: gati does nothing at all, `get_callbacks()` is `[]`.", _SWITCH)
    auto_inject: bool = option(True, "Attach the handler to every run of LangChain by itself.", _SWITCH)

    # Where it goes
    product_id: Annotated[str, BeforeValidator(_uuid_text)] | None = option(
        None, "Greenflash product, from its web app.", "a UUID"
    )
    api_key: Key | None = option(None, "Greenflash API key.", _KEY, env=("GREENFLASH_API_KEY",))
    base_url: Url | None = option(
        None, "Greenflash address; default: the SDK's.", _URL, env=("GREENFLASH_BASE_URL", "GATI_BASE_URL")
    )
    client: Any = option(
        None,
        "A client of yours, instead of a key; its settings are taken over.",
        "a `Greenflash` or `AsyncGreenflash` client, without `api_key`",
        env=(),
        exclude=True,
        repr=False,
    )
    backend_url: Url | None = option(None, "A GATI backend; events go to `{backend_url}/api/events`.", _URL)
    backend_api_key: Key | None = option(
        None, "Bearer key of the GATI backend.", _KEY, env=("GATI_BACKEND_API_KEY", "GATI_API_KEY")
    )
    local: Annotated[bool | Path, BeforeValidator(_switch_or_path)] | None = option(
        None,
        "The embedded store: its path, True for the usual place, False for none; "
        "default: on when there is neither key nor client nor `backend_url`.",
        "true, false or the path of a file",
    )
    local_max_bytes: Whole = option(
        512 * 1024**2,
        "Size of the embedded store in bytes; the oldest conversations go first.",
        "a whole number from 1048576",
        ge=1024**2,
    )

    # Whose conversation
    user_id: Id | None = option(None, "Default user; overridden per call.", _ID)
    conversation_id: Id | None = option(None, "Default conversation; overridden per call.", _ID)
    organization_id: Id | None = option(None, "Default organization; overridden per call.", _ID)
    properties: dict[str, Any] = option(
        dict, "Kept with every conversation.", "an object (a dict; JSON in the environment)"
    )
    system_prompt: str | dict[str, Any] | None = option(
        None,
        "Explicit system prompt; default: recovered from the program.",
        "a text, or an object with some of " + ", ".join(f"`{key}`" for key in sorted(PROMPT_KEYS)),
    )
    input_key: str | None = option(None, "Key of the root's input that holds the user's text.", _TEXT, min_length=1)
    output_key: str | None = option(None, "Key of the root's output that holds the answer.", _TEXT, min_length=1)
    import_history: bool = option(
        False,
        "A history that a program passes and gati did not watch is told once, as imported. Only where no other process "
        "may have told it live: it would stand there twice.",
        _SWITCH,
    )

    # What is told
    detail: Literal["full", "conversation"] = option(
        "full", "`conversation`: only what a person saw, tools and retrievals.", "`full` or `conversation`"
    )
    submission: Literal["turn", "incremental"] = option(
        "turn",
        "`turn`: a turn goes when it is over. `incremental`: its parts go as they are complete.",
        "`turn` or `incremental`",
    )
    sample_rate: Number | None = option(
        None, "Share of conversations kept; the server decides, whole ones.", "a number from 0 to 1", ge=0, le=1
    )
    force_sample: bool | None = option(None, "True: kept whatever the sample rate.", _SWITCH)
    mask: Mask | None = option(
        None,
        "Function of text, place and kind that returns the text to send; a fault in it drops the text.",
        "a function of three arguments",
        env=(),
        exclude=True,
        repr=False,
    )
    capture_content: bool = option(True, "False: structure and numbers only, no text leaves the process.", _SWITCH)
    max_field_bytes: Whole = option(
        64 * 1024,
        "Longest text of one field in bytes; longer ones are shortened with a marker.",
        "a whole number from 256",
        ge=256,
    )

    # How it travels
    flush_interval: Number = option(
        1.0,
        "Seconds between two looks at what there is to send.",
        "a number above 0, at most 3600",
        gt=0,
        le=3600,
    )
    batch_size: Whole = option(
        100,
        "Most messages in one request (Greenflash: at most 100).",
        "a whole number from 1 to 10000",
        ge=1,
        le=10_000,
    )
    max_request_bytes: Whole = option(1_000_000, "Largest request in bytes.", "a whole number from 10000", ge=10_000)
    timeout: Number = option(10.0, "Seconds that one request may take.", "a number above 0, at most 600", gt=0, le=600)
    connections: Whole = option(
        4, "Most requests under way at once; one per conversation.", "a whole number from 1 to 64", ge=1, le=64
    )
    spool: bool = option(True, "False: what waits is kept in memory only.", _SWITCH)
    spool_dir: Folder | None = option(None, "Folder of the spool; default: the user's data folder.", "a path")
    spool_max_bytes: Whole = option(
        256 * 1024**2, "Disk quota of the spool in bytes.", "a whole number from 100000", ge=100_000
    )
    buffer_max_bytes: Whole = option(
        64 * 1024**2,
        "Memory for what waits to be assembled or sent, in bytes.",
        "a whole number from 100000",
        ge=100_000,
    )
    on_full: Literal["oldest", "newest"] = option(
        "oldest", "Which whole turns go when a limit is reached.", "`oldest` or `newest`"
    )
    turn_timeout: Number = option(
        3600.0,
        "Seconds without news after which an open turn is delivered as unfinished.",
        "a number above 0",
        gt=0,
    )
    shutdown_timeout: Number = option(
        10.0,
        "Seconds that the program's exit may wait for delivery.",
        "a number from 0 to 600",
        ge=0,
        le=600,
    )

    @field_validator("client")
    @classmethod
    def _is_client(cls, value: Any) -> Any:
        if value is not None and not callable(getattr(getattr(value, "messages", None), "create", None)):
            raise ValueError("no client")
        return value

    @field_validator("system_prompt")
    @classmethod
    def _is_prompt(cls, value: str | dict[str, Any] | None) -> str | dict[str, Any] | None:
        if isinstance(value, dict) and not (value and PROMPT_KEYS.issuperset(value)):
            raise ValueError("no prompt")
        return value

    def __repr_args__(self) -> Any:
        """As of pydantic, with user and password of addresses hidden."""
        for name, value in super().__repr_args__():
            yield name, re.sub(r"//[^/@]*@", "//***@", value) if isinstance(value, str) else value

    def __reduce__(self) -> Any:
        """Refused: a pickle would hold the keys."""
        raise TypeError("Settings hold keys and are not pickled")
