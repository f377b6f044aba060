"""Answer one tile of a stored map."""

from __future__ import annotations

import re
import time

from flowmaps.errors import InvalidRequest, TileOutOfRange, UnsupportedFormat
from flowmaps.mapconfig import MapConfig
from flowmaps.maps.renderers import renderer_for
from flowmaps.maps.services import Services
from flowmaps.mapstore.values import unknown_map
from flowmaps.render import Tile, TileRequest
from flowmaps.render.formats import tile_format
from flowmaps.tile import TileCoord

_TOKEN = re.compile(r"[0-9a-f]{32}")


def split_layergroupid(layergroupid: str) -> tuple[str, str]:
    """Return token and cache buster; raise `UnknownMap` where the first is no token."""
    token, _, rest = layergroupid.partition(":")
    if not _TOKEN.fullmatch(token):
        raise unknown_map(token[:64])
    buster = rest.partition(":")[0]
    if buster.isascii() and buster.isdigit():
        # A time to come would keep tiles of today until then.
        return token, str(min(int(buster[:18]), int(time.time() * 1000)))
    return token, buster[:32]


def parse_tile(z: str, x: str, y: str, *, max_zoom: int) -> TileCoord:
    """Return the tile of an address, its column wrapped around the world; raise `InvalidRequest`, `TileOutOfRange`."""
    if not re.fullmatch(r"[0-9]+", z):
        text = f"Invalid zoom value ({z[:40]}). It should be an integer number greather than or equal to 0"
        raise InvalidRequest(text, member="z")
    if not re.fullmatch(r"-?[0-9]+", x):
        raise InvalidRequest(f"Invalid coodinate 'x' value ({x[:40]}). It should be an integer number", member="x")
    if not re.fullmatch(r"[0-9]+", y):
        text = f"Invalid coodinate 'y' value ({y[:40]}). It should be an integer number greather than or equal to 0"
        raise InvalidRequest(text, member="y")
    if max(len(z), len(x), len(y)) > 12 or int(z) > max_zoom or int(y) >= 1 << int(z):
        raise TileOutOfRange(f"Coordinates out of range: {z[:40]}/{x[:40]}/{y[:40]}")
    return TileCoord(int(z), int(x) % (1 << int(z)), int(y))


async def answer_tile(
    services: Services, layergroupid: str, selector: str | None, tile: TileCoord, format_name: str, *, scale: int = 1
) -> tuple[Tile, bool]:
    """Return a tile of the selected layers, and whether ingest knows of every change of what it shows.

    Raise `UnknownMap`, `UnsupportedFormat`, `InvalidMapConfig` (a bad selector, or no interactivity), or a
    `TemporaryError`.
    """
    token, freshness = split_layergroupid(layergroupid)
    loaded = await services.load(token)
    prepared, settings = loaded.prepared, services.settings
    if settings.serve.enforce_map_zoom:
        check_map_zoom(prepared.config, tile.z)
    if scale not in settings.render.scale_factors:
        raise UnsupportedFormat("Tile with specified resolution not found", not_found=True)
    wanted = tile_format(format_name, raster=settings.render.raster_formats)
    renderer = await renderer_for(services, loaded.stored.topic, prepared, selector, wanted)
    return await renderer.render(TileRequest(tile, wanted, scale, freshness)), prepared.is_tracked


def check_map_zoom(config: MapConfig, zoom: int) -> None:
    """Raise `UnsupportedFormat` where the map says that it has no tiles at *zoom*."""
    if (config.minzoom is not None and zoom < config.minzoom) or (config.maxzoom is not None and zoom > config.maxzoom):
        raise UnsupportedFormat(f"The map has no tiles at zoom {zoom}", not_found=True)
