"""Tiles of mapnik layers over HTTP: addresses, selectors, formats, grids, vector tiles, and their headers."""

import gzip
import json
import re
import zlib
from typing import Any

import mapbox_vector_tile
import mapnik
import pytest

from maps_fixtures import FILL, POINTS, WORLD, MapsServer, difference, layer, opened, painted, pixel_at

LANDS = "select * from lands"
PIXEL = 2 * WORLD / 256


def reference_image(size: int = 256) -> bytes:
    """The markers of the tenant's points at zoom 0, drawn by Mapnik itself without anything of ours."""
    drawn = mapnik.Map(size, size)
    text = """
        <Map srs="epsg:3857">
          <Style name="s"><Rule>
            <MarkersSymbolizer fill="#ff0000" width="20" stroke-width="0" allow-overlap="true"/>
          </Rule></Style>
          <Layer name="l" srs="epsg:4326"><StyleName>s</StyleName>
            <Datasource>
              <Parameter name="type">csv</Parameter>
              <Parameter name="inline">x,y\n0.01,0.01\n90,45\n-90,45\n-90,-45\n</Parameter>
            </Datasource>
          </Layer>
        </Map>"""
    mapnik.load_map_from_string(drawn, text)
    drawn.zoom_to_box(mapnik.Box2d(-WORLD, -WORLD, WORLD, WORLD))
    image = mapnik.Image(size, size)
    mapnik.render(drawn, image, size / 256)
    return bytes(image.to_string("png32"))


def cells(grid: dict[str, Any]) -> list[list[str]]:
    """Decode a UTFGrid to its keys, row by row."""
    rows = []
    for line in grid["grid"]:
        keys = []
        for character in line:
            number = ord(character)
            number -= number >= 93
            number -= number >= 35
            keys.append(grid["keys"][number - 32])
        rows.append(keys)
    return rows


@pytest.fixture(scope="module")
def points(maps: MapsServer) -> dict[str, Any]:
    return maps.create(layer(POINTS, interactivity="identifier,survey_id"))


@pytest.fixture(scope="module")
def three(maps: MapsServer) -> dict[str, Any]:
    """Three layers: red markers, blue land, and markers again with ids."""
    return maps.create(
        layer(POINTS, interactivity="identifier"),
        layer(LANDS, FILL, interactivity=["cartodb_id", "name"]),
        {**layer(POINTS), "id": "places"},
    )


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_an_image_is_what_mapnik_draws_of_the_same_data(maps: MapsServer, points: dict[str, Any], scale: int) -> None:
    suffix = "" if scale == 1 else f"@{scale}x"
    answer = maps.get(points, f"0/0/0{suffix}.png")
    assert answer.headers["content-type"] == "image/png"
    assert difference(opened(answer.content), opened(reference_image(256 * scale)), tolerance=16) < 0.002


@pytest.mark.parametrize(
    ("name", "content_type", "start"),
    [
        ("png", "image/png", b"\x89PNG"),
        ("png32", "image/png", b"\x89PNG"),
        ("png8", "image/png", b"\x89PNG"),
        ("jpg", "image/jpeg", b"\xff\xd8"),
        ("jpeg", "image/jpeg", b"\xff\xd8"),
        ("webp", "image/webp", b"RIFF"),
    ],
)
def test_each_image_format_shows_the_same_picture(
    maps: MapsServer, points: dict[str, Any], name: str, content_type: str, start: bytes
) -> None:
    answer = maps.get(points, f"0/0/0.{name}")
    assert (answer.status_code, answer.headers["content-type"]) == (200, content_type)
    assert answer.content.startswith(start)
    image = opened(answer.content)
    assert image.size == (256, 256)
    assert painted(image, (255, 0, 0, 255), tolerance=60) > 800
    # Where nothing is drawn an image is transparent, or white where the format knows no transparency.
    ground = (255, 255, 255, 255) if content_type == "image/jpeg" else (0, 0, 0, 0)
    assert painted(image, ground, tolerance=30) > 60_000


def test_png8_has_a_palette_and_png32_has_not(maps: MapsServer, points: dict[str, Any]) -> None:
    colour_type = {name: maps.get(points, f"0/0/0.{name}").content[25] for name in ("png8", "png32")}
    assert colour_type == {"png8": 3, "png32": 6}


def test_layers_are_painted_in_the_order_of_the_document(maps: MapsServer, three: dict[str, Any]) -> None:
    all_layers = opened(maps.get(three, "0/0/0.png").content)
    below = opened(maps.get(three, "0,1/0/0/0.png").content)
    # The markers lie below the land alone, and above it where the third layer is drawn as well.
    assert painted(below, (255, 0, 0, 255)) == 0
    assert painted(all_layers, (255, 0, 0, 255)) > 800


@pytest.mark.parametrize(
    ("selector", "same_as"),
    [
        ("mapnik", None),
        ("all", None),
        ("0,1,2", None),
        ("2,1,0", None),
        ("1,1", "1"),
        ("places", "2"),
        ("layer1", "1"),
        ("layer0,places", "0,2"),
    ],
)
def test_selectors_name_layers(maps: MapsServer, three: dict[str, Any], selector: str, same_as: str | None) -> None:
    wanted = maps.get(three, "1/0/0.png" if same_as is None else f"{same_as}/1/0/0.png")
    assert wanted.status_code == 200
    assert maps.get(three, f"{selector}/1/0/0.png").content == wanted.content


@pytest.mark.parametrize(
    ("selector", "status", "message"),
    [
        ("0,3", 400, "Invalid layer filtering"),
        ("-1,1", 400, "Invalid layer filtering"),
        ("p,0", 400, "Invalid layer filtering"),
        ("0,places", 400, "Invalid layer filtering"),
        ("mapnik,places", 400, "Invalid layer filtering"),
        ("cartodb", 400, "Invalid layer filtering"),
        ("blend", 400, "Invalid layer filtering"),
        ("raster", 400, "Invalid layer filtering"),
        ("3", 400, "Layer '3' not found in layergroup"),
        ("01", 400, "Layer '01' not found in layergroup"),
        ("1.5", 400, "Layer '1.5' not found in layergroup"),
        ("-1", 400, "Layer '-1' not found in layergroup"),
        ("torque", 400, "No 'torque' layers in MapConfig"),
        ("http", 400, "No 'http' layers in MapConfig"),
    ],
)
def test_wrong_selectors_are_said_to_be_so(
    maps: MapsServer, three: dict[str, Any], selector: str, status: int, message: str
) -> None:
    answer = maps.get(three, f"{selector}/0/0/0.png")
    assert (answer.status_code, answer.json()["errors"]) == (status, [message])


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("0/0/0.gif", 400, "Unsupported format gif"),
        ("0/0/0/0.grid_invalid.json", 400, "Unsupported format grid_invalid.json"),
        ("0/0/0/0.torque.json", 400, "Unsupported format torque.json"),
        ("a/0/0.png", 400, "Invalid zoom value (a). It should be an integer number greather than or equal to 0"),
        (
            "0/a/0/0.grid.json",
            400,
            "Invalid zoom value (a). It should be an integer number greather than or equal to 0",
        ),
        ("0/a/0.png", 400, "Invalid coodinate 'x' value (a). It should be an integer number"),
        (
            "0/0/a.png",
            400,
            "Invalid coodinate 'y' value (a). It should be an integer number greather than or equal to 0",
        ),
        ("1/0/2.png", 400, "Coordinates out of range: 1/0/2"),
        ("31/0/0.png", 400, "Coordinates out of range: 31/0/0"),
        ("99999999999999999999/0/0.png", 400, "Coordinates out of range: 99999999999999999999/0/0"),
        ("0/0/0@9x.png", 404, "Tile with specified resolution not found"),
        ("0/0/0@ax.png", 404, "Tile with specified resolution not found"),
        ("0/0/0@0x.png", 404, "Tile with specified resolution not found"),
        ("0/0/0", 404, "the address ends without a format"),
        ("0/0/0.", 404, "the address ends without a format"),
        ("0/1e1/0.png", 400, "Invalid coodinate 'x' value (1e1). It should be an integer number"),
    ],
)
def test_wrong_addresses_are_answered_and_never_cached(
    maps: MapsServer, points: dict[str, Any], path: str, status: int, message: str
) -> None:
    answer = maps.get(points, path)
    assert (answer.status_code, answer.json()["errors"]) == (status, [message])
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["errors_with_context"][0]["message"] == message


def test_columns_wrap_around_the_world(maps: MapsServer, points: dict[str, Any]) -> None:
    assert maps.get(points, "2/-2/1.png").content == maps.get(points, "2/2/1.png").content
    assert maps.get(points, "0/2/-3/1.mvt").content == maps.get(points, "0/2/1/1.mvt").content


def test_an_empty_scale_is_one_and_dotted_formats_need_no_selector(maps: MapsServer, points: dict[str, Any]) -> None:
    assert maps.get(points, "0/0/0@x.png").content == maps.get(points, "0/0/0.png").content
    assert maps.get(points, "0/0/0.grid.json").content == maps.get(points, "0/0/0/0.grid.json").content
    assert opened(maps.get(points, "0/0/0/0@2x.png").content).size == (512, 512)
    assert maps.get(points, "0/0/0.png/").status_code == 200


# --- grids


def test_a_grid_has_the_feature_of_each_cell(maps: MapsServer, points: dict[str, Any]) -> None:
    grid = maps.get(points, "0/0/0/0.grid.json").json()
    assert list(grid) == ["grid", "keys", "data"]
    decoded = cells(grid)
    assert [len(line) for line in grid["grid"]] == [64] * 64
    named = {key: value["identifier"] for key, value in grid["data"].items()}
    # Longitude 90 and latitude 45 lie at column 192 and row 92 of a tile of the whole world, cells have four pixels.
    assert named[decoded[92 // 4][192 // 4]] == "b"
    assert named[decoded[92 // 4][64 // 4]] == "c"
    assert named[decoded[164 // 4][64 // 4]] == "d"
    assert named[decoded[127 // 4][128 // 4]] == "a"
    assert decoded[0][0] == ""
    # A circle of 20 pixels covers about pi * 25 / 4 cells.
    count = sum(row.count(decoded[92 // 4][192 // 4]) for row in decoded)
    assert 14 <= count <= 26
    assert grid["data"][decoded[92 // 4][192 // 4]] == {"identifier": "b", "survey_id": "s1"}
    assert grid["data"][decoded[164 // 4][64 // 4]] == {"identifier": "d", "survey_id": None}


def test_a_covered_grid_has_one_key_and_an_empty_one_the_blank(maps: MapsServer, three: dict[str, Any]) -> None:
    covered = maps.get(three, "1/3/0/3.grid.json").json()
    assert covered["keys"] == ["1"]
    assert set("".join(covered["grid"])) == {" "}
    assert covered["data"] == {"1": {"cartodb_id": 1, "name": "west"}}
    empty = maps.get(three, "1/5/16/0.grid.json").json()
    assert (empty["keys"], empty["data"]) == ([""], {})


@pytest.mark.parametrize(
    ("sql", "columns", "expected"),
    [
        ("select 1::bigint as v, 2.5::numeric as w", "v,w", {"v": 1, "w": 2.5}),
        ("select true as v, 'x  '::char(3) as w", "v,w", {"v": True, "w": "x"}),
        ("select null::text as v, 'é日😀'::varchar as w", "v,w", {"v": None, "w": "é日😀"}),
        ("select now() as v, 1 as w", "v,w", {"w": 1}),
    ],
)
def test_grids_hold_what_json_can_show(maps: MapsServer, sql: str, columns: str, expected: dict[str, Any]) -> None:
    created = maps.create(
        layer(f"{sql}, st_setsrid(st_makepoint(0, 0), 3857) as the_geom_webmercator", interactivity=columns)
    )
    grid = maps.get(created, "0/0/0/0.grid.json").json()
    assert list(grid["data"].values()) == [expected]


@pytest.mark.parametrize("path", ["0/0/0.grid.json", "0,1/0/0/0.grid.json", "2/0/0/0.grid.json"])
def test_a_grid_needs_one_layer_with_interactivity(maps: MapsServer, three: dict[str, Any], path: str) -> None:
    answer = maps.get(three, path)
    assert (answer.status_code, answer.json()["errors"]) == (400, ["Tileset has no interactivity"])


def test_a_callback_wraps_grids_and_errors_but_no_images(maps: MapsServer, points: dict[str, Any]) -> None:
    answer = maps.get(points, "0/0/0/0.grid.json", callback="show.all")
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    start, end = "/**/ typeof show.all === 'function' && show.all(", ");"
    assert answer.text.startswith(start)
    assert answer.text.endswith(end)
    assert json.loads(answer.text.removeprefix(start).removesuffix(end)) == maps.get(points, "0/0/0/0.grid.json").json()
    error = maps.get(points, "9/0/0/0.grid.json", callback="show")
    assert error.status_code == 200
    assert "Layer '9' not found in layergroup" in error.text
    assert error.text.startswith("/**/ typeof show")
    assert maps.get(points, "0/0/0.png", callback="show").headers["content-type"] == "image/png"


@pytest.mark.parametrize("name", ["alert(1)//", "</script><script>", "a;b", "\u2028x", "a" * 5000])
def test_a_hostile_callback_cannot_say_anything_of_its_own(maps: MapsServer, points: dict[str, Any], name: str) -> None:
    answer = maps.get(points, "0/0/0/0.grid.json", callback=name)
    called = re.match(r"/\*\*/ typeof ([A-Za-z0-9_$.\[\]]{1,128}) === 'function' && \1\(", answer.text)
    assert answer.status_code == 200
    assert called is not None
    repeated = maps.client.get(
        f"{maps.url}/layergroup/{points['layergroupid']}/0/0/0/0.grid.json",
        params=[("callback", "a"), ("callback", "b")],
    )
    assert repeated.headers["content-type"].startswith("application/json")


# --- vector tiles


def test_a_vector_tile_holds_the_columns_of_the_query(maps: MapsServer, three: dict[str, Any]) -> None:
    answer = maps.get(three, "0/0/0.mvt")
    assert answer.headers["content-type"] == "application/x-protobuf"
    assert answer.headers["x-tilelive-contains-data"] == "true"
    tile = mapbox_vector_tile.decode(answer.content)
    assert set(tile) == {"layer0", "layer1", "places"}
    assert {layer["extent"] for layer in tile.values()} == {4096}
    lands = {feature["properties"]["cartodb_id"]: feature for feature in tile["layer1"]["features"]}
    assert set(lands) == {1, 2}
    assert lands[1]["properties"] == {"cartodb_id": 1, "name": "west", "100% odd": 1}
    ring = lands[2]["geometry"]["coordinates"][0]
    # From the middle to the edge; one unit is about ten kilometres.
    assert {x for x, _ in ring} == {2048, 4096}
    assert all(abs(abs(y - 2048) - 10_000_000 / (2 * WORLD) * 4096) <= 1 for _, y in ring)
    point = next(f for f in tile["places"]["features"] if f["properties"]["identifier"] == "b")
    assert point["geometry"]["coordinates"] == [3072, pytest.approx(4096 - 92 * 16, abs=16)]
    # Times and geometries are none of the types that a vector tile holds.
    assert set(point["properties"]) == {"identifier", "survey_id"}


def test_a_vector_tile_without_features_is_answered_204(maps: MapsServer, three: dict[str, Any]) -> None:
    answer = maps.get(three, "8/0/0.mvt")
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["x-tilelive-contains-data"] == "false"


def test_the_layers_of_a_vector_tile_are_named_by_their_ids(maps: MapsServer) -> None:
    created = maps.create(
        {"type": "plain", "options": {"color": "red"}}, layer(POINTS), layer(LANDS, FILL), layer(POINTS)
    )
    tile = mapbox_vector_tile.decode(maps.get(created, "1,3/0/0/0.mvt").content)
    assert set(tile) == {"layer0", "layer2"}


def test_degrees_are_transformed_for_images_grids_and_vector_tiles(maps: MapsServer) -> None:
    metres = maps.create(layer(POINTS, interactivity="identifier"))
    degrees = maps.create(layer(POINTS, geom_column="geom", srid=4326, interactivity="identifier"))
    one, other = (opened(maps.get(created, "0/0/0.png").content) for created in (metres, degrees))
    assert difference(one, other, tolerance=16) < 0.001
    grids = [maps.get(created, "0/0/0.grid.json").json() for created in (metres, degrees)]
    assert cells(grids[0])[23][48] == cells(grids[1])[23][48] != ""
    tiles = [mapbox_vector_tile.decode(maps.get(created, "3/6/2.mvt").content) for created in (metres, degrees)]
    for tile in tiles:
        assert [f["properties"]["identifier"] for f in tile["layer0"]["features"]] == ["b"]
    first, second = (tile["layer0"]["features"][0]["geometry"]["coordinates"] for tile in tiles)
    assert first == pytest.approx(second, abs=1)


@pytest.mark.parametrize(("buffer", "seen"), [(0, 0), (64, 1)])
def test_the_buffer_of_each_format_is_the_documents_own(maps: MapsServer, buffer: int, seen: int) -> None:
    # A point five pixels west of tile 1/1/0.
    sql = f"select 1 as id, st_setsrid(st_makepoint({-5 * PIXEL / 2}, 5000000), 3857) as the_geom_webmercator"
    created = maps.create(
        layer(sql, interactivity="id"), buffersize={"png": buffer, "grid.json": buffer, "mvt": buffer, "png32": 64}
    )
    vector = maps.get(created, "1/1/0.mvt")
    assert (vector.status_code == 200) is bool(seen)
    assert bool(painted(opened(maps.get(created, "1/1/0.png?").content), (255, 0, 0, 255))) is bool(seen) or buffer == 0
    # Drawn together with its neighbour a tile shows the marker all the same; alone it depends on the buffer.
    grid = maps.get(created, "1/1/0.grid.json").json()
    assert "" in grid["keys"]


def test_an_extent_is_the_size_of_a_vector_tiles_grid(maps: MapsServer) -> None:
    created = maps.create(layer(POINTS, None, vector_extent=8192, vector_simplify_extent=1024))
    tile = mapbox_vector_tile.decode(maps.get(created, "0/0/0.mvt").content)
    assert tile["layer0"]["extent"] == 8192
    named = {f["properties"]["identifier"]: f["geometry"]["coordinates"] for f in tile["layer0"]["features"]}
    assert named["b"][0] == pytest.approx(6144, abs=1)


def test_layers_have_their_own_zooms(maps: MapsServer) -> None:
    created = maps.create(layer(LANDS, FILL, minzoom=0, maxzoom=2), layer(LANDS, FILL, minzoom=2, maxzoom=4))
    shown = {}
    for zoom in (1, 2, 4, 5):
        answer = maps.get(created, f"{zoom}/0/{2**zoom // 2}.mvt")
        shown[zoom] = set(mapbox_vector_tile.decode(answer.content)) if answer.content else set()
    assert shown == {1: {"layer0"}, 2: {"layer0", "layer1"}, 4: {"layer1"}, 5: set()}
    assert painted(opened(maps.get(created, "5/1/16.png").content), (0, 0, 0, 0)) == 65_536
    assert painted(opened(maps.get(created, "4/1/8.png").content), (0, 0, 255, 255)) > 30_000


def test_a_map_has_no_tiles_outside_its_own_zooms(maps: MapsServer) -> None:
    created = maps.create(layer(POINTS), minzoom=1, maxzoom=3)
    assert [maps.get(created, f"{zoom}/0/0.png").status_code for zoom in range(5)] == [404, 200, 200, 200, 404]
    assert maps.get(created, "4/0/0.mvt").json()["errors"] == ["The map has no tiles at zoom 4"]


def test_a_map_for_vector_tiles_only_has_no_images(maps: MapsServer) -> None:
    created = maps.create(layer(POINTS, None), layer(LANDS, None))
    told = [entry["meta"]["aggregation"] for entry in created["metadata"]["layers"]]
    assert told == [{"png": False, "mvt": False}] * 2
    assert set(mapbox_vector_tile.decode(maps.get(created, "0/0/0.mvt").content)) == {"layer0", "layer1"}
    for name in ("png", "grid.json", "png32"):
        answer = maps.get(created, f"0/0/0.{name}")
        assert answer.json()["errors"] == [f"Unsupported format: 'cartocss' option is missing for {name}"]
        assert answer.status_code == 400
        assert answer.json()["errors_with_context"][0]["type"] == "tile"


def test_rasters_are_drawn_as_they_are(maps: MapsServer) -> None:
    css = "#layer { raster-opacity: 1; raster-scaling: near; }"
    created = maps.create(
        layer("select * from pictures", css, geom_column="the_raster_webmercator", geom_type="raster", srid=3857)
    )
    image = opened(maps.get(created, "0/0/0.png").content)
    assert painted(image, (200, 100, 50, 255), tolerance=4) == pytest.approx(128 * 128, rel=0.05)
    assert image.getpixel((128, 128)) == (200, 100, 50, 255)
    assert pixel_at(image, 10, 10)[3] == 0
    one_band = maps.create(
        layer(
            "select * from pictures",
            f"{css[:-1]} raster-colorizer-default-mode: discrete;"
            " raster-colorizer-stops: stop(0, #0000ff) stop(150, #00ff00); }",
            geom_column="the_raster_webmercator",
            geom_type="raster",
            raster_band=1,
        )
    )
    # The first band is 200 everywhere.
    assert opened(maps.get(one_band, "0/0/0.png").content).getpixel((128, 128)) == (0, 255, 0, 255)
    answer = maps.get(created, "0/0/0.mvt")
    assert (answer.status_code, answer.json()["errors"]) == (
        400,
        ["Layer 0 holds a raster, which has no vector tiles"],
    )


def test_mixed_null_and_empty_geometries_are_no_trouble(maps: MapsServer) -> None:
    css = "#l { marker-width: 9; marker-fill: red; line-color: blue; polygon-fill: lime; }"
    created = maps.create(layer("select * from mixed", css, geom_column="geom", srid=4326, interactivity="id"))
    image = opened(maps.get(created, "0/0/0.png").content)
    assert painted(image, (0, 0, 0, 0)) < 65_000
    assert maps.get(created, "0/0/0.grid.json").status_code == 200
    tile = mapbox_vector_tile.decode(maps.get(created, "0/0/0.mvt").content)
    assert {f["properties"]["id"] for f in tile["layer0"]["features"]} == {1, 2, 3, 5}
    empty = maps.create(layer("select * from lands where cartodb_id > 2", FILL, interactivity="name"))
    assert painted(opened(maps.get(empty, "0/0/0.png").content), (0, 0, 0, 0)) == 65_536
    assert maps.get(empty, "0/0/0.mvt").status_code == 204


# --- headers


def test_the_same_tile_is_not_sent_twice(maps: MapsServer, points: dict[str, Any]) -> None:
    for path in ("0/0/0.png", "0/0/0.grid.json", "0/0/0.mvt"):
        answer = maps.get(points, path)
        url = str(answer.url)
        tag = answer.headers["etag"]
        for wanted in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            again = maps.client.get(url, headers={"If-None-Match": wanted})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert maps.client.get(url, headers={"If-None-Match": '"other"'}).status_code == 200


def test_head_answers_what_get_would_without_a_body(maps: MapsServer, points: dict[str, Any]) -> None:
    for path in ("0/0/0.png", "0/0/0.grid.json", "tilejson.json", ""):
        url = f"{maps.url}/layergroup/{points['layergroupid']}/{path}"
        got, head = maps.client.get(url), maps.client.head(url)
        assert (head.status_code, head.content) == (200, b"")
        for name in ("content-type", "content-length", "etag", "cache-control"):
            assert head.headers[name] == got.headers[name], name


def test_a_tile_is_kept_long_only_where_new_data_give_a_new_address(maps: MapsServer, points: dict[str, Any]) -> None:
    token = points["layergroupid"].partition(":")[0]
    long = maps.get(points, "0/0/0.png").headers["cache-control"]
    short = maps.client.get(f"{maps.url}/layergroup/{token}/0/0/0.png").headers["cache-control"]
    assert (long, short) == ("public, max-age=3600", "public, max-age=60")
    # Nobody tells us when a table of the operator changes.
    of_lands = maps.create(layer(LANDS, FILL))
    assert maps.get(of_lands, "0/0/0.png").headers["cache-control"] == short
    depends = maps.create(layer(POINTS, affected_tables=["lands"]))
    assert maps.get(depends, "0/0/0.png").headers["cache-control"] == short


def test_a_cache_buster_may_be_anything(maps: MapsServer, points: dict[str, Any]) -> None:
    token = points["layergroupid"].partition(":")[0]
    expected = maps.get(points, "0/0/0.png").content
    for buster in ("", "0", "undefined", "99999999999999999999", "a b", "1:2:3", "%00"):
        answer = maps.client.get(f"{maps.url}/layergroup/{token}:{buster}/0/0/0.png")
        assert answer.content == expected, buster


@pytest.mark.parametrize(
    "token", ["0" * 32, "nope", "z" * 32, "A" * 32, "..%2f..%2fetc", "0" * 5000, "%F0%9F%98%80", "0" * 31]
)
def test_an_unknown_token_is_told_so(maps: MapsServer, token: str) -> None:
    for path in ("/0/0/0.png", "/0/0/0/0.grid.json", "/0/attributes/1", "", "/tilejson.json"):
        answer = maps.client.get(f"{maps.url}/layergroup/{token}{path}")
        assert answer.status_code in (400, 404), path
        if answer.status_code == 400 and "%2f" not in token:
            assert answer.json()["errors"][0].startswith("Invalid or nonexistent map configuration token '")


def test_a_tampered_token_is_unknown(maps: MapsServer, points: dict[str, Any]) -> None:
    token = points["layergroupid"].partition(":")[0]
    other = token[:-1] + ("0" if token[-1] != "0" else "1")
    answer = maps.client.get(f"{maps.url}/layergroup/{other}/0/0/0.png")
    assert answer.json()["errors"] == [f"Invalid or nonexistent map configuration token '{other}'"]


def test_text_formats_are_small_when_compressed(maps: MapsServer, points: dict[str, Any]) -> None:
    """nginx compresses them; this says that it is worth it. That it does is for the tests of the front door."""
    body = maps.get(points, "0/0/0.grid.json").content
    assert len(gzip.compress(body)) < len(body) / 4
    assert zlib.decompress(zlib.compress(body)) == body
