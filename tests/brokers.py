"""Real brokers for tests: a private PostgreSQL from Debian's packages, and a one-node Kafka (KRaft) from Maven.

Each starts once per test run, with the first test that asks for it, on a free port and in a temporary folder. Where a
machine cannot provide one, tests that need it are skipped with the reason. `GATI_TEST_KAFKA=host:port` uses a Kafka that
runs already.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from tests.optional import needs

KAFKA_VERSION = "4.1.0"
EXTERNAL_KAFKA = os.environ.get("GATI_TEST_KAFKA", "")
"""Address of a running Kafka. Read here, because each test clears the variables that begin with `GATI_`."""

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gati-tests"
"""Kafka's jars (43 MB), kept between test runs. Read here, because each test has a home of its own."""

START_SECONDS = 90.0
"""Time limit of a broker's start, generous because machines may be busy."""

JAVA_OPTIONS = ("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dfile.encoding=UTF-8")
"""A short start matters more than speed later."""

POM = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>gati</groupId><artifactId>test-kafka</artifactId><version>1</version><dependencies><dependency>
<groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{version}</version>
</dependency></dependencies></project>"""

PROPERTIES = """process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
log.dirs={data}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.session.timeout.ms=6000
broker.heartbeat.interval.ms=500
num.partitions=4
"""


class _Server:
    """A broker's process and its folder."""

    death_signal = "KILL"
    """Ends the broker when the test run ends, however that ends."""
    user: str | None = None
    """The user as whom the broker runs; None for the current one."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.log = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """Return the command line that starts the broker."""
        raise NotImplementedError

    def is_ready(self) -> bool:
        """Return True if the broker accepts requests."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the broker and wait until it accepts requests."""
        command = [*_set_process(self.user, self.death_signal), *self.command()]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, start_new_session=True)
        until = time.monotonic() + START_SECONDS
        while not self.is_ready():
            if self._process.poll() is not None or time.monotonic() > until:
                self.kill()
                pytest.fail(f"the broker did not start:\n{self.log.read_text('utf-8', 'replace')[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Shut the broker down. Its data stay; `start` continues with them, on the same port."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End the broker without a shutdown."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Freeze the broker: connections stay open and nothing answers."""
        for process in self._processes():
            os.kill(process, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen broker go on."""
        for process in self._processes():
            os.kill(process, signal.SIGCONT)

    def _processes(self) -> list[int]:
        """Return the broker's processes. Each of PostgreSQL's has a session of its own."""
        assert self._process is not None
        children = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self._process.pid)], capture_output=True, check=False
        )
        return [self._process.pid, *map(int, children.stdout.split())]

    @property
    def pid(self) -> int:
        """The id of the broker's process."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """True between `start` and `stop`."""
        return self._process is not None

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
            process.send_signal(number)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class PostgresServer(_Server):
    """A private PostgreSQL cluster. Only this machine can reach it; no password."""

    death_signal = "INT"

    def __init__(self, programs: Path, folder: Path, user: str | None) -> None:
        super().__init__(folder, _free_port())
        self.user = user
        self._programs = programs
        self._numbers = itertools.count(1)
        create = [str(programs / "initdb"), "-D", str(folder / "data"), "-U", "gati", "-A", "trust", "--no-sync"]
        command = [*_set_process(user, self.death_signal), *create, "-E", "UTF8", "--locale=C.UTF-8"]
        subprocess.run(command, check=True, capture_output=True, cwd=folder)

    def command(self) -> list[str]:
        """See `_Server.command`."""
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "fsync": "off",
            "full_page_writes": "off",
            "shared_buffers": "64MB",
            "max_connections": "120",
        }
        given = itertools.chain.from_iterable(("-c", f"{name}={value}") for name, value in options.items())
        return [str(self._programs / "postgres"), "-D", str(self.folder / "data"), *given]

    def is_ready(self) -> bool:
        """See `_Server.is_ready`."""
        check = [str(self._programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(check, check=False).returncode == 0

    def kill(self) -> None:
        """End the broker without a shutdown: PostgreSQL recovers at the next start."""
        self._end(signal.SIGQUIT)  # SIGKILL leaves children that keep the next start from happening

    def url(self, database: str = "postgres") -> str:
        """Return the address of a database of this cluster."""
        return f"postgresql://gati@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """Create an empty database; return its address."""
        import psycopg

        name = f"test{next(self._numbers)}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)


class KafkaBroker(_Server):
    """A Kafka broker: one started here, or the one of `GATI_TEST_KAFKA`, which cannot be stopped."""

    def __init__(self, jars: Path, folder: Path) -> None:
        super().__init__(folder, _free_port())
        self.address = f"127.0.0.1:{self.port}"
        self._jars = jars
        self._numbers = itertools.count(1)
        properties = PROPERTIES.format(port=self.port, controller=_free_port(), data=folder / "data")
        (folder / "server.properties").write_text(properties, "utf-8")
        create = ["kafka.tools.StorageTool", "format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c", "server.properties"]
        subprocess.run([*self._java(), *create], check=True, capture_output=True, cwd=folder)

    def command(self) -> list[str]:
        """See `_Server.command`."""
        return [*self._java(), "kafka.Kafka", "server.properties"]

    def is_ready(self) -> bool:
        """See `_Server.is_ready`."""
        if not _is_open(self.port):
            return False
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        try:
            return bool(AdminClient({"bootstrap.servers": self.address}).list_topics(timeout=2.0).brokers)
        except KafkaException:
            return False

    def new_topic(self, partitions: int = 4) -> str:
        """Create a topic; return its address as `kafka://host:port/topic`."""
        from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # documented as public

        name = f"gati.test{os.getpid()}.{next(self._numbers)}"
        admin = AdminClient({"bootstrap.servers": self.address})
        for future in admin.create_topics([NewTopic(name, partitions, 1)]).values():
            future.result(START_SECONDS)
        return f"kafka://{self.address}/{name}"

    def topics(self) -> set[str]:
        """Return the names of all topics."""
        from confluent_kafka.admin import AdminClient

        return set(AdminClient({"bootstrap.servers": self.address}).list_topics(timeout=START_SECONDS).topics)

    def _java(self) -> list[str]:
        return ["java", *JAVA_OPTIONS, "-cp", f"{self._jars}/*"]


class ExternalKafka(KafkaBroker):
    """The Kafka of `GATI_TEST_KAFKA`. Tests that stop a broker are skipped."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._numbers = itertools.count(1)

    @property
    def is_running(self) -> bool:
        """Always true."""
        return True

    def stop(self) -> None:
        """Skip the test."""
        pytest.skip("GATI_TEST_KAFKA is a broker that tests cannot stop")

    kill = pause = stop


@contextmanager
def run_postgres() -> Iterator[PostgresServer]:
    """Run a PostgreSQL cluster. Skip the test where this is not possible."""
    needs("psycopg")
    programs = postgres_programs()
    user = None
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        import pwd  # late: Windows has none

        if not shutil.which("setpriv"):
            pytest.skip("PostgreSQL does not run as root, and `setpriv` of util-linux is missing")
        user = "postgres" if any(entry.pw_name == "postgres" for entry in pwd.getpwall()) else "nobody"
    with _folder("postgres") as folder:
        if user:
            shutil.chown(folder, user)
        server = PostgresServer(programs, folder, user)
        server.start()
        yield server
        server.kill()  # nothing to save, and a shutdown writes everything to disk


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL cluster for the whole test run. Tests that stop it need not start it again."""
    with run_postgres() as server:
        yield server


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> str:
    """The address of an empty PostgreSQL database for this test."""
    if not postgres_server.is_running:
        postgres_server.start()
    return postgres_server.new_database()


@contextmanager
def run_kafka() -> Iterator[KafkaBroker]:
    """Run a Kafka broker. Skip the test where this is not possible."""
    needs("confluent_kafka")
    if EXTERNAL_KAFKA:
        yield ExternalKafka(EXTERNAL_KAFKA)
        return
    jars = _kafka_jars()
    with _folder("kafka") as folder:
        broker = KafkaBroker(jars, folder)
        broker.start()
        yield broker
        broker.kill()


@pytest.fixture(scope="session")
def kafka_broker() -> Iterator[KafkaBroker]:
    """A Kafka broker for the whole test run. Tests that stop it need not start it again."""
    with run_kafka() as broker:
        yield broker


@pytest.fixture
def kafka(kafka_broker: KafkaBroker) -> KafkaBroker:
    """A running Kafka broker; `new_topic` gives the address of an empty topic for this test."""
    if not kafka_broker.is_running:
        kafka_broker.start()
    return kafka_broker


def postgres_programs() -> Path:
    """Return the folder of PostgreSQL's server programs, the newest version."""
    if on_path := shutil.which("initdb"):
        return Path(on_path).resolve().parent
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if not found:
        pytest.skip("needs PostgreSQL's server programs (Debian's package `postgresql`)")
    return max(found, key=lambda folder: float(folder.parent.name))


def _kafka_jars() -> Path:
    """Return the folder of Kafka's jars, after downloading them once."""
    if not shutil.which("java"):
        pytest.skip("needs Java 17 for Kafka, or GATI_TEST_KAFKA=host:port")
    jars = CACHE / f"kafka-{KAFKA_VERSION}"
    if jars.is_dir():
        return jars
    if not shutil.which("mvn"):
        pytest.skip("needs Maven to download Kafka, or GATI_TEST_KAFKA=host:port")
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as temporary:
        folder = Path(temporary)
        (folder / "pom.xml").write_text(POM.format(version=KAFKA_VERSION), "utf-8")
        command = ["mvn", "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={folder / 'jars'}"]
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
        if result.returncode:
            pytest.skip(f"Kafka could not be downloaded: {result.stdout[-300:]}")
        with suppress(OSError):  # another test run was first
            (folder / "jars").rename(jars)
    return jars


def _set_process(user: str | None, death_signal: str) -> list[str]:
    """Return the beginning of a command that runs as `user`, and gets the signal when this process dies."""
    if not shutil.which("setpriv"):
        return []
    account = [f"--reuid={user}", "--clear-groups"] if user else []
    return ["setpriv", *account, f"--pdeathsig={death_signal}", "--"]


@contextmanager
def _folder(name: str) -> Iterator[Path]:
    """Create a temporary folder that other users can enter, unlike those of pytest."""
    folder = Path(tempfile.mkdtemp(prefix=f"gati-{name}-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _is_open(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
