"""Make vector tiles in PostGIS, over a connection of the tenant's reader role.

The map's own SQL is part of these queries; it was vetted before, and the role can read the published data alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection, sql

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
        statement, values = _statement(layer, tile, extent, simplify_extent, buffer_px, features_per_tile)
        cursor = await conn.execute(statement, values, prepare=False)
        row = await cursor.fetchone()
        if row is not None and row[0]:
            parts.append(bytes(row[0]))
    return b"".join(parts)


def _statement(  # noqa: PLR0917
    layer: VectorLayer, tile: TileCoord, extent: int, simplify_extent: int, buffer_px: int, features_per_tile: int
) -> tuple[sql.Composed, dict[str, object]]:
    side = 2 * WORLD / (1 << tile.z)
    grown = buffer_px * side / TILE_PX
    xmin, ymin, xmax, ymax = tile.bounds
    geom = sql.SQL("cdbq.{}").format(sql.Identifier(layer.geom_column))
    in_metres = geom if layer.srid == 3857 else sql.SQL("st_transform({}, 3857)").format(geom)
    drawn: sql.Composable = in_metres
    if simplify_extent != extent:
        drawn = sql.SQL(
            "case when st_dimension({geom}) = 0 then {geom} else "
            "st_simplify(st_removerepeatedpoints({geom}, %(tolerance)s), %(tolerance)s, true) end"
        ).format(geom=in_metres)
    columns = [sql.SQL(", cdbq.{}").format(sql.Identifier(name)) for name in layer.columns if name != layer.geom_column]
    # A percent sign in the map's SQL is no placeholder.
    query = sql.SQL(layer.query.replace("%", "%%"))
    statement = sql.SQL(
        """
        with tile as (
            select st_asmvtgeom({drawn}, st_makeenvelope(%(xmin)s, %(ymin)s, %(xmax)s, %(ymax)s, 3857),
                                %(extent)s, %(buffer)s, true) as mvt_geometry {columns}
            from {query}
            where {geom} && st_transform(st_makeenvelope(%(gxmin)s, %(gymin)s, %(gxmax)s, %(gymax)s, 3857), %(srid)s)
            limit %(limit)s
        )
        select st_asmvt(tile, %(name)s, %(extent)s, 'mvt_geometry') from tile where mvt_geometry is not null
        """
    ).format(drawn=drawn, columns=sql.SQL("").join(columns), query=query, geom=geom)
    values: dict[str, object] = {
        "xmin": xmin,
        "ymin": ymin,
        "xmax": xmax,
        "ymax": ymax,
        "gxmin": max(-WORLD, xmin - grown) if layer.srid != 3857 else xmin - grown,
        "gymin": max(-WORLD, ymin - grown) if layer.srid != 3857 else ymin - grown,
        "gxmax": min(WORLD, xmax + grown) if layer.srid != 3857 else xmax + grown,
        "gymax": min(WORLD, ymax + grown) if layer.srid != 3857 else ymax + grown,
        "extent": extent,
        "buffer": round(buffer_px * extent / TILE_PX),
        "tolerance": side / (2 * simplify_extent),
        "srid": layer.srid,
        "limit": features_per_tile,
        "name": layer.name,
    }
    return statement, values
