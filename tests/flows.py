"""What tests of ingest share: a producer with schemas, an ingest in a thread or a process, patience."""

import io
import json
import os
import secrets
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import fastavro
import psycopg
import pytest
from confluent_kafka import Producer
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from psycopg import sql
from psycopg.conninfo import make_conninfo

from flowmaps.errors import TenantNotReady, UnknownTenant
from flowmaps.ingest import run_ingest
from flowmaps.settings import Settings, parse_settings
from flowmaps.tenants import Tenant, drop_tenant, list_tenants, load_tenant, migrate_master
from flowstack.kafka import Kafka
from flowstack.postgres import Postgres
from flowstack.registry import Registry

KEY = "a key for tests, long enough"
PATIENCE_SECONDS = 60.0

OLDER: dict[str, Any] = {
    "type": "record",
    "name": "DataPoint",
    "namespace": "org.akvo.flow",
    "fields": [
        {"name": "identifier", "type": "string"},
        {"name": "survey_id", "type": ["null", "long"]},
        {"name": "longitude", "type": ["null", "double"]},
        {"name": "latitude", "type": ["null", "double"]},
        {"name": "created_date_time", "type": "long"},
        {"name": "last_update_date_time", "type": "long"},
    ],
}
PUBLISHED: dict[str, Any] = {
    "type": "record",
    "name": "DataPoint",
    "namespace": "org.akvo.flow.avro",
    "fields": [
        {"name": "ambiguous", "type": "boolean"},
        {"name": "createdDateTime", "type": "long"},
        {"name": "displayName", "type": ["null", "string"]},
        {"name": "identifier", "type": "string"},
        {"name": "lastUpdateDateTime", "type": "long"},
        {"name": "latitude", "type": ["null", "double"]},
        {"name": "longitude", "type": ["null", "double"]},
        {"name": "surveyGroupId", "type": "long"},
        {"name": "surveyInstanceContrib", "type": {"type": "array", "items": "long"}},
    ],
}


def point(
    identifier: str, longitude: float | None = 4.9, latitude: float | None = 52.4, updated: int = 2
) -> dict[str, Any]:
    return {
        "identifier": identifier,
        "survey_id": 7,
        "longitude": longitude,
        "latitude": latitude,
        "created_date_time": 1,
        "last_update_date_time": updated,
    }


def eventually(question: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    """Return what *question* answers once that is true; a tenant that is not there yet is not yet true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if answer := question():
                return answer
        except (UnknownTenant, TenantNotReady, psycopg.OperationalError, urllib.error.URLError, ConnectionError):
            pass
        time.sleep(0.02)
    pytest.fail(f"not within {seconds:g} s: {what}")


@dataclass
class Flow:
    """What a test needs of the outside: a producer with schemas, a master database, and settings of an ingest."""

    environ: dict[str, str]
    producer: Producer
    registry: SchemaRegistryClient
    prefix: str
    schema_ids: dict[str, int] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        return parse_settings(self.environ)

    @property
    def master_url(self) -> str:
        return self.environ["FLOWMAPS_DATABASE_URL"]

    def topic(self, name: str) -> str:
        return f"{self.prefix}{name}"

    def encode(self, topic: str, record: dict[str, Any], schema: dict[str, Any] = OLDER) -> bytes:
        key = json.dumps([topic, schema])
        if key not in self.schema_ids:
            subject = f"{topic}-value" if schema is OLDER else f"{topic}-{secrets.token_hex(4)}-value"
            self.schema_ids[key] = self.registry.register_schema(subject, Schema(json.dumps(schema), "AVRO"))
        body = io.BytesIO()
        fastavro.schemaless_writer(body, schema, record)
        return b"\0" + self.schema_ids[key].to_bytes(4, "big") + body.getvalue()

    def send(self, topic: str, *records: dict[str, Any], schema: dict[str, Any] = OLDER, key: bytes = b"k") -> None:
        for record in records:
            self.producer.produce(topic, self.encode(topic, record, schema), key=key)
        assert self.producer.flush(30) == 0

    def send_raw(self, topic: str, *values: bytes | None, key: bytes = b"k") -> None:
        for value in values:
            self.producer.produce(topic, value, key=key)
        assert self.producer.flush(30) == 0

    def tenant(self, topic: str) -> Tenant:
        with psycopg.connect(self.master_url) as conn:
            return load_tenant(conn, self.settings, topic)

    def query(self, topic: str, statement: str, values: list[Any] | None = None) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.tenant(topic).conninfo_owner) as conn:
            return conn.execute(statement.encode(), values).fetchall()

    def next_offset(self, topic: str) -> int:
        """Return the sum of the topic's stored offsets."""
        return int(
            self.query(topic, "select coalesce(sum(next_offset), 0)::bigint from flowmaps.consumer_offset")[0][0]
        )

    def points(self, topic: str) -> dict[str, tuple[float, float]]:
        rows = self.query(topic, "select identifier, st_x(geom), st_y(geom) from datapoint")
        return {identifier: (longitude, latitude) for identifier, longitude, latitude in rows}

    def rejected(self, topic: str) -> list[str]:
        return [row[0] for row in self.query(topic, "select reason from flowmaps.rejected order by kafka_offset")]


@dataclass
class Running:
    port: int

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def value(self, metric: str, /, **labels: str) -> float | None:
        """Return one sample, whatever the order of its labels; None where there is none."""
        wanted = {f'{label}="{value}"' for label, value in labels.items()}
        for line in self.get("/metrics")[1].splitlines():
            head, _, value = line.rpartition(" ")
            if head.partition("{")[0] == metric and all(label in head for label in wanted):
                return float(value)
        return None

    def metric(self, line_start: str) -> float | None:
        lines = self.get("/metrics")[1].splitlines()
        values = [float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(line_start)]
        return values[0] if values else None


@contextmanager
def ingesting(flow: Flow, **more: str) -> Iterator[Running]:
    """Run ingest in a thread of this process; a failure of it fails the test."""
    stop, ports, failures = threading.Event(), list[int](), list[BaseException]()
    settings = parse_settings(flow.environ | more)

    def run() -> None:
        try:
            run_ingest(settings, stop=stop, announce=ports.append)
        except BaseException as error:  # noqa: BLE001 - handed to the test's thread
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        eventually(lambda: ports or failures, "metrics answer")
        yield Running(ports[0] if ports else 0)
    finally:
        stop.set()
        thread.join(timeout=30)
    assert not thread.is_alive()
    assert failures == []


def inherited() -> dict[str, str]:
    """Return this process's environment without settings: names that only tests know would stop the product."""
    return {name: value for name, value in os.environ.items() if not name.startswith("FLOWMAPS_")}


def flow_maps(flow: Flow, *words: str, status: int = 0) -> str:
    """Run the command line on the flow's settings and return what it printed; its exit status must be *status*."""
    done = subprocess.run(
        [sys.executable, "-m", "flowmaps", *words],
        env=inherited() | flow.environ | {"COLUMNS": "200", "FLOWMAPS_LOG_LEVEL": "warning"},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


@contextmanager
def ingest_process(flow: Flow) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "flowmaps", "ingest"],
        env=inherited() | flow.environ,
        cwd="/",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(timeout=30)


@contextmanager
def new_flow(postgres: Postgres, kafka: Kafka, registry: Registry) -> Iterator[Flow]:
    """Yield real services, and a master database, a consumer group and topics that only this test knows."""
    admin_url, name = postgres.url, f"master_{secrets.token_hex(4)}"
    with psycopg.connect(admin_url, autocommit=True) as conn:
        conn.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    prefix = f"t{secrets.token_hex(4)}."
    environ = {
        "FLOWMAPS_DATABASE_URL": make_conninfo(admin_url, dbname=name),
        "FLOWMAPS_SECRET_KEY": KEY,
        "FLOWMAPS_KAFKA_SERVERS": kafka.servers,
        "FLOWMAPS_KAFKA_GROUP_ID": f"group-{prefix}",
        "FLOWMAPS_KAFKA_TOPIC_PATTERN": rf"{prefix[:-1]}[.].*datapoint.*",
        "FLOWMAPS_KAFKA_METADATA_MAX_AGE_MS": "300",
        "FLOWMAPS_KAFKA_SESSION_TIMEOUT_MS": "6000",
        "FLOWMAPS_KAFKA_MAX_POLL_RECORDS": "50",
        "FLOWMAPS_REGISTRY_URL": registry.url,
        "FLOWMAPS_INGEST_METRICS_PORT": "0",
        "FLOWMAPS_INGEST_RETRY_SECONDS": "0.05,0.1,0.2",
    }
    migrate_master(environ["FLOWMAPS_DATABASE_URL"])
    producer = Producer({"bootstrap.servers": kafka.servers, "linger.ms": 1, "log_level": 0})
    with SchemaRegistryClient.new_client({"url": registry.url}) as client:
        yield Flow(environ, producer, client, prefix)
    settings = parse_settings(environ)
    with psycopg.connect(environ["FLOWMAPS_DATABASE_URL"]) as conn:
        topics = [tenant.topic for tenant in list_tenants(conn, settings)]
    for topic in topics:
        drop_tenant(settings, topic)
    with psycopg.connect(admin_url, autocommit=True) as conn:
        conn.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))
