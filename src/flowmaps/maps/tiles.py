"""Answer one tile of a stored map."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from flowmaps.errors import InvalidMapConfig, InvalidRequest, TileOutOfRange, UnsupportedFormat
from flowmaps.mapconfig import Layer, select_layers, vector_extents
from flowmaps.mapconfig.values import MAPNIK
from flowmaps.maps.preparation import PreparedMap
from flowmaps.maps.services import LoadedMap, Services
from flowmaps.mapstore.values import unknown_map
from flowmaps.render import MapPlan, plan_map
from flowmaps.render.describe import describe
from flowmaps.render.mvt import VectorLayer, encodable, vector_tile
from flowmaps.tile import TileCoord

_TOKEN = re.compile(r"[0-9a-f]{32}")
_ENCODINGS = {"png32": "png32", "png8": "png8:m=h"}
JSON = "application/json; charset=utf-8"
MVT = "application/x-protobuf"
PNG = "image/png"


@dataclass(frozen=True, slots=True)
class Tile:
    """A tile's body; *is_empty* is known of vector tiles only."""

    body: bytes
    content_type: str
    is_empty: bool | None = None


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
    services: Services, layergroupid: str, selector: str | None, tile: TileCoord, tile_format: str, *, scale: int = 1
) -> Tile:
    """Return a tile of the selected layers in one of the formats.

    Raise `UnknownMap`, `UnsupportedFormat`, `InvalidMapConfig` (a bad selector, or no interactivity), or a
    `TemporaryError`.
    """
    token, freshness = split_layergroupid(layergroupid)
    loaded = await services.load(token)
    _check_zoom(services, loaded, tile)
    layers = select_layers(loaded.prepared.config, selector)
    if scale not in services.settings.render.scale_factors:
        raise UnsupportedFormat("Tile with specified resolution not found", not_found=True)
    if not any(layer.type == MAPNIK for layer in layers):
        raise InvalidMapConfig("No 'mapnik' layers in MapConfig", kind="tile")
    match tile_format:
        case "png" | "png32" | "png8":
            return await _png(services, loaded, layers, tile, freshness, tile_format, scale)
        case "grid.json":
            return await _grid(services, loaded, layers, tile, freshness)
        case "mvt":
            return await _mvt(services, loaded, layers, tile)
        case _:
            raise UnsupportedFormat(f"Unsupported format {tile_format[:40]}")


def _check_zoom(services: Services, loaded: LoadedMap, tile: TileCoord) -> None:
    config = loaded.prepared.config
    if services.settings.serve.enforce_map_zoom and (
        (config.minzoom is not None and tile.z < config.minzoom)
        or (config.maxzoom is not None and tile.z > config.maxzoom)
    ):
        raise UnsupportedFormat(f"The map has no tiles at zoom {tile.z}", not_found=True)


async def plan_of(
    services: Services, topic: str, prepared: PreparedMap, layers: tuple[Layer, ...], tile_format: str
) -> MapPlan:
    """Return Mapnik's map of *layers*, made once for each selection, format and connection."""
    tenant = await services.tenants.tenant(topic)
    conninfo = tenant.conninfo_reader
    key = (tuple(layer.index for layer in layers), tile_format, conninfo)
    plan = prepared.plans.get(key)
    if plan is None:
        plan = plan_map(
            prepared.planned(layers),
            conninfo=conninfo,
            buffer_px=prepared.config.buffer_px(tile_format, services.settings.render.buffer_size_px),
            features_per_tile=services.settings.limit.features_per_tile,
            connect_timeout_seconds=services.settings.database.connect_timeout_seconds,
        )
        if len(prepared.plans) >= 64:
            prepared.plans.clear()
        prepared.plans[key] = plan
    return plan


async def _png(  # noqa: PLR0917  the parts of an address
    services: Services,
    loaded: LoadedMap,
    layers: tuple[Layer, ...],
    tile: TileCoord,
    freshness: str,
    tile_format: str,
    scale: int,
) -> Tile:
    _check_styled(loaded, tile_format)
    plan = await plan_of(services, loaded.stored.topic, loaded.prepared, layers, tile_format)
    encoding = _ENCODINGS.get(tile_format, services.settings.render.png_options)
    body = await services.tiles.png(plan, tile, freshness=freshness, encoding=encoding, scale=scale)
    return Tile(body, PNG)


async def _grid(
    services: Services, loaded: LoadedMap, layers: tuple[Layer, ...], tile: TileCoord, freshness: str
) -> Tile:
    _check_styled(loaded, "grid.json")
    if len(layers) != 1 or not layers[0].interactivity:
        raise InvalidMapConfig("Tileset has no interactivity", kind="tile")
    plan = await plan_of(services, loaded.stored.topic, loaded.prepared, layers, "grid.json")
    body = await services.tiles.grid(plan, tile, freshness=freshness, fields=layers[0].interactivity)
    return Tile(body, JSON)


def _check_styled(loaded: LoadedMap, tile_format: str) -> None:
    if loaded.prepared.config.is_vector_only:
        raise UnsupportedFormat(f"Unsupported format: 'cartocss' option is missing for {tile_format}")


async def _mvt(services: Services, loaded: LoadedMap, layers: tuple[Layer, ...], tile: TileCoord) -> Tile:
    config, settings = loaded.prepared.config, services.settings
    extents = vector_extents(config)
    buffer_px = config.buffer_px("mvt", settings.render.mvt_buffer_size_px)
    async with services.tenants.reader(loaded.stored.topic) as conn:
        vector_layers = []
        for layer in layers:
            if not layer.at_zoom(tile.z):
                continue
            query = loaded.prepared.layers[layer.index].query(tile, buffer_px)
            columns = encodable(await describe(conn, query))
            vector_layers.append(VectorLayer(layer.id, query, layer.geom_column, layer.srid, columns))
        body = await vector_tile(
            conn,
            vector_layers,
            tile,
            extent=extents.extent,
            simplify_extent=extents.simplify_extent,
            buffer_px=buffer_px,
            features_per_tile=settings.limit.features_per_tile,
        )
    return Tile(body, MVT, is_empty=not body)
