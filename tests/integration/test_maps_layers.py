"""Layers of other kinds than mapnik, attributes of features, and static maps, over HTTP."""

import json
import secrets
from typing import Any

import httpx
import pytest
from PIL import Image

from maps_fixtures import (
    FILL,
    POINTS,
    RED,
    WORLD,
    MapsServer,
    difference,
    layer,
    opened,
    painted,
    pixel_at,
)

GREEN, BLUE, CLEAR = (0, 255, 0, 255), (0, 0, 255, 255), (0, 0, 0, 0)


def plain(color: object) -> dict[str, Any]:
    return {"type": "plain", "options": {"color": color}}


def http(maps: MapsServer, kind: str, **options: Any) -> dict[str, Any]:
    template = f"{maps.remote.url}/{kind}/{{z}}/{{x}}/{{y}}.png"
    return {"type": "http", "options": {"urlTemplate": template, **options}}


def torque(
    sql: str, *, frames: int = 2, resolution: float = 1, count: str = "count(*)", style: str = "", **more: Any
) -> dict[str, Any]:
    properties = {
        "frame-count": frames,
        "resolution": resolution,
        "time-attribute": '"t"',
        "aggregation-function": f'"{count}"',
        **{name.replace("_", "-"): value for name, value in more.items()},
    }
    block = " ".join(f"-torque-{name}: {value};" for name, value in properties.items())
    return {"type": "torque", "options": {"sql": sql, "cartocss": f"Map {{ {block} }} {style}"}}


def cells(answer: httpx.Response) -> dict[tuple[int, int], dict[int, float]]:
    """A data tile as {(column, row): {frame: value}}."""
    assert answer.status_code == 200, answer.text
    found: dict[tuple[int, int], dict[int, float]] = {}
    for entry in answer.json():
        assert set(entry) == {"x__uint8", "y__uint8", "vals__uint8", "dates__uint16"}
        place = (entry["x__uint8"], entry["y__uint8"])
        assert place not in found
        found[place] = dict(zip(entry["dates__uint16"], entry["vals__uint8"], strict=True))
    return found


# --- torque data: the vectors of the contract


def test_torque_counts_by_cell_and_frame(maps: MapsServer) -> None:
    sql = (
        "select st_setsrid(st_makepoint(x, x), 3857) as the_geom_webmercator, t"
        " from (values (0, '1970-01-02'::timestamp), (1, '1970-01-01'::timestamp)) as v(x, t)"
    )
    created = maps.create(torque(sql, frames=2, resolution=3))
    assert cells(maps.get(created, "0/0/0/0.torque.json")) == {(43, 43): {0: 1, 1: 1}}
    times = created["metadata"]["torque"]["0"]
    assert {name: times[name] for name in ("start", "end", "steps", "data_steps", "column_type")} == {
        "start": 0,
        "end": 86_400_000,
        "steps": 2,
        "data_steps": 2,
        "column_type": "date",
    }


def test_a_torque_point_belongs_to_its_nearest_cell(maps: MapsServer) -> None:
    sql = "select st_setsrid(st_makepoint(-11309.9155492599, 6715342.44989312), 3857) as the_geom_webmercator, 1 as t"
    created = maps.create(torque(sql, frames=1))
    assert cells(maps.get(created, "0/2/1/1.torque.json")) == {(255, 172): {0: 1}}


def test_torque_points_on_an_edge_are_in_every_tile_around(maps: MapsServer) -> None:
    sql = "select st_setsrid(st_makepoint(0, 0), 4326) as the_geom_webmercator, 1 as t"
    layer_of = torque(sql, frames=1, resolution=128)
    layer_of["options"]["srid"] = 4326
    created = maps.create(layer_of)
    assert cells(maps.get(created, "0/3/3/4.torque.json")) == {(1, 1): {0: 1}}
    assert cells(maps.get(created, "0/3/4/4.torque.json")) == {(0, 1): {0: 1}}
    # The projection's last digit decides whether these see the point.
    assert cells(maps.get(created, "0/3/3/3.torque.json")) in ({}, {(1, 0): {0: 1}})
    assert cells(maps.get(created, "0/3/4/3.torque.json")) in ({}, {(0, 0): {0: 1}})


def test_torque_sums_values_frame_by_frame(maps: MapsServer) -> None:
    sql = (
        "select st_transform(st_setsrid(st_makepoint(x, y), 4326), 3857) as the_geom_webmercator, v, v as t from"
        " (select x, y, v + d as v from (values (-90, -45, 1), (-90, 45, 2), (90, -45, 3), (90, 45, 4)) as p(x, y, v),"
        " (values (0), (4)) as q(d)) as r"
    )
    created = maps.create(torque(sql, frames=8, count="sum(v)"))
    assert cells(maps.get(created, "0/0/0/0.torque.json")) == {
        (64, 92): {0: 1, 4: 5},
        (64, 164): {1: 2, 5: 6},
        (192, 92): {2: 3, 6: 7},
        (192, 164): {3: 4, 7: 8},
    }
    assert created["metadata"]["torque"]["0"]["column_type"] == "number"
    assert created["metadata"]["torque"]["0"]["start"] == 1000


def test_torque_points_at_the_edges_of_the_world_count_into_the_last_cells(maps: MapsServer) -> None:
    edge = 40075017 / 2
    points = [(x, y) for x in ("1e-40", "-1e-40") for y in ("1e-40", "-1e-40")] + [
        (str(x), str(y)) for x in (1, -1) for y in (1, -1)
    ]
    points += [(str(edge), "0"), (str(edge - 1), "0"), ("0", str(edge)), ("0", str(edge - 1))]
    values = ", ".join(f"({x}::float8, {y}::float8)" for x, y in points)
    sql = (
        f"select st_setsrid(st_makepoint(x, y), 3857) as the_geom_webmercator, 1 as t from (values {values}) as v(x, y)"
    )
    created = maps.create(torque(sql, frames=1))
    assert cells(maps.get(created, "0/0/0/0.torque.json")) == {
        (128, 128): {0: 8},
        (255, 128): {0: 2},
        (128, 255): {0: 2},
    }


def test_every_name_of_the_torque_format_gives_the_same(maps: MapsServer) -> None:
    created = maps.create(torque("select *, created_date_time as t from datapoint"))
    bodies = {
        name: maps.get(created, f"0/0/0/0.{name}").content
        for name in ("torque.json", "json.torque", "torque.bin", "bin.torque")
    }
    assert len({json.dumps(sorted(json.loads(body), key=str)) for body in bodies.values()}) == 1
    called = maps.get(created, "0/0/0/0.torque.json", callback="f")
    assert called.text.startswith("/**/ typeof f === 'function' && f([")


def test_torque_without_data_is_an_empty_list(maps: MapsServer) -> None:
    created = maps.create(torque("select *, created_date_time as t from datapoint where false"))
    times = created["metadata"]["torque"]["0"]
    assert (times["start"], times["end"], times["data_steps"]) == (0, 0, 0)
    answer = maps.get(created, "0/0/0/0.torque.json")
    assert (answer.status_code, answer.json()) == (200, [])
    assert painted(opened(maps.get(created, "0/0/0/0.png").content), CLEAR) == 65_536


def test_times_that_are_none_are_left_out(maps: MapsServer) -> None:
    sql = (
        "select st_setsrid(st_makepoint(0, 0), 3857) as the_geom_webmercator, t from (values"
        " ('infinity'::timestamptz), ('-infinity'), (null), ('2020-01-01'), ('2020-01-02')) as v(t)"
    )
    created = maps.create(torque(sql))
    assert created["metadata"]["torque"]["0"]["data_steps"] == 2
    assert cells(maps.get(created, "0/0/0/0.torque.json")) == {(128, 128): {0: 1, 1: 1}}
    numbers = sql.replace("::timestamptz", "::float8").replace("'2020-01-01'", "1").replace("'2020-01-02'", "'NaN'")
    created = maps.create(torque(numbers))
    assert cells(maps.get(created, "0/0/0/0.torque.json")) == {(128, 128): {0: 1}}


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("torque/0/0/0.grid.json", "Unsupported format grid.json"),
        ("0/0/0/0.grid.json", "Unsupported format grid.json"),
        ("0/0/0/0.mvt", "Unsupported format mvt"),
        ("0/0/0.png", "No 'mapnik' layers in MapConfig"),
        ("0/0/0.torque.json", "Unsupported format torque.json"),
    ],
)
def test_torque_makes_its_own_formats_only(maps: MapsServer, path: str, message: str) -> None:
    created = maps.create(torque("select *, created_date_time as t from datapoint"))
    answer = maps.get(created, path)
    assert (answer.status_code, answer.json()["errors"]) == (400, [message])


def test_errors_of_torque_tiles_are_said_to_be_of_torque(maps: MapsServer) -> None:
    name = f"gone{secrets.token_hex(3)}"
    reader = maps.tenant.reader.user
    maps.execute(
        f"create table {name} as select *, created_date_time as t from datapoint; grant select on {name} to {reader}"
    )
    created = maps.create(torque(f"select * from {name}"))
    assert maps.get(created, "0/0/0/0.torque.json").status_code == 200
    maps.execute(f"drop table {name}")
    answer = maps.get(created, "0/0/0/0.torque.json")
    assert (answer.status_code, answer.json()["errors"]) == (404, [f'TorqueRenderer: relation "{name}" does not exist'])


# --- torque images

MIDDLE = "select st_setsrid(st_makepoint(0, 0), 3857) as the_geom_webmercator, t from (values {}) as v(t)"


def test_a_torque_image_shows_one_frame(maps: MapsServer) -> None:
    style = "#l { marker-width: 10; marker-fill: #00ff00; marker-line-width: 0; }"
    sql = (
        "select st_setsrid(st_makepoint(x, 0), 3857) as the_geom_webmercator, t"
        f" from (values ({-WORLD / 2}, 1), ({WORLD / 2}, 2)) as v(x, t)"
    )
    for step, column in ((0, 64), (1, 192), (9, 192)):
        entry = torque(sql, style=style)
        entry["options"]["step"] = step
        image = opened(maps.get(maps.create(entry), "0/0/0/0.png").content)
        # The width of a torque marker is its radius.
        assert painted(image, GREEN) == pytest.approx(3.14 * 100, rel=0.1)
        assert image.getpixel((column, 127)) == GREEN
        assert image.getpixel((256 - column, 127)) == CLEAR


def test_torque_markers_have_lines_squares_opacities_and_filters(maps: MapsServer) -> None:
    def drawn(style: str, values: str = "(1)") -> Image.Image:
        created = maps.create(torque(MIDDLE.format(values), frames=1, style=style))
        return opened(maps.get(created, "0/0/0/0.torque.png").content)

    square = drawn("#l { marker-type: rectangle; marker-width: 8; marker-fill: blue; }")
    assert painted(square, BLUE) == 256
    ringed = drawn("#l { marker-width: 10; marker-fill: blue; marker-line-color: lime; marker-line-width: 6; }")
    assert painted(ringed, GREEN) == pytest.approx(3.14 * (13**2 - 7**2), rel=0.2)
    half = drawn("#l { marker-width: 10; marker-fill: blue; marker-opacity: 0.5; }")
    assert half.getpixel((128, 127)) == pytest.approx((0, 0, 255, 128), abs=2)
    assert painted(drawn("#l { marker-width: 10; marker-fill: blue; marker-opacity: 0; }"), CLEAR) == 65_536
    # Two points in one cell have the value 2.
    style = "#l { marker-width: 4; marker-fill: blue; [value > 1] { marker-fill: lime; marker-width: [value] * 5; } }"
    assert painted(drawn(style), BLUE) > 20
    assert painted(drawn(style, "(1), (1)"), GREEN) == pytest.approx(314, rel=0.1)
    ramp = drawn("#l { marker-width: 10; marker-fill: black; image-filters: colorize-alpha(red, lime); }")
    assert ramp.getpixel((128, 127)) == GREEN
    zoomed = drawn("#l { marker-width: 10; marker-fill: blue; [zoom > 3] { marker-fill: lime; } }")
    assert painted(zoomed, GREEN) == 0


def test_a_torque_trail_draws_earlier_frames(maps: MapsServer) -> None:
    style = "#l { marker-width: 5; marker-fill: blue; } #l[frame-offset=1] { marker-width: 20; marker-fill: lime; }"
    sql = (
        "select st_setsrid(st_makepoint(x, 0), 3857) as the_geom_webmercator, t"
        f" from (values ({-WORLD / 2}, 1), ({WORLD / 2}, 2)) as v(x, t)"
    )
    entry = torque(sql, style=style)
    entry["options"]["step"] = 1
    image = opened(maps.get(maps.create(entry), "0/0/0/0.png").content)
    assert image.getpixel((192, 127)) == BLUE
    assert image.getpixel((64, 127)) == GREEN
    entry["options"]["step"] = 0
    assert painted(opened(maps.get(maps.create(entry), "0/0/0/0.png").content), GREEN) == 0


def test_cumulative_torque_adds_up_all_frames_so_far(maps: MapsServer) -> None:
    style = "#l { marker-width: 5; marker-fill: blue; [value = 3] { marker-fill: lime; } }"
    entry = torque(MIDDLE.format("(1), (2), (3)"), frames=3, style=style, data_aggregation="cumulative")
    entry["options"]["step"] = 2
    assert painted(opened(maps.get(maps.create(entry), "0/0/0/0.png").content), GREEN) > 50
    entry["options"]["step"] = 1
    assert painted(opened(maps.get(maps.create(entry), "0/0/0/0.png").content), GREEN) == 0


def test_a_torque_marker_beyond_the_edge_reaches_into_the_tile(maps: MapsServer) -> None:
    style = "#l { marker-width: 12; marker-fill: blue; }"
    point = f"select st_setsrid(st_makepoint({-WORLD / 256 * 6}, 5000000), 3857) as the_geom_webmercator, 1 as t"
    created = maps.create(torque(point, frames=1, style=style))
    assert painted(opened(maps.get(created, "0/1/1/0.png").content), BLUE) > 50
    assert cells(maps.get(created, "0/1/1/0.torque.json")) == {}


def test_a_torque_marker_may_be_a_picture(maps: MapsServer) -> None:
    style = f'#l {{ marker-width: 10; marker-file: url("{maps.remote.url}/green/x"); }}'
    created = maps.create(torque(MIDDLE.format("(1)"), frames=1, style=style))
    assert painted(opened(maps.get(created, "0/0/0/0.png").content), GREEN) == 400
    body = b'<svg xmlns="http://www.w3.org/2000/svg" width="8" height="4"><path d="M0 0H8V4H0Z" fill="#0000ff"/></svg>'
    style = f'#l {{ marker-width: 20; marker-file: url("{maps.remote.shows("a.svg", body)}"); }}'
    created = maps.create(torque(MIDDLE.format("(1)"), frames=1, style=style))
    # Twice the width that is a radius, sharp, and as high as its shape wants it.
    assert painted(opened(maps.get(created, "0/0/0/0.png").content), BLUE) == pytest.approx(40 * 20, abs=60)
    away = f'#l {{ marker-width: 10; marker-fill: blue; marker-file: url("{maps.remote.url}/missing/x"); }}'
    created = maps.create(torque(MIDDLE.format("(1)"), frames=1, style=away))
    assert painted(opened(maps.get(created, "0/0/0/0.png").content), BLUE) == pytest.approx(314, rel=0.1)
    maps.get(created, "0/1/0/0.png")
    assert maps.remote.requests.count("/missing/x") == 1


def test_a_torque_style_of_too_many_pictures(maps: MapsServer) -> None:
    style = " ".join(f'#l[value={n}] {{ marker-file: url("{maps.remote.url}/many/{n}"); }}' for n in range(33))
    status, message, _ = maps.refused(torque(MIDDLE.format("(1)"), frames=1, style=style))
    assert (status, message) == (400, "The styles of the map name 33 pictures by address, the limit is 32")


# --- plain


@pytest.mark.parametrize(
    ("color", "pixel"),
    [
        ("lime", GREEN),
        ("#0f0", GREEN),
        ("#00FF00", GREEN),
        ("#00ff0080", (0, 255, 0, 128)),
        ("rgb(0, 255, 0)", GREEN),
        ("rgba(0, 100%, 0, 0.5)", (0, 255, 0, 128)),
        ("hsl(120, 100%, 50%)", GREEN),
        ("hsla(120, 100%, 50%, 50%)", (0, 255, 0, 128)),
        ([0, 255, 0], GREEN),
        ([0, 255, 0, 128], (0, 255, 0, 128)),
    ],
)
def test_a_plain_layer_has_its_colour(maps: MapsServer, color: object, pixel: tuple[int, ...]) -> None:
    created = maps.create(plain(color))
    answer = maps.get(created, "0/0/0/0.png")
    assert answer.headers["content-type"] == "image/png"
    assert answer.content[25] == 3
    assert painted(opened(answer.content), pixel, tolerance=1) == 65_536
    assert painted(opened(maps.get(created, "plain/3/1/1@2x.png").content), pixel, tolerance=1) == 4 * 65_536


def test_an_image_of_a_plain_layer_repeats_without_seams(maps: MapsServer) -> None:
    created = maps.create({"type": "plain", "options": {"imageUrl": f"{maps.remote.url}/checkered/x"}})
    image = opened(maps.get(created, "0/1/0/0.png").content)
    assert [pixel_at(image, x, y)[:3] for x, y in ((0, 0), (1, 0), (0, 1), (1, 1))] == [
        (255, 0, 0),
        (0, 255, 0),
        (0, 0, 255),
        (255, 255, 255),
    ]
    assert image.getpixel((254, 254)) == image.getpixel((0, 0))
    assert difference(image, opened(maps.get(created, "0/1/1/0.png").content)) == 0


def test_a_plain_image_that_cannot_be_had_is_said_to_be_so(maps: MapsServer) -> None:
    created = maps.create({"type": "plain", "options": {"imageUrl": f"{maps.remote.url}/missing/x"}})
    answer = maps.get(created, "0/0/0/0.png")
    text = f"Invalid imageUrl for 'plain' layer: Unable to fetch http tile: {maps.remote.url}/missing/x [404]"
    assert (answer.status_code, answer.json()["errors"]) == (400, [text])


# --- http


def test_an_http_layer_shows_the_other_servers_pixels_and_nothing_else(maps: MapsServer) -> None:
    created = maps.create(http(maps, "green"))
    maps.remote.requests.clear()
    maps.remote.headers.clear()
    url = f"{maps.url}/layergroup/{created['layergroupid']}/0/3/5/2.png"
    answer = maps.client.get(url, headers={"Cookie": "session=secret", "Authorization": "Bearer x"})
    assert painted(opened(answer.content), GREEN) == 65_536
    assert maps.remote.requests == ["/green/3/5/2.png"]
    # Neither their headers reach our client, nor our client's reach them.
    assert "x-secret" not in answer.headers
    assert answer.headers["cache-control"] == "public, max-age=3600"
    sent = {name.lower() for name in maps.remote.headers[0]}
    assert not sent & {"cookie", "authorization", "x-forwarded-for", "referer"}


def test_addresses_of_http_layers_may_count_from_the_south_and_name_subdomains(maps: MapsServer) -> None:
    created = maps.create(
        http(maps, "green/{s}", tms=True, subdomains=["one", "two"]), http(maps, "green/{s}"), http(maps, "green/{ q }")
    )
    maps.remote.requests.clear()
    for path in ("0/2/1/0.png", "1/2/1/0.png"):
        assert maps.get(created, path).status_code == 200
    assert maps.remote.requests == ["/green/one/2/1/3.png", "/green/b/2/1/0.png"]
    answer = maps.get(created, "2/0/0/0.png")
    assert (answer.status_code, answer.json()["errors"]) == (400, ["No value provided for variable { q }"])


def test_tiles_of_another_size_are_scaled(maps: MapsServer) -> None:
    created = maps.create(http(maps, "large"), http(maps, "gif"))
    for path in ("0/0/0/0.png", "1/0/0/0.png"):
        image = opened(maps.get(created, path).content)
        assert image.size == (256, 256)
        assert painted(image, BLUE) == 65_536
    assert opened(maps.get(created, "0/0/0/0@2x.webp").content).size == (512, 512)


@pytest.mark.parametrize(
    ("kind", "status", "end"),
    [
        ("missing", 503, " [404]"),
        ("redirect", 503, " [302]"),
        ("slow", 503, " [ETIMEDOUT]"),
        ("endless", 503, " [more than 100000 bytes]"),
        ("text", 503, ": the answer is no image that is read here"),
    ],
)
def test_failures_of_the_other_server_are_reported(maps: MapsServer, kind: str, status: int, end: str) -> None:
    created = maps.create(http(maps, kind))
    answer = maps.get(created, "0/0/0/0.png")
    expected = f"Unable to fetch http tile: {maps.remote.url}/{kind}/0/0/0.png{end}"
    assert (answer.status_code, answer.json()["errors"]) == (status, [expected])
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    "template",
    [
        "http://127.0.0.1/{z}/{x}/{y}.png",
        "http://localhost:{port}/{z}/{x}/{y}.png",
        "http://[::1]:{port}/{z}/{x}/{y}.png",
        "http://169.254.169.254/latest/meta-data/{z}/{x}/{y}",
        "http://example.org/{z}/{x}/{y}.png",
        "file:///etc/passwd?{z}{x}{y}",
        "ftp://127.0.0.1:{port}/{z}/{x}/{y}",
        "http://127.0.0.1:{port}@example.org/{z}/{x}/{y}.png",
        "http://user:secret@127.0.0.1:{port}/{z}/{x}/{y}.png",
        "//127.0.0.1:{port}/{z}/{x}/{y}.png",
        "{s}",
        "http://127.0.0.1:{port}\\@example.org/{z}/{x}/{y}",
        "http://2130706433:{port}/{z}/{x}/{y}.png",
    ],
)
def test_hosts_that_are_not_listed_are_never_asked(maps: MapsServer, template: str) -> None:
    template = template.replace("{port}", str(maps.remote.port))
    created = maps.create({"type": "http", "options": {"urlTemplate": template}})
    maps.remote.requests.clear()
    answer = maps.get(created, "0/0/0/0.png")
    assert (answer.status_code, answer.json()["errors"]) == (400, ['Invalid "urlTemplate" for http layer'])
    assert maps.remote.requests == []


# --- blending


def test_layers_of_all_kinds_are_laid_over_each_other(maps: MapsServer) -> None:
    half = layer("select * from lands where name = 'west'", FILL)
    created = maps.create(
        plain("lime"),
        half,
        torque("select *, created_date_time as t from datapoint", style="#l { marker-width: 9; marker-fill: red; }"),
    )
    image = opened(maps.get(created, "all/0/0/0.png").content)
    assert image.getpixel((64, 128)) == BLUE
    assert image.getpixel((192, 128)) == GREEN
    assert pixel_at(image, 128, 128)[:3] == (255, 0, 0)
    for name in ("png32", "png8", "jpg", "webp"):
        other = opened(maps.get(created, f"all/0/0/0.{name}").content)
        assert difference(image, other, tolerance=40) < 0.02
    large = opened(maps.get(created, "all/0/0/0@2x.png").content)
    assert large.size == (512, 512)
    assert (large.getpixel((128, 256)), large.getpixel((400, 256))) == (BLUE, GREEN)
    # The order is the document's, whatever the address says.
    assert maps.get(created, "1,0/0/0/0.png").content == maps.get(created, "0,1/0/0/0.png").content


def test_mapnik_layers_of_a_blend_are_drawn_together_at_the_first_ones_place(maps: MapsServer) -> None:
    west = layer("select * from lands where name = 'west'", FILL)
    everywhere = layer("select * from lands", "#l { polygon-fill: #ff0000; }")
    created = maps.create(west, http(maps, "green"), everywhere)
    # The http layer covers both, also the one after it.
    assert painted(opened(maps.get(created, "all/0/0/0.png").content), GREEN) == 65_536


def test_a_blend_does_without_a_remote_layer_that_fails_but_waits_for_no_slow_one(maps: MapsServer) -> None:
    for kind in ("missing", "redirect", "text"):
        created = maps.create(plain("blue"), http(maps, kind))
        assert painted(opened(maps.get(created, "all/0/0/0.png").content), BLUE) == 65_536
        assert painted(opened(maps.get(created, "http/0/0/0.png").content), CLEAR) == 65_536
    unlisted = maps.create(
        plain("blue"), {"type": "http", "options": {"urlTemplate": "http://example.org/{z}/{x}/{y}"}}
    )
    assert painted(opened(maps.get(unlisted, "all/0/0/0.png").content), BLUE) == 65_536
    slow = maps.create(plain("blue"), http(maps, "slow"))
    assert maps.get(slow, "all/0/0/0.png").status_code == 503


def test_layers_of_a_blend_have_their_own_zooms(maps: MapsServer) -> None:
    entry = plain("blue")
    entry["options"]["minzoom"] = 2
    created = maps.create(plain("lime"), entry)
    assert painted(opened(maps.get(created, "all/1/0/0.png").content), GREEN) == 65_536
    assert painted(opened(maps.get(created, "all/2/0/0.png").content), BLUE) == 65_536


# --- attributes

ROWS = {"id": "i", "columns": ["n"]}


@pytest.fixture(scope="module")
def rows(maps: MapsServer) -> dict[str, Any]:
    sql = "select * from attributes"
    return maps.create(
        layer(POINTS, attributes={"id": "identifier", "columns": ["survey_id", "properties", "created_date_time"]}),
        layer(sql, attributes=ROWS),
        layer(sql, attributes={"id": "i", "columns": ["the_geom_webmercator"]}),
        layer(f"{sql} -- a comment", attributes={"id": "i", "columns": ["big", "price", "seen", "tags"]}),
        layer(sql),
        layer(f"{sql};", attributes={"id": "seen", "columns": ["i"]}),
        layer(
            "select *, 'a%s' as \"odd % name\" from lands",
            FILL,
            attributes={"id": "odd % name", "columns": ["100% odd"]},
        ),
    )


@pytest.mark.parametrize(
    ("path", "status", "expected"),
    [
        ("1/attributes/1", 200, {"n": 6}),
        ("1/attributes/2", 200, {"n": 6}),
        ("1/attributes/1.0", 200, {"n": 6}),
        ("2/attributes/2", 400, "Multiple features (2) identified by 'i' = 2 in layer 2"),
        ("1/attributes/-666", 404, "Multiple features (0) identified by 'i' = -666 in layer 1"),
        ("1/attributes/1.5", 404, "Multiple features (0) identified by 'i' = 1.5 in layer 1"),
        ("1/attributes/99999999999999999999999999", 404, None),
        ("1/attributes/1 or 1=1", 400, "the id of a feature must be a number, not 1 or 1=1"),
        ("1/attributes/1;select 1", 400, None),
        ("1/attributes/1e5", 400, None),
        ("1/attributes/%00", 400, None),
        ("0/attributes/a", 200, {"survey_id": "s1", "properties": {"name": "Accra"}, "created_date_time": "2020-01-01T00:00:00.000Z"}),
        ("0/attributes/a' or 'a'='a", 404, None),
        ("0/attributes/a%25s", 404, None),
        ("0/attributes/a/b", 404, None),
        ("3/attributes/1", 200, {"big": 9007199254740993, "price": 1.5, "seen": "2020-02-03T04:05:06.789Z", "tags": {"a": [1]}}),
        ("3/attributes/2", 200, {"big": 1, "price": 2, "seen": None, "tags": None}),
        ("4/attributes/1", 400, "Layer 4 has no exposed attributes"),
        ("5/attributes/2020-02-03 04:05:06.789+00", 200, {"i": 1}),
        ("6/attributes/a%25s", 400, None),
        ("9/attributes/1", 400, None),
        ("layer1/attributes/1", 400, None),
        ("-1/attributes/1", 400, None),
        ("1/attributes/", 404, None),
    ],
)  # fmt: skip
def test_attributes_of_a_feature(maps: MapsServer, rows: dict[str, Any], path: str, status: int, expected: Any) -> None:
    answer = maps.get(rows, path)
    assert answer.status_code == status, answer.text
    if status == 200:
        assert answer.json() == expected
        assert list(answer.json()) == list(expected)
        assert answer.headers["cache-control"] == "public, max-age=3600"
    elif expected is not None:
        assert answer.json()["errors"] == [expected]


def test_attributes_can_be_called_for(maps: MapsServer, rows: dict[str, Any]) -> None:
    assert maps.get(rows, "1/attributes/1", callback="f").text == "/**/ typeof f === 'function' && f({\"n\":6});"
    text = maps.get(rows, "1/attributes/-1", callback="f").text
    assert text.startswith('/**/ typeof f === \'function\' && f({"errors":["Multiple features (0)')
    tag = maps.get(rows, "1/attributes/1").headers["etag"]
    again = maps.client.get(
        f"{maps.url}/layergroup/{rows['layergroupid']}/1/attributes/1", headers={"If-None-Match": tag}
    )
    assert again.status_code == 304


def test_torque_layers_have_attributes_too(maps: MapsServer) -> None:
    entry = torque("select *, i as t from attributes")
    entry["options"]["attributes"] = ROWS
    assert maps.get(maps.create(entry), "0/attributes/1").json() == {"n": 6}


# --- static maps


def test_a_static_map_is_the_tiles_side_by_side(maps: MapsServer) -> None:
    created = maps.create(layer("select * from lands", FILL), layer(POINTS, RED))
    image = opened(maps.static(created, "center", "1/0/0/512/512.png").content)
    assert image.size == (512, 512)
    for column in (0, 1):
        for row in (0, 1):
            tile = opened(maps.get(created, f"1/{column}/{row}.png").content)
            part = image.crop((column * 256, row * 256, column * 256 + 256, row * 256 + 256))
            assert difference(part, tile, tolerance=1) == 0
    # Around another place the same pixels lie elsewhere: 90 degrees are 128 pixels.
    moved = opened(maps.static(created, "center", "1/0/90/256/256.png").content)
    assert difference(moved, image.crop((256, 128, 512, 384)), tolerance=1) == 0


def test_a_static_map_shows_a_whole_bounding_box(maps: MapsServer) -> None:
    created = maps.create(layer("select * from lands where name = 'east'", FILL))
    # 180 degrees by about 133 fit into 300 by 300 pixels at zoom 1, where they are 256 pixels wide.
    image = opened(maps.static(created, "bbox", "0,-66,180,66/300/300.png").content)
    # Left of the middle, at longitude 90, minus 128 pixels is the west.
    blue = [x for x in range(300) if image.getpixel((x, 150)) == BLUE]
    assert blue[0] == pytest.approx(150 - 128, abs=1)
    assert image.getpixel((5, 150)) == CLEAR


@pytest.mark.parametrize(
    ("name", "kind"), [("png", "image/png"), ("jpg", "image/jpeg"), ("jpeg", "image/jpeg"), ("webp", "image/webp")]
)
def test_static_maps_come_in_four_formats(maps: MapsServer, name: str, kind: str) -> None:
    created = maps.create(plain("blue"))
    answer = maps.static(created, "center", f"3/10.5/-20/300/200.{name}")
    assert answer.headers["content-type"] == kind
    image = opened(answer.content)
    assert image.size == (300, 200)
    assert painted(image, BLUE, tolerance=6) == 60_000


def test_a_static_map_reaches_around_and_beyond_the_world(maps: MapsServer) -> None:
    created = maps.create(plain("blue"))
    image = opened(maps.static(created, "center", "1/0/0/400/3000.png").content)
    assert image.size == (400, 3000)
    # Rows beyond the world stay clear, columns go on.
    assert painted(image, BLUE) == 400 * 512
    assert painted(image, CLEAR) == 400 * (3000 - 512)
    wide = opened(maps.static(created, "center", "0/0/179/1000/256.png").content)
    assert painted(wide, BLUE) == 1000 * 256


def test_a_static_map_may_show_some_layers_only(maps: MapsServer) -> None:
    created = maps.create(plain("blue"), {**plain("lime"), "id": "above"})
    for selector, color in (("0", BLUE), ("above", GREEN), ("all", GREEN), ("0,above", None)):
        answer = maps.static(created, "center", "0/0/0/256/256.png", layer=selector)
        if color is None:
            assert answer.json()["errors"] == ["Invalid layer filtering"]
        else:
            assert painted(opened(answer.content), color) == 65_536


@pytest.mark.parametrize(
    ("kind", "path", "status", "message"),
    [
        ("center", "1/0/0/8193/10.png", 400, "Desired image is too large."),
        ("center", "1/0/0/10/999999999.png", 400, "Desired image is too large."),
        ("center", "1/0/0/0/10.png", 400, "Image dimensions must be greater than 0."),
        ("center", "1/0/0/-5/10.png", 400, None),
        ("center", "a/0/0/10/10.png", 400, "Invalid zoom value (a)"),
        ("center", "31/0/0/10/10.png", 400, None),
        ("center", "1/x/0/10/10.png", 400, None),
        ("center", "1/nan/0/10/10.png", 400, None),
        ("center", "1/1e99/0/10/10.png", 400, None),
        ("center", "1/0/0/10/10.gif", 400, 'Unsupported image format "gif"'),
        ("center", "1/0/0/10/10", 404, None),
        ("bbox", "1,2,3/10/10.png", 400, None),
        ("bbox", "a,b,c,d/10/10.png", 400, None),
        ("bbox", "0,0,0,0/0/0.png", 400, "Image dimensions must be greater than 0."),
    ],
)
def test_wrong_static_maps_are_refused(
    maps: MapsServer, kind: str, path: str, status: int, message: str | None
) -> None:
    answer = maps.static(maps.create(plain("blue")), kind, path)
    assert answer.status_code == status
    if message is not None:
        assert answer.json()["errors"] == [message]


def test_odd_static_maps_are_images_all_the_same(maps: MapsServer) -> None:
    created = maps.create(plain("blue"))
    for kind, path in (
        ("bbox", "10,10,-10,-10/100/100.png"),
        ("bbox", "0,0,0,0/100/100.png"),
        ("bbox", "-180,-90,180,90/100/100.png"),
        ("center", "30/0/0/100/100.png"),
        ("center", "3/89.9/200/100/100.png"),
        ("center", "0/0/0/1/1.png"),
    ):
        assert maps.static(created, kind, path).status_code == 200, path
    assert painted(opened(maps.static(maps.create(), "center", "0/0/0/9/9.png").content), CLEAR) == 81


def test_errors_of_a_layer_are_errors_of_the_static_map(maps: MapsServer) -> None:
    created = maps.create(plain("blue"), http(maps, "slow"))
    assert maps.static(created, "center", "0/0/0/256/256.png").status_code == 503
    vectors = maps.create(layer(POINTS, None))
    answer = maps.static(vectors, "center", "0/0/0/256/256.png")
    assert answer.status_code == 400
    assert "'cartocss' option is missing" in answer.json()["errors"][0]
