"""Every option of gati, once: its name, environment variable, default and meaning.

`docs/options.md` is made from this page. Values come, first hit wins, from the arguments of
`observe.init`, the environment, the file `.env` of the working directory, the defaults.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Callable, Literal, TypeAlias

from pydantic import AliasChoices, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from gati.errors import ConfigurationError

Mask: TypeAlias = Callable[[str, str, str], str]
"""Takes a text, where it stands (``messages.0.content``) and the kind of item; returns what may be sent."""

_SECRET = {"api_key", "backend_api_key"}


def _id_text(value: object) -> object:
    """Ids are given as str, int or UUID; bool is an int to Python and a mistake here."""
    if value is None or isinstance(value, (str, bool)):
        return value
    return str(value)


Id = Annotated[str, BeforeValidator(_id_text), Field(min_length=1)]


def _env(*names: str) -> AliasChoices:
    return AliasChoices(*names)


class Settings(BaseSettings):
    """The validated options of one `observe.init`. Immutable."""

    model_config = SettingsConfigDict(
        env_prefix="GATI_",
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        arbitrary_types_allowed=True,
        hide_input_in_errors=True,
    )

    # Who you are
    agent_name: Id = Field("agent", description="Name of the program or agent; `name=` is accepted too.")
    environment: str | None = Field(None, description="Where it runs, e.g. `production`; kept with each turn.")
    enabled: bool = Field(True, description="False: gati does nothing at all, `get_callbacks()` is `[]`.")
    auto_inject: bool = Field(True, description="Attach the handler to every run of LangChain by itself.")

    # Where it goes
    product_id: Id | None = Field(None, description="Greenflash product (a UUID from its web app).")
    api_key: SecretStr | None = Field(
        None, validation_alias=_env("api_key", "GREENFLASH_API_KEY"), description="Greenflash API key."
    )
    base_url: str | None = Field(
        None, validation_alias=_env("base_url", "GREENFLASH_BASE_URL"), description="Greenflash address; default: the SDK's."
    )
    client: Any = Field(
        None, exclude=True, description="A `Greenflash` or `AsyncGreenflash` of yours, instead of a key; its settings are taken over."
    )
    backend_url: str | None = Field(None, description="A GATI backend; events go to `{backend_url}/api/events`.")
    backend_api_key: SecretStr | None = Field(
        None,
        validation_alias=_env("backend_api_key", "GATI_BACKEND_API_KEY", "GATI_API_KEY"),
        description="Bearer key of the GATI backend.",
    )
    local: bool | Path | None = Field(
        None,
        description="The embedded store: its path, True for the usual place, False for none; "
        "default: on when there is neither key nor client nor backend_url.",
    )
    local_max_bytes: int = Field(
        512 * 1024**2, ge=1024**2, description="Size of the embedded store in bytes; the oldest conversations go first."
    )

    # Whose conversation
    user_id: Id | None = Field(None, description="Default user; overridden per call.")
    conversation_id: Id | None = Field(None, description="Default conversation; overridden per call.")
    organization_id: Id | None = Field(None, description="Default organization; overridden per call.")
    properties: dict[str, Any] = Field(default_factory=dict, description="Kept with every conversation.")
    system_prompt: str | dict[str, Any] | None = Field(
        None,
        description="Explicit system prompt: text, or a dict with `external_prompt_id`, and `content` or `components`, "
        "and `variables`; default: recovered from the program.",
    )
    input_key: str | None = Field(None, description="Key of the root's input that holds the user's text.")
    output_key: str | None = Field(None, description="Key of the root's output that holds the answer.")

    # What is told
    detail: Literal["full", "conversation"] = Field(
        "full", description="`conversation`: only what a person saw, tools and retrievals."
    )
    submission: Literal["turn", "incremental"] = Field(
        "turn", description="`turn`: a turn goes when it is over. `incremental`: its parts go as they are complete."
    )
    sample_rate: float | None = Field(None, ge=0, le=1, description="Share of conversations kept; the server decides, whole ones.")
    force_sample: bool | None = Field(None, description="True: kept whatever the sample rate.")
    mask: Mask | None = Field(
        None, exclude=True, description="Function of text, place and kind that returns the text to send; a fault in it drops the text."
    )
    capture_content: bool = Field(True, description="False: structure and numbers only, no text leaves the process.")
    max_field_bytes: int = Field(
        64 * 1024, ge=256, description="Longest text of one field in bytes; longer ones are shortened with a marker."
    )

    # How it travels
    flush_interval: float = Field(1.0, gt=0, le=3600, description="Seconds between two looks at what there is to send.")
    batch_size: int = Field(100, ge=1, le=10_000, description="Most messages in one request (Greenflash: at most 100).")
    max_request_bytes: int = Field(1_000_000, ge=10_000, description="Largest request in bytes.")
    timeout: float = Field(10.0, gt=0, le=600, description="Seconds that one request may take.")
    connections: int = Field(4, ge=1, le=64, description="Most requests under way at once; one per conversation.")
    spool: bool = Field(True, description="False: what waits is kept in memory only.")
    spool_dir: Path | None = Field(None, description="Folder of the spool; default: the user's data folder.")
    spool_max_bytes: int = Field(256 * 1024**2, ge=100_000, description="Disk quota of the spool in bytes.")
    buffer_max_bytes: int = Field(64 * 1024**2, ge=100_000, description="Memory for what waits to be assembled or sent, in bytes.")
    on_full: Literal["oldest", "newest"] = Field("oldest", description="Which whole turns go when a limit is reached.")
    turn_timeout: float = Field(
        3600.0, gt=0, description="Seconds without news after which an open turn is delivered as unfinished."
    )
    shutdown_timeout: float = Field(10.0, ge=0, le=600, description="Seconds that the program's exit may wait for delivery.")

    @field_validator("api_key", "backend_api_key", mode="before")
    @classmethod
    def _strip_key(cls, value: object) -> object:
        # Blanks around a key fail inside the HTTP library and look like a network fault.
        return value.strip() if isinstance(value, str) else value

    @field_validator("base_url", "backend_url")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("an address that begins with http:// or https://")
        return value.rstrip("/") if value else None
