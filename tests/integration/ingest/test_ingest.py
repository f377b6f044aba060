"""Records go from Kafka into tenant databases: each once, in the right one, whatever dies or is malformed."""

import json
import math
import random
import secrets
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import psycopg
import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.cimpl import NewTopic
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from flowmaps.errors import BrokerUnavailable, DatabaseUnavailable, UnknownTenant
from flowmaps.ingest.apply import apply_batch
from flowmaps.ingest.claims import Claim, FencedError, Source, claim_partition
from flowmaps.ingest.kafka import LogRange, Observer
from flowmaps.ingest.plan import Record, plan_batch
from flowmaps.settings import parse_settings
from flowmaps.tenants import Tenant, drop_tenant, load_tenant, migrate_master, provision_tenant
from flows import KEY, PUBLISHED, Flow, eventually, ingest_process, ingesting, point
from flowstack.kafka import Kafka
from flowstack.postgres import Postgres
from flowstack.registry import Registry


def test_records_of_two_topics_never_mix(flow: Flow) -> None:
    first, second = flow.topic("one.datapoint"), flow.topic("one-datapoint")
    with ingesting(flow):
        flow.send(first, point("a", 1.0, 2.0))
        flow.send(second, point("b", 3.0, 4.0))
        eventually(lambda: flow.points(first) and flow.points(second), "both points are stored")
        assert flow.points(first) == {"a": (1.0, 2.0)}
        assert flow.points(second) == {"b": (3.0, 4.0)}


def test_times_and_other_fields_land_where_they_belong(flow: Flow) -> None:
    topic = flow.topic("datapoint")
    record = {
        "ambiguous": False,
        "createdDateTime": 1_000,
        "displayName": "Well",
        "identifier": "a",
        "lastUpdateDateTime": 61_000,
        "latitude": 1.0,
        "longitude": 2.0,
        "surveyGroupId": 42,
        "surveyInstanceContrib": [1],
    }
    with ingesting(flow):
        flow.send(topic, record, schema=PUBLISHED)
        eventually(lambda: flow.points(topic), "the point is stored")
    rows = flow.query(
        topic,
        "select survey_id, extract(epoch from created_date_time), extract(epoch from last_update_date_time),"
        " properties from datapoint",
    )
    properties = {"ambiguous": False, "displayName": "Well", "surveyInstanceContrib": [1]}
    assert rows == [("42", 1, 61, properties)]


def test_metrics_tell_what_happened(flow: Flow) -> None:
    topic = flow.topic("datapoint")
    with ingesting(flow) as running:
        flow.send(topic, point("a"), point("b", None, None))
        flow.send_raw(topic, b"junk")

        def counted() -> bool:
            # Before the topic has a tenant some of them may be read, and are then read again.
            return (running.metric(f'datapoint_process{{name="upsert",topic="{topic}"}}') or 0) >= 1

        eventually(counted, "three records are counted")
        assert running.metric(f'datapoint_process{{name="upsert",topic="{topic}"}}') == 1
        assert running.metric(f'datapoint_process{{name="discarded",topic="{topic}"}}') == 2
        assert running.metric(f'flowmaps_rejected_records_total{{reason="framing",topic="{topic}"}}') == 1
        assert running.metric('fn_runs_total{batch_size="",fn="create-tenant-db",result="success"')
        assert f'fn="upsert-datapoints",result="success",topic="{topic}"' in running.get("/metrics")[1]
        eventually(lambda: running.metric(f'flowmaps_freshness_seconds{{topic="{topic}"}}') == 0, "the topic is fresh")
        lag = f'flowmaps_consumer_lag{{partition="0",topic="{topic}"}}'
        eventually(lambda: running.metric(lag) == 0, "nothing is left to read")
        assert running.get("/healthz")[0] == 200
        eventually(lambda: running.get("/readyz")[0] == 200, "ready")
        assert running.get("/nothing")[0] == 404


ODD: dict[str, tuple[Callable[[Flow, str], bytes | None], str]] = {
    "nan": (lambda flow, topic: flow.encode(topic, point("bad", math.nan, 1.0)), "invalid-coordinates"),
    "infinite": (lambda flow, topic: flow.encode(topic, point("bad", 1.0, math.inf)), "invalid-coordinates"),
    "out-of-range": (lambda flow, topic: flow.encode(topic, point("bad", 181.0, 1.0)), "invalid-coordinates"),
    "megabyte": (lambda flow, topic: flow.encode(topic, point("x" * 900_000)), "too-large"),
    "nul": (lambda flow, topic: flow.encode(topic, point("a\0b")), "nul-character"),
    "far-future": (lambda flow, topic: flow.encode(topic, point("bad", updated=2**62)), "invalid-time"),
    "no-survey": (lambda flow, topic: flow.encode(topic, point("bad") | {"survey_id": None}), "missing-survey"),
    "json": (lambda *_: b'{"identifier": "bad"}', "framing"),
    "empty": (lambda *_: b"", "framing"),
    "unknown-schema": (lambda *_: b"\0\x7f\xff\xff\xf0" + b"x", "unknown-schema"),
    "trailing": (lambda flow, topic: flow.encode(topic, point("bad")) + b"\0", "decode"),
    "cut": (lambda flow, topic: flow.encode(topic, point("bad"))[:-3], "decode"),
    "wrong-schema": (
        lambda flow, topic: flow.encode(
            topic, {"name": "x"}, {"type": "record", "name": "Other", "fields": [{"name": "name", "type": "string"}]}
        ),
        "missing-identifier",
    ),
}


def test_bad_records_are_kept_with_their_reason_and_the_rest_goes_on(flow: Flow) -> None:
    topic = flow.topic("datapoint")
    values = {name: make(flow, topic) for name, (make, _) in ODD.items()}
    with ingesting(flow):
        flow.send(topic, point("good"))
        for value in values.values():
            flow.send_raw(topic, value, key=b"k")
        flow.send(topic, point("last"))
        eventually(lambda: len(flow.points(topic)) == 2, "both good points are stored")
    assert sorted(flow.points(topic)) == ["good", "last"]
    assert flow.rejected(topic) == [reason for _, reason in ODD.values()]
    kept = flow.query(topic, "select value, key, value_bytes from flowmaps.rejected order by kafka_offset")
    assert [(bytes(row[0]), bytes(row[1]), row[2]) for row in kept] == [
        (value, b"k", len(value or b"")) for value in values.values()
    ]


def test_a_topic_of_bad_records_gets_no_database_and_loses_none(flow: Flow) -> None:
    topic = flow.topic("datapoint")
    with ingesting(flow):
        flow.send_raw(topic, b"junk")

        def kept() -> list[tuple[Any, ...]]:
            with psycopg.connect(flow.master_url) as conn:
                return conn.execute("select reason from flowmaps.rejected where topic = %s", [topic]).fetchall()

        assert eventually(kept, "the record is kept in the master database") == [("framing",)]
        with pytest.raises(UnknownTenant):
            flow.tenant(topic)


@pytest.mark.parametrize("name", ["a_b-c.datapoint.D", "datapoint" + "x" * 200, "..datapoint__", "DATAPOINT.datapoint"])
def test_any_legal_topic_name_works(flow: Flow, name: str) -> None:
    topic = flow.topic(name)
    with ingesting(flow):
        flow.send(topic, point("a"))
        eventually(lambda: flow.points(topic), "the point is stored")


def test_only_whole_names_that_fit_the_pattern_are_followed(flow: Flow) -> None:
    other, followed = f"not-{flow.topic('datapoint')}", flow.topic("datapoint")
    with ingesting(flow):
        flow.send(other, point("a"))
        flow.send(followed, point("b"))
        eventually(lambda: flow.points(followed), "the followed topic's point is stored")
        with pytest.raises(UnknownTenant):
            flow.tenant(other)


def test_moves_late_records_and_lost_locations(flow: Flow) -> None:
    topic = flow.topic("datapoint")
    with ingesting(flow):
        flow.send(
            topic, point("moved", 1.0, 1.0, updated=1), point("late", 1.0, 1.0, updated=9), point("lost", updated=5)
        )
        eventually(lambda: len(flow.points(topic)) == 3, "three points are stored")
        flow.send(
            topic,
            point("moved", 2.0, 2.0, updated=2),
            point("late", 3.0, 3.0, updated=8),
            point("lost", None, None, updated=6),
            point("lost", 3.0, 3.0, updated=5),
            point("end"),
        )
        eventually(lambda: "end" in flow.points(topic), "the last point is stored")
    assert flow.points(topic) == {"moved": (2.0, 2.0), "late": (1.0, 1.0), "end": (4.9, 52.4)}


def test_a_tombstone_removes_the_point_of_its_key(flow: Flow) -> None:
    topic = flow.topic("datapoint")
    with ingesting(flow):
        flow.send(topic, point("gone"), point("stays"), key=b"gone")
        eventually(lambda: len(flow.points(topic)) == 2, "both points are stored")
        flow.send_raw(topic, None, key=b"gone")
        flow.send_raw(topic, None, key=(7).to_bytes(8, "big"))
        eventually(lambda: list(flow.points(topic)) == ["stays"], "the point is removed")


def test_a_batch_that_changes_nothing_leaves_the_time_of_the_last_change(flow: Flow) -> None:
    topic = flow.topic("datapoint")

    def last_change() -> Any:
        return flow.query(topic, "select last_change from flowmaps.change")[0][0]

    def read() -> Any:
        return flow.query(topic, "select sum(next_offset) from flowmaps.consumer_offset")[0][0]

    with ingesting(flow):
        flow.send(topic, point("a", updated=5))
        eventually(lambda: flow.points(topic), "the point is stored")
        before, stood = last_change(), read()
        flow.send(topic, point("a", updated=4))
        eventually(lambda: read() == stood + 1, "the late record is read")
        assert last_change() == before
        flow.send(topic, point("a", updated=6))
        eventually(lambda: last_change() > before, "the time moves")


def _more_points(flow: Flow, topic: str, count: int) -> bool:
    return len(flow.points(topic)) > count


def test_an_ingest_that_is_killed_resumes_without_loss_or_repetition(flow: Flow) -> None:
    topic = flow.topic("datapoint")
    rng = random.Random(7)
    expected: dict[str, tuple[float, float]] = {}
    with ingest_process(flow) as process:
        flow.send(topic, point("first", 0.0, 0.0))
        expected["first"] = (0.0, 0.0)
        eventually(lambda: flow.points(topic), "the first point is stored")
        process.send_signal(signal.SIGKILL)
    for attempt in range(3):
        with ingest_process(flow) as process:
            for number in range(400):
                place = (rng.uniform(-180, 180), rng.uniform(-90, 90))
                name = f"p{rng.randrange(300)}"
                expected[name] = place
                flow.producer.produce(
                    topic, flow.encode(topic, point(name, *place, updated=10 + attempt * 1000 + number))
                )
                flow.producer.poll(0)
            assert flow.producer.flush(30) == 0
            enough = attempt * 50 + 1
            eventually(partial(_more_points, flow, topic, enough), "some of it is stored")
            process.send_signal(signal.SIGKILL)
    with ingesting(flow):
        eventually(lambda: flow.points(topic) == expected, "the table is the fold of the log")
        assert flow.rejected(topic) == []
        stored = flow.query(topic, "select sum(next_offset) from flowmaps.consumer_offset")
        assert stored == [(1201,)]


def test_two_ingests_share_topics_and_one_takes_over(flow: Flow) -> None:
    topics = [flow.topic(f"{number}.datapoint") for number in range(4)]
    with ingesting(flow):
        with ingest_process(flow) as process:
            for number in range(20):
                for topic in topics:
                    flow.send(topic, point(f"p{number}"))
            eventually(lambda: all(flow.points(topic) for topic in topics), "each topic has points")
            process.send_signal(signal.SIGKILL)
        flow.send(topics[0], point("end"))
        eventually(
            lambda: len(flow.points(topics[0])) == 21 and all(len(flow.points(topic)) == 20 for topic in topics[1:]),
            "all points are stored",
        )


def test_a_broken_tenant_does_not_hold_up_another_and_comes_back(flow: Flow) -> None:
    broken, sound = flow.topic("broken.datapoint"), flow.topic("sound.datapoint")
    with ingesting(flow) as running:
        flow.send(broken, point("a"))
        flow.send(sound, point("a"))
        eventually(lambda: flow.points(broken) and flow.points(sound), "both points are stored")
        database = flow.tenant(broken).database
        allow = sql.SQL("alter database {} allow_connections {}")
        with psycopg.connect(flow.master_url, autocommit=True) as conn:
            conn.execute(allow.format(sql.Identifier(database), sql.SQL("false")))
            conn.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [database])
            flow.send(broken, point("b"))
            eventually(lambda: running.metric(f'flowmaps_topic_paused{{topic="{broken}"}}') == 1, "the topic waits")
            flow.send(sound, point("b"))
            eventually(lambda: len(flow.points(sound)) == 2, "the sound topic goes on")
            conn.execute(allow.format(sql.Identifier(database), sql.SQL("true")))
        eventually(lambda: len(flow.points(broken)) == 2, "the broken topic comes back by itself")
        assert flow.rejected(broken) == []


def test_an_outage_of_the_registry_rejects_nothing(flow: Flow) -> None:
    topic = flow.topic("datapoint")
    value = flow.encode(topic, point("a"))
    with ingesting(flow, FLOWMAPS_REGISTRY_URL="http://127.0.0.1:1") as running:
        flow.send_raw(topic, value)
        eventually(lambda: running.metric(f'flowmaps_topic_paused{{topic="{topic}"}}') == 1, "the topic waits")
    with ingesting(flow):
        eventually(lambda: flow.points(topic), "the point is stored")
        assert flow.rejected(topic) == []


def _lands(flow: Flow, **more: str) -> None:
    topic = flow.topic("datapoint")
    flow.send(topic, point("a"))
    with ingesting(flow, **more):
        eventually(lambda: flow.points(topic), "the point is stored")
        assert flow.rejected(topic) == []


def test_kafka_over_tls_with_a_client_certificate(flow: Flow, kafka: Kafka) -> None:
    _lands(flow, **kafka.tls_settings)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
def test_kafka_over_tls_with_a_password(flow: Flow, kafka: Kafka, mechanism: str) -> None:
    _lands(flow, **kafka.sasl_settings(mechanism))


def test_kafka_refuses_who_has_no_certificate_or_a_wrong_password(flow: Flow, kafka: Kafka) -> None:
    without = {name: "" for name in kafka.tls_settings if "CERTIFICATE_FILE" in name or "KEY_FILE" in name}
    wrong = {"FLOWMAPS_KAFKA_SASL_PASSWORD": "wrong"}

    def refused(environ: dict[str, str]) -> bool:
        with Observer(parse_settings(flow.environ | environ)) as observer:
            try:
                observer.cluster_id()
            except BrokerUnavailable:
                return True
        return False

    with ThreadPoolExecutor(2) as pool:
        answers = pool.map(refused, [kafka.tls_settings | without, kafka.sasl_settings("PLAIN") | wrong])
    assert list(answers) == [True, True]


def test_registry_over_tls_with_a_client_certificate(flow: Flow, registry: Registry) -> None:
    _lands(flow, **registry.tls_settings)


def test_a_registry_that_refuses_us_rejects_nothing(flow: Flow, registry: Registry) -> None:
    topic = flow.topic("datapoint")
    flow.send(topic, point("a"))
    without = {name: "" for name in registry.tls_settings if "CERTIFICATE_FILE" in name or "KEY_FILE" in name}
    with ingesting(flow, **(registry.tls_settings | without)) as running:
        eventually(lambda: running.metric(f'flowmaps_topic_paused{{topic="{topic}"}}') == 1, "the topic waits")
        assert "400" in json.loads(running.get("/readyz")[1])["waiting_topics"][topic]
        with pytest.raises(UnknownTenant):
            flow.tenant(topic)


def test_postgresql_over_verified_tls(flow: Flow, postgres: Postgres) -> None:
    database = str(conninfo_to_dict(flow.master_url)["dbname"])
    _lands(flow, FLOWMAPS_DATABASE_URL=postgres.tls(database))
    tls = parse_settings(flow.environ | {"FLOWMAPS_DATABASE_URL": postgres.tls(database)})
    with psycopg.connect(flow.master_url) as conn:
        found = load_tenant(conn, tls, flow.topic("datapoint"))
    with psycopg.connect(found.conninfo_reader) as conn:
        assert conn.pgconn.ssl_in_use
    strangers = make_conninfo(postgres.tls(database), sslrootcert=str(postgres.ca_file.with_name("stranger-ca.pem")))
    with pytest.raises(DatabaseUnavailable):
        migrate_master(strangers)


@pytest.fixture
def tenant(postgres: Postgres) -> Iterator[Tenant]:
    """A tenant alone, for tests that write batches without Kafka."""
    admin_url, name = postgres.url, f"master_{secrets.token_hex(4)}"
    with psycopg.connect(admin_url, autocommit=True) as conn:
        conn.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    url = make_conninfo(admin_url, dbname=name)
    settings = parse_settings({"FLOWMAPS_DATABASE_URL": url, "FLOWMAPS_SECRET_KEY": KEY})
    migrate_master(url)
    yield provision_tenant(settings, "alone.datapoint")
    drop_tenant(settings, "alone.datapoint")
    with psycopg.connect(admin_url, autocommit=True) as conn:
        conn.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


SOURCE = Source("cluster", "alone.datapoint")


def claim(conn: psycopg.Connection[Any], partition: int = 0) -> Claim:
    return claim_partition(conn, SOURCE, partition, LogRange(0, 1000)).claim


def batch_record(offset: int, value: dict[str, Any], partition: int = 0) -> Record:
    return Record(partition, offset, None, json.dumps(value).encode(), 0)


def write(conn: psycopg.Connection[Any], records: list[Record], claims: dict[int, Claim]) -> int:
    plan = plan_batch(records, json.loads)
    return apply_batch(conn, SOURCE, plan, claims, keep_bytes=100).changed


def test_a_consumer_that_was_followed_by_another_cannot_write(tenant: Tenant) -> None:
    with psycopg.connect(tenant.conninfo_owner, autocommit=True) as conn:
        old = claim(conn)
        assert write(conn, [batch_record(0, point("a"))], {0: old}) == 1
        new = claim(conn)
        assert new.next_offset == 1
        with pytest.raises(FencedError):
            write(conn, [batch_record(1, point("b"))], {0: old})
        assert conn.execute("select identifier from datapoint").fetchall() == [("a",)]
        assert write(conn, [batch_record(1, point("b"))], {0: new}) == 1


def test_rows_that_the_database_refuses_are_found_and_kept(tenant: Tenant) -> None:
    with psycopg.connect(tenant.conninfo_owner, autocommit=True) as conn:
        conn.execute("alter table flowmaps.datapoint add constraint odd check (survey_id <> '13')")
        claims = {0: claim(conn)}
        values = [point(f"p{number}") | {"survey_id": 13 if number in {3, 17} else 7} for number in range(20)]
        plan = plan_batch([batch_record(offset, value) for offset, value in enumerate(values)], json.loads)
        applied = apply_batch(conn, SOURCE, plan, claims, keep_bytes=100)
        assert sorted(item.record.offset for item in applied.refused) == [3, 17]
        assert conn.execute("select count(*) from datapoint").fetchone() == (18,)
        kept = conn.execute(
            "select kafka_offset, reason, value is not null from flowmaps.rejected order by 1"
        ).fetchall()
        assert kept == [(3, "refused", True), (17, "refused", True)]


@hypothesis_settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_real_table_is_the_fold_of_the_log(tenant: Tenant, data: st.DataObject) -> None:
    entry = st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.none() | st.integers(-180, 180), st.integers(0, 1))
    log = [
        batch_record(offset, point(name, longitude, 0.0, updated), partition)
        for offset, (name, updated, longitude, partition) in enumerate(
            data.draw(st.lists(entry, min_size=1, max_size=12))
        )
    ]
    newest: dict[str, tuple[tuple[int, int, int], float | None]] = {}
    for item in log:
        value = json.loads(item.value or b"")
        order = (value["last_update_date_time"], item.offset, item.partition)
        if value["identifier"] not in newest or order > newest[value["identifier"]][0]:
            newest[value["identifier"]] = (order, value["longitude"])
    arrived = data.draw(st.permutations(log + data.draw(st.lists(st.sampled_from(log), max_size=4))))
    cut = data.draw(st.integers(0, len(arrived)))
    with psycopg.connect(tenant.conninfo_owner, autocommit=True) as conn:
        conn.execute("truncate flowmaps.datapoint, flowmaps.consumer_offset")
        for batch in (arrived[:cut], arrived[cut:]):
            # Any order is tried, so that the offsets' own guard has to be out of the way.
            conn.execute("truncate flowmaps.consumer_offset")
            write(conn, batch, {partition: claim(conn, partition) for partition in (0, 1)})
        shown: dict[str, float] = dict(conn.execute("select identifier, st_x(geom) from datapoint").fetchall())
    assert shown == {name: float(place) for name, (_, place) in newest.items() if place is not None}


@pytest.mark.parametrize(
    "text", ["tab\tline\nreturn\rback\\slash", "\\N", "\\.", "\\", "quote\"s'", "  ", "數據 \U0001f30d"]
)
def test_every_text_comes_back_as_it_was(tenant: Tenant, text: str) -> None:
    value = point(text) | {"survey_id": text, "name": text, "nested": {text: [text, None, 1.5, True]}}
    with psycopg.connect(tenant.conninfo_owner, autocommit=True) as conn:
        assert write(conn, [batch_record(0, value)], {0: claim(conn)}) == 1
        rows = conn.execute("select identifier, survey_id, properties from datapoint").fetchall()
    assert rows == [(text, text, {"name": text, "nested": {text: [text, None, 1.5, True]}})]


def test_times_of_every_year_come_back_as_they_were(tenant: Tenant) -> None:
    times = {"first": -62_135_596_800_000, "old": -1, "last": 253_402_300_799_999}
    records = [
        batch_record(offset, point(name, updated=time) | {"created_date_time": time})
        for offset, (name, time) in enumerate(times.items())
    ]
    with psycopg.connect(tenant.conninfo_owner, autocommit=True) as conn:
        write(conn, records, {0: claim(conn)})
        rows = conn.execute(
            "select identifier, (extract(epoch from created_date_time) * 1000)::bigint,"
            " (extract(epoch from last_update_date_time) * 1000)::bigint from flowmaps.datapoint"
        ).fetchall()
    assert sorted(rows) == sorted((name, time, time) for name, time in times.items())


def tombstone(offset: int, identifier: str, partition: int = 0, time_ms: int = 0) -> Record:
    return Record(partition, offset, identifier.encode(), None, time_ms)


def test_a_removed_point_comes_back_by_a_newer_record_only(tenant: Tenant) -> None:
    def shown(conn: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
        return conn.execute("select identifier, st_x(geom) from datapoint").fetchall()

    with psycopg.connect(tenant.conninfo_owner, autocommit=True) as conn:
        steps: list[tuple[Record, list[tuple[Any, ...]]]] = [
            (batch_record(0, point("a", 1.0, updated=5)), [("a", 1.0)]),
            (tombstone(1, "a"), []),
            (batch_record(2, point("a", 2.0, updated=4)), []),
            (batch_record(3, point("a", 3.0, updated=6)), [("a", 3.0)]),
            (tombstone(4, "a"), []),
            # Equal times are decided by the offset, and this record comes after the tombstone.
            (batch_record(5, point("a", 4.0, updated=6)), [("a", 4.0)]),
        ]
        held = claim(conn)
        for record, expected in steps:
            write(conn, [record], {0: held})
            held = Claim(record.offset + 1, held.fence, held.log)
            assert shown(conn) == expected
        # All of it read once more, in batches of other sizes, changes nothing.
        for size in (1, 2, 3, 6):
            conn.execute("update flowmaps.consumer_offset set next_offset = 0")
            records = [record for record, _ in steps]
            for start in range(0, 6, size):
                write(conn, records[start : start + size], {0: claim(conn)})
            assert shown(conn) == [("a", 4.0)]


def test_a_tombstone_of_another_partition_is_ordered_by_its_time(tenant: Tenant) -> None:
    with psycopg.connect(tenant.conninfo_owner, autocommit=True) as conn:
        claims = {number: claim(conn, number) for number in (0, 1, 2)}
        write(conn, [replace(batch_record(0, point("a")), time_ms=100)], {0: claims[0]})
        write(conn, [tombstone(7, "a", partition=1, time_ms=99)], {1: claims[1]})
        assert len(conn.execute("select 1 from datapoint").fetchall()) == 1
        write(conn, [tombstone(3, "a", partition=2, time_ms=101)], {2: claims[2]})
        assert conn.execute("select 1 from datapoint").fetchall() == []


@hypothesis_settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_tombstones_and_batches_and_repetition_give_the_fold_of_the_log(tenant: Tenant, data: st.DataObject) -> None:
    entry = st.tuples(st.sampled_from("ab"), st.integers(0, 3) | st.none(), st.none() | st.integers(-180, 180))
    entries = data.draw(st.lists(entry, min_size=1, max_size=14))
    log = [
        tombstone(offset, name) if updated is None else batch_record(offset, point(name, place, 0.0, updated))
        for offset, (name, updated, place) in enumerate(entries)
    ]
    state: dict[str, tuple[int, int | None]] = {}
    for name, updated, place in entries:
        if updated is None:
            if name in state:
                state[name] = (state[name][0], None)
        elif name not in state or updated >= state[name][0]:
            state[name] = (updated, place)
    with psycopg.connect(tenant.conninfo_owner, autocommit=True) as conn:
        conn.execute("truncate flowmaps.datapoint, flowmaps.consumer_offset")
        for _ in range(2):
            conn.execute("truncate flowmaps.consumer_offset")
            at = 0
            while at < len(log):
                size = data.draw(st.integers(1, len(log)))
                write(conn, log[at : at + size], {0: claim(conn)})
                at += size
        shown: dict[str, float] = dict(conn.execute("select identifier, st_x(geom) from datapoint").fetchall())
    assert shown == {name: float(place) for name, (_, place) in state.items() if place is not None}


def test_the_fold_knows_what_came_before_the_tenant_was_made_in_every_partition(flow: Flow, kafka: Kafka) -> None:
    topic, admin = flow.topic("datapoint"), kafka.admin
    admin.create_topics([NewTopic(topic, 2)])[topic].result(timeout=30)

    def send(partition: int, *records: dict[str, Any]) -> None:
        for record in records:
            flow.producer.produce(topic, flow.encode(topic, record), partition=partition)
        assert flow.producer.flush(30) == 0

    with ingest_process(flow), ingesting(flow) as running:
        # Two processes, a partition each; neither makes a tenant for what has no location.
        eventually(lambda: running.value("flowmaps_assigned_partitions") == 1, "each has one")
        send(0, point("a", None, None, updated=9))
        send(1, point("b", None, None, updated=9))
        eventually(
            lambda: sum(place.offset for place in _committed(kafka, flow, topic)) == 2, "both are read and passed over"
        )
        send(0, point("b", updated=5), point("a", updated=5), point("c"))
        # Nothing more comes for the other partition, whose one record takes b off the map.
        eventually(lambda: "c" in flow.points(topic) and flow.next_offset(topic) == 5, "all of it is read again")
        assert list(flow.points(topic)) == ["c"]


def _committed(kafka: Kafka, flow: Flow, topic: str) -> list[TopicPartition]:
    consumer = Consumer(
        {"bootstrap.servers": kafka.servers, "group.id": flow.environ["FLOWMAPS_KAFKA_GROUP_ID"], "log_level": 0}
    )
    try:
        return consumer.committed([TopicPartition(topic, number) for number in range(2)], timeout=10)
    finally:
        consumer.close()
