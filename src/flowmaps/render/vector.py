"""Vector tiles, made in PostGIS over a connection of the tenant's reader role.

The map's own SQL is part of these queries; it was vetted before, and the role can read the published data alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection, sql

from flowmaps.render.contract import Tile, TileRequest
from flowmaps.render.describe import Column
from flowmaps.tile import TILE_PX, WORLD, Bounds, TileCoord

_TYPES = frozenset((16, 20, 21, 23, 25, 700, 701, 1042, 1043, 1700, 705))
"""bool, int8, int2, int4, text, float4, float8, bpchar, varchar, numeric and untyped literals."""


@dataclass(frozen=True, slots=True)
class VectorLayer:
    """A layer as PostGIS encodes it; *query* is a sub-query with alias, tokens filled in."""

    name: str
    query: str
    geom_column: str
    srid: int
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class VectorRenderer:
    """Answers vector tiles of some layers; *sources* gives those that a tile's zoom shows, over a connection."""

    connect: Callable[[], AbstractAsyncContextManager[AsyncConnection[Any]]]
    sources: Callable[[AsyncConnection[Any], TileCoord], Awaitable[Sequence[VectorLayer]]]
    extent: int
    simplify_extent: int
    buffer_px: int
    features_per_tile: int

    async def render(self, request: TileRequest) -> Tile:
        async with self.connect() as conn:
            layers = await self.sources(conn, request.tile)
            body = await vector_tile(
                conn,
                layers,
                request.tile,
                extent=self.extent,
                simplify_extent=self.simplify_extent,
                buffer_px=self.buffer_px,
                features_per_tile=self.features_per_tile,
            )
        return Tile(body, request.format.content_type, is_empty=not body)


def encodable(columns: Sequence[Column]) -> tuple[str, ...]:
    """Return the names of the columns that become attributes of a vector tile, each once."""
    return tuple(dict.fromkeys(column.name for column in columns if column.type_oid in _TYPES))


async def vector_tile(
    conn: AsyncConnection[Any],
    layers: Sequence[VectorLayer],
    tile: TileCoord,
    *,
    extent: int,
    simplify_extent: int,
    buffer_px: int,
    features_per_tile: int,
) -> bytes:
    """Return the layers' Mapbox Vector Tile; it is empty where none has a feature there."""
    parts: list[bytes] = []
    for layer in layers:
        statement = _statement(layer, tile, extent, simplify_extent, buffer_px, features_per_tile)
        cursor = await conn.execute(statement, prepare=False)
        row = await cursor.fetchone()
        if row is not None and row[0]:
            parts.append(bytes(row[0]))
    return b"".join(parts)


def _statement(  # noqa: PLR0917
    layer: VectorLayer, tile: TileCoord, extent: int, simplify_extent: int, buffer_px: int, features_per_tile: int
) -> sql.Composed:
    side = 2 * WORLD / (1 << tile.z)
    geom = sql.SQL("cdbq.{}").format(sql.Identifier(layer.geom_column))
    in_metres = geom if layer.srid == 3857 else sql.SQL("st_transform({}, 3857)").format(geom)
    drawn: sql.Composable = in_metres
    if simplify_extent != extent:
        drawn = sql.SQL(
            "case when st_dimension({geom}) = 0 then {geom} else "
            "st_simplify(st_removerepeatedpoints({geom}, {tolerance}), {tolerance}, true) end"
        ).format(geom=in_metres, tolerance=sql.Literal(side / (2 * simplify_extent)))
    columns = [sql.SQL(", cdbq.{}").format(sql.Identifier(name)) for name in layer.columns if name != layer.geom_column]
    # Literals and not parameters: a percent sign in a column's name or in the map's SQL is then nothing special.
    return sql.SQL(
        """
        with tile as (
            select st_asmvtgeom({drawn}, st_makeenvelope({box}, 3857), {extent}, {buffer}, true)
                       as "mvt geometry of the tile" {columns}
            from {query}
            where {geom} && {envelope}
            limit {limit}
        )
        select st_asmvt(tile, {name}, {extent}, 'mvt geometry of the tile') from tile
        where "mvt geometry of the tile" is not null
        """
    ).format(
        drawn=drawn,
        box=_numbers(*tile.bounds),
        extent=sql.Literal(extent),
        buffer=sql.Literal(round(buffer_px * extent / TILE_PX)),
        columns=sql.SQL("").join(columns),
        query=sql.SQL(layer.query),
        geom=geom,
        envelope=_envelope(reached_box(tile, buffer_px, layer.srid), layer.srid),
        limit=sql.Literal(features_per_tile),
        name=sql.Literal(layer.name),
    )


def reached_box(tile: TileCoord, buffer_px: float, srid: int) -> Bounds:
    """Return the tile with its buffer, in metres; outside of EPSG:3857 there is nothing beyond the world's edges."""
    grown = buffer_px * 2 * WORLD / (1 << tile.z) / TILE_PX
    reach = WORLD if srid != 3857 else float("inf")
    xmin, ymin, xmax, ymax = tile.bounds
    return Bounds(
        max(-reach, xmin - grown), max(-reach, ymin - grown), min(reach, xmax + grown), min(reach, ymax + grown)
    )


def _envelope(box: tuple[float, float, float, float], srid: int) -> sql.Composed:
    envelope = sql.SQL("st_makeenvelope({}, 3857)").format(_numbers(*box))
    return envelope if srid == 3857 else sql.SQL("st_transform({}, {})").format(envelope, sql.Literal(srid))


def _numbers(*values: float) -> sql.Composed:
    return sql.SQL(", ").join(sql.Literal(value) for value in values)
