"""Aggregated points, counted against the points themselves."""

from __future__ import annotations

import collections
import io
import math
import random
from collections.abc import Callable, Iterator
from typing import Any

import mapbox_vector_tile
import pytest
from PIL import Image

from flowstack.postgres import Postgres
from maps_fixtures import MapsServer, layer, maps_server

WORLD = 20037508.342789244
EXTENT = 4096
ROWS = 3000
KINDS = ("well", "tap", "spring")
RED = "#layer { marker-width: 2; marker-fill: #ff0000; marker-line-width: 0; marker-allow-overlap: true; }"
Point = tuple[int, float, float, int, str]


def points() -> list[Point]:
    """Points that cluster around a few places, some exactly on edges of cells and tiles."""
    choice = random.Random(5)
    centres = [(choice.uniform(-1.5e7, 1.5e7), choice.uniform(-1.5e7, 1.5e7)) for _ in range(6)]
    found: list[Point] = []
    for number in range(ROWS):
        if number % 10 == 0:
            # Corners of tiles of zoom 4, and so of cells too.
            side = 2 * WORLD / 16
            x, y = choice.randint(-7, 7) * side, choice.randint(-7, 7) * side
        else:
            centre = choice.choice(centres)
            x, y = choice.gauss(centre[0], 3e5), choice.gauss(centre[1], 3e5)
        found.append((number, x, y, choice.randint(0, 9), choice.choice(KINDS)))
    return found


POINTS = points()
SAMPLES = "select * from samples"


@pytest.fixture(scope="module")
def server(postgres: Postgres) -> Iterator[MapsServer]:
    with maps_server(postgres) as running:
        rows = ",".join(
            f"({number}, {value}, '{kind}', timestamptz '2020-01-01' + interval '{number} hours',"
            f" st_setsrid(st_makepoint({x!r}, {y!r}), 3857))"
            for number, x, y, value, kind in POINTS
        )
        reader = running.tenant.reader.user
        running.execute(
            "create table samples (id integer, value integer, kind text, seen timestamptz,"
            f" the_geom_webmercator geometry(Point, 3857)); insert into samples values {rows};"
            "create index on samples using gist (the_geom_webmercator);"
            "create table lines (id integer, the_geom_webmercator geometry);"
            "insert into lines values (1, st_setsrid('LINESTRING(0 0, 9 9)'::geometry, 3857));"
            f'grant select on samples, lines to "{reader}"; analyze samples;'
        )
        yield running


def cell_of(x: float, y: float, zoom: int, resolution: float) -> tuple[int, int]:
    size = resolution * 2 * WORLD / 256 / 2**zoom
    return math.floor(x / size), math.floor(y / size)


def cells(zoom: int, resolution: float) -> dict[tuple[int, int], list[Point]]:
    found: dict[tuple[int, int], list[Point]] = collections.defaultdict(list)
    for point in POINTS:
        found[cell_of(point[1], point[2], zoom, resolution)].append(point)
    return found


def vector(server: MapsServer, created: dict[str, Any], tile: str) -> list[dict[str, Any]]:
    """Return the features of a vector tile, with their places in metres."""
    answer = server.get(created, f"{tile}.mvt")
    if answer.status_code == 204:
        return []
    assert answer.status_code == 200, answer.text
    z, x, y = (int(part) for part in tile.split("/"))
    side = 2 * WORLD / 2**z
    decoded = mapbox_vector_tile.decode(answer.content, default_options={"y_coord_down": True})
    features = []
    for feature in decoded["layer0"]["features"]:
        column, row = feature["geometry"]["coordinates"]
        place = (-WORLD + side * (x + column / EXTENT), WORLD - side * (y + row / EXTENT))
        features.append(feature["properties"] | {"place": place})
    return features


def vector_map(server: MapsServer, aggregation: object, sql: str = SAMPLES, **members: Any) -> dict[str, Any]:
    return server.create(layer(sql, None, aggregation=aggregation), **members)


ALL_COLUMNS = {
    "total": {"aggregate_function": "sum", "aggregated_column": "value"},
    "mean": {"aggregate_function": "avg", "aggregated_column": "value"},
    "least": {"aggregate_function": "min", "aggregated_column": "value"},
    "most": {"aggregate_function": "max", "aggregated_column": "value"},
    "rows": {"aggregate_function": "count", "aggregated_column": "*"},
    "usual": {"aggregate_function": "mode", "aggregated_column": "kind"},
}


@pytest.mark.parametrize("placement", ["centroid", "point-grid", "point-sample"])
@pytest.mark.parametrize(("zoom", "resolution"), [(0, 1), (1, 16), (3, 4), (4, 0.5), (2, 64), (5, 3)])
def test_each_cell_is_one_feature_with_what_its_points_add_up_to(
    server: MapsServer, placement: str, zoom: int, resolution: float, nightly: bool
) -> None:
    created = vector_map(
        server, {"threshold": 1, "placement": placement, "resolution": resolution, "columns": ALL_COLUMNS}
    )
    assert created["metadata"]["layers"][0]["meta"]["aggregation"] == {"png": False, "mvt": True}
    side = 2 * WORLD / 2**zoom
    size = resolution * side / 256
    expected = cells(zoom, resolution)
    for column, row in {
        (math.floor((p[1] + WORLD) / side), math.floor((WORLD - p[2]) / side))
        for p in POINTS[1 : 3000 if nightly else 200 : 7]
    }:
        for feature in vector(server, created, f"{zoom}/{column}/{row}"):
            x, y = feature["place"]
            near = [
                members
                for cell, members in expected.items()
                if abs((cell[0] + 0.5) * size - x) <= size / 2 + side / EXTENT
                and abs((cell[1] + 0.5) * size - y) <= size / 2 + side / EXTENT
            ]
            assert any(matches(feature, members, placement, size, side) for members in near), (feature, near)


def matches(feature: dict[str, Any], members: list[Point], placement: str, size: float, side: float) -> bool:
    values = [point[3] for point in members]
    kinds = collections.Counter(point[4] for point in members)
    x, y = feature["place"]
    near = side / EXTENT
    xs, ys = [point[1] for point in members], [point[2] for point in members]
    places = {
        "centroid": [(sum(xs) / len(xs), sum(ys) / len(ys))],
        "point-grid": [((math.floor(xs[0] / size) + 0.5) * size, (math.floor(ys[0] / size) + 0.5) * size)],
        "point-sample": list(zip(xs, ys, strict=True)),
    }[placement]
    return (
        feature["_cdb_feature_count"] == feature["rows"] == len(members)
        and feature["total"] == sum(values)
        and math.isclose(float(feature["mean"]), sum(values) / len(values), rel_tol=1e-9)
        and (feature["least"], feature["most"]) == (min(values), max(values))
        and kinds[feature["usual"]] == max(kinds.values())
        and any(abs(x - px) <= near and abs(y - py) <= near for px, py in places)
    )


@pytest.mark.parametrize("buffer", [0, 64])
@pytest.mark.parametrize("placement", ["centroid", "point-grid", "point-sample", None])
def test_tiles_together_hold_every_point_once(server: MapsServer, placement: str | None, buffer: int) -> None:
    aggregation = {"threshold": 1, "resolution": 8} | ({"placement": placement} if placement else {})
    created = vector_map(server, aggregation, buffersize={"mvt": buffer})
    unit = 2 * WORLD / 8 / EXTENT
    # A place near an edge is in two tiles, at the same place of the whole grid.
    counted = {
        (round(feature["place"][0] / unit), round(feature["place"][1] / unit)): feature["_cdb_feature_count"]
        for column in range(8)
        for row in range(8)
        for feature in vector(server, created, f"3/{column}/{row}")
    }
    assert sum(counted.values()) == ROWS


def test_the_default_keeps_a_row_of_each_cell_with_all_its_columns(server: MapsServer) -> None:
    created = vector_map(server, {"threshold": 10, "resolution": 32})
    by_id = {point[0]: point for point in POINTS}
    features = vector(server, created, "0/0/0")
    expected = cells(0, 32)
    assert len(features) == len(expected)
    for feature in features:
        _, x, y, value, kind = by_id[feature["id"]]
        assert (feature["value"], feature["kind"]) == (value, kind)
        assert feature["_cdb_feature_count"] == len(expected[cell_of(x, y, 0, 32)])
        assert math.dist(feature["place"], (x, y)) < 2 * WORLD / EXTENT


def test_the_same_row_stands_for_a_cell_in_every_tile_that_shows_it(server: MapsServer) -> None:
    created = vector_map(server, {"threshold": 1, "resolution": 64})
    seen: dict[tuple[int, int], set[tuple[int, int]]] = collections.defaultdict(set)
    by_id = {point[0]: point for point in POINTS}
    for column in range(4):
        for row in range(4):
            for feature in vector(server, created, f"2/{column}/{row}"):
                _, x, y, *_ = by_id[feature["id"]]
                seen[cell_of(x, y, 2, 64)].add((feature["id"], feature["_cdb_feature_count"]))
    assert seen
    assert all(len(rows) == 1 for rows in seen.values())


def test_dimensions_split_cells(server: MapsServer) -> None:
    created = vector_map(
        server,
        {
            "threshold": 1,
            "resolution": 256,
            "placement": "centroid",
            "dimensions": {
                "sort": "kind",
                "month": {
                    "column": "seen",
                    "group": {"units": "month", "timezone": "Europe/Amsterdam"},
                    "format": "iso",
                },
            },
        },
    )
    features = vector(server, created, "0/0/0")
    keys = collections.Counter((feature["sort"], feature["month"]) for feature in features)
    assert {sort for sort, _ in keys} == set(KINDS)
    assert {month for _, month in keys} == {f"2020-0{number}" for number in range(1, 6)}
    assert sum(feature["_cdb_feature_count"] for feature in features) == ROWS


@pytest.mark.parametrize(
    ("filters", "keep"),
    [
        ({"total": {"greater_than": 40}}, lambda f: f["total"] > 40),
        ({"total": {"greater_than_or_equal_to": 10, "less_than": 40}}, lambda f: 10 <= f["total"] < 40),
        ({"usual": {"equal": "tap"}}, lambda f: f["usual"] == "tap"),
        ({"usual": {"not_equal": "tap"}}, lambda f: f["usual"] != "tap"),
        ({"usual": {"in": ["tap", "well"]}}, lambda f: f["usual"] in ("tap", "well")),
        ({"usual": {"not_in": ["tap", "well"]}}, lambda f: f["usual"] == "spring"),
        ({"total": [{"equal": 0}, {"less_than_or_equal_to": 5}]}, lambda f: f["total"] <= 5),
        ({"total": {"greater_than": 5}, "usual": {"equal": "well"}}, lambda f: f["total"] > 5 and f["usual"] == "well"),
        ({"_cdb_feature_count": {"greater_than": 3}}, lambda f: f["_cdb_feature_count"] > 3),
        ({"usual": {"equal": "o'ne\\ !bbox! \"%"}}, lambda _: False),
    ],
)  # fmt: skip
def test_filters_keep_the_cells_that_they_hold_for(
    server: MapsServer, filters: dict[str, Any], keep: Callable[[dict[str, Any]], bool]
) -> None:
    option = {"threshold": 1, "resolution": 16, "placement": "centroid", "columns": ALL_COLUMNS}
    every = vector(server, vector_map(server, option), "0/0/0")
    kept = vector(server, vector_map(server, option | {"filters": filters}), "0/0/0")
    key = sorted(feature["place"] for feature in every if keep(feature))
    assert sorted(feature["place"] for feature in kept) == key
    assert len(key) < len(every)


def test_a_column_may_have_any_name(server: MapsServer) -> None:
    names = ["total value", 'quo"te', "!bbox!", "semi;colon", "100%", "select", "Ü!pixel_width!\\"]
    columns = {name: {"aggregate_function": "sum", "aggregated_column": "value"} for name in names}
    created = vector_map(server, {"threshold": 1, "resolution": 256, "columns": columns})
    features = vector(server, created, "0/0/0")
    assert all(feature[name] == feature[names[0]] for feature in features for name in names)


def test_a_hostile_column_is_only_a_name(server: MapsServer) -> None:
    hostile = 'value") from samples; drop table samples; --'
    option = {"threshold": 1, "columns": {"x": {"aggregate_function": "sum", "aggregated_column": hostile}}}
    status, message, context = server.refused(layer(SAMPLES, None, aggregation=option))
    assert (status, context["type"], context["layer"]["index"]) == (400, "layer", 0)
    assert "does not exist" in message


def test_a_vector_map_is_aggregated_from_the_threshold_on(server: MapsServer) -> None:
    small = server.create(layer(SAMPLES, None))
    assert small["metadata"]["layers"][0]["meta"]["aggregation"] == {"png": False, "mvt": False}
    assert len(vector(server, small, "0/0/0")) == ROWS
    many = "select s.*, n from samples s, generate_series(1, 40) n"
    large = server.create(layer(many, None))
    assert large["metadata"]["layers"][0]["meta"]["aggregation"] == {"png": False, "mvt": True}
    assert sum(feature["_cdb_feature_count"] for feature in vector(server, large, "0/0/0")) == 40 * ROWS
    off = server.create(layer(many, None, aggregation=False))
    assert "aggregation" not in off["metadata"]["layers"][0]["meta"]
    assert off["layergroupid"] != large["layergroupid"]
    for threshold, told in ((ROWS, True), (ROWS + 1, False)):
        created = vector_map(server, {"threshold": threshold})
        assert created["metadata"]["layers"][0]["meta"]["aggregation"]["mvt"] is told


def test_the_request_can_turn_aggregation_off(server: MapsServer) -> None:
    document = {"version": "1.8.0", "layers": [layer(SAMPLES, None, aggregation={"threshold": 1})]}
    created = server.post(document, aggregation="false").json()
    assert "aggregation" not in created["metadata"]["layers"][0]["meta"]
    assert len(vector(server, created, "0/0/0")) == ROWS
    told = server.client.get(f"{server.url}/layergroup/{created['layergroupid']}").json()
    assert told["metadata"]["layers"] == created["metadata"]["layers"]
    assert server.post(document, aggregation="true").json()["metadata"]["layers"][0]["meta"]["aggregation"]["mvt"]
    refused = server.post(document, aggregation="maybe")
    assert refused.status_code == 400
    assert refused.json()["errors"] == [
        "Invalid value for 'aggregation' query param: maybe. Valid ones are 'true' or 'false'"
    ]


def test_a_styled_layer_is_aggregated_only_where_it_asks(server: MapsServer) -> None:
    plain = server.create(layer(SAMPLES, RED))
    assert "aggregation" not in plain["metadata"]["layers"][0]["meta"]
    option = {"threshold": 1, "resolution": 16, "placement": "point-grid"}
    created = server.create(layer(SAMPLES, RED, aggregation=option), layer(SAMPLES, RED))
    told = [item["meta"]["aggregation"] for item in created["metadata"]["layers"]]
    assert told == [{"png": True, "mvt": True}, {"png": False, "mvt": False}]


@pytest.mark.parametrize("scale", ["", "@2x"])
def test_a_raster_tile_shows_one_marker_for_each_cell(server: MapsServer, scale: str) -> None:
    option = {"threshold": 1, "resolution": 16, "placement": "point-grid"}
    created = server.create(layer(SAMPLES, RED, aggregation=option))
    for tile in ("0/0/0", "2/1/1", "3/2/4"):
        z, column, row = (int(part) for part in tile.split("/"))
        answer = server.get(created, f"{tile}{scale}.png")
        image = Image.open(io.BytesIO(answer.content)).convert("RGBA")
        factor = image.width // 256
        expected = set()
        for cell in cells(z, 16):
            x = (cell[0] + 0.5) * 16 + 128 * 2**z - 256 * column
            y = 128 * 2**z - (cell[1] + 0.5) * 16 - 256 * row
            if 0 <= x < 256 and 0 <= y < 256:
                expected.add((x, y))
        drawn = {
            (x, y)
            for x in range(8, 256, 16)
            for y in range(8, 256, 16)
            if image.getpixel((x * factor, y * factor))[3] > 128  # type: ignore[index]
        }
        assert drawn == expected
        assert expected


def test_a_grid_tells_what_a_cell_adds_up_to(server: MapsServer) -> None:
    option = {"threshold": 1, "resolution": 16, "placement": "point-grid", "columns": ALL_COLUMNS}
    style = RED.replace("2;", "16;", 1)
    created = server.create(
        layer(SAMPLES, style, aggregation=option, interactivity=["_cdb_feature_count", "total", "usual"])
    )
    for tile in ("0/0/0", "3/2/4"):
        z, column, row = (int(part) for part in tile.split("/"))
        grid = server.get(created, f"0/{tile}.grid.json").json()
        found = 0
        for cell, members in cells(z, 16).items():
            x = (cell[0] + 0.5) * 16 + 128 * 2**z - 256 * column
            y = 128 * 2**z - (cell[1] + 0.5) * 16 - 256 * row
            if not (0 <= x < 256 and 0 <= y < 256):
                continue
            code = ord(grid["grid"][int(y // 4)][int(x // 4)])
            index = code - 32 - (code >= 93) - (code >= 35)
            values = grid["data"][grid["keys"][index]]
            assert values["_cdb_feature_count"] == len(members)
            assert values["total"] == sum(point[3] for point in members)
            found += 1
        assert found


def test_columns_that_aggregation_takes_away_cannot_be_named(server: MapsServer) -> None:
    option = {"threshold": 1, "placement": "centroid"}
    status, message, _ = server.refused(layer(SAMPLES, RED, aggregation=option, interactivity=["kind"]))
    assert (status, 'column "kind" does not exist' in message) == (400, True)
    style = RED.replace("{", "{ [kind = 'tap'] { marker-fill: #00f; }", 1)
    status, message, _ = server.refused(layer(SAMPLES, style, aggregation=option))
    assert (status, 'column "kind" does not exist' in message) == (400, True)
    # Attributes are those of the rows, and not of cells.
    server.create(layer(SAMPLES, RED, aggregation=option, attributes={"id": "id", "columns": ["kind"]}))


@pytest.mark.parametrize(
    ("sql", "options", "message"),
    [
        ("select * from lines", {}, "Unsupported geometry type: ST_LineString. Aggregation is available only for geometry type: ST_Point"),
        ("select *, geom as the_geom from datapoint", {"geom_column": "geom", "srid": 4326}, "Aggregation needs a geometry column in EPSG:3857"),
        ("select *, 1 as _cdb_feature_count from samples", {}, "which aggregation adds"),
        ("select *, id from samples", {}, "two columns of one name"),
    ],
)  # fmt: skip
def test_what_cannot_be_aggregated_is_refused_where_asked_and_left_where_not(
    server: MapsServer, sql: str, options: dict[str, Any], message: str
) -> None:
    status, said, context = server.refused(layer(sql, RED, aggregation={"threshold": 1}, **options))
    assert (status, context["type"], context["member"]) == (400, "layer", "layers[0].options.aggregation")
    assert message in said
    if "id from" not in sql:
        created = server.create(layer(sql, None, aggregation={"threshold": 1}, **options))
        assert created["metadata"]["layers"][0]["meta"]["aggregation"] == {"png": False, "mvt": False}
