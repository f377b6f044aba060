"""GeoJSON tiles, made in PostGIS over a connection of the tenant's reader role, as vector tiles are.

Coordinates stay in the reference system of their layer, and everything is done there: no geometry is transformed, so
that one which reaches a pole can be shown as well.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection, sql

from flowmaps.errors import InvalidSQL
from flowmaps.render.contract import Tile, TileRequest
from flowmaps.render.describe import Column
from flowmaps.render.vector import reached_box
from flowmaps.tile import TILE_PX, WORLD, TileCoord

LARGEST_BUFFER_PX = 256
MOST_BYTES = 64 * 1024 * 1024
"""A tile is made in memory, and a text of PostgreSQL may have sixteen times as much."""
SIMPLIFIED_TO = 20
"""Shapes are simplified by this part of a pixel."""
DETAILED_ZOOM = 18
"""From here on a coordinate has two decimals more."""
_NUMBERS = frozenset((700, 701, 1700))
"""float4, float8 and numeric, which may be infinite or no number."""
_FIRST_OWN_TYPE = 16_384
"""Types from here on were added to PostgreSQL; PostGIS would show a geometry as an object of its own."""
_TRANSFORM_FAILED = "22023"
_LIMIT_EXCEEDED = "54000"


@dataclass(frozen=True, slots=True)
class GeoJSONLayer:
    """A layer as it is shown; *query* is a sub-query with alias, tokens filled in, *columns* become properties."""

    name: str
    query: str
    geom_column: str
    srid: int
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class GeoJSONRenderer:
    """Answers GeoJSON tiles of some layers; *sources* gives those that a tile's zoom shows, over a connection.

    Where *names_layers* is set, each feature has a member ``layer`` beside its properties: they are of several.
    """

    connect: Callable[[], AbstractAsyncContextManager[AsyncConnection[Any]]]
    sources: Callable[[AsyncConnection[Any], TileCoord], Awaitable[Sequence[GeoJSONLayer]]]
    names_layers: bool
    buffer_px: int
    features_per_tile: int

    async def render(self, request: TileRequest) -> Tile:
        parts: list[str] = []
        size = 0
        async with self.connect() as conn:
            for layer in await self.sources(conn, request.tile):
                area = await _area(conn, layer.srid, request.tile, self.buffer_px)
                statement = _statement(layer, area, names_layer=self.names_layers, most=self.features_per_tile)
                row = await (await conn.execute(statement, prepare=False)).fetchone()
                if row is None or not row[1]:
                    continue
                part, length = row
                size += length
                if part is None or size > MOST_BYTES:
                    text = f"the tile has {size} bytes or more, the limit is {MOST_BYTES}"
                    raise InvalidSQL(text, sqlstate=_LIMIT_EXCEEDED)
                parts.append(part)
        body = '{"type":"FeatureCollection","features":[' + ",".join(parts) + "]}"
        return Tile(body.encode(), request.format.content_type)


@dataclass(frozen=True, slots=True)
class Area:
    """What a tile shows in a layer's reference system: the *box* that holds the grown tile, and a pixel's width there.

    *decimals* are those of coordinates.
    """

    box: tuple[float, float, float, float]
    pixel: float
    decimals: int


def clamped_buffer(buffer_px: float) -> int:
    return int(max(0, min(LARGEST_BUFFER_PX, buffer_px)))


def area_of(zoom: int, box: Sequence[float], width: float) -> Area:
    """Return the area of a tile whose grown *box* and own *width* are given in the units of a reference system.

    Coordinates are as exact on the ground for every unit: whole metres, centimetres in close view.
    """
    west, south, east, north = box
    units_per_metre = width * (1 << zoom) / (2 * WORLD)
    decimals = max(0, round(-math.log10(units_per_metre)))
    return Area((west, south, east, north), width / TILE_PX, decimals + (2 if zoom >= DETAILED_ZOOM else 0))


async def _area(conn: AsyncConnection[Any], srid: int, tile: TileCoord, buffer_px: int) -> Area:
    """Return what *tile* shows in a reference system; raise `InvalidSQL` where that system does not reach there."""
    own, grown = tile.bounds, reached_box(tile, buffer_px, srid)
    if srid == 3857:
        return area_of(tile.z, grown, own.xmax - own.xmin)
    # With points along the edges, which may be curves there.
    boxes = [
        sql.SQL("st_transform(st_segmentize(st_makeenvelope({}, 3857), {}), {})").format(
            sql.SQL(", ").join(map(sql.Literal, box)), sql.Literal((box[2] - box[0]) / 8), sql.Literal(srid)
        )
        for box in (grown, own)
    ]
    statement = sql.SQL(
        "select st_xmin(grown), st_ymin(grown), st_xmax(grown), st_ymax(grown), st_xmax(own) - st_xmin(own)"
        " from (select {} as grown, {} as own) as boxes"
    ).format(*boxes)
    row = await (await conn.execute(statement, prepare=False)).fetchone()
    if row is None or not all(value is not None and math.isfinite(value) for value in row) or row[4] <= 0:
        raise InvalidSQL(f"the tile cannot be expressed in the reference system {srid}", sqlstate=_TRANSFORM_FAILED)
    return area_of(tile.z, row[:4], row[4])


def _statement(layer: GeoJSONLayer, area: Area, *, names_layer: bool, most: int) -> sql.Composed:
    """Return the query for the layer's features as one text, with commas between them, and its length in bytes.

    Both are null where there is none, and the text where it is too long.

    A part that simplification leaves nothing of becomes its box, so that small things do not vanish. Parts outside are
    left out, and so are surfaces in space and shapes with coordinates that are no numbers, which GeoJSON does not know.
    Literals and not parameters: a percent sign in the map's SQL is then nothing special.
    """
    member = f',"layer":{json.dumps(layer.name)}' if names_layer else ""
    return sql.SQL(
        """
        with features as (
            select {properties} as properties, case when geometrytype({geom}) = 'POINT' then
                -- Nothing of it can be cut or simplified: three times as fast.
                st_asgeojson(st_force2d({geom}), {decimals}, 0)
            else (
                select st_asgeojson(
                    case when count(*) = 1 and st_numgeometries({geom}) = 1
                        then (array_agg(shown))[1] else st_collect(shown) end, {decimals}, 0)
                from (
                    select case when simple is null or st_isempty(simple)
                        then st_envelope(piece) else simple end as shown
                    from (
                        select pieces.geom as piece, st_simplify(pieces.geom, {tolerance}) as simple
                        from st_dump({valid}) as parts, st_dump(st_clipbybox2d(parts.geom, {box})) as pieces
                        where not st_isempty(pieces.geom)
                    ) as simplified
                ) as shown_parts
            ) end as shape
            from {query}
            where {geom} && {box}
            limit {most}
        ), tile as (
            select string_agg({start} || shape || ',"properties":' || properties || '}}', ',') as body
            from features
            where shape !~* 'nan|inf'
        )
        select case when octet_length(body) <= {most_bytes} then body end, octet_length(body) from tile
        """
    ).format(
        most_bytes=sql.Literal(MOST_BYTES),
        start=sql.Literal(f'{{"type":"Feature"{member},"geometry":'),
        decimals=sql.Literal(area.decimals),
        properties=_properties(layer),
        geom=_geom(layer),
        valid=_valid(layer),
        tolerance=sql.Literal(area.pixel / SIMPLIFIED_TO),
        box=sql.SQL("st_makeenvelope({}, {})").format(
            sql.SQL(", ").join(map(sql.Literal, area.box)), sql.Literal(layer.srid)
        ),
        query=sql.SQL(layer.query),
        most=sql.Literal(most),
    )


def _geom(layer: GeoJSONLayer) -> sql.Composed:
    return sql.SQL("cdbq.{}").format(sql.Identifier(layer.geom_column))


def _valid(layer: GeoJSONLayer) -> sql.Composed:
    """Return the geometry in two dimensions, without curves, and with areas that can be cut; surfaces are null."""
    return sql.SQL(
        """case
            when geometrytype({flat}) in ('POLYGON', 'MULTIPOLYGON', 'GEOMETRYCOLLECTION') then st_makevalid({flat})
            when geometrytype({flat}) not in ('TIN', 'TRIANGLE', 'POLYHEDRALSURFACE') then {flat}
        end"""
    ).format(flat=sql.SQL("st_force2d(st_curvetoline({}))").format(_geom(layer)))


def _properties(layer: GeoJSONLayer) -> sql.Composable:
    if not layer.columns:
        return sql.SQL("'{}'")
    values = [sql.SQL("{} as {}").format(_value(column), sql.Identifier(column.name)) for column in layer.columns]
    return sql.SQL("(select row_to_json(named)::text from (select {}) as named)").format(sql.SQL(", ").join(values))


def _value(column: Column) -> sql.Composable:
    """Return a column as JSON can hold it: no number is null, types that PostgreSQL did not bring are text."""
    name = sql.SQL("cdbq.{}").format(sql.Identifier(column.name))
    if column.type_oid in _NUMBERS:
        return sql.SQL("nullif(nullif(nullif({}, 'NaN'), 'Infinity'), '-Infinity')").format(name)
    return sql.SQL("{}::text").format(name) if column.type_oid >= _FIRST_OWN_TYPE else name
