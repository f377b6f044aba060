"""The rows of a cell of aggregated points, compared with the points; ids are those that tiles gave."""

from __future__ import annotations

import collections
import json
import math
import random
from collections.abc import Iterator
from typing import Any

import mapbox_vector_tile
import pytest

from flowstack.postgres import Postgres
from maps_fixtures import RED, WORLD, MapsServer, layer, maps_server

ROWS = 600
SAMPLES = "select * from samples"
WITH_IDS = 'select id as cartodb_id, value, kind, "100% odd", the_geom_webmercator from samples'


def points() -> list[tuple[int, float, float, int, str]]:
    """Points around a few places, some exactly on edges of cells, and on both sides of the world's middle."""
    choice = random.Random(11)
    side = 2 * WORLD / 16
    found = []
    for number in range(ROWS):
        if number % 10 == 0:
            x, y = choice.randint(-7, 7) * side, choice.randint(-7, 7) * side
        else:
            x, y = choice.gauss(choice.choice((-4e6, 2e3, 9e6)), 2e5), choice.gauss(choice.choice((-3e6, 1e3)), 2e5)
        found.append((number, x, y, choice.randint(0, 9), choice.choice(("well", "tap", "o'ne %s"))))
    return found


POINTS = points()


@pytest.fixture(scope="module")
def server(postgres: Postgres) -> Iterator[MapsServer]:
    with maps_server(postgres, FLOWMAPS_LIMIT_CLUSTER_ROWS="250") as running:
        rows = ",".join(
            f"""({number}, {value}, '{kind.replace("'", "''")}', {number % 2}, timestamptz '2020-01-01' + interval '{number} hours',"""
            f" st_setsrid(st_makepoint({x!r}, {y!r}), 3857))"
            for number, x, y, value, kind in POINTS
        )
        running.execute(
            'create table samples (id integer, value integer, kind text, "100% odd" integer, seen timestamptz,'
            f" the_geom_webmercator geometry(Point, 3857)); insert into samples values {rows};"
            "create index on samples using gist (the_geom_webmercator);"
            f'grant select on samples to "{running.tenant.reader.user}"; analyze samples;'
        )
        yield running


def clustered(server: MapsServer, sql: str = SAMPLES, cartocss: str | None = None, **members: Any) -> dict[str, Any]:
    return server.create(layer(sql, cartocss, aggregation={"threshold": 1, **members}))


def features(server: MapsServer, created: dict[str, Any], zoom: int) -> list[dict[str, Any]]:
    found = []
    for x in range(2**zoom):
        for y in range(2**zoom):
            answer = server.get(created, f"{zoom}/{x}/{y}.mvt")
            if answer.status_code == 200:
                decoded = mapbox_vector_tile.decode(answer.content)
                found += [feature["properties"] for feature in decoded["layer0"]["features"]]
    return found


def opened(server: MapsServer, created: dict[str, Any], zoom: object, cluster: object, **query: str) -> dict[str, Any]:
    answer = server.get(created, f"0/{zoom}/cluster/{cluster}", **query)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    assert document.keys() == {"rows", "fields", "truncated"}
    return document


def cell_of(x: float, y: float, zoom: int, resolution: float) -> tuple[int, int]:
    size = resolution * 2 * WORLD / 256 / 2**zoom
    return math.floor(x / size), math.floor(y / size)


def cells(zoom: int, resolution: float) -> set[frozenset[int]]:
    found: dict[tuple[int, int], set[int]] = collections.defaultdict(set)
    for number, x, y, *_ in POINTS:
        found[cell_of(x, y, zoom, resolution)].add(number)
    return {frozenset(numbers) for numbers in found.values()}


@pytest.mark.parametrize("sql", [SAMPLES, WITH_IDS])
@pytest.mark.parametrize("placement", [None, "centroid", "point-grid", "point-sample"])
@pytest.mark.parametrize(("zoom", "resolution"), [(0, 16), (2, 32), (3, 3)])
def test_every_cluster_of_the_tiles_opens_with_just_its_rows(
    server: MapsServer, sql: str, placement: str | None, zoom: int, resolution: float
) -> None:
    members = {} if placement is None else {"placement": placement}
    created = clustered(server, sql, resolution=resolution, **members)
    shown = {feature["cartodb_id"]: feature["_cdb_feature_count"] for feature in features(server, created, zoom)}
    seen = set()
    name = "cartodb_id" if sql == WITH_IDS else "id"
    for cluster, count in shown.items():
        document = opened(server, created, zoom, cluster)
        ids = [row[name] for row in document["rows"]]
        assert len(ids) == min(count, 250)
        assert document["truncated"] == (count > 250)
        assert ids == sorted(ids)
        if not document["truncated"]:
            seen.add(frozenset(ids))
    assert seen == {cell for cell in cells(zoom, resolution) if len(cell) <= 250}
    assert seen


def test_rows_have_all_columns_but_geometries(server: MapsServer) -> None:
    created = clustered(server, resolution=256)
    first = features(server, created, 4)[0]
    document = opened(server, created, 4, first["cartodb_id"])
    assert document["rows"][0].keys() == {"id", "value", "kind", "100% odd", "seen"}
    number = document["rows"][0]["id"]
    assert document["rows"][0] | {"seen": ""} == {
        "id": number,
        "value": POINTS[number][3],
        "kind": POINTS[number][4],
        "100% odd": number % 2,
        "seen": "",
    }
    assert document["fields"] == [
        {"name": "id", "dataTypeID": 23},
        {"name": "value", "dataTypeID": 23},
        {"name": "kind", "dataTypeID": 25},
        {"name": "100% odd", "dataTypeID": 23},
        {"name": "seen", "dataTypeID": 1184},
    ]


@pytest.mark.parametrize("sql", [SAMPLES, WITH_IDS])
def test_dimensions_split_what_a_cluster_holds(server: MapsServer, sql: str) -> None:
    created = clustered(server, sql, resolution=256, placement="centroid", dimensions={"sort": "kind"})
    found = features(server, created, 2)
    # A cell at an edge is in several tiles.
    different = {(feature["cartodb_id"], feature["sort"], feature["_cdb_feature_count"]) for feature in found}
    assert len({cluster for cluster, _, _ in different}) == len(different) > 10
    for feature in found:
        rows = opened(server, created, 2, feature["cartodb_id"])["rows"]
        assert len(rows) == feature["_cdb_feature_count"]
        assert {row["kind"] for row in rows} == {feature["sort"]}


def test_a_cluster_that_filters_leave_out_does_not_open(server: MapsServer) -> None:
    options: dict[str, Any] = {"resolution": 64, "placement": "centroid", "dimensions": {"sort": "kind"}}
    every = features(server, clustered(server, **options), 1)
    filters = {"_cdb_feature_count": {"greater_than": 5}, "sort": {"not_equal": "tap"}}
    created = clustered(server, **options, filters=filters)
    kept = {feature["cartodb_id"] for feature in features(server, created, 1)}
    assert 0 < len(kept) < len(every)
    for feature in every:
        answer = server.get(created, f"0/1/cluster/{feature['cartodb_id']}")
        assert answer.status_code == (200 if feature["cartodb_id"] in kept else 404)


def test_grids_name_clusters_too(server: MapsServer) -> None:
    created = server.create(
        layer(SAMPLES, RED, aggregation={"threshold": 1, "resolution": 64}, interactivity="cartodb_id,id")
    )
    data = server.get(created, "0/1/0/0.grid.json").json()["data"]
    assert data
    for values in data.values():
        rows = opened(server, created, 1, values["cartodb_id"])["rows"]
        assert values["id"] in {row["id"] for row in rows}


def test_rows_can_be_added_up(server: MapsServer) -> None:
    created = clustered(server, resolution=256)
    cluster = max(features(server, created, 1), key=lambda feature: int(feature["_cdb_feature_count"]))
    asked = {
        "columns": ["kind", "100% odd"],
        "expressions": {
            "total": {"aggregate_function": "sum", "aggregated_column": "value"},
            "usual": {"aggregate_function": "mode", "aggregated_column": "kind"},
            "rows": {"aggregate_function": "count", "aggregated_column": "*"},
        },
    }
    document = opened(server, created, 1, cluster["cartodb_id"], aggregation=json.dumps(asked))
    inside = [p for p in POINTS if "_".join(map(str, cell_of(p[1], p[2], 1, 256))) == cluster["cartodb_id"]]
    sums: dict[tuple[str, int], list[int]] = collections.defaultdict(list)
    for number, _, _, value, kind in inside:
        sums[kind, number % 2].append(value)
    assert {(row["kind"], row["100% odd"]): (row["_cdb_feature_count"], row["total"]) for row in document["rows"]} == {
        key: (len(values), sum(values)) for key, values in sums.items()
    }
    assert all(row["usual"] == row["kind"] and row["rows"] == row["_cdb_feature_count"] for row in document["rows"])
    counts = [row["_cdb_feature_count"] for row in document["rows"]]
    assert counts == sorted(counts, reverse=True)
    assert sum(counts) == cluster["_cdb_feature_count"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Invalid aggregation input, should be a a valid JSON"),
        ("NaN", "Invalid aggregation input, should be a a valid JSON"),
        ("null", "Invalid aggregation input, should be an object"),
        ("[]", "Invalid aggregation input, columns should be and array of column names"),
        ("{}", "Invalid aggregation input, columns should be and array of column names"),
        ('{"columns": []}', "Invalid aggregation input, columns should be and array of column names"),
        ('{"columns": "kind"}', "Invalid aggregation input, columns should be and array of column names"),
        ('{"columns": [5]}', "Invalid aggregation input, columns should be and array of column names"),
        ('{"columns": ["nope"]}', 'column "nope" does not exist'),
        ('{"columns": ["kind\\" from samples --"]}', 'column "kind" from samples --" does not exist'),
        ('{"columns": ["the_geom_webmercator"]}', 'column "the_geom_webmercator" does not exist'),
        ('{"columns": ["kind"], "expressions": []}', "Invalid aggregation input, expressions should be and object with valid functions"),
        ('{"columns": ["kind"], "expressions": {"a": 1}}', "Invalid aggregation input, aggregated column should be an string"),
        ('{"columns": ["kind"], "expressions": {"a": {"aggregated_column": "value"}}}', "Invalid aggregation input, aggregate function should be an string"),
        ('{"columns": ["kind"], "expressions": {"a": {"aggregated_column": "nope", "aggregate_function": "sum"}}}', 'column "nope" does not exist'),
        ('{"columns": ["kind"], "expressions": {"a": {"aggregated_column": "value", "aggregate_function": "pg_sleep"}}}', "Unsupported aggregation function pg_sleep, valid ones: count, avg, sum, min, max, mode"),
        ('{"columns": ["kind"], "expressions": {"kind": {"aggregated_column": "value", "aggregate_function": "sum"}}}', "The name kind is both a column and an expression"),
        ('{"columns": ["kind"], "expressions": {"a": {"aggregated_column": "kind", "aggregate_function": "avg"}}}', "function avg(text) does not exist"),
    ],
)  # fmt: skip
def test_a_wrong_sum_is_refused(server: MapsServer, text: str, message: str) -> None:
    created = clustered(server, resolution=256)
    cluster = features(server, created, 0)[0]["cartodb_id"]
    answer = server.get(created, f"0/0/cluster/{cluster}", aggregation=text)
    assert (answer.status_code, answer.json()["errors"]) == (400, [message])


@pytest.mark.parametrize(
    "aggregation", [False, None, {"threshold": 100000}, {"threshold": 1, "placement": "centroid", "cluster": False}]
)
def test_layers_that_are_not_aggregated_or_do_not_show_rows_have_no_clusters(
    server: MapsServer, aggregation: object
) -> None:
    options: dict[str, Any] = {} if aggregation is None else {"aggregation": aggregation}
    created = server.create(layer(SAMPLES, **options))
    answer = server.get(created, "0/0/cluster/0_0")
    token = created["layergroupid"].partition(":")[0]
    message = f"Map {token} has no aggregation defined for layer 0"
    if isinstance(aggregation, dict) and "cluster" in aggregation:
        message = "Layer 0 does not show the rows of its clusters"
    context = answer.json()["errors_with_context"][0]
    assert (answer.status_code, answer.json()["errors"]) == (400, [message])
    assert (context["type"], context["subtype"], context["layer"]["index"]) == ("layer", "aggregation", 0)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("0/0/cluster/0_9999999", 404),
        ("0/0/cluster/99999999999999999999_0", 404),
        ("0/0/cluster/1.5e+300_0", 404),
        ("0/0/cluster/1e+999_0", 404),
        ("0/0/cluster/-1e+999_-1e+999", 404),
        ("0/0/cluster/0_0_0123456789abcdef", 404),
        ("0/0/cluster/0", 404),
        ("0/0/cluster/x", 404),
        ("0/0/cluster/a/b", 404),
        ("0/0/cluster/%ED%A0%80", 404),
        ("0/0/cluster/0_0'--", 404),
        ("0/0/cluster/%00", 400),
        ("0/31/cluster/0_0", 400),
        ("0/-1/cluster/0_0", 400),
        ("0/1.5/cluster/0_0", 400),
        ("0/99999999999999999999/cluster/0_0", 400),
        ("1/0/cluster/0_0", 400),
        ("-1/0/cluster/0_0", 400),
        ("x/0/cluster/0_0", 400),
        ("99999999999999999999/0/cluster/0_0", 400),
    ],
)
def test_what_there_is_not_is_refused(server: MapsServer, path: str, status: int) -> None:
    created = clustered(server, resolution=1)
    answer = server.get(created, path)
    assert answer.status_code == status, answer.text
    assert answer.json()["errors"]


@pytest.mark.parametrize(("cluster", "status"), [("987654", 404), ("-1", 404), ("9" * 40, 404), ("1.5", 404), ("x", 400), ("0_0", 400)])  # fmt: skip
def test_ids_of_rows_are_numbers_where_the_column_is(server: MapsServer, cluster: str, status: int) -> None:
    created = clustered(server, WITH_IDS, resolution=1)
    assert server.get(created, f"0/3/cluster/{cluster}").status_code == status


def test_an_id_that_several_clusters_have_is_refused(server: MapsServer) -> None:
    created = clustered(server, "select 7 as cartodb_id, the_geom_webmercator from samples", resolution=1)
    answer = server.get(created, "0/3/cluster/7")
    assert (answer.status_code, answer.json()["errors"]) == (400, ["Rows of several clusters have the cartodb_id 7"])


def test_clusters_are_there_at_the_zooms_of_the_map_and_the_layer(server: MapsServer) -> None:
    bounded = layer(SAMPLES, None, aggregation={"threshold": 1, "resolution": 256}, minzoom=1)
    created = server.create(bounded, maxzoom=2)
    cluster = features(server, created, 1)[0]["cartodb_id"]
    assert server.get(created, f"0/1/cluster/{cluster}").status_code == 200
    assert server.get(created, f"0/0/cluster/{cluster}").status_code == 404
    assert server.get(created, f"0/3/cluster/{cluster}").status_code == 404


def test_tokens_of_the_query_stand_for_the_scale_of_the_zoom(server: MapsServer) -> None:
    created = clustered(
        server,
        f"{SAMPLES} where the_geom_webmercator && !bbox! and value >= (!pixel_width! > 50000)::int",
        resolution=256,
    )
    for zoom in (0, 2):
        shown: dict[str, int] = {}
        for feature in features(server, created, zoom):
            # The query itself cuts cells at the edges of tiles; one tile has all of each.
            cluster, count = feature["cartodb_id"], feature["_cdb_feature_count"]
            shown[cluster] = max(count, shown.get(cluster, 0))
        assert shown
        for cluster, count in shown.items():
            assert len(opened(server, created, zoom, cluster)["rows"]) == min(count, 250)


def test_the_answer_can_be_kept_wrapped_and_asked_for_again(server: MapsServer) -> None:
    created = clustered(server, resolution=256)
    cluster = features(server, created, 2)[0]["cartodb_id"]
    path = f"0/2/cluster/{cluster}"
    answer = server.get(created, path)
    assert answer.headers["Cache-Control"] == "public, max-age=60"
    wrapped = server.get(created, path, callback="shown")
    assert wrapped.text.startswith("/**/ typeof shown === 'function' && shown({")
    url = f"{server.url}/layergroup/{created['layergroupid']}/{path}"
    again = server.client.get(url, headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status_code == 304
    assert server.client.head(url).status_code == 200


def test_clusters_of_datapoints_are_cached_as_long_as_their_tiles(server: MapsServer) -> None:
    created = clustered(server, "select * from datapoint", resolution=256)
    found = features(server, created, 0)
    assert sum(feature["_cdb_feature_count"] for feature in found) == 4
    answers = [server.get(created, f"0/0/cluster/{feature['cartodb_id']}") for feature in found]
    assert {answer.headers["Cache-Control"] for answer in answers} == {"public, max-age=3600"}
    rows = [row for answer in answers for row in answer.json()["rows"]]
    assert {row["identifier"] for row in rows} == {"a", "b", "c", "d"}
