"""One bad tenant is never in the way of another, whatever is bad about it, and however many there are."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import psycopg
import pytest
from psycopg import sql

from flowmaps.errors import DatabaseUnavailable
from flowmaps.ingest import run_ingest
from flowmaps.ingest.health import STUCK_SECONDS, Health
from flowmaps.ingest.run import WORKERS
from flows import Flow, Running, eventually, ingesting, point


def stored(flow: Flow, topic: str, count: int) -> bool:
    return len(flow.points(topic)) >= count


def is_there(flow: Flow, topic: str, identifier: str) -> bool:
    return identifier in flow.points(topic)


def make(flow: Flow, topics: list[str]) -> None:
    """Send a first point to each topic and wait until all are stored."""
    for topic in topics:
        flow.producer.produce(topic, flow.encode(topic, point("first")), key=b"k")
    assert flow.producer.flush(30) == 0
    for topic in topics:
        eventually(partial(stored, flow, topic, 1), f"{topic} is there")


@contextmanager
def locked(flow: Flow, topics: list[str]) -> Iterator[None]:
    """Hold the tables of *topics*, so that every batch of theirs hangs."""
    connections = [psycopg.connect(flow.tenant(topic).conninfo_owner) for topic in topics]
    try:
        for conn in connections:
            conn.execute("lock table flowmaps.datapoint")
        yield
    finally:
        for conn in connections:
            conn.close()


def test_more_tenants_that_hang_than_threads_do_not_hold_up_another(flow: Flow) -> None:
    slow = [flow.topic(f"slow{number}.datapoint") for number in range(WORKERS["slow"] + 2)]
    sound = flow.topic("sound.datapoint")
    with ingesting(flow) as running:
        make(flow, [*slow, sound])
        with locked(flow, slow):
            for topic in slow:
                flow.send(topic, point("second"))
            for number in range(5):
                before = time.monotonic()
                flow.send(sound, point(f"p{number}"))
                eventually(partial(is_there, flow, sound, f"p{number}"), "the sound topic goes on", 10)
                assert time.monotonic() - before < 5
            assert running.get("/healthz")[0] == 200
            with psycopg.connect(flow.master_url) as conn:
                row: Any = conn.execute(
                    "select count(*) from pg_stat_activity where application_name = 'flow-maps ingest'"
                    " and datname = any(%s)",
                    [[flow.tenant(topic).database for topic in [*slow, sound]]],
                ).fetchone()
            assert row[0] <= sum(WORKERS.values()) + 16
        for topic in slow:
            eventually(partial(stored, flow, topic, 2), "the slow ones come back by themselves")
            assert flow.rejected(topic) == []


def test_a_full_disk_pauses_its_tenant_and_rejects_nothing(flow: Flow) -> None:
    full, sound = flow.topic("full.datapoint"), flow.topic("sound.datapoint")
    with ingesting(flow) as running:
        make(flow, [full, sound])
        with psycopg.connect(flow.tenant(full).conninfo_owner, autocommit=True) as conn:
            # PostgreSQL's own code for a full disk, raised where the disk would be written.
            conn.execute(
                "create function public.full_disk() returns trigger language plpgsql as"
                " $$ begin raise exception 'No space left on device' using errcode = '53100'; end $$"
            )
            conn.execute(
                "create trigger full_disk before insert or update on flowmaps.datapoint"
                " for each row execute function public.full_disk()"
            )
            flow.send(full, point("second"))
            eventually(lambda: running.value("flowmaps_topic_paused", topic=full) == 1, "the full one waits")
            eventually(lambda: "53100" in running.get("/readyz")[1], "its problem is named")
            assert running.get("/readyz")[0] == 200
            flow.send(sound, point("second"))
            eventually(lambda: len(flow.points(sound)) == 2, "the sound one goes on")
            eventually(
                lambda: (running.value("flowmaps_consumer_lag", topic=full, partition="0") or 0) >= 1, "lag is told"
            )
            assert (running.value("flowmaps_freshness_seconds", topic=full) or 0) > 0
            conn.execute("drop trigger full_disk on flowmaps.datapoint")
        eventually(lambda: len(flow.points(full)) == 2, "it comes back by itself")
        assert flow.rejected(full) == []


def test_batches_before_one_that_fails_stay_stored(flow: Flow) -> None:
    topic = flow.topic("datapoint")
    with ingesting(flow) as running:
        make(flow, [topic])
        with psycopg.connect(flow.tenant(topic).conninfo_owner, autocommit=True) as conn:
            conn.execute(
                "create function public.full_disk() returns trigger language plpgsql as $$ begin"
                " if new.identifier = 'p150' then raise exception 'No space' using errcode = '53100'; end if;"
                " return new; end $$"
            )
            conn.execute(
                "create trigger full_disk before insert on flowmaps.datapoint"
                " for each row execute function public.full_disk()"
            )
            with locked(flow, [topic]):
                # What comes while the table is locked waits, and is then one job of several batches.
                flow.send(topic, *(point(f"p{number}") for number in range(200)))
            eventually(lambda: running.value("flowmaps_topic_paused", topic=topic) == 1, "the topic waits")
            assert 51 <= flow.next_offset(topic) <= 151
            conn.execute("drop trigger full_disk on flowmaps.datapoint")
        eventually(lambda: len(flow.points(topic)) == 201, "all is stored")
        assert flow.next_offset(topic) == 201
        assert flow.rejected(topic) == []
        assert not running.value("flowmaps_fenced_batches_total", topic=topic)


def test_making_many_tenants_does_not_hold_up_one_that_is_there(flow: Flow) -> None:
    sound = flow.topic("sound.datapoint")
    topics = [flow.topic(f"new{number}.datapoint") for number in range(8)]
    with ingesting(flow):
        make(flow, [sound])
        slowest, stop = [0.0], threading.Event()

        def send() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                before = time.monotonic()
                flow.send(sound, point(f"p{number}"))
                eventually(partial(is_there, flow, sound, f"p{number}"), "the sound topic goes on")
                slowest[0] = max(slowest[0], time.monotonic() - before)

        thread = threading.Thread(target=send)
        thread.start()
        try:
            make(flow, topics)
        finally:
            stop.set()
            thread.join(timeout=60)
        assert slowest[0] < 6


def test_a_tenant_whose_tables_were_changed_by_hand_waits_alone(flow: Flow) -> None:
    odd, sound = flow.topic("odd.datapoint"), flow.topic("sound.datapoint")
    rename = "alter table flowmaps.datapoint rename column {} to {}"
    with ingesting(flow) as running:
        make(flow, [odd, sound])
        with psycopg.connect(flow.tenant(odd).conninfo_owner, autocommit=True) as conn:
            conn.execute(rename.format("kafka_time", "other").encode())
            flow.send(odd, point("second"))
            eventually(lambda: running.value("flowmaps_topic_paused", topic=odd) == 1, "the odd one waits")
            flow.send(sound, point("second"))
            eventually(lambda: len(flow.points(sound)) == 2, "the sound one goes on")
            conn.execute(rename.format("other", "kafka_time").encode())
        eventually(lambda: len(flow.points(odd)) == 2, "it comes back by itself")
        assert flow.rejected(odd) == []


class Defective:
    """A registry client with a defect of its own, which no real one has on demand."""

    def get_schema(self, schema_id: int) -> Any:
        raise ZeroDivisionError(f"while fetching schema {schema_id}")

    def get_version(self, subject_name: str, version: int) -> Any:
        raise ZeroDivisionError(f"while fetching {subject_name} {version}")


def test_a_defect_ends_the_process(flow: Flow) -> None:
    flow.send(flow.topic("datapoint"), point("a"))
    stop = threading.Event()
    patience = threading.Timer(60, stop.set)
    patience.start()
    try:
        with pytest.raises(ZeroDivisionError):
            run_ingest(flow.settings, stop=stop, registry_client=Defective())
    finally:
        patience.cancel()


def test_a_defect_makes_its_topic_wait_where_the_settings_say_so(flow: Flow) -> None:
    topic = flow.topic("datapoint")
    flow.environ["FLOWMAPS_INGEST_DIE_ON_UNCAUGHT_EXCEPTION"] = "false"
    flow.send(topic, point("a"))
    stop, ports = threading.Event(), list[int]()
    thread = threading.Thread(
        target=run_ingest,
        args=(flow.settings,),
        kwargs={"stop": stop, "registry_client": Defective(), "announce": ports.append},
    )
    thread.start()
    try:
        eventually(lambda: ports, "metrics answer")
        running = Running(ports[0])
        eventually(lambda: running.value("flowmaps_topic_paused", topic=topic) == 1, "the topic waits")
        assert running.get("/healthz")[0] == 200
        eventually(lambda: "ZeroDivisionError" in running.get("/readyz")[1], "its problem is named")
    finally:
        stop.set()
        thread.join(timeout=30)
    assert not thread.is_alive()


def test_liveness_fails_when_the_loop_no_longer_turns() -> None:
    now = [1000.0]
    health = Health(clock=lambda: now[0])
    assert health.alive()[0] is False
    health.beat(assigned=1, problems={})
    assert (health.alive()[0], health.ready()[0]) == (True, True)
    now[0] += STUCK_SECONDS - 1
    assert health.alive()[0] is True
    now[0] += 1
    assert (health.alive()[0], health.ready()[0]) == (False, False)


def test_readiness_fails_while_something_that_all_topics_need_is_away() -> None:
    away: list[str] = []

    def check() -> None:
        if away:
            raise DatabaseUnavailable(away[0])

    health = Health(checks={"database": check})
    health.beat(assigned=0, problems={})
    assert health.ready()[0] is True
    away.append("the database does not answer")
    ready, said = health.ready()
    assert (ready, said["failed"]) == (False, {"database": "the database does not answer"})
    assert health.alive()[0] is True


def test_many_topics_need_no_more_connections_than_one_process_may_use(flow: Flow) -> None:
    topics = [flow.topic(f"t{number}.datapoint") for number in range(20)]
    databases: list[str] = []
    with ingesting(flow), sql_watch(flow, databases) as most:
        make(flow, topics)
        databases += [flow.tenant(topic).database for topic in topics]
        for topic in topics:
            flow.send(topic, point("second"))
        for topic in topics:
            eventually(partial(stored, flow, topic, 2), "all go on")
    assert 0 < most[0] <= sum(WORKERS.values()) + 16


@contextmanager
def sql_watch(flow: Flow, databases: list[str]) -> Iterator[list[int]]:
    """Count ingest's connections to *databases* again and again; yields a list with the largest count."""
    most, stop = [0], threading.Event()
    query = sql.SQL(
        "select count(*) from pg_stat_activity where application_name = 'flow-maps ingest' and datname = any(%s)"
    )

    def watch() -> None:
        with psycopg.connect(flow.master_url, autocommit=True) as conn:
            while not stop.wait(0.02):
                row: Any = conn.execute(query, [databases]).fetchone()
                most[0] = max(most[0], row[0])

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        stop.set()
        thread.join(timeout=30)
