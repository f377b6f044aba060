"""The whole main job on one machine: embedded parts, real data, a map to look at.

The code paths are those of production; only the parts around them are small ones: a private PostgreSQL, the in-process
broker of librdkafka, an in-memory schema registry and a development issuer.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
from confluent_kafka import Producer
from confluent_kafka.schema_registry import SchemaRegistryClient

from flowmaps.demo.issuer import Issuer, development_issuer
from flowmaps.demo.places import CREDIT, TENANTS, read_records
from flowmaps.demo.postgres import free_port, private_postgres
from flowmaps.demo.system_packages import install_postgres, postgres_programs
from flowmaps.errors import ConfigurationError, FlowMapsError, InvalidSQL, TemporaryError, UnknownTenant
from flowmaps.ingest import run_ingest
from flowmaps.producer import push_records
from flowmaps.settings import Settings, parse_settings
from flowmaps.smoke import Credentials, create, fetch_token, sample_map
from flowmaps.telemetry import configure_logs
from flowmaps.tenants import load_tenant, translate_database_errors

DEFAULT_PORT = 8000
CLIENT_ID = "demo"
_READY_SECONDS = 60.0
_INGEST_SECONDS = 300.0
_STOP_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the command line says."""

    port: int | None
    data_dir: Path
    install: bool


@dataclass(frozen=True, slots=True)
class RunningDemo:
    """A demo that is up; *map_url* opens the viewer with a map in it."""

    url: str
    map_url: str
    topics: tuple[str, ...]
    credentials: Credentials
    kafka_servers: str


class Progress:
    """Tells the person at the terminal what happens."""

    def __init__(self, say: Callable[[str], None], count: Callable[[str, int, int], None]) -> None:
        self.say = say
        self.count = count


def default_data_dir() -> Path:
    """Return a folder that PostgreSQL can reach: it refuses to run as root, and a home may be closed to others."""
    if os.geteuid() == 0:
        return Path("/var/lib/flow-maps/demo")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "flow-maps" / "demo"


@contextmanager
def running_demo(options: DemoOptions, progress: Progress) -> Iterator[RunningDemo]:
    """Yield when the map is there; everything that was started is stopped at the end."""
    programs = postgres_programs()
    if programs is None:
        if not options.install:
            raise ConfigurationError(
                "PostgreSQL with PostGIS is missing, and --no-install forbids to install it; "
                "for example: apt-get install postgresql postgis"
            )
        programs = install_postgres(progress.say)
    with ExitStack() as stack:
        port = _port(options.port)
        _make_folder(options.data_dir)
        log = stack.enter_context((options.data_dir / "demo.log").open("a", encoding="utf-8"))
        progress.say(f"PostgreSQL with PostGIS, private, in {options.data_dir}")
        database_url = stack.enter_context(private_postgres(programs, options.data_dir))
        secret_key = _kept_secret(options.data_dir / "secret-key")
        issuer = stack.enter_context(
            development_issuer(
                CLIENT_ID,
                _kept_secret(options.data_dir / "client-secret"),
                audience="flow-maps",
                role="akvo_flow_maps_client",
            )
        )
        progress.say("broker and schema registry, in this process")
        producer = Producer({"test.mock.num.brokers": 1, "linger.ms": 5, "log_level": 0})
        servers = ",".join(
            f"{broker.host}:{broker.port}" for broker in producer.list_topics(timeout=10).brokers.values()
        )
        registry = SchemaRegistryClient.new_client({"url": "mock://demo"})
        url = f"http://127.0.0.1:{port}"
        environment = _environment(database_url, secret_key, issuer, servers, port)
        settings = parse_settings(environment)
        configure_logs(settings.log, stream=log)
        failure = stack.enter_context(_ingesting(settings, registry))
        stack.enter_context(_serving(environment, options.data_dir / "serve.log", url))
        progress.say(f"ingest and serve, logs in {options.data_dir}")
        _fill(settings, producer, registry, progress, failure)
        credentials = Credentials(
            token_url=issuer.token_url, client_id=issuer.client_id, client_secret=issuer.client_secret
        )
        topics = tuple(tenant.topic for tenant in TENANTS)
        with httpx.Client(timeout=30) as client:
            created = create(client, url, fetch_token(client, credentials), topics[0], sample_map())
        yield RunningDemo(url, f"{url}/viewer/#{created['layergroupid']}", topics, credentials, servers)


def _port(wanted: int | None) -> int:
    """Return the port to serve on: the one that was asked for, the usual one, or a free one where that is taken."""
    for port in (wanted,) if wanted else (DEFAULT_PORT, free_port()):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                if wanted:
                    raise ConfigurationError(f"port {port} is not free: {error.strerror}") from error
            else:
                return port
    raise ConfigurationError("no port is free")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"the folder {folder} cannot be made: {error.strerror}; choose another") from error


def _kept_secret(path: Path) -> str:
    """Return the secret kept in *path*, made the first time."""
    if not path.is_file():
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(32), encoding="ascii")
    return path.read_text(encoding="ascii").strip()


def _environment(database_url: str, secret_key: str, issuer: Issuer, servers: str, port: int) -> dict[str, str]:
    return {
        "FLOWMAPS_DATABASE_URL": database_url,
        "FLOWMAPS_SECRET_KEY": secret_key,
        "FLOWMAPS_KAFKA_SERVERS": servers,
        "FLOWMAPS_KAFKA_METADATA_MAX_AGE_MS": "1000",
        # The in-process broker waits this long for other members whenever topics appear; there are none.
        "FLOWMAPS_KAFKA_SESSION_TIMEOUT_MS": "6000",
        "FLOWMAPS_REGISTRY_URL": "mock://demo",
        "FLOWMAPS_OIDC_ISSUER": issuer.url,
        "FLOWMAPS_INGEST_METRICS_PORT": "0",
        "FLOWMAPS_SERVE_METRICS_PORT": "0",
        "FLOWMAPS_SERVE_PORT": str(port),
        "FLOWMAPS_VIEWER_TOKEN_URL": issuer.token_url,
        "FLOWMAPS_VIEWER_CLIENT_ID": issuer.client_id,
        "FLOWMAPS_VIEWER_TOPICS": ",".join(tenant.topic for tenant in TENANTS),
    }


@contextmanager
def _ingesting(settings: Settings, registry: SchemaRegistryClient) -> Iterator[Callable[[], BaseException | None]]:
    """Run ingest in a thread, as the broker lives in this process; yield a question for why it ended."""
    stop = threading.Event()
    ended: list[BaseException] = []

    def work() -> None:
        try:
            run_ingest(settings, stop=stop, registry_client=registry)
        except BaseException as error:  # noqa: BLE001  a thread's end: whoever waits for the data is told
            ended.append(error)

    thread = threading.Thread(target=work, name="ingest")
    thread.start()
    try:
        yield lambda: ended[0] if ended else None
    finally:
        stop.set()
        thread.join(_STOP_SECONDS)


@contextmanager
def _serving(environment: Mapping[str, str], log: Path, url: str) -> Iterator[None]:
    """Run ``flow-maps serve`` as a child; yield when it is ready."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FLOWMAPS_")}
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "flowmaps", "serve"],
            env={**inherited, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # Ctrl-C reaches the whole group of a terminal; this process stops its children itself, in order.
            start_new_session=True,
        )
    try:
        _wait_ready(process, url, log)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ConfigurationError(f"serve ended with status {process.returncode}, see {log}")
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/readyz", timeout=2).status_code == httpx.codes.OK:
                return
        time.sleep(0.1)
    raise ConfigurationError(f"serve is not ready after {_READY_SECONDS:.0f} seconds, see {log}")


def _fill(
    settings: Settings,
    producer: Producer,
    registry: SchemaRegistryClient,
    progress: Progress,
    failure: Callable[[], BaseException | None],
) -> None:
    """Push the places through the topics, and wait until they are in the tenants' databases."""
    records = list(read_records())
    expected = Counter(topic for topic, _ in records)
    if _stored(settings) >= expected:
        progress.say(f"{len(records)} datapoints of {len(expected)} tenants are there from an earlier run")
        return
    progress.say(CREDIT)
    push_records(producer, registry, records, announce=lambda done: progress.count("pushed", done, len(records)))
    deadline = time.monotonic() + _INGEST_SECONDS
    # More may be there: a folder that is kept can have got points of its user's own.
    while not (stored := _stored(settings)) >= expected:
        if (problem := failure()) is not None:
            raise FlowMapsError(f"ingest ended: {problem!r}") from problem
        if time.monotonic() > deadline:
            raise FlowMapsError(f"ingest is not done after {_INGEST_SECONDS:.0f} seconds: {dict(stored)}")
        progress.count("stored", stored.total(), expected.total())
        time.sleep(0.2)
    progress.count("stored", expected.total(), expected.total())


def _stored(settings: Settings) -> Counter[str]:
    """Return how many datapoints of each demo tenant are stored."""
    counts: Counter[str] = Counter()
    for tenant in TENANTS:
        # Before ingest has made them there are no tables (InvalidSQL), no tenant, or none that is ready.
        with contextlib.suppress(UnknownTenant, TemporaryError, InvalidSQL), translate_database_errors():
            counts[tenant.topic] = _count(settings, tenant.topic)
    return +counts


def _count(settings: Settings, topic: str) -> int:
    with psycopg.connect(settings.database.url.get_secret_value()) as master:
        tenant = load_tenant(master, settings, topic)
    with psycopg.connect(tenant.conninfo_reader) as conn:
        row: Any = conn.execute("select count(*) from datapoint").fetchone()
    return int(row[0])
