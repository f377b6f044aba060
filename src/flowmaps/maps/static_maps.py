"""Answer static maps: one image of any size, around a centre or over a bounding box."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass

from flowmaps.errors import InvalidRequest, RenderTimeout, UnsupportedFormat
from flowmaps.mapconfig import select_layers
from flowmaps.maps.renderers import choose_kind, renderer_for
from flowmaps.maps.services import LoadedMap, Services
from flowmaps.maps.tiles import split_layergroupid
from flowmaps.render import Renderer, Tile, TileRequest
from flowmaps.render.describe import BBox
from flowmaps.render.formats import FORMATS, TileFormat
from flowmaps.render.job import ComposeJob, Part
from flowmaps.tile import TILE_PX, TileCoord

STATIC_FORMATS = ("png", "jpg", "jpeg", "webp")
LARGEST_ZOOM_OF_BBOX = 18
TILES_AT_ONCE = 8
_LARGEST_SINE = 0.9999


@dataclass(frozen=True, slots=True)
class View:
    """What a static map shows: centre in degrees, zoom, and the size in pixels."""

    longitude: float
    latitude: float
    zoom: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Placed:
    """A tile and where its upper left corner lies on the image, in pixels."""

    tile: TileCoord
    x: int
    y: int


def pixel_of(longitude: float, latitude: float, zoom: int) -> tuple[int, int]:
    """Return the whole pixel of a position in the world at *zoom*, spherical mercator; the corner is north-west."""
    size = TILE_PX << zoom
    sine = min(max(math.sin(math.radians(latitude)), -_LARGEST_SINE), _LARGEST_SINE)
    x = size / 2 + longitude * size / 360
    y = size / 2 - math.log((1 + sine) / (1 - sine)) * size / (4 * math.pi)
    return min(size, math.floor(x + 0.5)), min(size, math.floor(y + 0.5))


def view_of_bbox(bbox: BBox, width: int, height: int) -> View:
    """Return the closest view that shows a whole bounding box, around the mean of its degrees."""
    west, south, east, north = bbox
    zoom = 0
    for candidate in range(LARGEST_ZOOM_OF_BBOX, 0, -1):
        x1, y1 = pixel_of(west, south, candidate)
        x2, y2 = pixel_of(east, north, candidate)
        if abs(x2 - x1) <= width and abs(y2 - y1) <= height:
            zoom = candidate
            break
    return View((west + east) / 2, (south + north) / 2, zoom, width, height)


def placed_tiles(view: View) -> list[Placed]:
    """Return the tiles that an image touches; columns wrap around the world, rows beyond it are left out."""
    middle_x, middle_y = pixel_of(view.longitude, view.latitude, view.zoom)
    left, top = middle_x - view.width // 2, middle_y - view.height // 2
    across = 1 << view.zoom
    columns = range(left // TILE_PX, (left + view.width - 1) // TILE_PX + 1)
    rows = range(max(0, top // TILE_PX), min(across - 1, (top + view.height - 1) // TILE_PX) + 1)
    return [
        Placed(TileCoord(view.zoom, column % across, row), column * TILE_PX - left, row * TILE_PX - top)
        for row in rows
        for column in columns
    ]


async def answer_static(
    services: Services, layergroupid: str, view: View, format_name: str, *, selector: str | None = None
) -> Tile:
    """Return a static map of all layers, or of those that *selector* names.

    Raise `UnsupportedFormat`, `InvalidRequest` for a size beyond the limit, or what its tiles raise.
    """
    wanted = static_format(format_name)
    check_size(services, view)
    token, freshness = split_layergroupid(layergroupid)
    loaded = await services.load(token)
    image = FORMATS["png32"]
    chosen = selector or "all"
    choose_kind(select_layers(loaded.prepared.config, chosen), chosen, image)
    renderer = await renderer_for(services, loaded.stored.topic, loaded.prepared, chosen, image)
    try:
        async with asyncio.timeout(services.settings.render.static_deadline_seconds), services.static_slots:
            return await _drawn(services, renderer, view, wanted, freshness, loaded)
    except TimeoutError:
        raise RenderTimeout("Render timed out") from None


def static_format(name: str) -> TileFormat:
    if name not in STATIC_FORMATS:
        raise UnsupportedFormat(f'Unsupported image format "{name[:40]}"')
    return FORMATS[name]


def check_size(services: Services, view: View) -> None:
    """Raise `InvalidRequest` for an image without area, or one that is too large."""
    if view.width < 1 or view.height < 1:
        raise InvalidRequest("Image dimensions must be greater than 0.", member="size")
    if max(view.width, view.height) > services.settings.limit.static_image_px:
        raise InvalidRequest("Desired image is too large.", member="size")


async def _drawn(  # noqa: PLR0917
    services: Services, renderer: Renderer, view: View, wanted: TileFormat, freshness: str, loaded: LoadedMap
) -> Tile:
    placed = placed_tiles(view)
    slots = asyncio.Semaphore(TILES_AT_ONCE)
    config = loaded.prepared.config
    distinct = list(dict.fromkeys(place.tile for place in placed))

    async def draw(tile: TileCoord) -> bytes:
        async with slots:
            return (await renderer.render(TileRequest(tile, FORMATS["png32"], 1, freshness))).body

    if config.layers:
        tasks = [asyncio.ensure_future(draw(tile)) for tile in distinct]
        try:
            bodies = dict(zip(distinct, await asyncio.gather(*tasks), strict=True))
        finally:
            # After the first failure, or the deadline, the others are not worth their drawing.
            for task in tasks:
                task.cancel()
    else:
        bodies = {}
    parts = tuple(Part(bodies[place.tile], place.x, place.y) for place in placed if place.tile in bodies)
    encoding = wanted.encoding or services.settings.render.png_options
    (body,) = await services.pool.render(ComposeJob((view.width, view.height), parts, encoding))
    return Tile(body, wanted.content_type)
