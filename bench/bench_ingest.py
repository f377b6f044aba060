"""Ingest: datapoints per second beside the bare loop that limits it, and beside inserts row by row.

The limit does what no ingest can leave out, in one thread and with everything in memory: decode Avro, COPY, and the
guarded upsert into the same table with the same indexes. ``BENCH_INGEST_RECORDS`` sets
the size of the backlog.
"""

from __future__ import annotations

import io
import json
import logging
import os
import random
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastavro
import psycopg
import structlog
from confluent_kafka import Producer
from confluent_kafka.cimpl import NewTopic
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from bench.report import Report, percentile
from flowmaps.datapoint import parse_datapoint
from flowmaps.errors import TenantNotReady, UnknownTenant
from flowmaps.ingest.apply import apply_batch
from flowmaps.ingest.claims import Source, claim_partition
from flowmaps.ingest.kafka import LogRange
from flowmaps.ingest.plan import Record, plan_batch
from flowmaps.producer import datapoint_schema
from flowmaps.settings import parse_settings
from flowmaps.tenants import Tenant, load_tenant, migrate_master, provision_tenant
from flowstack.stack import Stack

RECORDS = int(os.environ.get("BENCH_INGEST_RECORDS", "200000"))
BATCH = 1000
ROW_BY_ROW = 5_000
RATE = 2_000
RATE_SECONDS = 15
IDLE_RECORDS = 40
PARTITIONS = 4
_COPY = (
    "copy limit_incoming (identifier, survey_id, created, updated, longitude, latitude, properties, kafka_offset)"
    " from stdin"
)
_UPSERT = """
insert into flowmaps.datapoint as d
    (identifier, survey_id, created_date_time, last_update_date_time, geom, properties, kafka_partition, kafka_offset)
select identifier, survey_id, to_timestamp(created / 1000.0), to_timestamp(updated / 1000.0),
    st_setsrid(st_makepoint(longitude, latitude), 4326), properties, 0, kafka_offset
from limit_incoming
on conflict (identifier) do update set survey_id = excluded.survey_id,
    created_date_time = excluded.created_date_time, last_update_date_time = excluded.last_update_date_time,
    geom = excluded.geom, properties = excluded.properties, kafka_offset = excluded.kafka_offset
where (excluded.last_update_date_time, excluded.kafka_offset) > (d.last_update_date_time, d.kafka_offset)
"""
_ROW = """
insert into flowmaps.datapoint as d
    (identifier, survey_id, created_date_time, last_update_date_time, geom, properties, kafka_partition, kafka_offset)
values (%s, %s, to_timestamp(%s / 1000.0), to_timestamp(%s / 1000.0), st_setsrid(st_makepoint(%s, %s), 4326), %s, 0, %s)
on conflict (identifier) do update set survey_id = excluded.survey_id,
    created_date_time = excluded.created_date_time, last_update_date_time = excluded.last_update_date_time,
    geom = excluded.geom, properties = excluded.properties, kafka_offset = excluded.kafka_offset
where (excluded.last_update_date_time, excluded.kafka_offset) > (d.last_update_date_time, d.kafka_offset)
"""
_NAMED = {"identifier", "surveyGroupId", "createdDateTime", "lastUpdateDateTime", "longitude", "latitude"}


@dataclass
class Place:
    """The services, and a master database for this run."""

    stack: Stack
    environ: dict[str, str]
    schema_id: int
    schema: Any

    def topic(self, partitions: int = PARTITIONS) -> str:
        name, admin = f"bench{secrets.token_hex(4)}.datapoint", self.stack.kafka.admin
        admin.create_topics([NewTopic(name, partitions)])[name].result(timeout=30)
        return name

    def new_tenant(self) -> Tenant:
        return provision_tenant(parse_settings(self.environ), f"bench{secrets.token_hex(4)}.datapoint")

    def tenant(self, topic: str) -> Tenant:
        with psycopg.connect(self.environ["FLOWMAPS_DATABASE_URL"]) as conn:
            return load_tenant(conn, parse_settings(self.environ), topic)

    def produce(self, topics: Sequence[str], values: Sequence[tuple[str, bytes]]) -> None:
        producer = Producer(
            {"bootstrap.servers": self.stack.kafka.servers, "linger.ms": 20, "compression.type": "lz4", "log_level": 0}
        )
        for number, (key, value) in enumerate(values):
            while True:
                try:
                    producer.produce(topics[number % len(topics)], value, key=key)
                    break
                except BufferError:
                    producer.poll(0.2)
            producer.poll(0)
        if producer.flush(120):
            raise RuntimeError("Kafka did not take the records")

    @contextmanager
    def ingest(self, pattern: str) -> Iterator[subprocess.Popen[bytes]]:
        environ = self.environ | {
            "FLOWMAPS_KAFKA_TOPIC_PATTERN": pattern,
            "FLOWMAPS_KAFKA_GROUP_ID": f"bench-{secrets.token_hex(4)}",
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "flowmaps", "ingest"],
            env=os.environ | environ,
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(timeout=60)


def run(report: Report) -> None:
    """Measure everything; about three minutes on two cores with 200,000 records."""
    with Stack() as stack:
        stack.prefetch("postgres", "kafka", "registry")
        logging.getLogger().setLevel(logging.WARNING)
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
        place = _prepare(stack)
        values = _values(place, RECORDS)
        part = values[: min(RECORDS, 50_000)]
        # The bare loop runs before, between and after, so that a machine that is busy otherwise slows both alike.
        before, phases = _limit(place, part)
        rows = _row_by_row(place, values[:ROW_BY_ROW])
        one = _catch_up(place, values, tenants=1)
        between, _ = _limit(place, part)
        ten = _catch_up(place, values, tenants=10)
        after, _ = _limit(place, part)
        report.add("bare loop (decode, COPY, upsert)", (before + between + after) / 3, "datapoints/s")
        report.add("row by row, as the system before", rows, "datapoints/s", limit="bare loop", ratio=rows / before)
        for name, found, limit in (
            ("one tenant", one, (before + between) / 2),
            ("ten tenants", ten, (between + after) / 2),
        ):
            report.add(f"ingest into {name}", found.rate, "datapoints/s", limit="bare loop", ratio=found.rate / limit)
            report.add(f"ingest into {name}", found.rate, "datapoints/s", limit="row by row", ratio=found.rate / rows)
            report.add(f"catch-up of {RECORDS} into {name}, from its start", found.seconds, "s")
            report.add(f"processor of ingest, {name}", found.cpu_seconds / found.seconds, "cores")
            report.add(f"memory of ingest, {name}", found.peak_mib, "MiB")
        report.add("stored datapoint with its indexes", one.bytes_each, "bytes")
        for name, seconds in phases.items():
            report.add(f"bare loop: {name}", seconds * 1e6, "us/datapoint")
        for name, seconds in _phases(place, values[:20_000]).items():
            report.add(f"ingest: {name}", seconds * 1e6, "us/datapoint")
        busy = _latencies(place, values, RATE, RATE * RATE_SECONDS)
        idle = _latencies(place, values, 4, IDLE_RECORDS)
        for name, times in ((f"at {RATE} records/s", busy), ("idle", idle)):
            for percent in (50, 95):
                report.add(f"produce to committed, {name}, p{percent}", percentile(times, percent) * 1000, "ms")


def _prepare(stack: Stack) -> Place:
    environ = {
        "FLOWMAPS_DATABASE_URL": stack.postgres.url_of(stack.postgres.new_database()),
        "FLOWMAPS_SECRET_KEY": "a key for figures, long enough",
        "FLOWMAPS_KAFKA_SERVERS": stack.kafka.servers,
        "FLOWMAPS_REGISTRY_URL": stack.registry.url,
        "FLOWMAPS_KAFKA_METADATA_MAX_AGE_MS": "1000",
        "FLOWMAPS_INGEST_METRICS_PORT": "0",
    }
    migrate_master(environ["FLOWMAPS_DATABASE_URL"])
    schema = datapoint_schema()
    with SchemaRegistryClient.new_client({"url": stack.registry.url}) as client:
        number = client.register_schema("bench-value", Schema(json.dumps(schema), "AVRO"))
    return Place(stack, environ, number, fastavro.parse_schema(schema))


def _values(place: Place, count: int) -> list[tuple[str, bytes]]:
    """Return keys and values: records as survey applications write them, one in ten an update of an earlier one."""
    rng = random.Random(1)
    values: list[tuple[str, bytes]] = []
    for number in range(count):
        name = f"{rng.getrandbits(64):016x}" if number < 10 or rng.random() < 0.9 else values[rng.randrange(number)][0]
        record = {
            "identifier": name,
            "latitude": rng.uniform(-80, 80),
            "longitude": rng.uniform(-180, 180),
            "surveyGroupId": rng.randrange(100),
            "createdDateTime": 1_600_000_000_000 + number,
            "lastUpdateDateTime": 1_600_000_000_000 + number * 10,
            "lastSurveyedDate": 1_600_000_000_000,
            "lastSurveyalInstanceId": number,
            "ambiguous": False,
            "surveyInstanceContrib": [number],
            "displayName": f"Water point {number}",
            "countryCode": "KE",
            "currentStatus": rng.choice(["working", "broken", "unknown"]),
            "organization": "an organization",
            "sublevel1": "Nyanza",
            "sublevel2": "Kisumu",
            "creationSurveyId": 7,
            "geocells": None,
        }
        body = io.BytesIO()
        fastavro.schemaless_writer(body, place.schema, record)
        values.append((name, b"\0" + place.schema_id.to_bytes(4, "big") + body.getvalue()))
    return values


def _columns(place: Place, offset: int, value: bytes) -> tuple[Any, ...]:
    record: Any = fastavro.schemaless_reader(io.BytesIO(value[5:]), place.schema, None)
    left = json.dumps({name: item for name, item in record.items() if name not in _NAMED}, ensure_ascii=False)
    return (
        record["identifier"],
        str(record["surveyGroupId"]),
        record["createdDateTime"],
        record["lastUpdateDateTime"],
        record["longitude"],
        record["latitude"],
        left,
        offset,
    )


def _limit(place: Place, values: Sequence[tuple[str, bytes]]) -> tuple[float, dict[str, float]]:
    """Return datapoints per second of the bare loop, and seconds per datapoint of its parts."""
    spent = {"decode": 0.0, "COPY": 0.0, "upsert and commit": 0.0}
    with psycopg.connect(place.new_tenant().conninfo_owner) as conn:
        conn.execute(
            "create temporary table limit_incoming (identifier text, survey_id text, created float8, updated float8,"
            " longitude float8, latitude float8, properties jsonb, kafka_offset bigint) on commit delete rows"
        )
        conn.commit()
        begun = time.perf_counter()
        for start in range(0, len(values), BATCH):
            at = time.perf_counter()
            newest: dict[str, tuple[Any, ...]] = {}
            for offset, (_, value) in enumerate(values[start : start + BATCH], start):
                row = _columns(place, offset, value)
                newest[row[0]] = row
            spent["decode"] += time.perf_counter() - at
            at = time.perf_counter()
            with conn.cursor() as cursor:
                with cursor.copy(_COPY) as copy:
                    for row in newest.values():
                        copy.write_row(row)
                spent["COPY"] += time.perf_counter() - at
                at = time.perf_counter()
                cursor.execute(_UPSERT)
            conn.commit()
            spent["upsert and commit"] += time.perf_counter() - at
        seconds = time.perf_counter() - begun
    return len(values) / seconds, {name: part / len(values) for name, part in spent.items()}


def _row_by_row(place: Place, values: Sequence[tuple[str, bytes]]) -> float:
    """Return datapoints per second of one INSERT each, a hundred in a transaction."""
    with psycopg.connect(place.new_tenant().conninfo_owner) as conn:
        begun = time.perf_counter()
        for offset, (_, value) in enumerate(values):
            name, survey, created, updated, longitude, latitude, left, _ = _columns(place, offset, value)
            conn.execute(_ROW, [name, survey, created, updated, longitude, latitude, left, offset])
            if offset % 100 == 99:
                conn.commit()
        conn.commit()
        return len(values) / (time.perf_counter() - begun)


@dataclass(frozen=True)
class CatchUp:
    """How long a backlog took, from the start of the process, and at what rate it went once it went."""

    rate: float
    seconds: float
    cpu_seconds: float
    peak_mib: float
    bytes_each: float


def _catch_up(place: Place, values: Sequence[tuple[str, bytes]], *, tenants: int) -> CatchUp:
    topics = [place.topic() for _ in range(tenants)]
    place.produce(topics, values)
    pattern = "|".join(topic.replace(".", "[.]") for topic in topics)
    begun = time.perf_counter()
    marks: list[tuple[float, int]] = []
    with place.ingest(pattern) as process:
        connections = [psycopg.connect(_until(place, topic).conninfo_owner, autocommit=True) for topic in topics]
        try:
            done = 0
            while done < len(values):
                if process.poll() is not None:
                    raise RuntimeError(f"ingest ended with status {process.returncode}")
                done = sum(_read(conn) for conn in connections)
                marks.append((time.perf_counter(), done))
                time.sleep(0.05)
            cpu_seconds, peak_mib = _used(process.pid)
            row: Any = (
                connections[0]
                .execute(
                    "select pg_total_relation_size('flowmaps.datapoint')::float8 / count(*) from flowmaps.datapoint"
                )
                .fetchone()
            )
        finally:
            for conn in connections:
                conn.close()
    first = next((mark for mark in marks if mark[1] > 0), marks[-1])
    rate = (len(values) - first[1]) / max(1e-6, marks[-1][0] - first[0])
    return CatchUp(rate, marks[-1][0] - begun, cpu_seconds, peak_mib, float(row[0]))


def _until(place: Place, topic: str) -> Tenant:
    deadline = time.monotonic() + 60
    while True:
        try:
            return place.tenant(topic)
        except (UnknownTenant, TenantNotReady):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _read(conn: psycopg.Connection[Any]) -> int:
    row: Any = conn.execute("select coalesce(sum(next_offset), 0)::bigint from flowmaps.consumer_offset").fetchone()
    return int(row[0])


def _used(pid: int) -> tuple[float, float]:
    """Return the processor seconds of a process so far, and its largest memory in MiB."""
    folder = Path(f"/proc/{pid}")
    fields = (folder / "stat").read_text(encoding="ascii").rpartition(")")[2].split()
    status = (folder / "status").read_text(encoding="ascii").splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), peak / 1024


def _phases(place: Place, values: Sequence[tuple[str, bytes]]) -> dict[str, float]:
    """Return seconds per datapoint of what a batch of ingest consists of, one part after the other."""
    from flowmaps.schemas import SchemaRegistry

    spent = {"decode": 0.0, "parse and check": 0.0, "plan, all in all": 0.0, "apply: COPY, upsert, commit": 0.0}
    source = Source("bench", "bench", "bench")
    settings = parse_settings(place.environ)
    with (
        psycopg.connect(place.new_tenant().conninfo_owner, autocommit=True) as conn,
        SchemaRegistry(settings.registry) as registry,
    ):
        claim = claim_partition(conn, source, 0, LogRange(0, len(values))).claim
        for start in range(0, len(values), BATCH):
            part = values[start : start + BATCH]
            records = [Record(0, offset, key.encode(), value, 0) for offset, (key, value) in enumerate(part, start)]
            at = time.perf_counter()
            decoded = [registry.decode(value) for _, value in part]
            spent["decode"] += time.perf_counter() - at
            at = time.perf_counter()
            for item in decoded:
                parse_datapoint(item)
            spent["parse and check"] += time.perf_counter() - at
            at = time.perf_counter()
            plan = plan_batch(records, registry.decode)
            spent["plan, all in all"] += time.perf_counter() - at
            at = time.perf_counter()
            apply_batch(conn, source, plan, {0: claim}, keep_bytes=1024)
            spent["apply: COPY, upsert, commit"] += time.perf_counter() - at
            claim = type(claim)(plan.next_offsets[0], claim.fence, claim.log)
    return {name: part / len(values) for name, part in spent.items()}


def _latencies(place: Place, values: Sequence[tuple[str, bytes]], rate: float, count: int) -> list[float]:
    """Return, for records written at *rate* a second, the seconds from then until their offset was committed."""
    topic = place.topic(partitions=1)
    place.produce([topic], values[:1])
    with place.ingest(topic.replace(".", "[.]")):
        tenant = _until(place, topic)
        seen: list[tuple[float, int]] = []
        stop = threading.Event()

        def watch() -> None:
            with psycopg.connect(tenant.conninfo_owner, autocommit=True) as conn:
                while not stop.is_set():
                    done = _read(conn)
                    seen.append((time.perf_counter(), done))
                    time.sleep(0.004)

        thread = threading.Thread(target=watch)
        thread.start()
        while not seen or seen[-1][1] < 1:
            time.sleep(0.02)
        producer = Producer({"bootstrap.servers": place.stack.kafka.servers, "linger.ms": 1, "log_level": 0})
        sent = []
        begun = time.perf_counter()
        for number in range(count):
            ahead = begun + number / rate - time.perf_counter()
            if ahead > 0.001:
                time.sleep(ahead)
            sent.append(time.perf_counter())
            key, value = values[number % len(values)]
            producer.produce(topic, value, key=key)
            producer.poll(0)
        producer.flush(60)
        deadline = time.monotonic() + 60
        while seen[-1][1] < count + 1 and time.monotonic() < deadline:
            time.sleep(0.02)
        stop.set()
        thread.join()
    times, place_in_seen = [], 0
    for number, at in enumerate(sent):
        while seen[place_in_seen][1] < number + 2:
            place_in_seen += 1
        times.append(seen[place_in_seen][0] - at)
    return times
