"""Choose the renderer that serves a request, by the selected layers and the format, and make it."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence

from psycopg import AsyncConnection

from flowmaps.errors import InvalidMapConfig, UnsupportedFormat
from flowmaps.mapconfig import Layer, MapConfig, select_layers, vector_extents
from flowmaps.mapconfig.layer_options import http_options, plain_options
from flowmaps.mapconfig.selection import is_single_number
from flowmaps.mapconfig.values import LAYER_TYPES, MAPNIK
from flowmaps.maps.pictures import fetch_pictures
from flowmaps.maps.preparation import PreparedLayer, PreparedMap, at_layer
from flowmaps.maps.services import Services
from flowmaps.render import MapPlan, Picture, Renderer, Tile, TileRequest, plan_map
from flowmaps.render.blend import BlendPart, BlendRenderer
from flowmaps.render.describe import Column, describe
from flowmaps.render.formats import Family, Kind, TileFormat, check_makes, unsupported
from flowmaps.render.geojson import GeoJSONLayer, GeoJSONRenderer, clamped_buffer
from flowmaps.render.http import HttpRenderer
from flowmaps.render.plain import TRANSPARENT, PlainRenderer, solid
from flowmaps.render.raster import MapnikRenderer
from flowmaps.render.torque import TorqueRange, TorqueRenderer, TorqueSource, torque_range
from flowmaps.render.vector import VectorLayer, VectorRenderer, encodable
from flowmaps.tile import TILE_PX, TileCoord

MOST_PLANS = 64
PREPARED_SECONDS = 60.0
"""What a query's columns and times are is asked anew after this."""


def choose_kind(layers: Sequence[Layer], selector: str | None, wanted: TileFormat) -> Kind:
    """Return the kind of renderer for a selection; raise `UnsupportedFormat` and `InvalidMapConfig`. Pure.

    One layer alone is drawn by its own kind. What else is not of mapnik layers only is blended, as images.
    """
    if not layers and selector in (None, *LAYER_TYPES):
        if wanted.family == "torque":
            raise unsupported(wanted.name)
        raise InvalidMapConfig(f"No '{selector or MAPNIK}' layers in MapConfig", kind="tile")
    kind: Kind
    if all(layer.type == MAPNIK for layer in layers):
        kind = _FAMILIES.get(wanted.family, "mapnik")
    elif len(layers) == 1 and (is_single_number(selector) or wanted.family != "raster"):
        kind = _KINDS[layers[0].type]
    else:
        kind = "blend"
    check_makes(kind, wanted)
    return kind


_FAMILIES: dict[Family, Kind] = {"vector": "vector", "geojson": "geojson"}
_KINDS: dict[str, Kind] = {"torque": "torque", "http": "http", "plain": "plain"}


async def renderer_for(
    services: Services, topic: str, prepared: PreparedMap, selector: str | None, wanted: TileFormat
) -> Renderer:
    """Return the renderer of the layers that *selector* names; raise `InvalidMapConfig` or `UnsupportedFormat`."""
    layers = select_layers(prepared.config, selector)
    return await renderer_of(services, topic, prepared, layers, choose_kind(layers, selector, wanted), wanted)


async def renderer_of(  # noqa: PLR0917
    services: Services,
    topic: str,
    prepared: PreparedMap,
    layers: Sequence[Layer],
    kind: Kind,
    wanted: TileFormat,
) -> Renderer:
    """Return a renderer of *kind* for *layers*."""
    encoding = services.settings.render.png_options
    match kind:
        case "mapnik":
            return await _mapnik(services, topic, prepared, layers, wanted)
        case "vector":
            return _vector(services, topic, prepared, layers)
        case "geojson":
            return _geojson(services, topic, prepared, layers)
        case "torque":
            return _Windowed(layers[0], _torque(services, topic, prepared, layers[0]))
        case "http":
            options = http_options(layers[0].options)
            return _Windowed(layers[0], HttpRenderer(options, services.remote, services.pool, encoding))
        case "plain":
            plain = plain_options(layers[0].options)
            return _Windowed(layers[0], PlainRenderer(plain, services.remote, services.pool, encoding))
        case "blend":
            return await _blend(services, topic, prepared, layers, wanted)


async def plan_of(  # noqa: PLR0917
    services: Services,
    topic: str,
    prepared: PreparedMap,
    layers: Sequence[Layer],
    tile_format: str,
    pictures: Mapping[str, Picture],
    zoom: int | None = None,
) -> MapPlan:
    """Return Mapnik's map of *layers*, made once for each selection, format, connection and *pictures*.

    And for each *zoom*, where that is given.
    """
    tenant = await services.tenants.tenant(topic)
    conninfo = tenant.conninfo_reader
    files = {address: picture.path for address, picture in pictures.items()}
    key = (tuple(layer.index for layer in layers), tile_format, conninfo, tuple(sorted(files.items())), zoom)
    plan = prepared.plans.get(key)
    if plan is None:
        plan = plan_map(
            prepared.planned(layers, files, zoom),
            conninfo=conninfo,
            buffer_px=prepared.config.buffer_px(tile_format, services.settings.render.buffer_size_px),
            features_per_tile=services.settings.limit.features_per_tile,
            connect_timeout_seconds=services.settings.database.connect_timeout_seconds,
            pictures=[(picture.path, picture.decoded_bytes) for picture in pictures.values()],
        )
        if len(prepared.plans) >= MOST_PLANS:
            prepared.plans.clear()
        prepared.plans[key] = plan
    return plan


async def _mapnik(
    services: Services, topic: str, prepared: PreparedMap, layers: Sequence[Layer], wanted: TileFormat
) -> Renderer:
    _check_styled(prepared.config, wanted.name)
    fields: tuple[str, ...] = ()
    if wanted.family == "grid":
        if len(layers) != 1 or not layers[0].interactivity:
            raise InvalidMapConfig("Tileset has no interactivity", kind="tile")
        # Mapnik reads no other types than a vector tile holds, and would show a value of those as null.
        async with services.tenants.reader(topic) as conn:
            columns = await columns_of(services, prepared, layers[0], conn)
        fields = tuple(name for name in layers[0].interactivity if name in columns)
    # A layer that is selected twice is painted once: nothing but its transparency could tell.
    distinct = list(dict.fromkeys(layers))
    pictures = await fetch_pictures(services.pictures, prepared, distinct)
    # Mapnik is told the zoom while it draws an image, but takes no variables for a grid: that needs a map per zoom.
    per_zoom = wanted.family == "grid" and prepared.layers[layers[0].index].varies_with_zoom

    async def plan(tile: TileCoord) -> MapPlan:
        zoom = tile.z if per_zoom else None
        return await plan_of(services, topic, prepared, distinct, wanted.name, pictures, zoom)

    encoding = services.settings.render.png_options
    return MapnikRenderer(services.blocks, plan, encoding, fields, tuple(pictures.values()))


def _check_styled(config: MapConfig, tile_format: str) -> None:
    if config.is_vector_only:
        raise UnsupportedFormat(f"Unsupported format: 'cartocss' option is missing for {tile_format}")


def _vector(services: Services, topic: str, prepared: PreparedMap, layers: Sequence[Layer]) -> Renderer:
    settings = services.settings
    extents = vector_extents(prepared.config)
    buffer_px = prepared.config.buffer_px("mvt", settings.render.mvt_buffer_size_px)
    _check_vectors(layers, "vector")

    async def sources(conn: AsyncConnection[object], tile: TileCoord) -> list[VectorLayer]:
        found = []
        for layer in dict.fromkeys(layers):
            if layer.at_zoom(tile.z):
                columns = await columns_of(services, prepared, layer, conn)
                query = prepared.layers[layer.index].query(tile, buffer_px)
                found.append(VectorLayer(layer.id, query, layer.geom_column, layer.srid, columns))
        return found

    return VectorRenderer(
        functools.partial(services.tenants.reader, topic),
        sources,
        extent=extents.extent,
        simplify_extent=extents.simplify_extent,
        buffer_px=buffer_px,
        features_per_tile=settings.limit.features_per_tile,
    )


def _check_vectors(layers: Sequence[Layer], kind: str) -> None:
    for layer in layers:
        if layer.is_raster:
            text = f"Layer {layer.index} holds a raster, which has no {kind} tiles"
            raise at_layer(InvalidMapConfig(text), layer, "geom_type")


def _geojson(services: Services, topic: str, prepared: PreparedMap, layers: Sequence[Layer]) -> Renderer:
    settings = services.settings
    _check_vectors(layers, "GeoJSON")
    distinct = list(dict.fromkeys(layers))
    buffer_px = clamped_buffer(prepared.buffer_px(distinct, "geojson", settings.render.geojson_buffer_size_px))

    async def sources(conn: AsyncConnection[object], tile: TileCoord) -> list[GeoJSONLayer]:
        found = []
        for layer in distinct:
            if layer.at_zoom(tile.z):
                item = prepared.layers[layer.index]
                columns = shown_columns(item, await _described(services, prepared, layer, conn))
                query = item.query(tile, buffer_px)
                found.append(GeoJSONLayer(layer.id, query, layer.geom_column, layer.srid, columns))
        return found

    return GeoJSONRenderer(
        functools.partial(services.tenants.reader, topic),
        sources,
        names_layers=len(distinct) > 1,
        buffer_px=buffer_px,
        features_per_tile=settings.limit.features_per_tile,
    )


def shown_columns(item: PreparedLayer, columns: Sequence[Column]) -> tuple[Column, ...]:
    """Return the columns that become properties in GeoJSON, of those that a layer's query has, each once. Pure.

    They are those that the layer names: as columns, in its style, for its grid. A layer without a style that names
    none shows what its vector tiles do.
    """
    layer = item.layer
    styled = item.style.columns if item.style is not None else ()
    names = dict.fromkeys((*layer.columns, *styled, *layer.interactivity))
    if not names and item.style is None:
        names = dict.fromkeys(encodable(columns))
    known = {column.name: column for column in columns}
    return tuple(known[name] for name in names if name in known and name != layer.geom_column)


async def _described(
    services: Services, prepared: PreparedMap, layer: Layer, conn: AsyncConnection[object]
) -> tuple[Column, ...]:
    """Return the columns of a layer's query; asked of PostgreSQL now and then."""
    key = ("columns", layer.index)
    known: tuple[Column, ...] | None = prepared.recall(key, services.clock())
    if known is None:
        known = await describe(conn, prepared.layers[layer.index].query())
        prepared.remember(key, known, services.clock() + PREPARED_SECONDS)
    return known


async def columns_of(
    services: Services, prepared: PreparedMap, layer: Layer, conn: AsyncConnection[object]
) -> tuple[str, ...]:
    """Return the columns of a layer's query that vector tiles and grids can hold."""
    return encodable(await _described(services, prepared, layer, conn))


def torque_source(prepared: PreparedMap, layer: Layer) -> TorqueSource:
    item = prepared.layers[layer.index]
    if item.torque is None:
        raise RuntimeError("a torque layer was not prepared")
    return TorqueSource(item.query, layer.geom_column, layer.srid, item.torque)


async def times_of(services: Services, topic: str, prepared: PreparedMap, layer: Layer, freshness: str) -> TorqueRange:
    """Return the range of a torque layer's times; tiles and metadata of one *freshness* share it for a while."""
    key = ("times", layer.index, freshness)
    known: TorqueRange | None = prepared.recall(key, services.clock())
    if known is None:
        async with services.tenants.reader(topic) as conn:
            known = await torque_range(conn, torque_source(prepared, layer))
        prepared.remember(key, known, services.clock() + PREPARED_SECONDS)
    return known


def _torque(services: Services, topic: str, prepared: PreparedMap, layer: Layer) -> Renderer:
    settings = services.settings
    step = layer.options.get("step")
    return TorqueRenderer(
        connect=functools.partial(services.tenants.reader, topic),
        source=torque_source(prepared, layer),
        times=lambda freshness: times_of(services, topic, prepared, layer, freshness),
        pool=services.pool,
        pictures=services.pictures,
        drawn_step=int(step) if isinstance(step, int | float) and math.isfinite(step) else 0,
        features_per_tile=settings.limit.features_per_tile,
        default_encoding=settings.render.png_options,
    )


async def _blend(
    services: Services, topic: str, prepared: PreparedMap, layers: Sequence[Layer], wanted: TileFormat
) -> Renderer:
    """Return a blend; all its mapnik layers are one part, at the place of the first of them, as clients know it."""
    mapnik_layers = [layer for layer in layers if layer.type == MAPNIK]
    parts: list[BlendPart] = []
    for layer in layers:
        if layer.type != MAPNIK:
            renderer = await renderer_of(services, topic, prepared, [layer], _KINDS[layer.type], wanted)
            parts.append(BlendPart(renderer, is_remote=layer.type == "http"))
        elif layer is mapnik_layers[0]:
            renderer = await renderer_of(services, topic, prepared, mapnik_layers, "mapnik", wanted)
            parts.append(BlendPart(renderer))
    return BlendRenderer(parts, services.pool, services.settings.render.png_options)


class _Windowed:
    """A renderer that draws nothing outside of its layer's zooms; Mapnik and PostGIS see to that by themselves."""

    def __init__(self, layer: Layer, renderer: Renderer) -> None:
        self._layer = layer
        self._renderer = renderer

    async def render(self, request: TileRequest) -> Tile:
        if self._layer.at_zoom(request.tile.z):
            return await self._renderer.render(request)
        wanted = request.format
        if wanted.content_type.startswith("image/"):
            return Tile(solid(TRANSPARENT, TILE_PX * request.scale, wanted.name), wanted.content_type)
        return Tile(b"[]", wanted.content_type)
