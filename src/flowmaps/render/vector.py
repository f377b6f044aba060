"""Vector tiles, made in PostGIS over a connection of the tenant's reader role.

The map's own SQL is part of these queries; it was vetted before, and the role can read the published data alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, LiteralString

from psycopg import AsyncConnection, sql

from flowmaps.render.contract import Tile, TileRequest
from flowmaps.render.describe import Column
from flowmaps.tile import TILE_PX, WORLD, TileCoord

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
        # Not in a pipeline, which saves a round trip and costs more of this process's time than that.
        cursor = await conn.execute(sql.SQL(statement), prepare=False)
        row = await cursor.fetchone()
        if row is not None and row[0]:
            parts.append(bytes(row[0]))
    return b"".join(parts)


def _statement(  # noqa: PLR0917
    layer: VectorLayer, tile: TileCoord, extent: int, simplify_extent: int, buffer_px: int, features_per_tile: int
) -> LiteralString:
    """Return the query of one layer. Every part is a number, quoted, or the map's own vetted query."""
    side = 2 * WORLD / (1 << tile.z)
    grown = buffer_px * side / TILE_PX
    xmin, ymin, xmax, ymax = tile.bounds
    geom = f"cdbq.{_identifier(layer.geom_column)}"
    in_metres = geom if layer.srid == 3857 else f"st_transform({geom}, 3857)"
    drawn = in_metres
    if simplify_extent != extent:
        tolerance = side / (2 * simplify_extent)
        drawn = (
            f"case when st_dimension({in_metres}) = 0 then {in_metres} else "
            f"st_simplify(st_removerepeatedpoints({in_metres}, {tolerance!r}), {tolerance!r}, true) end"
        )
    columns = "".join(f", cdbq.{_identifier(name)}" for name in layer.columns if name != layer.geom_column)
    # In degrees there is nothing beyond the edges of the world.
    reach = WORLD if layer.srid != 3857 else float("inf")
    box = (max(-reach, xmin - grown), max(-reach, ymin - grown), min(reach, xmax + grown), min(reach, ymax + grown))
    # Literals and not parameters: a percent sign in a column's name or in the map's SQL is then nothing special.
    return f"""
        with tile as (
            select st_asmvtgeom({drawn}, {_envelope(tile.bounds, 3857)}, {extent:d},
                                {round(buffer_px * extent / TILE_PX):d}, true)
                       as "mvt geometry of the tile" {columns}
            from {layer.query}
            where {geom} && {_envelope(box, layer.srid)}
            limit {features_per_tile:d}
        )
        select st_asmvt(tile, {_literal(layer.name)}, {extent:d}, 'mvt geometry of the tile') from tile
        where "mvt geometry of the tile" is not null
        """  # noqa: S608


def _envelope(box: Sequence[float], srid: int) -> str:
    envelope = f"st_makeenvelope({', '.join(map(repr, box))}, 3857)"
    return envelope if srid == 3857 else f"st_transform({envelope}, {srid:d})"


@lru_cache(maxsize=4096)
def _identifier(name: str) -> str:
    return sql.Identifier(name).as_string()


@lru_cache(maxsize=4096)
def _literal(text: str) -> str:
    return sql.Literal(text).as_string()
