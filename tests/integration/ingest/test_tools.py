"""The command line of the ingest side, on real services: push files, look after tenants while they are in use."""

import asyncio
import json
import threading
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from flowmaps.errors import UnknownTenant
from flowmaps.tenants import TenantPools
from flows import Flow, eventually, flow_maps, ingesting, point

CSV = "id;lat;lon;survey_id;status;height;code\nw1;1.5;2.5;3;working;7;007\nw2;;;3;;8.5;008\n"
GEOJSON = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "id": "g1",
            "geometry": {"type": "Point", "coordinates": [3, 4]},
            "properties": {"name": "Well", "created_date_time": "2020-01-01T00:00:00Z", "tags": ["a"]},
        },
        {"type": "Feature", "id": 2, "geometry": None, "properties": {"name": None}},
    ],
}


def test_csv_geojson_and_json_lines_become_datapoints(flow: Flow, tmp_path: Path) -> None:
    topic = flow.topic("datapoint")
    files = {"a.csv": CSV, "b.geojson": json.dumps(GEOJSON), "c.jsonl": json.dumps(_published("j1")) + "\n\n"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with ingesting(flow):
        said = flow_maps(flow, "push", str(tmp_path / "a.csv"), "--topic", topic)
        assert f"2 records written to {topic}" in said
        flow_maps(flow, "push", str(tmp_path / "b.geojson"), "--topic", topic, "--survey", "9")
        flow_maps(flow, "push", str(tmp_path / "c.jsonl"), "--topic", topic)
        eventually(lambda: len(flow.points(topic)) == 3, "three points are stored")
    assert flow.points(topic) == {"w1": (2.5, 1.5), "g1": (3.0, 4.0), "j1": (5.0, 6.0)}
    rows = dict(flow.query(topic, "select identifier, properties from datapoint"))
    assert (rows["w1"]["status"], rows["w1"]["height"], rows["w1"]["code"]) == ("working", 7.0, "007")
    assert (rows["g1"]["name"], rows["g1"]["tags"]) == ("Well", '["a"]')
    assert rows["j1"]["displayName"] == "J"
    created = flow.query(topic, "select survey_id, created_date_time::text from datapoint where identifier = 'g1'")
    assert created[0][0] == "9"
    assert created[0][1].startswith("2020-01-01 00:00:00")
    assert flow.rejected(topic) == []


def _published(identifier: str) -> dict[str, Any]:
    return {
        "identifier": identifier,
        "displayName": "J",
        "longitude": 5.0,
        "latitude": 6.0,
        "surveyGroupId": 1,
        "createdDateTime": 1000,
        "lastUpdateDateTime": 2000,
    }


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "id,lat,lon,survey_id\na,100,0,1\n", "record 1: latitude 100.0 is not within"),
        ("a.csv", "lat,lon\n1,1\n", "record 1: no identifier"),
        ("a.csv", "id,lat,lon\na,1,1\n", "record 1: no surveyGroupId"),
        ("a.jsonl", '{"id": "a", "surveyId": 1}\n{"id"', "record 2: no JSON"),
        ("a.geojson", '{"type": "Polygon"}', "no GeoJSON FeatureCollection"),
        ("a.txt", "x", "name the format"),
    ],
)
def test_a_file_with_a_record_that_cannot_be_used_writes_nothing(
    flow: Flow, tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    assert message in flow_maps(flow, "push", str(tmp_path / name), "--topic", flow.topic("datapoint"), status=2)


def test_a_tenant_is_listed_shown_and_dropped_and_comes_back_whole(flow: Flow) -> None:
    topic = flow.topic("datapoint")
    with ingesting(flow):
        flow.send(topic, point("a"), point("b", None, None))
        flow.send_raw(topic, b"junk")
        eventually(lambda: flow.next_offset(topic) == 3, "all is read")
        assert topic in flow_maps(flow, "tenants", "list")
        shown = flow_maps(flow, "tenants", "show", topic)
        assert "1 on the map, 1 remembered" in shown
        assert "1 framing" in shown
        assert "goes on at 3" in shown
        assert "would delete database" in flow_maps(flow, "tenants", "drop", topic, "--dry-run")
        assert list(flow.points(topic)) == ["a"]
        assert "deleted" in flow_maps(flow, "tenants", "drop", topic, "--yes")
        with pytest.raises(UnknownTenant):
            flow.tenant(topic)
        assert "nothing to delete" in flow_maps(flow, "tenants", "drop", topic, "--yes")
        flow_maps(flow, "tenants", "show", topic, status=1)
        flow.send(topic, point("c"))
        eventually(lambda: sorted(flow.points(topic)) == ["a", "c"], "the tenant is made anew with all that Kafka has")


def test_a_rewound_topic_is_read_again_while_ingest_runs_and_nothing_doubles(flow: Flow) -> None:
    topic = flow.topic("datapoint")
    with ingesting(flow):
        flow.send(topic, *(point(f"p{number}") for number in range(5)))
        flow.send_raw(topic, None, key=b"p4")
        eventually(lambda: len(flow.points(topic)) == 4, "the points are stored")
        with psycopg.connect(flow.tenant(topic).conninfo_owner) as conn:
            conn.execute("delete from flowmaps.datapoint where identifier in ('p0', 'p1', 'p2')")
        assert "would go on at 0, was at 6" in flow_maps(flow, "tenants", "rewind", topic, "--dry-run")
        assert len(flow.points(topic)) == 1
        flow_maps(flow, "tenants", "rewind", topic, "--offset", "2")
        eventually(lambda: sorted(flow.points(topic)) == ["p2", "p3"], "it is read from there")
        flow_maps(flow, "tenants", "rewind", topic)
        eventually(lambda: len(flow.points(topic)) == 4, "all of it is read again")
        eventually(lambda: flow.next_offset(topic) == 6, "it stands at the end")
        assert "p4" not in flow.points(topic)
        assert "was at 6" in flow_maps(flow, "tenants", "rewind", topic, "--time", "1s")
        assert "offsets 0 to 6" in flow_maps(flow, "tenants", "rewind", topic, "--offset", "7", status=2)


def _stored(flow: Flow, topic: str, count: int) -> bool:
    return len(flow.points(topic)) == count


def test_credentials_are_rotated_and_schemas_migrated_while_ingest_and_tiles_run(flow: Flow) -> None:
    topic = flow.topic("datapoint")
    stop, failures, read = threading.Event(), list[BaseException](), list[int]()

    async def read_tiles() -> None:
        async with TenantPools(flow.settings) as pools:
            while not stop.is_set():
                async with pools.reader(topic) as conn:
                    cursor = await conn.execute("select count(*) from datapoint")
                    row: Any = await cursor.fetchone()
                    read.append(row[0])
                await asyncio.sleep(0.02)

    def run() -> None:
        try:
            asyncio.run(read_tiles())
        except BaseException as error:  # noqa: BLE001 - handed to the test's thread
            failures.append(error)

    with ingesting(flow):
        flow.send(topic, point("p0"))
        eventually(lambda: flow.points(topic), "the point is stored")
        thread = threading.Thread(target=run)
        thread.start()
        for number in range(1, 4):
            before = flow.tenant(topic).owner.password.get_secret_value()
            flow_maps(flow, "tenants", "rotate-credentials", *([topic] if number < 3 else ["--all"]))
            assert flow.tenant(topic).owner.password.get_secret_value() != before
            with psycopg.connect(flow.master_url, autocommit=True) as conn:
                # Whoever was in before has to come in with the new password.
                conn.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s and usename = %s",
                    [flow.tenant(topic).database, flow.tenant(topic).owner.user],
                )
            said = flow_maps(flow, "tenants", "migrate", *(["--dry-run"] if number == 1 else []))
            assert f"{topic}: up to date" in said
            flow.send(topic, point(f"p{number}"))
            eventually(partial(_stored, flow, topic, number + 1), "the next point is stored")
        eventually(lambda: read and read[-1] == 4, "tiles see all of it")
        stop.set()
        thread.join(timeout=30)
    assert failures == []
    assert flow.rejected(topic) == []


def test_a_database_of_an_earlier_version_is_migrated_by_the_running_ingest(flow: Flow) -> None:
    topic = flow.topic("datapoint")
    with ingesting(flow):
        flow.send(topic, point("a", 1.0, 1.0, updated=5))
        eventually(lambda: flow.points(topic), "the point is stored")
    with psycopg.connect(flow.tenant(topic).conninfo_owner) as conn:
        _undo_second_migration(conn)
    assert "lacks 0002" in flow_maps(flow, "tenants", "migrate", "--dry-run")
    with ingesting(flow):
        flow.send(topic, point("a", 2.0, 2.0, updated=4), point("b"))
        eventually(lambda: sorted(flow.points(topic)) == ["a", "b"], "the next point is stored")
    assert flow.points(topic)["a"] == (1.0, 1.0)
    assert flow.next_offset(topic) == 3


def _undo_second_migration(conn: psycopg.Connection[Any]) -> None:
    conn.execute("drop table flowmaps.kafka_log")
    conn.execute("drop index flowmaps.gap_open")
    conn.execute("alter table flowmaps.gap drop column topic_id, drop column resumed_at")
    conn.execute("alter table flowmaps.rejected drop constraint rejected_pkey")
    conn.execute("alter table flowmaps.rejected drop column topic_id")
    conn.execute("drop index flowmaps.rejected_reason")
    conn.execute("alter table flowmaps.rejected add primary key (cluster_id, topic, partition, kafka_offset)")
    conn.execute("alter table flowmaps.datapoint drop column kafka_log, drop column kafka_time")
    conn.execute("update flowmaps.consumer_offset set topic_id = ''")
    conn.execute("delete from flowmaps.migration where name like '0002%'")
