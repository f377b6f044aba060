"""Records that cannot be used are kept, and can be looked at, tried again and dropped."""

import psycopg

from flows import Flow, eventually, flow_maps, ingesting, point


def kept(flow: Flow, topic: str) -> list[tuple[int, str]]:
    return [
        (offset, reason)
        for offset, reason in flow.query(topic, "select kafka_offset, reason from flowmaps.rejected order by 1")
    ]


def test_rejected_records_are_listed_shown_and_dropped_by_what_they_are(flow: Flow) -> None:
    topic = flow.topic("datapoint")
    with ingesting(flow):
        flow.send(topic, point("a"), point("bad", 500.0))
        flow.send_raw(topic, b"junk", b"")
        eventually(lambda: flow.points(topic) and len(kept(flow, topic)) == 3, "one is stored and three are kept")
    assert kept(flow, topic) == [(1, "invalid-coordinates"), (2, "framing"), (3, "framing")]
    listed = flow_maps(flow, "rejected", "list")
    assert f"{topic}: 2 with reason framing" in listed
    assert "3 of 3 rejected records listed" in listed
    assert "1 of 2 rejected records listed" in flow_maps(
        flow, "rejected", "list", "--reason", "framing", "--limit", "1"
    )
    assert "0 of 0" in flow_maps(flow, "rejected", "list", "--topic", topic, "--until", "1h")
    shown = flow_maps(flow, "rejected", "show", topic, "0", "1")
    assert "invalid-coordinates" in shown
    assert '"longitude": 500.0' in shown
    assert "6a 75 6e 6b" in flow_maps(flow, "rejected", "show", topic, "0", "2")
    flow_maps(flow, "rejected", "show", topic, "0", "0", status=1)
    assert "would delete 2" in flow_maps(flow, "rejected", "drop", "--reason", "framing", "--dry-run")
    assert len(kept(flow, topic)) == 3
    assert "2 records deleted" in flow_maps(flow, "rejected", "drop", "--reason", "framing", "--yes")
    assert "0 records deleted" in flow_maps(flow, "rejected", "drop", "--reason", "framing", "--yes")
    assert kept(flow, topic) == [(1, "invalid-coordinates")]


def test_records_that_can_be_used_by_now_are_stored_in_their_place_of_the_log(flow: Flow) -> None:
    topic = flow.topic("datapoint")
    with ingesting(flow):
        flow.send(topic, point("a", 1.0, 1.0, updated=1))
        eventually(lambda: flow.points(topic), "the point is stored")
        with psycopg.connect(flow.tenant(topic).conninfo_owner) as conn:
            conn.execute("alter table flowmaps.datapoint add constraint odd check (st_x(geom) < 50)")
        flow.send(topic, point("a", 60.0, 1.0, updated=5), point("b", 70.0, 1.0, updated=5))
        flow.send(topic, point("bad", 500.0), point("a", 2.0, 1.0, updated=9))
        eventually(lambda: len(kept(flow, topic)) == 3, "three are kept")
        assert flow.points(topic) == {"a": (2.0, 1.0)}
        assert "0 stored, 3 rejected again" in flow_maps(flow, "rejected", "replay", "--topic", topic)
        with psycopg.connect(flow.tenant(topic).conninfo_owner) as conn:
            conn.execute("alter table flowmaps.datapoint drop constraint odd")
        assert "would try 2" in flow_maps(flow, "rejected", "replay", "--reason", "refused", "--dry-run")
        assert "2 stored, 1 rejected again" in flow_maps(flow, "rejected", "replay")
        # The older record of a does not undo the newer one.
        assert flow.points(topic) == {"a": (2.0, 1.0), "b": (70.0, 1.0)}
        assert kept(flow, topic) == [(3, "invalid-coordinates")]
        assert "0 stored, 1 rejected again" in flow_maps(flow, "rejected", "replay")


def test_a_record_that_was_not_kept_whole_is_left_alone(flow: Flow) -> None:
    topic = flow.topic("datapoint")
    with ingesting(flow, FLOWMAPS_INGEST_REJECTED_BYTES="1024"):
        flow.send(topic, point("a"), point("x" * 5000))
        eventually(lambda: flow.points(topic) and len(kept(flow, topic)) == 1, "one is kept")
    assert "1024 are kept" in flow_maps(flow, "rejected", "show", topic, "0", "1")
    assert "1 not whole" in flow_maps(flow, "rejected", "replay")
    assert kept(flow, topic) == [(1, "too-large")]


def test_records_of_a_topic_without_a_tenant_are_kept_in_the_master_database(flow: Flow) -> None:
    topic = flow.topic("datapoint")

    def in_master() -> int:
        with psycopg.connect(flow.master_url) as conn:
            return len(conn.execute("select 1 from flowmaps.rejected where topic = %s", [topic]).fetchall())

    with ingesting(flow):
        flow.send_raw(topic, b"junk", flow.encode(topic, point("later", 7.0, 7.0)).replace(b"later", b"la\0er"))
        eventually(lambda: in_master() == 2, "both are kept")
    with psycopg.connect(flow.master_url) as conn:
        # As if the rule that it broke were none any more.
        conn.execute(
            "update flowmaps.rejected set value = %s where reason = 'nul-character'",
            [flow.encode(topic, point("later", 7.0, 7.0))],
        )
    assert "1 stored, 1 rejected again" in flow_maps(flow, "rejected", "replay", "--topic", topic)
    assert flow.points(topic) == {"later": (7.0, 7.0)}
    assert in_master() == 1
    assert "1 records deleted" in flow_maps(flow, "rejected", "drop", "--topic", topic, "--yes")
