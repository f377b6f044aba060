"""What creation tells of a layer's data, compared with the data."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import pytest

from flowstack.postgres import Postgres
from maps_fixtures import RED, MapsServer, layer, maps_server

WELLS = "select * from wells"


@pytest.fixture(scope="module")
def server(postgres: Postgres) -> Iterator[MapsServer]:
    with maps_server(postgres) as running:
        running.execute(
            'create table wells (id integer, depth float8, kind text, "odd ""%name!x!" integer, seen timestamptz,'
            " open boolean, tags jsonb, notes text[], the_geom_webmercator geometry(Point, 3857));"
            "insert into wells select n, n / 2.0, case when n % 10 = 0 then null when n % 3 = 0 then 'dry' else 'wet' end,"
            " 7, timestamptz '2020-01-01T00:00:00Z' + n * interval '1 day', true, '{}', array['x'],"
            " st_setsrid(st_makepoint(n * 1000, 0), 3857) from generate_series(1, 100) as n;"
            "create table empty (id integer, kind text, the_geom_webmercator geometry);"
            "create table special (v float8, n numeric, the_geom_webmercator geometry);"
            "insert into special values ('nan', 'nan', null), ('infinity', 1, null);"
            f'grant select on wells, empty, special to "{running.tenant.reader.user}";'
            "analyze wells; analyze empty; analyze special;"
        )
        yield running


def stats(server: MapsServer, sql: str = WELLS, cartocss: str | None = RED, **options: Any) -> dict[str, Any]:
    created = server.create(layer(sql, cartocss, **options))
    found: dict[str, Any] = created["metadata"]["layers"][0]["meta"]["stats"]
    return found


def test_the_number_of_rows_is_estimated_always(server: MapsServer) -> None:
    assert stats(server) == {"estimatedFeatureCount": 100}
    assert stats(server, cartocss=None) == {"estimatedFeatureCount": 100}
    assert stats(server, f"{WELLS} where the_geom_webmercator && !bbox!")["estimatedFeatureCount"] >= 1
    assert stats(server, f"{WELLS} -- comment")["estimatedFeatureCount"] == 100


def test_each_layer_has_its_own_and_only_mapnik_layers_have_one(server: MapsServer) -> None:
    created = server.create(
        {"type": "plain", "options": {"color": "red"}},
        layer(f"{WELLS} limit 7"),
        layer(WELLS, metadata={"featureCount": True}),
    )
    told = [entry["meta"].get("stats") for entry in created["metadata"]["layers"]]
    assert told == [None, {"estimatedFeatureCount": 7}, {"estimatedFeatureCount": 100, "featureCount": 100}]


def test_what_is_asked_is_told_and_nothing_else(server: MapsServer) -> None:
    assert stats(server, metadata={"featureCount": True})["featureCount"] == 100
    assert stats(server, metadata={"geometryType": True}) == {
        "estimatedFeatureCount": 100,
        "geometryType": "ST_Point",
    }
    assert stats(server, metadata={"columns": True})["columns"] == {
        "id": {"type": "number"},
        "depth": {"type": "number"},
        "kind": {"type": "string"},
        'odd "%name!x!': {"type": "number"},
        "seen": {"type": "date"},
        "open": {"type": "boolean"},
        "tags": {"type": "jsonb"},
        "notes": {"type": "text[]"},
        "the_geom_webmercator": {"type": "geometry"},
    }


def test_values_of_columns_are_summed_up(server: MapsServer) -> None:
    columns = stats(server, metadata={"columnStats": {"topCategories": 2}})["columns"]
    assert columns["id"] == {"type": "number", "min": 1, "max": 100, "avg": 50.5, "sum": 5050}
    assert columns["depth"] == {"type": "number", "min": 0.5, "max": 50, "avg": 25.25, "sum": 2525}
    assert columns['odd "%name!x!']["sum"] == 700
    assert columns["seen"] == {"type": "date", "min": "2020-01-02T00:00:00.000Z", "max": "2020-04-10T00:00:00.000Z"}
    # Of 100, 10 are null and 33 - 3 are dry.
    wet, dry, null = ({"category": kind, "frequency": count} for kind, count in (("wet", 60), ("dry", 30), (None, 10)))
    assert columns["kind"] == {"type": "string", "categories": [wet, dry]}
    assert columns["tags"] == {"type": "jsonb"}
    every = stats(server, metadata={"columnStats": True})["columns"]
    assert every["kind"]["categories"] == [wet, dry, null]
    without = stats(server, metadata={"columnStats": {"includeNulls": False}})["columns"]
    assert without["kind"]["categories"] == [wet, dry]


def test_numbers_that_json_does_not_have_are_null(server: MapsServer) -> None:
    columns = stats(server, "select * from special", metadata={"columnStats": True})["columns"]
    assert columns["v"] == {"type": "number", "min": None, "max": None, "avg": None, "sum": None}
    assert columns["n"] == {"type": "number", "min": 1, "max": None, "avg": None, "sum": None}


def test_a_table_without_rows_has_numbers_too(server: MapsServer) -> None:
    asked = {"featureCount": True, "geometryType": True, "columnStats": True, "sample": True}
    found = stats(server, "select * from empty", metadata=asked)
    assert found.pop("estimatedFeatureCount") >= 0
    assert found == {
        "featureCount": 0,
        "columns": {
            "id": {"type": "number", "min": None, "max": None, "avg": None, "sum": None},
            "kind": {"type": "string", "categories": []},
            "the_geom_webmercator": {"type": "geometry"},
        },
        "sample": [],
    }


def test_a_sample_is_rows_of_the_query(server: MapsServer) -> None:
    rows = stats(server, metadata={"sample": {"num_rows": 20, "include_columns": ["id", "kind"]}})["sample"]
    assert len({row["id"] for row in rows}) == 20
    assert all(row.keys() == {"id", "kind"} and 1 <= row["id"] <= 100 for row in rows)
    whole = stats(server, metadata={"sample": {"num_rows": 1}})["sample"]
    assert len(whole) == 1
    assert whole[0].keys() >= {"id", "depth", "the_geom_webmercator"}
    status, message, context = server.refused(
        layer(WELLS, metadata={"sample": {"include_columns": ["id", 'nope" from wells --']}})
    )
    assert (status, message) == (400, 'column "nope" from wells --" does not exist')
    assert context["member"] == "layers[0].options.metadata.sample.include_columns"


def test_a_sample_is_no_larger_than_an_answer_can_be(server: MapsServer) -> None:
    wide = "select *, (select string_agg((wells.id + 0 * n)::text, ',') from generate_series(1, 20000) as n) as long from wells"
    rows = stats(server, wide, metadata={"sample": {"include_columns": ["id", "long"]}})["sample"]
    assert 8 <= len(rows) < 26
    assert all(set(row["long"].split(",")) == {str(row["id"])} for row in rows)


def test_aggregated_points_are_counted_at_a_zoom_and_told_by_dimension(server: MapsServer) -> None:
    dimensions = {
        "kind": "kind",
        "week": {"column": "seen", "group": {"units": "week", "starting": "2020"}},
        "month": {"column": "seen", "group": {"units": "month"}, "format": "iso"},
        "day": {"column": "seen", "group": {"units": "dayOfWeek", "timezone": 3600}},
    }
    aggregation = {"threshold": 1, "resolution": 256, "placement": "centroid"}
    asked = {"featureCount": True, "aggrFeatureCount": 10, "dimensions": True}
    found = stats(server, aggregation=aggregation, metadata=asked)
    side = 2 * math.pi * 6378137 / 2**10
    cells = len({n * 1000 // side for n in range(1, 101)})
    assert (found["featureCount"], found["estimatedFeatureCount"], found["aggrFeatureCount"]) == (100, 100, cells)
    found = stats(server, aggregation=aggregation | {"dimensions": dimensions}, metadata=asked)
    assert found["dimensions"] == {
        # 2020-01-02 is in the first week from the first of January on, 2020-04-10 is day 101: week 15.
        "week": {
            "params": {
                "column": "seen", "timezone": "utc", "units": "week", "count": 1, "starting": "2020-01-01T00:00:00",
            },
            "min": 1, "max": 15, "type": "number",
        },
        "month": {
            "params": {"column": "seen", "timezone": "utc", "units": "month", "count": 1, "format": "iso"},
            "min": "2020-01", "max": "2020-04", "type": "string",
        },
        "day": {
            "params": {"column": "seen", "timezone": 3600, "units": "dayOfWeek", "count": 1},
            "min": 1, "max": 7, "type": "number",
        },
    }  # fmt: skip


def test_a_stored_map_tells_its_numbers_again(server: MapsServer) -> None:
    created = server.create(layer(WELLS, metadata={"featureCount": True}))
    described = server.client.get(f"{server.url}/layergroup/{created['layergroupid']}").json()
    assert described["metadata"]["layers"] == created["metadata"]["layers"]


def test_numbers_that_take_too_long_are_left_out_and_the_map_is_made(server: MapsServer) -> None:
    # The probe at zoom 30 reads nothing of this, the count everything.
    slow = (
        "select a.* from wells as a, generate_series(1, 40000) as b, generate_series(1, 40000) as c"
        " where a.the_geom_webmercator && !bbox! and a.id + b - b + c - c > 0"
    )
    started = time.monotonic()
    found = stats(server, slow, metadata={"featureCount": True, "columnStats": True, "columns": True})
    assert time.monotonic() - started < 9
    assert found["estimatedFeatureCount"] > 0
    assert "featureCount" not in found
