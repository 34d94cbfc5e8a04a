"""The address of a queue, as given to `observe.init(queue=…)`: parsing and checks without any I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal, TypeAlias
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit, urlunsplit

from gati.errors import ConfigurationError

Engine: TypeAlias = Literal["kafka", "postgres"]

DEAD_TOPIC = "gati.dead"
"""Topic of the requests that no relay could deliver."""

ALLOWED = "kafka://host:port[,host:port…]/topic or postgresql://user@host/database"
"""The accepted addresses, for error messages."""

_KAFKA_PORT = 9092
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,200}")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")
_UNSAFE_OPTIONS = ("plugin.library.paths", "ssl.engine.location", "ssl.providers", "_cb")
"""Options of librdkafka that load code, or that are no texts."""


@dataclass(frozen=True, slots=True)
class QueueAddress:
    """The address of a queue.

    Attributes:
        engine: `kafka` or `postgres`.
        servers: For Kafka: `host:port`, separated by commas. Empty for PostgreSQL.
        topic: For Kafka: the topic of the queued requests. Empty for PostgreSQL.
        url: For PostgreSQL: the address as libpq takes it. Empty for Kafka. May contain a password.
        options: For Kafka: properties of librdkafka, from the address. May contain a password.
        label: The address as shown to people, without credentials.
    """

    engine: Engine
    servers: str = ""
    topic: str = ""
    url: str = field(default="", repr=False)
    options: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    label: str = ""

    @property
    def dead_topic(self) -> str:
        """For Kafka: the topic of dead letters. It is `gati.dead` for `gati.turns`."""
        return DEAD_TOPIC if self.topic == "gati.turns" else f"{self.topic}.dead"

    @classmethod
    def parse(cls, text: str) -> QueueAddress:
        """Parse an address.

        `kafka://user:password@host:9092,host2:9092/topic?security.protocol=SASL_SSL` sets `sasl.username` and
        `sasl.password`, and each parameter is a property of librdkafka. `postgresql://…` is passed to libpq as it is.

        Raises:
            ConfigurationError: the address is invalid. The error does not contain its credentials.
        """
        text = text.strip()
        try:
            if re.search(r"\s", text):
                raise ValueError("whitespace")
            parts = urlsplit(text)
            if parts.scheme == "kafka":
                return _parse_kafka(parts)
            if parts.scheme in ("postgresql", "postgres") and text.startswith(f"{parts.scheme}://"):
                return _parse_postgres(parts)
        except ValueError:
            pass
        raise ConfigurationError("queue", _without_credentials(text), ALLOWED)


def _parse_kafka(parts: SplitResult) -> QueueAddress:
    credentials, _, hosts = parts.netloc.rpartition("@")
    servers = [_with_port(host) for host in hosts.split(",")]
    topic = unquote(parts.path.strip("/"))
    if parts.fragment or not _TOPIC.fullmatch(topic) or topic in (".", ".."):
        raise ValueError("not a topic")
    options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    if any(name.endswith(_UNSAFE_OPTIONS) or name == "bootstrap.servers" for name in options):
        raise ValueError("not allowed")
    if credentials:
        user, _, password = credentials.partition(":")
        options |= {"sasl.username": unquote(user), "sasl.password": unquote(password)}
        options.setdefault("security.protocol", "SASL_SSL")
        options.setdefault("sasl.mechanism", "PLAIN")
    joined = ",".join(servers)
    return QueueAddress(
        "kafka", joined, topic, options=tuple(sorted(options.items())), label=f"kafka://{joined}/{topic}"
    )


def _with_port(host: str) -> str:
    match = _HOST.fullmatch(host)
    if match is None or int((match[2] or ":1")[1:]) not in range(1, 65536):
        raise ValueError("not a host")
    return host if match[2] else f"{host}:{_KAFKA_PORT}"


def _parse_postgres(parts: SplitResult) -> QueueAddress:
    if parts.fragment or not parts.path.strip("/"):
        raise ValueError("no database")
    if "@" in parts.path:  # the password contains a slash that is not encoded, or `%40` is meant
        raise ValueError("not a database")
    url = urlunsplit(parts._replace(scheme="postgresql"))
    host = parts.netloc.rpartition("@")[2]
    ports = [re.sub(r"^\[.*\]", "", one).partition(":")[2] for one in host.split(",")]
    if not all(port.isdecimal() or not port for port in ports):
        raise ValueError("not a port")
    return QueueAddress("postgres", url=url, label=f"postgresql://{host}{parts.path}")


def _without_credentials(text: str) -> str:
    shown = re.sub(r"(?s)^((?:kafka|postgres(?:ql)?):/*)?.*@", r"\1***@", text)
    return re.sub(r"(?s)[?#].*", "?…", hide_malformed_host(shown))[:80]


_HOSTS = re.compile(r"[A-Za-z0-9._-]*(?::[0-9]{0,5})?(?:,[A-Za-z0-9._-]*(?::[0-9]{0,5})?)*(?=[/?#]|$)")


def hide_malformed_host(address: str) -> str:
    """Hide all but the scheme of an address without a well-formed host: `http://me:secret` → `http://***`.

    What is there instead may be a user and a password.
    """
    scheme = re.match(r"(?:[A-Za-z][A-Za-z0-9+.-]*:/+)?", address)
    start = scheme.end() if scheme else 0
    hosts = address[start:].removeprefix("***@")
    return address if _HOSTS.match(hosts) else f"{address[:start]}***"
