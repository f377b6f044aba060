"""Which renderer serves what, the pure parts of static maps and torque, and the rules of remote images."""

import asyncio
import io
import itertools
from collections import Counter
from collections.abc import Sequence

import mapnik
import pytest
from PIL import Image

from flowmaps.cartocss import CartoError, compile_torque
from flowmaps.errors import FlowMapsError, InvalidMapConfig, RemoteUnavailable, UnsupportedFormat
from flowmaps.mapconfig import MapConfig, parse_mapconfig, select_layers
from flowmaps.maps.renderers import choose_kind
from flowmaps.maps.static_maps import View, pixel_of, placed_tiles, view_of_bbox
from flowmaps.render.formats import FORMATS, tile_format
from flowmaps.render.pixels import tiles_of
from flowmaps.render.plain import solid
from flowmaps.render.remote import NotListed, RemoteImages
from flowmaps.render.torque import Cell, data_document, frame_cells
from flowmaps.settings import LimitSettings, ServeSettings
from flowmaps.tile import TileCoord
from maps_fixtures import remote_server


def config(*kinds: str) -> MapConfig:
    options = {
        "mapnik": {"sql": "select 1", "cartocss": "#l{line-width:1}", "cartocss_version": "2.0.0"},
        "torque": {"sql": "select 1", "cartocss": "Map{}"},
        "http": {"urlTemplate": "http://a/{z}"},
        "plain": {"color": "red"},
    }
    return parse_mapconfig(
        {"layers": [{"type": kind, "options": options[kind]} for kind in kinds]}, limits=LimitSettings()
    )


@pytest.mark.parametrize(
    ("kinds", "selector", "name", "expected"),
    [
        ("mapnik mapnik", None, "png", "mapnik"),
        ("mapnik mapnik", "all", "mvt", "vector"),
        ("mapnik torque", None, "mvt", "vector"),
        ("mapnik torque", "all", "png", "blend"),
        ("mapnik torque", "all", "mvt", "Unsupported format mvt"),
        ("mapnik torque", "1", "png", "torque"),
        ("mapnik torque", "1", "torque.bin", "torque"),
        ("mapnik torque", "1", "grid.json", "Unsupported format grid.json"),
        ("mapnik torque", "0", "torque.json", "Unsupported format torque.json"),
        ("torque", None, "png", "No 'mapnik' layers in MapConfig"),
        ("torque", None, "torque.json", "Unsupported format torque.json"),
        ("mapnik", "http", "png", "No 'http' layers in MapConfig"),
        ("http", "0", "png", "http"),
        ("http", "http", "png", "blend"),
        ("plain", "0", "webp", "plain"),
        ("plain", "0", "mvt", "Unsupported format mvt"),
        ("plain", "all", "grid.json", "Unsupported format grid.json"),
        ("", None, "png", "No 'mapnik' layers in MapConfig"),
        ("", "all", "png", "mapnik"),
    ],
)
def test_the_renderer_of_a_selection_and_format(kinds: str, selector: str | None, name: str, expected: str) -> None:
    described = config(*kinds.split())
    try:
        chosen: str = choose_kind(select_layers(described, selector), selector, FORMATS[name])
    except (InvalidMapConfig, UnsupportedFormat) as error:
        chosen = error.message
    assert chosen == expected


def test_image_formats_are_those_that_are_offered() -> None:
    assert tile_format("webp").content_type == "image/webp"
    for name, offered in (("webp", ("png",)), ("pdf", ("pdf",)), ("", ()), ("PNG", ("PNG",))):
        with pytest.raises(UnsupportedFormat):
            tile_format(name, raster=offered)


# --- static maps


def test_pixels_of_positions() -> None:
    assert pixel_of(0, 0, 0) == (128, 128)
    assert pixel_of(180, -90, 1)[0] == 512
    assert pixel_of(-180, 85.0511287798, 3) == (0, 0)
    # Beyond the pole there is nothing, and to the west no lower bound.
    assert pixel_of(-540, 0, 0) == (-256, 128)


def test_the_closest_zoom_that_shows_a_box() -> None:
    assert view_of_bbox((-180, -85, 180, 85), 256, 256).zoom == 0
    assert view_of_bbox((-180, -85, 180, 85), 512, 512).zoom == 1
    assert view_of_bbox((-180, -85, 180, 85), 10, 10).zoom == 0
    assert view_of_bbox((5, 5, 5, 5), 10, 10).zoom == 18
    view = view_of_bbox((0, 10, 20, 40), 300, 200)
    assert (view.longitude, view.latitude) == (10, 25)


def test_tiles_cover_an_image_exactly_once() -> None:
    for view in (View(0, 0, 1, 400, 3000), View(179, 10, 3, 701, 333), View(-90, 66, 0, 5, 5), View(0, 0, 2, 256, 256)):
        covered: set[tuple[int, int]] = set()
        for place in placed_tiles(view):
            assert (place.x, place.y) not in covered
            covered.add((place.x, place.y))
            assert 0 <= place.tile.y < 1 << view.zoom
            assert place.x < view.width
            assert place.x + 256 > 0
        xs = sorted({x for x, _ in covered})
        assert xs[0] <= 0
        assert xs[-1] + 256 >= view.width
        assert all(other - one == 256 for one, other in itertools.pairwise(xs))


def test_solid_tiles_are_small() -> None:
    assert len(solid((1, 2, 3, 0.5), 256, "png")) < 400
    assert solid((1, 2, 3, 1.0), 256, "png")[25] == 3


@pytest.mark.parametrize("encoding", ["png:z=3", "png32:z=3", "png8:m=h:z=3", "jpeg85", "webp:quality=85"])
def test_tiles_of_one_colour_show_the_same_as_any_other_and_are_as_small_as_can_be(encoding: str) -> None:
    image = mapnik.Image(512, 512)
    for x in range(256, 512):
        for y in range(256):
            image.set_pixel(x, y, mapnik.Color("rgba(10, 200, 30, 0.5)"))
    image.set_pixel(300, 300, mapnik.Color("red"))
    tiles = tiles_of(image, 2, 2, 1, encoding)
    assert tiles_of(image, 2, 2, 1, encoding) == tiles
    if encoding.startswith("png"):
        assert len(tiles[0]) < 400
    for number, tile in enumerate(tiles):
        with Image.open(io.BytesIO(tile)) as shown:
            pixels = shown.convert("RGBA").tobytes()
        most, count = Counter(zip(*[iter(pixels)] * 4, strict=True)).most_common(1)[0]
        # JPEG and WebP of this quality are not exact even where all pixels are equal.
        assert count == 65_536 - (number == 3) or (encoding.startswith(("webp", "jpeg")) and count > 65_000)
        expected = {1: (10, 200, 30, 127)}.get(number, (0, 0, 0, 0))
        if encoding.startswith("jpeg"):
            expected = {1: (133, 228, 143, 255)}.get(number, (255, 255, 255, 255))
        assert all(abs(one - other) <= 3 for one, other in zip(most, expected, strict=True))


# --- torque

PROPERTIES = {
    "-torque-frame-count": "8",
    "-torque-resolution": "2",
    "-torque-time-attribute": '"t"',
    "-torque-aggregation-function": '"count(*)"',
}


def style(rest: str = "", **changes: str | None) -> str:
    given = PROPERTIES | {f"-torque-{name.replace('_', '-')}": value for name, value in changes.items()}
    return (
        "Map { " + " ".join(f"{name}: {value};" for name, value in given.items() if value is not None) + f" }} {rest}"
    )


@pytest.mark.parametrize(
    ("css", "message"),
    [
        (style(frame_count=None), "TorqueRenderer: Missing required property '-torque-frame-count' in torque layer CartoCSS"),
        (style(resolution=None), "TorqueRenderer: Missing required property '-torque-resolution' in torque layer CartoCSS"),
        (style(frame_count=None, resolution='"x"'), "TorqueRenderer: Missing required property '-torque-frame-count' in torque layer CartoCSS"),
        (style(aggregation_function="count(id)"), "TorqueRenderer: Unexpected type for property '-torque-aggregation-function', expected string"),
        (style(frame_count='"8"'), "TorqueRenderer: Unexpected type for property '-torque-frame-count', expected number"),
        (style(animation_duration="fast"), "TorqueRenderer: Unexpected type for property '-torque-animation-duration', expected number"),
        (style(time_attribute="5"), "TorqueRenderer: Unexpected type for property '-torque-time-attribute', expected string"),
        (style(frame_count="0"), "TorqueRenderer: Property '-torque-frame-count' must be between 1 and 65535"),
        (style(resolution="0"), "TorqueRenderer: Property '-torque-resolution' must be between 0.25 and 256"),
        (style(data_aggregation="odd"), "TorqueRenderer: Unexpected value for property '-torque-data-aggregation', expected linear or cumulative"),
    ],
)  # fmt: skip
def test_what_a_torque_style_must_say(css: str, message: str) -> None:
    with pytest.raises(CartoError) as caught:
        compile_torque(css)
    assert caught.value.message == message


@pytest.mark.parametrize(
    "rest",
    ["#l { marker-nonsense: 1; }", "#l[frame-offset=0] { marker-width: 1; }", "#l[frame-offset=33] { marker-width: 1; }",
     "#l[frame-offset>1] { marker-width: 1; }", "#l[value=~'x'] { marker-width: 1; }", "#l { marker-width: @nope; }", "#l {"],
)  # fmt: skip
def test_torque_rules_that_are_refused(rest: str) -> None:
    with pytest.raises(CartoError):
        compile_torque(style(rest))


def test_the_last_of_the_most_specific_rules_wins() -> None:
    read = compile_torque(
        style(
            "#l { marker-width: 2; marker-fill: red; } #l { marker-width: 3; } #l[value>=5] { marker-width: [value] + 1; }"
        )
    )
    (only,) = read.layers
    small, large = only.symbol(1, 0, 0), only.symbol(7, 0, 0)
    assert small is not None
    assert large is not None
    assert (small.radius, large.radius, small.fill) == (3, 8, (255, 0, 0, 1.0))
    assert only.symbol(100_000, 0, 0) is not None
    assert compile_torque(style("#l { marker-fill: red; }")).layers[0].symbol(1, 0, 0) is None


CELLS = [Cell(1, 2, 0, 5), Cell(1, 2, 1, 300), Cell(3, 4, 1, -2), Cell(3, 4, 2, 0.4)]


def test_cells_become_tiles_and_frames() -> None:
    assert data_document(CELLS[:2]) == [
        {"x__uint8": 1, "y__uint8": 2, "vals__uint8": [5, 300], "dates__uint16": [0, 1]}
    ]
    assert frame_cells(CELLS, 1, [0, 1], is_cumulative=False) == ((0, 1, 2, 255.0), (1, 1, 2, 5.0))
    assert frame_cells(CELLS, 1, [0], is_cumulative=True) == ((0, 1, 2, 305.0),)
    assert frame_cells(CELLS, 2, [0], is_cumulative=False) == ()


# --- remote images


def serve(**settings: object) -> ServeSettings:
    return ServeSettings.model_validate(settings)


@pytest.mark.parametrize(
    ("hosts", "url", "is_listed"),
    [
        ("example.org", "http://example.org/x", True),
        ("example.org", "https://EXAMPLE.org/x", True),
        ("example.org", "http://example.org:8080/x", False),
        ("example.org:8080", "http://example.org:8080/x", True),
        ("example.org", "http://a.example.org/x", False),
        ("*.example.org", "http://a.b.example.org/x", True),
        ("*.example.org", "http://example.org/x", False),
        ("*.example.org", "http://evilexample.org/x", False),
        ("*", "http://anything.test/x", True),
        ("*", "http://anything.test:22/x", False),
        ("*", "ftp://anything.test/x", False),
        ("*", "http://user@anything.test/x", False),
        ("*", "nonsense", False),
        ("", "http://example.org/x", False),
    ],
)
def test_hosts_are_listed_one_by_one(hosts: str, url: str, is_listed: bool) -> None:
    images = RemoteImages(serve(layer_url_hosts=hosts))
    if is_listed:
        images.check_listed(url)
    else:
        with pytest.raises(NotListed):
            images.check_listed(url)


PRIVATE = [
    "127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.5.5", "169.254.169.254", "0.1.2.3", "100.64.0.1", "::1", "fe80::1",
    "fc00::1", "::ffff:127.0.0.1", "224.0.0.1", "::",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
async def test_names_that_lead_into_a_private_network_are_refused(address: str) -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return ["93.184.215.14", address]

    async with RemoteImages(serve(layer_url_hosts="images.test"), resolve=resolve) as images:
        with pytest.raises(RemoteUnavailable):
            await images.fetch("http://images.test/x.png")


async def test_the_address_that_was_checked_is_the_one_that_is_asked() -> None:
    """A name server that answers otherwise the second time is never asked a second time."""
    answers = [["127.0.0.1"], ["10.0.0.1"]]

    async def resolve(host: str, port: int) -> Sequence[str]:
        return answers.pop(0)

    with remote_server() as remote:
        settings = serve(layer_url_hosts=f"images.test:{remote.port}", layer_url_networks="127.0.0.1/32")
        async with RemoteImages(settings, resolve=resolve) as images:
            url = f"http://images.test:{remote.port}/green/x"
            assert (await images.fetch(url)).startswith(b"\x89PNG")
            assert remote.headers[0]["Host"] == f"images.test:{remote.port}"
            assert len(answers) == 1
            with pytest.raises(RemoteUnavailable):
                await images.fetch(url)


async def test_an_image_is_fetched_once_for_all_who_wait_and_a_failure_is_not_kept() -> None:
    with remote_server() as remote:
        settings = serve(layer_url_hosts=f"127.0.0.1:{remote.port}", layer_url_networks="127.0.0.1/32")
        async with RemoteImages(settings) as images:
            bodies = await asyncio.gather(*(images.fetch_kept(f"{remote.url}/green/x") for _ in range(5)))
            assert len(set(bodies)) == len(remote.requests) == 1
            for _ in range(2):
                with pytest.raises(FlowMapsError):
                    await images.fetch_kept(f"{remote.url}/missing/x")
            assert remote.requests.count("/missing/x") == 2


def test_tile_bounds_are_in_metres() -> None:
    assert TileCoord(0, 0, 0).bounds == pytest.approx((-20037508.342789244,) * 2 + (20037508.342789244,) * 2)
