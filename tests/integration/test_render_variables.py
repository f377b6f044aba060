"""Render variables over HTTP: what the operator sets and what the tile tells, in SQL and CartoCSS, for every format."""

import json
from collections.abc import Iterator
from typing import Any

import mapbox_vector_tile
import pytest

from flowstack.postgres import Postgres
from maps_fixtures import MapsServer, layer, maps_server, opened, painted, pixel_at

HOSTILE = "it's \\ 100% !bbox! !@N! $$ -- /* \" é😀 %s"
VARIABLES = {"RENDERLIMIT": 2, "RENDERCOLOR": "blue", "SIZE": 40, "TEXT": "40", "HOSTILE": HOSTILE, "ON": True}
POINT = "st_setsrid('POINT(10 -10)'::geometry, 3857) as the_geom_webmercator"
BLUE = (0, 0, 255, 255)


@pytest.fixture(scope="module")
def server(postgres: Postgres) -> Iterator[MapsServer]:
    with maps_server(postgres, FLOWMAPS_RENDER_VARIABLES=json.dumps(VARIABLES)) as started:
        yield started


def marker(width: str, color: str = "'@RENDERCOLOR'") -> str:
    return f"#l {{ marker-width: {width}; marker-fill: {color}; marker-line-width: 0; marker-allow-overlap: true; }}"


def first_row_px(grid: dict[str, Any]) -> int:
    """Return how much of a grid's first row is covered, in tile pixels."""
    codes = [ord(character) for character in grid["grid"][0]]
    numbers = [code - (code >= 93) - (code >= 35) - 32 for code in codes]
    return 4 * sum(1 for number in numbers if grid["keys"][number])


def properties(server: MapsServer, created: dict[str, Any], path: str) -> list[dict[str, Any]]:
    tile = mapbox_vector_tile.decode(server.get(created, path).content)
    return [feature["properties"] for feature in tile["layer0"]["features"]]


def test_a_limit_and_a_colour_as_clients_of_windshaft_write_them(server: MapsServer) -> None:
    sql = "select * from datapoint order by identifier limit !@RENDERLIMIT!"
    created = server.create(layer(sql, marker("20"), interactivity="identifier"))
    image = opened(server.get(created, "0/0/0.png").content)
    assert painted(image, BLUE) > 400
    data = server.get(created, "0/0/0/0.grid.json").json()["data"]
    assert {row["identifier"] for row in data.values()} == {"a", "b"}
    assert [item["identifier"] for item in properties(server, created, "0/0/0.mvt")] == ["a", "b"]


def test_styles_compute_with_numbers(server: MapsServer) -> None:
    widths = ["'@SIZE / 2'", "'@SIZE'", "'@TEXT'"]
    made = [server.create(layer(f"select 1 as id, {POINT}", marker(width))) for width in widths]
    half, whole, text = (painted(opened(server.get(item, "0/0/0.png").content), BLUE) for item in made)
    assert whole == pytest.approx(4 * half, rel=0.15)
    assert text == whole


def test_no_value_leaves_its_literal(server: MapsServer) -> None:
    sql = f"select !@HOSTILE!::text as value, !@ON!::boolean as is_on, !@UNSET! as unset, {POINT}"
    created = server.create(
        layer(
            sql,
            marker("20") + " #l { text-name: '@HOSTILE'; text-face-name: 'DejaVu Sans Book'; }",
            interactivity="value",
            attributes={"id": "value", "columns": ["value", "is_on", "unset"]},
        )
    )
    assert server.get(created, "0/0/0.png").status_code == 200
    (row,) = server.get(created, "0/0/0/0.grid.json").json()["data"].values()
    assert row == {"value": HOSTILE}
    assert properties(server, created, "0/0/0.mvt") == [{"value": HOSTILE, "is_on": True}]
    found = server.client.get(
        f"{server.url}/layergroup/{created['layergroupid']}/0/attributes/{HOSTILE.replace('%', '%25').replace('/', '%2F')}"
    )
    assert found.json() == {"value": HOSTILE, "is_on": True, "unset": None}


def test_an_aggregated_query_has_its_variables(server: MapsServer) -> None:
    sql = f"select !@HOSTILE!::text as value, n, {POINT} from generate_series(1, 5) as n"
    options = {"threshold": 1, "columns": {"most": {"aggregate_function": "max", "aggregated_column": "value"}}}
    created = server.create(layer(sql, None, aggregation=options))
    (row,) = properties(server, created, "0/0/0.mvt")
    assert (row["_cdb_feature_count"], row["most"]) == (5, HOSTILE)


def test_torque_has_its_variables(server: MapsServer) -> None:
    style = 'Map { -torque-frame-count: 4; -torque-resolution: 2; -torque-time-attribute: t; -torque-aggregation-function: "count(*)"; } #l { marker-width: 3; }'  # fmt: skip
    sql = f"select n as t, {POINT} from generate_series(1, 9) as n where n <= !@RENDERLIMIT! and !@zoom! >= 1"
    created = server.create({"type": "torque", "options": {"sql": sql, "cartocss": style}})
    assert server.get(created, "0/0/0/0.torque.json").json() == []
    (cell,) = server.get(created, "0/1/1/1.torque.json").json()
    assert sum(cell["vals__uint8"]) == 2


def test_vector_tiles_know_which_tile_they_are(server: MapsServer) -> None:
    sql = f"select !@zoom! as z, !@zoom_level! as l, !@x! as x, !@y! as y, !@bbox! as box, {POINT}"
    created = server.create(layer(sql, marker("20")))
    (found,) = properties(server, created, "4/8/8.mvt")
    assert (found["z"], found["l"], found["x"], found["y"]) == ("4", "4", "8", "8")
    side = 2 * 20037508.342789244 / 16
    assert json.loads(found["box"]) == pytest.approx([0, -side, side, 0], abs=1e-6)


@pytest.mark.parametrize("name", ["zoom", "zoom_level"])
def test_images_and_grids_know_their_zoom(server: MapsServer, name: str) -> None:
    sql = f"select !@{name}! as seen, {POINT} where !@{name}!::integer > 2"
    created = server.create(layer(sql, marker(f"'@{name} * 10'"), interactivity="seen"))
    assert painted(opened(server.get(created, "2/2/2.png").content), BLUE) == 0
    assert server.get(created, "0/2/2/2.grid.json").json()["data"] == {}
    # The point is at the corner of these tiles, a quarter of its marker in each.
    for zoom, middle in ((3, 4), (6, 32)):
        image = opened(server.get(created, f"{zoom}/{middle}/{middle}.png").content)
        grid = server.get(created, f"0/{zoom}/{middle}/{middle}.grid.json").json()
        assert list(grid["data"].values()) == [{"seen": str(zoom)}]
        drawn = sum(pixel_at(image, x, 0)[3] > 100 for x in range(256))
        assert drawn == pytest.approx(zoom * 5, abs=1)
        assert first_row_px(grid) == pytest.approx(drawn, abs=4)


def test_what_a_block_of_tiles_does_not_share_is_null_in_images(server: MapsServer) -> None:
    sql = f"select coalesce(!@x!, 'none') as seen, {POINT}"
    created = server.create(layer(sql, marker("20"), interactivity="seen"))
    (row,) = server.get(created, "0/0/0/0.grid.json").json()["data"].values()
    assert row == {"seen": "none"}


def test_rasters_have_their_variables(server: MapsServer) -> None:
    sql = "select * from pictures where !@zoom! > 1 and id < !@RENDERLIMIT!"
    style = "#l { raster-opacity: 1; }"
    created = server.create(layer(sql, style, geom_type="raster", geom_column="the_raster_webmercator"))
    assert opened(server.get(created, "1/0/0.png").content).getbbox() is None
    assert opened(server.get(created, "2/1/1.png").content).getbbox() is not None


def test_an_error_is_found_behind_a_variable(server: MapsServer) -> None:
    status, message, context = server.refused(layer(f"select !@HOSTILE!,\n  nope, {POINT}", marker("20")))
    assert status == 400
    assert 'column "nope" does not exist' in message
    assert context["context"]["source"]["start"] == {"line": 2, "column": 3}


@pytest.mark.parametrize(
    ("sql", "style", "part"),
    [
        (f"select '!@HOSTILE!' as a, {POINT}", marker("20"), "is a text already"),
        (f"select 1 as a, {POINT}", marker("'@NOPE'"), "the variable @NOPE is not set while drawing"),
        (f"select 1 as a, {POINT}", marker("20", "'@HOSTILE'"), "Failed to parse color"),
        (f"select !@RENDERCOLOR!::integer as a, {POINT}", marker("20"), "invalid input syntax for type integer"),
    ],
)
def test_what_cannot_be_is_refused(server: MapsServer, sql: str, style: str, part: str) -> None:
    status, message, _ = server.refused(layer(sql, style))
    assert status == 400
    assert part in message
