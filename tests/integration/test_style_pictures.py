"""Pictures that styles of mapnik layers name by address: fetched, made safe, kept, and drawn; over HTTP."""

import gzip
import re
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flowmaps.render.pictures import FAILED_SECONDS
from flowstack.processes import free_port
from maps_fixtures import (
    POINTS,
    MapsServer,
    RemoteAnswer,
    another_server,
    layer,
    opened,
    painted,
    picture,
    pixel_at,
)

BLUE, GREEN = (0, 0, 255, 255), (0, 255, 0, 255)
ONE = "select * from datapoint where identifier = 'a'"
"""A point in the middle of the world."""
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8">{}</svg>'
SQUARE = '<path d="M0 0H8V8H0Z" fill="#0000ff"/>'


def marked(address: str, more: str = "", sql: str = ONE, **options: Any) -> dict[str, Any]:
    css = f'#l {{ marker-file: url("{address}"); marker-allow-overlap: true; {more} }}'
    return layer(sql, css, **options)


def tile(maps: MapsServer, created: dict[str, Any], path: str = "0/0/0.png") -> Image.Image:
    answer = maps.get(created, path)
    assert answer.status_code == 200, answer.text
    return opened(answer.content)


def svg(inside: str) -> bytes:
    return SVG.format(inside).encode()


def bomb(side: int) -> bytes:
    """Return a PNG of a few kilobytes that claims *side* by *side* pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1_000_000)))


# --- drawing


def test_a_marker_is_drawn_as_it_is_and_fetched_once(maps: MapsServer) -> None:
    address = maps.remote.shows("blue.png", picture(BLUE, (20, 12)))
    created = maps.create(marked(address))
    image = tile(maps, created)
    assert painted(image, BLUE) == 20 * 12
    assert pixel_at(image, 128, 128) == BLUE
    for path in ("1/0/0.png", "1/1/1.png", "2/2/1.png", "0/0/0@2x.png", "3/4/3.webp"):
        tile(maps, created, path)
    maps.create(marked(address, "marker-opacity: 0.5;"))
    assert maps.remote.asked(address) == 1


@pytest.mark.parametrize("form", ["JPEG", "GIF", "WEBP"])
def test_other_formats_are_drawn_whatever_the_name_says(maps: MapsServer, form: str) -> None:
    address = maps.remote.shows("wrong.svg", picture("blue", (16, 16), form))
    assert painted(tile(maps, maps.create(marked(address))), BLUE) == 16 * 16


def test_a_drawing_stays_sharp_at_every_size(maps: MapsServer) -> None:
    address = maps.remote.shows("square", svg(SQUARE))
    created = maps.create(marked(address, "marker-width: 64;"))
    assert painted(tile(maps, created), BLUE, tolerance=0) >= 62 * 62
    assert painted(tile(maps, created, "0/0/0@2x.png"), BLUE, tolerance=0) >= 126 * 126
    green = maps.create(marked(address, "marker-width: 64; marker-fill: #00ff00;"))
    assert pixel_at(tile(maps, green), 128, 128) == GREEN


def test_a_compressed_drawing_with_a_document_type(maps: MapsServer) -> None:
    doctype = b'<?xml version="1.0"?><!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://127.0.0.1:9/svg11.dtd">'
    body = gzip.compress(doctype + svg(SQUARE))
    for headers in ({}, {"Content-Encoding": "gzip"}):
        address = maps.remote.shows("square.svg", body, headers=headers)
        assert painted(tile(maps, maps.create(marked(address))), BLUE) >= 8 * 8


@pytest.mark.parametrize(
    ("sql", "style", "least"),
    [
        ("select * from lands where cartodb_id = 1", 'polygon-pattern-file: url("{}");', 128 * 120),
        ("select * from mixed where id = 2", 'line-pattern-file: url("{}");', 85 * 14),
        (ONE, 'point-file: url("{}"); point-allow-overlap: true;', 16 * 16),
        (ONE, 'shield-file: url("{}"); shield-face-name: "DejaVu Sans Book"; shield-name: "\'x\'";', 180),
    ],
)
def test_patterns_points_and_shields(maps: MapsServer, sql: str, style: str, least: int) -> None:
    options = {} if "lands" in sql else {"geom_column": "geom", "srid": 4326}
    address = maps.remote.shows("blue.png", picture(BLUE, (16, 16)))
    created = maps.create(layer(sql, f"#l {{ {style.format(address)} }}", **options))
    assert painted(tile(maps, created), BLUE) >= least


def test_a_drawing_as_a_pattern(maps: MapsServer) -> None:
    address = maps.remote.shows("pattern.svg", svg(SQUARE))
    created = maps.create(layer("select * from lands", f'#l {{ polygon-pattern-file: url("{address}"); }}'))
    assert painted(tile(maps, created), BLUE) >= 256 * 120


def test_the_background_of_the_map(maps: MapsServer) -> None:
    address = maps.remote.shows("back.png", picture(BLUE, (32, 32)))
    created = maps.create(layer(ONE, f'Map {{ background-image: url("{address}"); }} #l {{ marker-width: 0; }}'))
    assert painted(tile(maps, created), BLUE) == 256 * 256


def test_the_grid_follows_the_picture(maps: MapsServer) -> None:
    address = maps.remote.shows("blue.png", picture(BLUE, (40, 40)))
    created = maps.create(marked(address, interactivity=["identifier"]))
    answer = maps.get(created, "0/0/0/0.grid.json")
    assert answer.status_code == 200
    grid = answer.json()
    assert grid["keys"] == ["", "1"]
    hits = sum(row.count("!") for row in grid["grid"])
    assert 9 * 9 <= hits <= 11 * 11
    assert maps.remote.asked(address) == 1


@pytest.mark.parametrize("version", ["2.0.0", "2.1.1", "2.3.0", "3.0.12"])
def test_addresses_survive_the_update_of_old_styles(maps: MapsServer, version: str) -> None:
    address = maps.remote.shows("a.png?q=1;x={y}//z", picture(BLUE, (20, 20)))
    for written in (f'url("{address}")', f"url('{address}')", f'"{address}"'):
        css = f"#l {{ /* a */ marker-file: {written}; marker-allow-overlap: true; }} // b"
        created = maps.create(
            layer(ONE, css) | {"options": {**layer(ONE, css)["options"], "cartocss_version": version}}
        )
        assert pixel_at(tile(maps, created), 128, 128) == BLUE


def test_a_style_of_many_pictures_with_filters_and_a_ramp(maps: MapsServer) -> None:
    blue, green = (maps.remote.shows("x.png", picture(color, (20, 20))) for color in (BLUE, GREEN))
    ramp = f'ramp([identifier], (url("{green}"), url("{blue}")), ("a", "b"))'
    sql = "select * from datapoint where identifier in ('a', 'b')"
    created = maps.create(layer(sql, f"#l {{ marker-file: {ramp}; marker-allow-overlap: true; }}"))
    image = tile(maps, created)
    assert pixel_at(image, 128, 128) == GREEN
    assert painted(image, BLUE) == 20 * 20


def test_blends_and_static_maps_have_the_pictures_too(maps: MapsServer) -> None:
    address = maps.remote.shows("blue.png", picture(BLUE, (20, 20)))
    created = maps.create({"type": "plain", "options": {"color": "#ffffff"}}, marked(address))
    assert painted(tile(maps, created, "all/0/0/0.png"), BLUE) == 400
    answer = maps.static(created, "center", "0/0/0/300/200.png")
    assert answer.status_code == 200
    assert painted(opened(answer.content), BLUE) == 400


# --- what cannot be had


def test_an_answer_without_a_picture_says_where_the_style_names_it(maps: MapsServer) -> None:
    address = maps.remote.shows("gone.png", status=404)
    status, message, context = maps.refused(layer(POINTS), marked(address, id="second"))
    assert status == 400
    assert message == f"Unable to download '{address}' for 'style1' (server returned 404)"
    assert context["type"] == "layer"
    assert context["subtype"] == "style"
    assert context["layer"] == {"id": "layer1", "index": 1, "type": "mapnik"}
    assert context["member"] == "layers[1].options.cartocss"
    assert context["context"]["source"]["start"] == {"line": 1, "column": 6}
    assert maps.remote.asked(address) == 1


@pytest.mark.parametrize(
    ("answer", "status", "reason"),
    [
        ({"status": 403}, 400, "server returned 403"),
        ({"status": 302, "headers": {"Location": "/green/0/0/0.png"}}, 400, "server returned 302"),
        ({"status": 204}, 400, "server returned 204"),
        ({"status": 500}, 503, "server returned 500"),
        ({"status": 429}, 503, "server returned 429"),
        ({"seconds": 2}, 503, "the server took too long"),
        ({"body": b""}, 400, "the answer is no image that is read here"),
        ({"body": b"<script>alert(1)</script>"}, 400, "the document is no SVG"),
        ({"body": b"\x89PNG\r\n\x1a\n" + b"x" * 100}, 400, "the answer is no image that is read here"),
        ({"body": picture(BLUE)[:200]}, 400, "the answer is no image that is read here"),
        ({"body": b"x" * 200_000}, 400, "more than 100000 bytes"),
        (
            {"body": b"no gzip at all", "headers": {"Content-Encoding": "gzip"}},
            400,
            "the answer cannot be decompressed",
        ),
        ({"body": picture(BLUE, (1025, 4))}, 400, "an image of 1025 by 4 pixels is too large"),
        ({"body": bomb(6_000)}, 400, "an image of 6000 by 6000 pixels is too large"),
        ({"body": bomb(60_000)}, 400, "the answer is no image that is read here"),
    ],
)
def test_every_failure_has_its_status(maps: MapsServer, answer: dict[str, Any], status: int, reason: str) -> None:
    address = maps.remote.shows("picture.png", **answer)
    refused = maps.post({"version": "1.8.0", "layers": [marked(address)]})
    assert refused.status_code == status, refused.text
    assert refused.json()["errors"] == [f"Unable to download '{address}' for 'style0' ({reason})"]
    assert ("Retry-After" in refused.headers) == (status == 503)
    # Nobody is asked again at once.
    assert maps.post({"version": "1.8.0", "layers": [marked(address)]}).json() == refused.json()
    assert maps.remote.asked(address) == 1


NESTED = "<g>" * 100 + "</g>" * 100
LAUGHS = "".join(f'<g id="a{i + 1}">' + f'<use href="#a{i}"/>' * 10 + "</g>" for i in range(9))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (svg('<g id="a"><use href="#a"/><rect width="9" height="9"/></g>'), "an SVG that refers to itself"),
        (svg(f'<g id="a0"><rect width="9" height="9"/></g>{LAUGHS}'), "an SVG that draws more than 5000 elements"),
        (svg(NESTED), "an SVG with elements nested deeper than 64"),
        (svg('<image href="file:///etc/passwd" width="9" height="9"/>'), "an SVG with <image>"),
        (svg('<use href="http://127.0.0.1:9/x.svg#a"/>'), "an SVG that refers to something outside of it"),
        (svg('<rect width="9" height="9" fill="url(//x/y)"/>'), "an SVG that refers to something outside of it"),
        (svg("<style>@import 'x';</style>"), "an SVG that refers to something outside of it"),
        (svg("<script>1</script>"), "an SVG with <script>"),
        (
            b'<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + svg("&x;"),
            "an SVG with a document type of its own",
        ),
        (svg("<title>nothing</title>"), "an SVG of which nothing is drawn"),
        (svg('<path d="M0 0H1e400V-1e400Z"/>'), "an SVG of which nothing is drawn"),
        (svg('<rect width="0.1" height="0.1"/>'), "an SVG that cannot be drawn"),
        (svg('<rect width="20000" height="20000"/>'), "an SVG of which a pattern is too large"),
        (gzip.compress(b"<svg>" + b" " * 9_000_000), "an SVG of more than 524288 bytes"),
        (b"<svg", "the document is no XML that can be read"),
    ],
)
def test_hostile_drawings_are_refused_and_cost_no_worker(maps: MapsServer, body: bytes, reason: str) -> None:
    before = restarts(maps)
    address = maps.remote.shows("hostile.svg", body)
    status, message, _ = maps.refused(marked(address))
    assert (status, message) == (400, f"Unable to download '{address}' for 'style0' ({reason})")
    assert restarts(maps) == before


def restarts(maps: MapsServer) -> list[str]:
    text = maps.client.get(maps.metrics_url).text
    return re.findall(r"^flowmaps_render_restarts_total.*$", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("http://elsewhere.test/a.png", "the host elsewhere.test is not among those that layers may be fetched from"),
        ("http://169.254.169.254/a.png", "the host 169.254.169.254 is not among those that layers may be fetched from"),
        ("http://user:secret@127.0.0.1/a.png", "not an address that is fetched"),
        ("https://", "not an address that is fetched"),
        ("http://[::1]/a.png", "the host ::1 is not among those that layers may be fetched from"),
        ("http://127.0.0.1/[identifier].png", "an address must not hold a field"),
        ("http://[identifier]/a.png", "an address must not hold a field"),
    ],
)
def test_other_addresses_are_refused_at_their_place(maps: MapsServer, address: str, reason: str) -> None:
    asked = len(maps.remote.requests)
    status, message, context = maps.refused(marked(address))
    assert status == 400
    assert message.startswith(f"style0:1:10 Unable to download '{address}'")
    assert reason in message
    assert context["context"]["source"]["start"] == {"line": 1, "column": 6}
    assert len(maps.remote.requests) == asked


def test_an_expression_with_a_field_is_refused(maps: MapsServer) -> None:
    status, message, _ = maps.refused(layer(ONE, '#l { marker-file: "http://127.0.0.1/" + [identifier]; }'))
    assert status == 400
    assert "an address must not hold a field" in message


def test_a_listed_host_in_a_private_network_is_not_reached(maps: MapsServer) -> None:
    # The host is listed; what it is an address of is not in a network that is.
    with another_server(maps, FLOWMAPS_SERVE_LAYER_URL_NETWORKS="") as closed:
        address = maps.remote.shows("private.png", picture(BLUE))
        status, message, _ = closed.refused(marked(address))
    assert status == 400
    assert "its host has an address that nothing is fetched from" in message
    assert maps.remote.asked(address) == 0


def test_a_remote_server_that_is_away(maps: MapsServer) -> None:
    closed = f"http://127.0.0.1:{free_port()}/a.png"
    with another_server(maps, FLOWMAPS_SERVE_LAYER_URL_HOSTS=closed.split("/")[2]) as server:
        answer = server.post({"version": "1.8.0", "layers": [marked(closed)]})
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "5"
    assert answer.json()["errors"] == [f"Unable to download '{closed}' for 'style0' (the server cannot be reached)"]


def test_a_map_of_too_many_pictures(maps: MapsServer) -> None:
    css = "".join(f'#l::a{n} {{ marker-file: url("{maps.remote.url}/many/{n}.png"); }} ' for n in range(33))
    status, message, _ = maps.refused(layer(ONE, css))
    assert (status, message) == (400, "The styles of the map name 33 pictures by address, the limit is 32")
    assert not [path for path in maps.remote.requests if path.startswith("/many/")]


# --- keeping


def test_many_creations_at_once_download_once(maps: MapsServer) -> None:
    address = maps.remote.shows("slow.png", picture(BLUE, (20, 20)), seconds=0.5)
    with ThreadPoolExecutor(8) as threads:
        created = list(threads.map(lambda n: maps.create(marked(address, f"marker-opacity: 0.{n + 1};")), range(8)))
    assert len({answer["layergroupid"] for answer in created}) == 8
    assert maps.remote.asked(address) == 1


@pytest.mark.parametrize("store", ["postgres", "redis"])
def test_another_server_and_a_restarted_one_fetch_before_they_draw(
    maps: MapsServer, store: str, request: pytest.FixtureRequest
) -> None:
    settings = {"FLOWMAPS_MAP_STORE": request.getfixturevalue("redis_url")} if store == "redis" else {}
    address = maps.remote.shows("blue.png", picture(BLUE, (20, 20)))
    with another_server(maps, **settings) as first:
        created = first.create(marked(address))
    with another_server(maps, **settings) as second:
        assert painted(tile(second, created), BLUE) == 400
        tile(second, created, "1/0/0.png")
        assert maps.remote.asked(address) == 2
    path = address.removeprefix(maps.remote.url)
    with another_server(maps, **settings) as third:
        # What a map is drawn with may be away by then: that is an error, and no tile without its markers.
        maps.remote.answers[path] = RemoteAnswer(status=503)
        assert third.get(created, "0/0/0.png").status_code == 503
        maps.remote.answers[path] = RemoteAnswer(status=410)
        time.sleep(FAILED_SECONDS)
        gone = third.get(created, "0/0/0.png")
        assert gone.status_code == 400
        assert gone.json()["errors"] == [f"Unable to download '{address}' for 'style0' (server returned 410)"]


@pytest.fixture(scope="module")
def kept(maps: MapsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[MapsServer, Path]]:
    """A server that keeps two pictures, each for half a second, and where it does that."""
    folder = tmp_path_factory.mktemp("pictures")
    settings = {
        "FLOWMAPS_RENDER_PICTURE_DIRECTORY": str(folder),
        "FLOWMAPS_RENDER_PICTURE_SECONDS": "0.5",
        "FLOWMAPS_RENDER_PICTURES": "2",
        "FLOWMAPS_RENDER_WORKERS": "2",
    }
    with another_server(maps, **settings) as server:
        yield server, folder
    assert list(folder.iterdir()) == []


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*/*") if path.suffix in (".png", ".svg"))


def test_a_picture_that_changed_is_drawn_after_its_time(kept: tuple[MapsServer, Path]) -> None:
    server, _ = kept
    address = server.remote.shows("changing.png", picture(BLUE, (20, 20)))
    created = server.create(marked(address))
    assert painted(tile(server, created), BLUE) == 400
    server.remote.answers[address.removeprefix(server.remote.url)] = RemoteAnswer(picture(GREEN, (20, 20)))
    eventually(lambda: painted(tile(server, created), GREEN) == 400)
    # While the remote server is away, what is known is drawn.
    server.remote.answers[address.removeprefix(server.remote.url)] = RemoteAnswer(status=500)
    asked = server.remote.asked(address)
    eventually(lambda: tile(server, created) and server.remote.asked(address) > asked)
    assert painted(tile(server, created), GREEN) == 400


def test_what_was_put_out_or_removed_comes_again(kept: tuple[MapsServer, Path]) -> None:
    server, folder = kept
    addresses = [server.remote.shows(f"{n}.png", picture((0, 0, n + 1, 255), (20, 20))) for n in range(4)]
    created = [server.create(marked(address)) for address in addresses]
    eventually(lambda: len(files(folder)) <= 2)
    for _ in range(2):
        for n, one in enumerate(created):
            assert painted(tile(server, one), (0, 0, n + 1, 255), tolerance=0) == 400
    eventually(lambda: len(files(folder)) <= 2)
    for path in files(folder):
        path.unlink()
    for n, one in enumerate(created):
        assert painted(tile(server, one), (0, 0, n + 1, 255), tolerance=0) == 400


def test_a_style_of_more_pictures_than_are_kept(kept: tuple[MapsServer, Path]) -> None:
    server, folder = kept
    addresses = [server.remote.shows(f"{n}.png", picture(BLUE, (10, 10))) for n in range(3)]
    addresses += [server.remote.shows("green.png", picture(GREEN, (4, 4)))]
    css = "".join(
        f'#l::a{n} {{ marker-file: url("{address}"); marker-allow-overlap: true; }} '
        for n, address in enumerate(addresses)
    )
    created = server.create(layer(ONE, css))
    image = tile(server, created)
    assert (painted(image, BLUE), painted(image, GREEN)) == (84, 16)
    eventually(lambda: len(files(folder)) <= 2)


def test_pictures_do_not_fill_the_memory_of_a_worker(maps: MapsServer) -> None:
    # Mapnik alone would keep all of them: more than this worker may grow by.
    with another_server(maps, FLOWMAPS_RENDER_MEMORY_MIB="192") as small:
        before = restarts(small)
        for n in range(60):
            address = maps.remote.shows("large.png", picture((n, 0, 255, 255), (1024, 1024)))
            assert pixel_at(tile(small, small.create(marked(address))), 128, 128) == (n, 0, 255, 255)
        assert restarts(small) == before


def test_a_folder_of_a_killed_process_is_removed_by_the_next(maps: MapsServer, tmp_path: Path) -> None:
    settings = {"FLOWMAPS_RENDER_PICTURE_DIRECTORY": str(tmp_path)}
    address = maps.remote.shows("blue.png", picture(BLUE, (20, 20)))
    with another_server(maps, **settings) as killed, another_server(maps, **settings) as other:
        killed.create(marked(address))
        other.create(marked(address))
        assert len(files(tmp_path)) == 2
        killed.process.kill()
        with another_server(maps, **settings):
            assert len(files(tmp_path)) == 1
            assert len(list(tmp_path.iterdir())) == 2
            assert painted(tile(other, other.create(marked(address))), BLUE) == 400
    assert len(list(tmp_path.iterdir())) == 0


def eventually(question: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not question():
        assert time.monotonic() < deadline
        time.sleep(0.2)
