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

from flowmaps.ingest.health import STUCK_SECONDS, Health
from flowmaps.ingest.run import WORKERS
from flows import Flow, eventually, ingest_process, ingesting, point


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
            assert "53100" in running.get("/readyz")[1]
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


def test_making_many_tenants_does_not_hold_up_one_that_is_there(flow: Flow) -> None:
    sound = flow.topic("sound.datapoint")
    topics = [flow.topic(f"new{number}.datapoint") for number in range(12)]
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


@pytest.mark.parametrize("die", ["true", "false"])
def test_a_defect_ends_the_process_unless_the_settings_say_otherwise(flow: Flow, die: str) -> None:
    topic, sound = flow.topic("datapoint"), flow.topic("sound.datapoint")
    flow.environ["FLOWMAPS_INGEST_DIE_ON_UNCAUGHT_EXCEPTION"] = die
    with ingesting(flow):
        make(flow, [topic, sound])
    with psycopg.connect(flow.tenant(topic).conninfo_owner, autocommit=True) as conn:
        # Nothing that ingest foresees: the migration is recorded, and its table is not there.
        conn.execute("alter table flowmaps.consumer_offset rename column fence to fenced")
    flow.send(topic, point("second"))
    flow.send(sound, point("second"))
    with ingest_process(flow) as process:
        if die == "true":
            assert process.wait(timeout=60) == 1
        else:
            eventually(lambda: len(flow.points(sound)) == 2, "the sound topic goes on")
            assert process.poll() is None


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


def test_many_topics_need_no_more_connections_than_one_process_may_use(flow: Flow) -> None:
    topics = [flow.topic(f"t{number}.datapoint") for number in range(30)]
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
