"""Run `ingest`, `serve` and nginx on a stack's services, as they are deployed."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
from confluent_kafka import Producer
from confluent_kafka.schema_registry import SchemaRegistryClient

from flowmaps.errors import FlowMapsError, TenantNotReady, UnknownTenant
from flowmaps.producer import push_records
from flowmaps.settings import Settings, parse_settings
from flowmaps.tenants import Tenant, load_tenant
from flowstack.keycloak import WITH_ROLE, Keycloak
from flowstack.nginx import Nginx
from flowstack.processes import Server, free_port
from flowstack.stack import Stack

PATIENCE_SECONDS = 90.0


@dataclass(slots=True)
class Deployment:
    """Running processes; *url* is nginx's address, *environ* the settings that the processes share."""

    environ: Mapping[str, str] = field(repr=False)
    master_url: str = field(repr=False)
    prefix: str
    keycloak: Keycloak
    ingest: Server
    ingest_url: str
    serves: Sequence[Server]
    serve_urls: Sequence[str]
    metrics_urls: Sequence[str]
    front: Nginx
    client: httpx.Client
    _registry: SchemaRegistryClient
    _producer: Producer
    _token: str = field(default="", repr=False)
    _token_until: float = 0.0

    @property
    def url(self) -> str:
        return self.front.url

    @property
    def settings(self) -> Settings:
        return parse_settings(self.environ)

    @property
    def token(self) -> str:
        """An access token of a client with the role; Keycloak's live for five minutes."""
        if time.monotonic() >= self._token_until:
            self._token, self._token_until = self.keycloak.token(), time.monotonic() + 200
        return self._token

    def new_topic(self, name: str = "datapoint") -> str:
        """Return a topic that this deployment follows and nobody else uses."""
        return f"{self.prefix}{secrets.token_hex(3)}.{name}"

    def push(self, topic: str, records: Iterable[Mapping[str, Any]]) -> int:
        """Write records in the published schema and return how many Kafka took."""
        return push_records(self._producer, self._registry, ((topic, record) for record in records))

    def push_and_wait(self, topic: str, records: Sequence[Mapping[str, Any]]) -> None:
        """Write records and return when as many points are in the tenant's database."""
        self.push(topic, records)
        self.wait_for(topic, len(records))

    def wait_for(self, topic: str, count: int) -> None:
        """Return when the tenant has *count* points or more; raise `FlowMapsError` when it takes too long."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.count(topic) < count:
            if time.monotonic() > deadline:
                raise FlowMapsError(f"{topic} has {self.count(topic)} of {count} points, see {self.ingest.log}")
            time.sleep(0.05)

    def count(self, topic: str) -> int:
        try:
            with psycopg.connect(self.tenant(topic).conninfo_reader) as conn:
                row = conn.execute("select count(*) from datapoint").fetchone()
        except (UnknownTenant, TenantNotReady):
            return 0
        return int(row[0]) if row else 0

    def tenant(self, topic: str) -> Tenant:
        with psycopg.connect(self.master_url) as conn:
            return load_tenant(conn, self.settings, topic)

    def post_map(self, topic: object, document: object, *, token: str | None = None) -> httpx.Response:
        """Ask for a map through nginx and return the answer as it is."""
        token = self.token if token is None else token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return self.client.post(f"{self.url}/create-map", json={"topic": topic, "map": document}, headers=headers)

    def create_map(self, topic: str, document: object) -> dict[str, Any]:
        """Create a map and return the answer; raise where it is refused."""
        answer = self.post_map(topic, document)
        if answer.status_code != httpx.codes.OK:
            raise FlowMapsError(f"/create-map answers {answer.status_code}: {answer.text}")
        created: dict[str, Any] = answer.json()
        return created

    def get(self, path: str, **headers: str) -> httpx.Response:
        """Return nginx's answer to a path below its address."""
        return self.client.get(f"{self.url}{path}", headers=headers)

    def metric(self, name: str, /, **labels: str) -> float:
        """Return the sum of a metric's samples with these labels over all processes."""
        total = 0.0
        for url in (self.ingest_url, *self.metrics_urls):
            for line in self.client.get(f"{url}/metrics").text.splitlines():
                sample, _, value = line.rpartition(" ")
                is_wanted = sample.partition("{")[0] == name
                if is_wanted and all(f'{label}="{text}"' in sample for label, text in labels.items()):
                    total += float(value)
        return total


def flow_maps(command: str, folder: Path, settings: Mapping[str, str], ready_port: int, *, name: str = "") -> Server:
    """Return ``flow-maps serve`` or ``flow-maps ingest`` as a server; it is ready when ``/healthz`` says so."""

    def ready() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{ready_port}/healthz", timeout=2).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    return Server(
        name or command,
        [sys.executable, "-m", "flowmaps", command],
        folder=folder,
        environment=settings,
        ready=ready,
        seconds=60,
    )


@dataclass(frozen=True, slots=True)
class Serving:
    """A `serve` process alone, without nginx."""

    url: str
    metrics_url: str
    server: Server


@contextmanager
def serving(folder: Path, environ: Mapping[str, str]) -> Iterator[Serving]:
    """Yield a `serve` process with these settings."""
    folder.mkdir(parents=True, exist_ok=True)
    port, metrics = free_port(), free_port()
    settings = {**environ, "FLOWMAPS_SERVE_PORT": str(port), "FLOWMAPS_SERVE_METRICS_PORT": str(metrics)}
    server = flow_maps("serve", folder, settings, port)
    server.start()
    try:
        yield Serving(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{metrics}", server)
    finally:
        server.stop()


def settings_of(stack: Stack, *, master: str, prefix: str = "", map_store: str = "") -> dict[str, str]:
    """Return what `ingest` and `serve` share on a stack; with a *prefix* only topics that begin so are followed."""
    settings = {
        "FLOWMAPS_DATABASE_URL": stack.postgres.tls(master),
        "FLOWMAPS_SECRET_KEY": secrets.token_urlsafe(32),
        "FLOWMAPS_KAFKA_SERVERS": stack.kafka.servers,
        "FLOWMAPS_KAFKA_METADATA_MAX_AGE_MS": "1000",
        "FLOWMAPS_REGISTRY_URL": stack.registry.url,
        "FLOWMAPS_OIDC_ISSUER": stack.keycloak.issuer,
        "FLOWMAPS_VIEWER_TOKEN_URL": stack.keycloak.token_url,
        "FLOWMAPS_VIEWER_CLIENT_ID": WITH_ROLE,
    }
    if map_store:
        settings["FLOWMAPS_MAP_STORE"] = map_store
    if prefix:
        settings["FLOWMAPS_KAFKA_TOPIC_PATTERN"] = f"{prefix.replace('.', '[.]')}.*datapoint.*"
        settings["FLOWMAPS_KAFKA_GROUP_ID"] = f"group-{prefix}"
    return settings


@contextmanager
def deployed(
    stack: Stack,
    folder: Path,
    *,
    serves: int = 1,
    prefix: str = "",
    front_port: int | None = None,
    redis: bool = True,
    more: Mapping[str, str] | None = None,
) -> Iterator[Deployment]:
    """Yield a deployment with so many `serve` processes behind one nginx; *more* are further settings."""
    stack.prefetch("keycloak", "kafka", "registry", "postgres", *(["redis"] if redis else []))
    master = stack.postgres.new_database()
    common = settings_of(stack, master=master, prefix=prefix, map_store=stack.redis.url if redis else "")
    common |= dict(more or {})
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as opened:
        ingest_port = free_port()
        ports = [(free_port(), free_port()) for _ in range(serves)]
        ingest = flow_maps("ingest", folder, {**common, "FLOWMAPS_INGEST_METRICS_PORT": str(ingest_port)}, ingest_port)
        running = [
            flow_maps(
                "serve",
                folder,
                {**common, "FLOWMAPS_SERVE_PORT": str(port), "FLOWMAPS_SERVE_METRICS_PORT": str(metrics)},
                port,
                name=f"serve-{number}" if serves > 1 else "serve",
            )
            for number, (port, metrics) in enumerate(ports)
        ]
        for server in (ingest, *running):
            opened.callback(server.stop)
            server.start()
        front = Nginx(folder / "front", [f"127.0.0.1:{port}" for port, _ in ports], port=front_port)
        opened.callback(front.stop)
        front.start()
        # A record that is too large for us is not too large for Kafka.
        producer = {"bootstrap.servers": stack.kafka.servers, "linger.ms": 1, "message.max.bytes": 8_000_000}
        yield Deployment(
            environ=common,
            master_url=stack.postgres.url_of(master),
            prefix=prefix,
            keycloak=stack.keycloak,
            ingest=ingest,
            ingest_url=f"http://127.0.0.1:{ingest_port}",
            serves=running,
            serve_urls=[f"http://127.0.0.1:{port}" for port, _ in ports],
            metrics_urls=[f"http://127.0.0.1:{metrics}" for _, metrics in ports],
            front=front,
            client=opened.enter_context(httpx.Client(timeout=60)),
            _registry=opened.enter_context(SchemaRegistryClient.new_client({"url": stack.registry.url})),
            _producer=Producer(producer),
        )
