"""Where Kafka's log does not go on at the stored offset: outages of any length, lost records, other logs."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.cimpl import NewTopic

from flows import Flow, Running, eventually, flow_maps, ingesting, point
from flowstack.kafka import Kafka


def expire(kafka: Kafka, topic: str, before: int, partition: int = 0) -> None:
    """Let the broker drop the records before an offset, as retention does."""
    place, admin = TopicPartition(topic, partition, before), kafka.admin
    for future in admin.delete_records([place]).values():
        assert future.result(timeout=30).low_watermark == before


def recreate(kafka: Kafka, topic: str) -> None:
    admin = kafka.admin
    admin.delete_topics([topic])[topic].result(timeout=30)

    def made() -> bool:
        try:
            admin.create_topics([NewTopic(topic, 1)])[topic].result(timeout=30)
        except Exception as error:
            if "already exists" in str(error) or "marked for deletion" in str(error):
                return False
            raise
        return True

    eventually(made, "the topic is made anew")


@contextmanager
def stopped_by_a_gap(flow: Flow, kafka: Kafka, topic: str) -> Iterator[Running]:
    """Run an ingest whose partition lacks the records from 1 to 3, and has one at 3."""
    with ingesting(flow):
        flow.send(topic, point("a"))
        eventually(lambda: flow.points(topic), "the point is stored")
    flow.send(topic, point("b"), point("c"), point("d"))
    expire(kafka, topic, 3)
    with ingesting(flow) as running:
        eventually(
            lambda: running.value("flowmaps_partition_stopped", topic=topic, partition="0") == 1, "the partition stops"
        )
        yield running


def test_records_that_expired_unread_stop_their_partition_until_that_is_accepted(flow: Flow, kafka: Kafka) -> None:
    topic, other = flow.topic("datapoint"), flow.topic("other.datapoint")
    with stopped_by_a_gap(flow, kafka, topic) as running:
        assert running.value("flowmaps_gaps_total", topic=topic, reason="expired") == 1
        gaps = flow.query(
            topic, "select reason, stored_offset, found_offset, accepted_at, resumed_at from flowmaps.gap"
        )
        assert gaps == [("expired", 1, 3, None, None)]
        assert "expired gap" in json.loads(running.get("/readyz")[1])["waiting_topics"][topic]
        flow.send(other, point("x"))
        eventually(lambda: flow.points(other), "another topic goes on")
        assert list(flow.points(topic)) == ["a"]
        eventually(lambda: running.value("flowmaps_consumer_lag", topic=topic, partition="0") == 3, "lag is told")
        assert "expired" in flow_maps(flow, "ingest", "gaps")
        assert "would accept" in flow_maps(flow, "ingest", "accept-gap", topic, "--dry-run")
        assert flow.query(topic, "select count(*) from flowmaps.gap where accepted_at is not null") == [(0,)]
    with ingesting(flow) as running:
        eventually(
            lambda: running.value("flowmaps_partition_stopped", topic=topic, partition="0") == 1, "it is still stopped"
        )
        assert flow.next_offset(topic) == 1
        assert "accepted" in flow_maps(flow, "ingest", "accept-gap", topic)
        eventually(lambda: sorted(flow.points(topic)) == ["a", "d"], "what is left is read")
        assert running.value("flowmaps_partition_stopped", topic=topic, partition="0") == 0
        assert "no gap waits" in flow_maps(flow, "ingest", "accept-gap", topic)
    assert flow.query(topic, "select resumed_at is not null from flowmaps.gap") == [(True,)]


def test_a_setting_lets_ingest_go_on_over_a_gap(flow: Flow, kafka: Kafka) -> None:
    topic = flow.topic("datapoint")
    with ingesting(flow):
        flow.send(topic, point("a"))
        eventually(lambda: flow.points(topic), "the point is stored")
    flow.send(topic, point("b"), point("c"))
    expire(kafka, topic, 2)
    with ingesting(flow, FLOWMAPS_INGEST_ON_GAP="continue") as running:
        eventually(lambda: sorted(flow.points(topic)) == ["a", "c"], "what is left is read")
        assert running.value("flowmaps_gaps_total", topic=topic, reason="expired") == 1
    assert flow.query(topic, "select stored_offset, found_offset, resumed_at is not null from flowmaps.gap") == [
        (1, 2, True)
    ]


def test_an_outage_longer_than_kafka_keeps_committed_offsets_resumes_exactly(flow: Flow, kafka: Kafka) -> None:
    topic, group = flow.topic("datapoint"), flow.environ["FLOWMAPS_KAFKA_GROUP_ID"]
    with ingesting(flow):
        flow.send(topic, *(point(f"p{number}") for number in range(20)))
        eventually(lambda: len(flow.points(topic)) == 20, "the points are stored")
    eventually(lambda: _forgotten(kafka, group), "the broker forgets the group")
    with ingesting(flow) as running:
        flow.send(topic, point("next"))
        eventually(lambda: len(flow.points(topic)) == 21, "the next point is stored")
        # A counter of this process: ingest of this test alone has counted 20 before.
        assert running.metric(f'datapoint_process{{name="total",topic="{topic}"}}') == 21
    assert flow.next_offset(topic) == 21
    assert flow.query(topic, "select count(*) from flowmaps.gap") == [(0,)]


def _forgotten(kafka: Kafka, group: str) -> bool:
    admin = kafka.admin
    try:
        admin.delete_consumer_groups([group])[group].result(timeout=30)
    except Exception as error:
        if "not empty" in str(error).lower() or "NON_EMPTY" in str(error):
            return False
        raise
    return True


@pytest.mark.parametrize("running", [True, False], ids=["while-it-runs", "while-it-is-away"])
def test_a_topic_that_is_made_anew_is_read_from_its_beginning(flow: Flow, kafka: Kafka, running: bool) -> None:
    topic = flow.topic("datapoint")
    admin = kafka.admin
    admin.create_topics([NewTopic(topic, 1)])[topic].result(timeout=30)

    def begin() -> None:
        flow.send(topic, *(point(f"p{number}", updated=5) for number in range(3)))
        eventually(lambda: len(flow.points(topic)) == 3, "the points are stored")

    def again() -> None:
        # As many as before and one more, so that the old offset would fit the new log.
        flow.send(topic, point("n0"), point("n1"), point("n2"))
        flow.send_raw(topic, None, key=b"p0")

    if running:
        with ingesting(flow):
            begin()
            recreate(kafka, topic)
            again()
            eventually(lambda: sorted(flow.points(topic)) == ["n0", "n1", "n2", "p1", "p2"], "the new log is read")
    else:
        with ingesting(flow):
            begin()
        recreate(kafka, topic)
        again()
        with ingesting(flow):
            eventually(lambda: sorted(flow.points(topic)) == ["n0", "n1", "n2", "p1", "p2"], "the new log is read")
    assert flow.query(topic, "select distinct reason from flowmaps.gap") == [("recreated",)]
    assert flow.query(topic, "select count(*) from flowmaps.kafka_log") == [(2,)]


def test_a_new_cluster_is_recognised_and_read_from_its_beginning(flow: Flow) -> None:
    topic = flow.topic("datapoint")
    with ingesting(flow):
        flow.send(topic, point("a", 1.0, 1.0))
        eventually(lambda: flow.points(topic), "the point is stored")
    with psycopg.connect(flow.tenant(topic).conninfo_owner) as conn:
        # As if what is stored came from a cluster that is not there any more.
        for table in ("consumer_offset", "kafka_log"):
            conn.execute(f"update flowmaps.{table} set cluster_id = 'an older cluster'".encode())
        conn.execute("update flowmaps.datapoint set geom = st_setsrid(st_makepoint(9, 9), 4326)")
        conn.execute("update flowmaps.consumer_offset set next_offset = 77")
    with ingesting(flow) as running:
        # The same record of the newer log counts as newer.
        eventually(lambda: flow.points(topic) == {"a": (1.0, 1.0)}, "the new cluster is read")
        assert running.value("flowmaps_gaps_total", topic=topic, reason="new-cluster") == 1
    assert flow.query(topic, "select reason, stored_offset, found_offset from flowmaps.gap") == [("new-cluster", 77, 0)]


def test_an_offset_beyond_the_end_is_a_gap_once_it_lasts(flow: Flow) -> None:
    topic = flow.topic("datapoint")
    with ingesting(flow):
        flow.send(topic, point("a"))
        eventually(lambda: flow.points(topic), "the point is stored")
    with psycopg.connect(flow.tenant(topic).conninfo_owner) as conn:
        conn.execute("update flowmaps.consumer_offset set next_offset = 1000")
    with ingesting(flow):
        gaps = eventually(lambda: flow.query(topic, "select reason, stored_offset from flowmaps.gap limit 1"), "a gap")
        assert gaps == [("beyond-end", 1000)]
        flow_maps(flow, "ingest", "accept-gap", topic, "--partition", "0")
        flow.send(topic, point("b"))
        eventually(lambda: len(flow.points(topic)) == 2, "the next point is stored")


def test_a_database_that_lost_its_last_commits_is_read_again_from_where_it_stands(flow: Flow) -> None:
    topic = flow.topic("datapoint")
    with ingesting(flow) as running:
        flow.send(topic, *(point(f"p{number}") for number in range(5)))
        eventually(lambda: len(flow.points(topic)) == 5, "the points are stored")
        with psycopg.connect(flow.tenant(topic).conninfo_owner) as conn:
            conn.execute("update flowmaps.consumer_offset set next_offset = 2")
            conn.execute("delete from flowmaps.datapoint where kafka_offset >= 2")
        flow.send(topic, point("end"))
        eventually(lambda: len(flow.points(topic)) == 6, "what was lost is there again")
        assert running.value("flowmaps_fenced_batches_total", topic=topic) == 1
