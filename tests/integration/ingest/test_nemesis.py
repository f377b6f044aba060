"""Whatever is killed, at any moment: in the end each table is the fold of its log, and nothing valid was rejected.

The log itself is the witness: it is read back by a plain consumer and folded by the definition.
"""

import contextlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fastavro
import psycopg
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.cimpl import NewTopic
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from flowmaps.errors import ConfigurationError
from flowmaps.settings import parse_settings
from flowmaps.tenants import load_tenant, migrate_master
from flows import KEY, OLDER, inherited
from flowstack.stack import Stack

FAULTS = 100 if os.environ.get("FLOWMAPS_TEST_NIGHTLY") == "1" else 10
SETTLE_SECONDS = 150.0
TOPICS = ("first.datapoint", "second.datapoint")
PARTITIONS = 2
CONSUMERS = 3
IDENTIFIERS = 300
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Fold = dict[str, tuple[Any, ...]]


@pytest.fixture(scope="module")
def doomed() -> Iterator[Stack]:
    """Services of this module's own, as they are killed under it."""
    with Stack() as stack:
        stack.prefetch("postgres", "kafka", "registry")
        yield stack


@dataclass
class Writer:
    """Writes known records all the time: inserts, updates, late and repeated ones, lost locations, tombstones, junk."""

    stack: Stack
    rng: random.Random
    schemas: dict[int, Any] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _lost: list[KafkaError] = field(default_factory=list)
    sent: int = 0

    def register(self) -> None:
        """Add an optional field to the schema, as producers do over time; while the registry is away, add none."""
        count = len(self.schemas)
        extra = [{"name": f"extra{n}", "type": ["null", "string"], "default": None} for n in range(count)]
        schema = OLDER | {"fields": [*OLDER["fields"], *extra]}
        with contextlib.suppress(SchemaRegistryError, OSError, *_http_errors()):
            with SchemaRegistryClient.new_client({"url": self.stack.registry.url, "max.retries": 0}) as client:
                number = client.register_schema("nemesis-value", Schema(json.dumps(schema), "AVRO"))
            self.schemas[number] = fastavro.parse_schema(schema)

    def run(self) -> None:
        producer = Producer({"bootstrap.servers": self.stack.kafka.servers, "linger.ms": 5, "log_level": 0})
        last: dict[str, bytes] = {}
        begun = time.monotonic()
        while not self._stop.is_set():
            if time.monotonic() - begun > 4 * len(self.schemas):
                self.register()
            for _ in range(10):
                topic, name = self.rng.choice(TOPICS), f"p{self.rng.randrange(IDENTIFIERS)}"
                value = self._value(name, last)
                producer.produce(topic, value, key=name.encode(), on_delivery=self._delivered)
                self.sent += 1
            producer.poll(0)
            self._stop.wait(0.04)
        assert producer.flush(60) == 0

    def _value(self, name: str, last: dict[str, bytes]) -> bytes | None:
        dice = self.rng.random()
        if dice < 0.03:
            return None
        if dice < 0.04:
            return self.rng.choice([b"junk", b"", b"\0\0\0\0\1\xff\xff"])
        if dice < 0.09 and name in last:
            return last[name]
        # Times go up, but a quarter of the records are late.
        updated = self.sent * 10 - (self.rng.randrange(20_000) if dice < 0.3 else 0)
        located = dice < 0.9
        record = {
            "identifier": name,
            "survey_id": self.rng.randrange(3),
            "longitude": self.rng.uniform(-180, 180) if located else None,
            "latitude": self.rng.uniform(-85, 85) if located else None,
            "created_date_time": 1,
            "last_update_date_time": max(0, updated),
        }
        number = self.rng.choice(list(self.schemas))
        body = io.BytesIO()
        fastavro.schemaless_writer(body, self.schemas[number], record)
        last[name] = b"\0" + number.to_bytes(4, "big") + body.getvalue()
        return last[name]

    def _delivered(self, error: KafkaError | None, _: object) -> None:
        if error is not None:
            self._lost.append(error)

    def stop(self, thread: threading.Thread) -> None:
        self._stop.set()
        thread.join(timeout=90)
        assert not thread.is_alive()
        assert self._lost == []


def _http_errors() -> tuple[type[Exception], ...]:
    from flowmaps.schemas import _AWAY

    return _AWAY


@dataclass
class Consumers:
    """Three ingest processes, each started again when it ends."""

    environ: Mapping[str, str]
    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, place: int | None = None) -> None:
        number = len(self.processes) if place is None else place
        with (self.folder / f"ingest-{number}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "flowmaps", "ingest"],
                env=inherited() | dict(self.environ),
                cwd="/",
                stdout=log,
                stderr=log,
            )
        if place is None:
            self.processes.append(process)
        else:
            self.processes[place] = process

    def mend(self) -> None:
        for place, process in enumerate(self.processes):
            if process.poll() is not None:
                self.start(place)

    def close(self) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait(timeout=30)


def _again(start: Callable[[], None]) -> None:
    """Start a service; one that was killed may leave children that hold on for a moment."""
    deadline = time.monotonic() + 60
    while True:
        try:
            start()
        except ConfigurationError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
        else:
            return


@dataclass
class Nemesis:
    """Does one fault after the other, each kind at least once."""

    stack: Stack
    consumers: Consumers
    rng: random.Random

    def run(self, faults: int) -> None:
        kinds = [
            self.kill_consumer,
            self.kill_postgres,
            self.freeze_consumer,
            self.kill_registry,
            self.kill_broker,
            self.stop_consumer,
            self.kill_all_consumers,
        ]
        chosen = [*kinds, *(self.rng.choice(kinds) for _ in range(faults - len(kinds)))]
        self.rng.shuffle(chosen)
        for fault in chosen:
            time.sleep(self.rng.uniform(0.2, 2.0))
            fault()
            self.consumers.mend()

    def _victim(self) -> subprocess.Popen[bytes]:
        return self.rng.choice(self.consumers.processes)

    def kill_consumer(self) -> None:
        self._end(self._victim(), signal.SIGKILL)

    def kill_all_consumers(self) -> None:
        for process in self.consumers.processes:
            self._end(process, signal.SIGKILL)

    def stop_consumer(self) -> None:
        self._end(self._victim(), signal.SIGTERM)

    def _end(self, process: subprocess.Popen[bytes], number: signal.Signals) -> None:
        process.send_signal(number)
        process.wait(timeout=60)

    def freeze_consumer(self) -> None:
        """Let a consumer sleep until its partitions are another's, and then go on as if nothing had been."""
        process = self._victim()
        process.send_signal(signal.SIGSTOP)
        time.sleep(7.5)
        process.send_signal(signal.SIGCONT)

    def kill_broker(self) -> None:
        self.stack.kafka.kill()
        time.sleep(self.rng.uniform(0, 1))
        _again(self.stack.kafka.start)

    def kill_postgres(self) -> None:
        self.stack.postgres.kill()
        time.sleep(self.rng.uniform(0, 1))
        _again(self.stack.postgres.start)

    def kill_registry(self) -> None:
        self.stack.registry.kill()
        time.sleep(self.rng.uniform(0, 1))
        _again(self.stack.registry.start)


@dataclass
class Log:
    """A topic as it is in Kafka: what its map should show, which records are junk, and where its partitions end."""

    fold: Fold
    junk: set[tuple[int, int]]
    ends: dict[int, int]


def read_log(stack: Stack, topic: str, schemas: Mapping[int, Any]) -> Log:
    consumer = Consumer({"bootstrap.servers": stack.kafka.servers, "group.id": "witness", "log_level": 0})
    try:
        places = [TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(PARTITIONS)]
        ends = {place.partition: consumer.get_watermark_offsets(place, timeout=30)[1] for place in places}
        consumer.assign(places)
        state: dict[str, list[Any]] = {}
        junk = set[tuple[int, int]]()
        left = sum(ends.values())
        while left:
            message = consumer.poll(30)
            assert message is not None
            assert message.error() is None
            left -= 1
            partition, offset = int(message.partition() or 0), int(message.offset() or 0)
            name = bytes(message.key() or b"").decode()
            value: Any = message.value()
            if value is None:
                if name in state:
                    state[name] = [state[name][0], offset, *state[name][2:4], None, None, {}]
                continue
            record = _decode(value, schemas)
            if record is None:
                junk.add((partition, offset))
                continue
            extras = {key: item for key, item in record.items() if key.startswith("extra")}
            updated = record["last_update_date_time"]
            if name not in state or (updated, offset) > tuple(state[name][:2]):
                state[name] = [
                    updated, offset, str(record["survey_id"]), 1, record["longitude"], record["latitude"], extras
                ]  # fmt: skip
    finally:
        consumer.close()
    fold = {
        name: (survey, created, updated, longitude, latitude, extras)
        for name, (updated, _, survey, created, longitude, latitude, extras) in state.items()
        if longitude is not None
    }
    return Log(fold, junk, ends)


def _decode(value: bytes, schemas: Mapping[int, Any]) -> dict[str, Any] | None:
    if len(value) < 5 or value[0] or int.from_bytes(value[1:5], "big") not in schemas:
        return None
    try:
        record: Any = fastavro.schemaless_reader(
            io.BytesIO(value[5:]), schemas[int.from_bytes(value[1:5], "big")], None
        )
    except (EOFError, IndexError, ValueError):
        return None
    return dict(record)


def table(conn: psycopg.Connection[Any]) -> Fold:
    rows = conn.execute(
        "select identifier, survey_id, created_date_time, last_update_date_time, st_x(geom), st_y(geom), properties"
        " from datapoint"
    ).fetchall()
    return {
        name: (survey, _ms(created), _ms(updated), longitude, latitude, properties)
        for name, survey, created, updated, longitude, latitude, properties in rows
    }


def _ms(time: datetime) -> int:
    return (time - EPOCH) // timedelta(milliseconds=1)


def offsets(conn: psycopg.Connection[Any]) -> dict[int, int]:
    return dict(conn.execute("select partition, next_offset from flowmaps.consumer_offset").fetchall())


@pytest.mark.timeout(240 + 12 * FAULTS)
def test_nothing_is_lost_and_nothing_doubled_whatever_is_killed(doomed: Stack, tmp_path: Path) -> None:
    seed = int(os.environ.get("FLOWMAPS_TEST_SEED", random.SystemRandom().randrange(10**6)))
    sys.stderr.write(f"FLOWMAPS_TEST_SEED={seed}\n")
    rng = random.Random(seed)
    master_url = doomed.postgres.url_of(doomed.postgres.new_database())
    environ = {
        "FLOWMAPS_DATABASE_URL": master_url,
        "FLOWMAPS_SECRET_KEY": KEY,
        "FLOWMAPS_KAFKA_SERVERS": doomed.kafka.servers,
        "FLOWMAPS_KAFKA_METADATA_MAX_AGE_MS": "1000",
        "FLOWMAPS_KAFKA_SESSION_TIMEOUT_MS": "6000",
        "FLOWMAPS_KAFKA_MAX_POLL_RECORDS": "50",
        "FLOWMAPS_REGISTRY_URL": doomed.registry.url,
        "FLOWMAPS_INGEST_METRICS_PORT": "0",
        "FLOWMAPS_INGEST_RETRY_SECONDS": "0.1,0.2,0.5",
    }
    migrate_master(master_url)
    admin = doomed.kafka.admin
    for future in admin.create_topics([NewTopic(topic, PARTITIONS) for topic in TOPICS]).values():
        future.result(timeout=30)
    writer = Writer(doomed, random.Random(seed + 1))
    writer.register()
    thread = threading.Thread(target=writer.run)
    consumers = Consumers(environ, tmp_path)
    try:
        for _ in range(CONSUMERS):
            consumers.start()
        thread.start()
        try:
            Nemesis(doomed, consumers, rng).run(FAULTS)
        finally:
            writer.stop(thread)
        settings = parse_settings(environ)
        with psycopg.connect(master_url) as master:
            tenants = {topic: load_tenant(master, settings, topic) for topic in TOPICS}
        logs = {topic: read_log(doomed, topic, writer.schemas) for topic in TOPICS}
        assert sum(sum(log.ends.values()) for log in logs.values()) >= writer.sent
        for topic, log in logs.items():
            with psycopg.connect(tenants[topic].conninfo_owner, autocommit=True) as conn:
                deadline = time.monotonic() + SETTLE_SECONDS
                while offsets(conn) != log.ends and time.monotonic() < deadline:
                    consumers.mend()
                    time.sleep(0.2)
                assert offsets(conn) == log.ends, (tmp_path / "ingest-0.log").read_text()[-3000:]
                assert table(conn) == log.fold
                rejected = conn.execute("select partition, kafka_offset from flowmaps.rejected").fetchall()
                assert sorted(rejected) == sorted(log.junk)
                assert conn.execute("select count(*) from flowmaps.gap").fetchone() == (0,)
                assert len(log.fold) > IDENTIFIERS / 2
    finally:
        consumers.close()
