"""The destinations that a configuration activates: one answer for the runtime and the command line."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from gati.errors import ConfigurationError
from gati.settings import hide_credentials

if TYPE_CHECKING:
    from gati.exporters.base import Exporter
    from gati.settings import Settings

DestinationKind: TypeAlias = Literal["greenflash", "queue", "backend", "otlp", "custom", "local"]

_RESERVED_NAMES = frozenset({"greenflash", "queue", "events_api", "otlp", "local"})


class Destination(NamedTuple):
    """A place to which conversations are delivered.

    Attributes:
        kind: `local` is the embedded store, `custom` an exporter passed to `observe.init`. With a `queue` there is no
            `greenflash`, since relays send what is published there.
        label: the name shown to people, e.g. `Greenflash`.
        make_exporter: creates the exporter; a custom destination returns the user's object.
    """

    kind: DestinationKind
    label: str
    make_exporter: Callable[[], Exporter]


def active_destinations(settings: Settings) -> list[Destination]:
    """Return the destinations of `settings`; the embedded store if they configure no other.

    Creates no exporter and loads no SDK.

    Raises:
        ConfigurationError: an object in `exporters` is not an exporter, or its name is already in use.
    """
    destinations: list[Destination] = []
    if settings.queue is not None:
        destinations.append(Destination("queue", settings.queue.label, partial(_make_queue_exporter, settings)))
    elif settings.api_key is not None or settings.client is not None:
        destinations.append(Destination("greenflash", "Greenflash", partial(_make_greenflash_exporter, settings)))
    if settings.backend_url is not None:
        label = hide_credentials(settings.backend_url)
        destinations.append(Destination("backend", label, partial(_make_backend_exporter, settings)))
    if settings.otlp_endpoint is not None:
        label = hide_credentials(settings.otlp_endpoint)
        destinations.append(Destination("otlp", label, partial(_make_otlp_exporter, settings)))
    names = set(_RESERVED_NAMES)
    for exporter in settings.exporters or ():
        _check_exporter(exporter, names)
        destinations.append(Destination("custom", exporter.name, partial(_return_exporter, exporter)))
    if settings.local or (settings.local is None and not destinations):
        destinations.append(Destination("local", "the embedded store", partial(_make_local_exporter, settings)))
    return destinations


def _check_exporter(exporter: object, names: set[str]) -> None:
    """Raise unless `exporter` has every member of `Exporter`; add its name to `names`."""
    from gati.exporters.base import Exporter  # imported late: only programs with custom exporters need it

    shown = f"<{type(exporter).__name__}>"
    methods = [name for name, member in vars(Exporter).items() if callable(member) and not name.startswith("_")]
    missing = [name for name in Exporter.__annotations__ if not hasattr(exporter, name)]
    missing += [f"{name}()" for name in methods if not callable(getattr(exporter, name, None))]
    if missing:
        allowed = f"objects that implement gati.exporters.base.Exporter; this one lacks {', '.join(missing)}"
        raise ConfigurationError("exporters", shown, allowed)
    for attribute in ("name", "account"):
        value = getattr(exporter, attribute)
        if not isinstance(value, str) or not value:
            raise ConfigurationError("exporters", shown, f"objects whose `{attribute}` is a text that is not empty")
    name = getattr(exporter, "name", "")
    if name in names:
        raise ConfigurationError("exporters", shown, f"a `name` that no other destination has, unlike {name!r}")
    names.add(name)


def _return_exporter(exporter: Exporter) -> Exporter:
    return exporter


def _make_greenflash_exporter(settings: Settings) -> Exporter:
    from gati.exporters.greenflash.exporter import GreenflashExporter

    return GreenflashExporter(settings)


def _make_queue_exporter(settings: Settings) -> Exporter:
    from functools import partial

    from gati.exporters.greenflash.encoder import GreenflashEncoder
    from gati.queues.exporter import MAX_BYTES, QueueExporter, make_publisher

    assert settings.queue is not None
    limit = min(settings.max_request_bytes, MAX_BYTES)
    make_encoder = partial(GreenflashEncoder, settings.model_copy(update={"max_request_bytes": limit}))
    publisher = make_publisher(settings.queue, settings.timeout)
    return QueueExporter(settings.queue, settings.product_id, make_encoder, publisher)


def _make_backend_exporter(settings: Settings) -> Exporter:
    from gati.exporters.events_api import EventsApiExporter

    return EventsApiExporter(settings)


def _make_otlp_exporter(settings: Settings) -> Exporter:
    from gati.exporters.otlp.exporter import OTLPExporter

    return OTLPExporter(settings)


def _make_local_exporter(settings: Settings) -> Exporter:
    from gati.exporters.greenflash.encoder import GreenflashEncoder
    from gati.exporters.local import LocalExporter
    from gati.store.store import default_path

    path = settings.local if isinstance(settings.local, Path) else None
    if path is None:
        with suppress(FileNotFoundError):  # no home folder
            path = default_path()
    # Beside Greenflash, the store does not have the prompts that Greenflash manages.
    encoder = GreenflashEncoder(settings, prompt_references=False)
    return LocalExporter(path, settings.local_max_bytes, encoder, settings.retention)
