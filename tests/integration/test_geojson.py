"""GeoJSON tiles over HTTP: what is shown of shapes and columns, for one layer and for several."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from flowstack.postgres import Postgres
from maps_fixtures import FILL, POINTS, RED, WORLD, MapsServer, layer, maps_server

LANDS = "select * from lands"
LINE = "#l { line-width: 1; }"
MOST = 50
BUFFER_PX = 32


@pytest.fixture(scope="module")
def server(postgres: Postgres) -> Iterator[MapsServer]:
    settings = {
        "FLOWMAPS_LIMIT_FEATURES_PER_TILE": str(MOST),
        "FLOWMAPS_RENDER_GEOJSON_BUFFER_SIZE_PX": str(BUFFER_PX),
        "FLOWMAPS_RENDER_VARIABLES": '{"WHO": "it\'s"}',
    }
    with maps_server(postgres, **settings) as started:
        yield started


def shape(text: str, srid: int = 3857, **columns: str) -> str:
    """Return SQL of one row with a geometry and columns."""
    named = "".join(f", {value} as {name}" for name, value in columns.items())
    return f"select st_setsrid('{text}'::geometry, {srid}) as the_geom_webmercator{named}"


def collection(server: MapsServer, created: dict[str, Any], path: str) -> list[dict[str, Any]]:
    answer = server.get(created, path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    document = json.loads(answer.text, parse_constant=pytest.fail)
    assert list(document) == ["type", "features"]
    assert document["type"] == "FeatureCollection"
    features: list[dict[str, Any]] = document["features"]
    for feature in features:
        assert list(feature) in (
            ["type", "geometry", "properties"],
            ["type", "layer", "geometry", "properties"],
        )
        assert feature["type"] == "Feature"
    return features


def geometries(server: MapsServer, sql: str, tile: str = "0/0/0", css: str = LINE, **options: Any) -> list[Any]:
    created = server.create(layer(sql, css, **options))
    return [feature["geometry"] for feature in collection(server, created, f"{tile}.geojson")]


def test_one_layer_is_one_collection_in_its_own_reference_system(maps: MapsServer) -> None:
    created = maps.create(layer(f"{POINTS} order by identifier", RED, interactivity="identifier"))
    for path in ("0/0/0.geojson", "0/0/0/0.geojson", "mapnik/0/0/0.geojson", "all/0/0/0.geojson"):
        features = collection(maps, created, path)
        assert [feature["properties"]["identifier"] for feature in features] == ["a", "b", "c", "d"]
        x, y = features[1]["geometry"]["coordinates"]
        assert (x, y) == (round(WORLD / 2), 5621521)
        assert "layer" not in features[0]


def test_several_layers_are_one_flat_collection_that_names_them(maps: MapsServer) -> None:
    created = maps.create(
        layer(POINTS, RED, interactivity="identifier"), {**layer(LANDS, FILL, columns=["name"]), "id": 'land " é'}
    )
    features = collection(maps, created, "0/0/0.geojson")
    assert [feature["layer"] for feature in features] == ["layer0"] * 4 + ['land " é'] * 2
    assert features[-1]["properties"] == {"name": "east"}
    # One layer alone has the form that it always had.
    assert all("layer" not in feature for feature in collection(maps, created, "1/0/0/0.geojson"))


def test_an_empty_tile_is_an_empty_collection(maps: MapsServer) -> None:
    created = maps.create(layer(POINTS, RED, minzoom=3), {"type": "plain", "options": {"color": "red"}})
    for path in ("10/0/0.geojson", "0/0/0.geojson", "0/2/0/0.geojson"):
        answer = maps.get(created, path)
        assert (answer.status_code, answer.text) == (200, '{"type":"FeatureCollection","features":[]}')
        assert "x-tilelive-contains-data" not in answer.headers
    assert len(collection(maps, created, "3/4/3.geojson")) == 1


def test_properties_are_the_columns_that_the_layer_names_each_once(maps: MapsServer) -> None:
    css = '#l["100% odd" > 0] { polygon-fill: red; } #l { text-name: "[name]"; text-face-name: "DejaVu Sans Book"; }'
    named = maps.create(layer(LANDS, css, columns=["name", "the_geom_webmercator"], interactivity="cartodb_id,name"))
    (first, _) = collection(maps, named, "0/0/0.geojson")
    assert list(first["properties"].items()) == [("name", "west"), ("100% odd", 1), ("cartodb_id", 1)]
    bare = maps.create(layer(LANDS, FILL))
    assert [feature["properties"] for feature in collection(maps, bare, "0/0/0.geojson")] == [{}, {}]


def test_a_map_for_vector_tiles_shows_their_columns(maps: MapsServer) -> None:
    created = maps.create(layer(LANDS, None))
    assert collection(maps, created, "0/0/0.geojson")[1]["properties"] == {
        "cartodb_id": 2, "name": "east", "100% odd": 2,
    }  # fmt: skip
    named = maps.create(layer(LANDS, None, columns=["name"]))
    assert collection(maps, named, "0/0/0.geojson")[1]["properties"] == {"name": "east"}


def test_every_type_of_postgresql_is_shown_as_json(maps: MapsServer) -> None:
    columns = {
        "a": "1e308::float8", "b": "'NaN'::float8", "c": "'-Infinity'::float4", "d": "'NaN'::numeric",
        "e": "9223372036854775807::bigint", "f": "1e400::numeric",
        "g": "'infinity'::timestamptz", "h": "date '2020-01-02'", "i": "interval '1 day'", "j": "null::text",
        "k": "array['NaN'::float8, 1]", "l": "'{\"a\": [1, null]}'::jsonb", "m": "'{\"b\":1e999}'::json",
        "n": "decode('00ff', 'hex')", "o": "st_makepoint(1, 2)", "p": "row(1, 'x')", "q": "true", "r": "'\"\\</script>'",
        "s": "int4range(1, 5)", "t": "st_makepoint(1, 2)::geography", "u": "gen_random_uuid()", "v": "'\u2028'",
        "w": "array[st_makepoint('NaN', 2)]",
    }  # fmt: skip
    created = maps.create(layer(shape("POINT(0 0)", 3857, **columns), RED, columns=list(columns)))
    answer = maps.get(created, "0/0/0.geojson")
    (feature,) = collection(maps, created, "0/0/0.geojson")
    shown = feature["properties"]
    assert list(shown) == list(columns)
    assert (shown["a"], shown["b"], shown["c"], shown["d"], shown["e"]) == (1e308, None, None, None, 2**63 - 1)
    assert '"f":1000000' in answer.text
    assert (shown["g"], shown["h"], shown["i"], shown["j"]) == ("infinity", "2020-01-02", "1 day", None)
    assert (shown["k"], shown["l"], shown["n"]) == (["NaN", 1], {"a": [1, None]}, "\\x00ff")
    assert shown["o"].startswith("01010000")
    assert (shown["p"], shown["q"], shown["r"], shown["s"]) == ({"f1": 1, "f2": "x"}, True, '"\\</script>', "[1,5)")
    assert shown["t"].startswith("0101000020E6")
    called = maps.get(created, "0/0/0.geojson", callback="shown")
    assert called.text.startswith('/**/ typeof shown === \'function\' && shown({"type":"FeatureCollection"')
    assert "\u2028" not in called.text


def test_shapes_are_cut_at_the_grown_tile(server: MapsServer) -> None:
    side = 2 * WORLD / 4
    (cut,) = geometries(server, shape("LINESTRING(-30000000 100, 30000000 100)"), "2/2/1")
    edge = BUFFER_PX * side / 256
    assert cut == {"type": "LineString", "coordinates": [[-round(edge), 100], [round(side + edge), 100]]}


@pytest.mark.parametrize(
    ("map_size", "css_size", "expected_px"), [(0, None, 0), (8, None, 8), (1024, None, 256), (8, 4, 4)]
)
def test_the_buffer_is_the_styles_else_the_maps_else_the_servers(
    server: MapsServer, map_size: int, css_size: int | None, expected_px: int
) -> None:
    css = LINE if css_size is None else f"Map {{ buffer-size: {css_size}; }} {LINE}"
    sql = shape("LINESTRING(-100000000 100, 100000000 100)")
    created = server.create(layer(sql, css), buffersize={"geojson": map_size})
    (feature,) = collection(server, created, "0/0/0.geojson")
    reach = round(WORLD + expected_px * 2 * WORLD / 256)
    assert feature["geometry"]["coordinates"] == [[-reach, 100], [reach, 100]]


def test_detail_below_a_twentieth_of_a_pixel_goes(server: MapsServer) -> None:
    pixel = 2 * WORLD / 256
    wiggle = f"LINESTRING(0 0, 1000000 {pixel / 25}, 2000000 0, 3000000 {pixel / 5}, 4000000 0)"
    (line,) = geometries(server, shape(wiggle))
    assert [x for x, _ in line["coordinates"]] == [0, 2000000, 3000000, 4000000]


def test_what_becomes_too_small_is_its_box_and_what_is_outside_is_not_there(server: MapsServer) -> None:
    small = "((0 0, 60 0, 30 60, 0 0))"
    (box,) = geometries(server, shape(f"POLYGON{small}"))
    assert box["type"] == "Polygon"
    assert sorted(box["coordinates"][0]) == sorted([[0, 0], [0, 60], [60, 60], [60, 0], [0, 0]])
    far = "((15000000 -9000000, 15000060 -9000000, 15000030 -9000060, 15000000 -9000000))"
    (both,) = geometries(server, shape(f"MULTIPOLYGON({small}, {far})"))
    assert [len(part[0]) for part in both["coordinates"]] == [5, 5]
    # The kind of a shape does not depend on how many of its parts a tile shows.
    (one,) = geometries(server, shape(f"MULTIPOLYGON({small}, {far})"), "4/8/7")
    assert (one["type"], len(one["coordinates"])) == ("MultiPolygon", 1)
    assert geometries(server, shape(f"MULTIPOLYGON({small}, {far})"), "4/1/1") == []


@pytest.mark.parametrize(
    ("zoom", "srid", "point", "shown"),
    [
        (17, 3857, "POINT(1.23456 2.34567)", [1, 2]),
        (18, 3857, "POINT(1.23456 2.34567)", [1.23, 2.35]),
        (17, 4326, "POINT(0.000123456789 0.000234567891)", [0.00012, 0.00023]),
        (18, 4326, "POINT(0.000123456789 0.000234567891)", [0.0001235, 0.0002346]),
        # A metre is a metre in UTM, and about three feet.
        (17, 32631, "POINT(166022.44 0.26)", [166022, 0]),
        (18, 32631, "POINT(166022.446 0.267)", [166022.45, 0.27]),
    ],
)
def test_coordinates_are_as_exact_on_the_ground_in_every_unit(
    server: MapsServer, zoom: int, srid: int, point: str, shown: list[float]
) -> None:
    middle = 1 << (zoom - 1)
    (found,) = geometries(server, shape(point, srid), f"{zoom}/{middle}/{middle - 1}", RED, srid=srid)
    assert found == {"type": "Point", "coordinates": shown}


def test_a_shape_that_reaches_the_poles_is_cut_in_its_own_degrees(server: MapsServer) -> None:
    sql = shape("POLYGON((-180 -90, 180 -90, 180 90, -180 90, -180 -90))", 4326)
    (world,) = geometries(server, sql, css=FILL, srid=4326)
    longitudes, latitudes = zip(*world["coordinates"][0], strict=True)
    assert (min(longitudes), max(longitudes)) == (-180, 180)
    assert (min(latitudes), max(latitudes)) == pytest.approx((-85.05113, 85.05113), abs=0.00001)


@pytest.mark.parametrize(
    ("expression", "kinds"),
    [
        ("st_makepoint('NaN', 'NaN')", []),
        ("st_makepoint('Infinity', 0)", []),
        ("st_makeline(st_makepoint(0, 0), st_makepoint('Infinity', 5))", []),
        ("st_makeline(st_makepoint(0, 0), st_makepoint(1e300, 1e300))", []),
        ("'POINT EMPTY'::geometry", []),
        ("null::geometry", []),
        ("'TRIANGLE((0 0, 1000000 0, 1000000 1000000, 0 0))'::geometry", []),
        ("'TIN(((0 0 0, 0 0 1000000, 0 1000000 0, 0 0 0)))'::geometry", []),
        ("'POINT ZM (1 2 3 4)'::geometry", ["Point"]),
        ("'LINESTRING(0 0, 0 0)'::geometry", ["LineString"]),
        ("'POLYGON((0 0, 2000000 2000000, 0 2000000, 2000000 0, 0 0))'::geometry", ["MultiPolygon"]),
        ("'GEOMETRYCOLLECTION(POINT(5 5), LINESTRING(0 0, 5000000 0))'::geometry", ["GeometryCollection"]),
        ("'GEOMETRYCOLLECTION(POINT(5 5), GEOMETRYCOLLECTION(POINT(6 6)))'::geometry", ["MultiPoint"]),
    ],
)
def test_odd_shapes_never_break_a_tile(server: MapsServer, expression: str, kinds: list[str]) -> None:
    sql = f"select st_setsrid({expression}, 3857) as the_geom_webmercator"
    assert [found["type"] for found in geometries(server, sql)] == kinds


def test_a_tile_has_no_more_features_than_the_limit(server: MapsServer) -> None:
    sql = f"{shape('POINT(0 0)', n='n')} from generate_series(1, 100) as n"
    created = server.create(layer(sql, RED, columns=["n"]))
    assert len(collection(server, created, "0/0/0.geojson")) == MOST


def test_a_tile_is_no_larger_than_fits_in_memory(server: MapsServer) -> None:
    long = "(select string_agg(md5(part::text), '') from generate_series(1, 100000) as part)"
    sql = f"{shape('POINT(0 0)', long=long)} from generate_series(1, 30)"
    created = server.create(layer(sql, RED, columns=["long"]))
    answer = server.get(created, "0/0/0.geojson")
    assert answer.status_code == 400
    assert "bytes or more, the limit is 67108864" in answer.json()["errors"][0]


def test_a_query_that_takes_too_long_is_503(server: MapsServer) -> None:
    slow = "(select count(*) from generate_series(1, case when !@zoom! = '0' then 1 else 2000000000 end))"
    created = server.create(layer(shape("POINT(0 0)", n=slow), RED, columns=["n"]))
    answer = server.get(created, "1/0/0.geojson")
    assert (answer.status_code, answer.headers["retry-after"] != "") == (503, True)


def test_tokens_and_variables_are_those_of_the_tile(server: MapsServer) -> None:
    sql = shape(
        "POINT(10 -10)", who="!@WHO!", z="!@zoom!::int", x="!@x!::int", y="!@y!::int",
        box="st_xmin(!bbox!)", nobody="!@nobody!", pixel="!pixel_width!",
    )  # fmt: skip
    created = server.create(layer(sql, RED, columns=["who", "z", "x", "y", "box", "nobody", "pixel"]))
    (feature,) = collection(server, created, "3/4/4.geojson")
    pixel = 2 * WORLD / 8 / 256
    assert feature["properties"] == {
        "who": "it's", "z": 3, "x": 4, "y": 4, "nobody": None,
        "box": pytest.approx(-BUFFER_PX * pixel), "pixel": pytest.approx(pixel),
    }  # fmt: skip


def test_aggregated_points_are_shown(server: MapsServer) -> None:
    sql = f"{shape('POINT(5 5)', n='n')} from generate_series(1, 9) as n"
    options = {"threshold": 1, "placement": "centroid"}
    created = server.create(layer(sql, None, aggregation=options))
    (feature,) = collection(server, created, "0/0/0.geojson")
    assert feature["properties"] == {"_cdb_feature_count": 9, "cartodb_id": "0_0"}


def test_hostile_names_are_quoted(server: MapsServer) -> None:
    name = "a\"b' {x} %s \\ é"
    quoted = name.replace('"', '""')
    sql = f'select n as "{quoted}", the_geom_webmercator from (select 7 as n, {shape("POINT(0 0)")[7:]}) as t'
    created = server.create(
        {**layer(sql, RED, columns=[name]), "id": name}, layer(POINTS, RED, geom_column="geom", srid=4326)
    )
    first = collection(server, created, "0/0/0.geojson")[0]
    assert (first["properties"], first["layer"]) == ({name: 7}, name)


@pytest.mark.parametrize(
    ("columns", "part"),
    [
        (["nope"], 'column "nope" does not exist'),
        ("name", "The option columns of layer 0 must be a list of names"),
        ([1], "The option columns of layer 0 must be a list of names"),
        ([""], "The option columns of layer 0 must be a list of names"),
    ],
)
def test_columns_that_cannot_be_are_refused_at_creation(maps: MapsServer, columns: object, part: str) -> None:
    status, message, context = maps.refused(layer(LANDS, FILL, columns=columns))
    assert (status, part in message, context["member"]) == (400, True, "layers[0].options.columns")


def test_layers_that_have_no_shapes_are_refused(maps: MapsServer) -> None:
    style = "#l { raster-opacity: 1; }"
    raster = layer("select * from pictures", style, geom_type="raster", geom_column="the_raster_webmercator")
    created = maps.create(raster, {"type": "plain", "options": {"color": "red"}})
    answers = [maps.get(created, path) for path in ("0/0/0/0.geojson", "1/0/0/0.geojson", "all/0/0/0.geojson")]
    assert [answer.status_code for answer in answers] == [400, 400, 400]
    assert [answer.json()["errors"][0] for answer in answers] == [
        "Layer 0 holds a raster, which has no GeoJSON tiles",
        "Unsupported format geojson",
        "Unsupported format geojson",
    ]


def test_a_tile_has_the_headers_of_any_other(maps: MapsServer) -> None:
    created = maps.create(layer(POINTS, RED))
    answer = maps.get(created, "0/0/0.geojson")
    assert answer.headers["cache-control"] == "public, max-age=3600"
    again = maps.client.get(str(answer.url), headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304
    assert maps.client.head(str(answer.url)).status_code == 200
    assert maps.get(created, "0/0/9.geojson").status_code == 400
