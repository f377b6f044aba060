"""Ask PostgreSQL what a map's query returns: its columns, and where its data lie."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection, sql

BBox = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a query's result, with PostgreSQL's number of its type."""

    name: str
    type_oid: int


DESCRIBE = "select * from "
"""What stands before the query when PostgreSQL is asked for its columns; positions of its errors count from there."""


async def describe(conn: AsyncConnection[Any], query: str) -> tuple[Column, ...]:
    """Return the columns of *query*, a vetted sub-query with alias, tokens filled in."""
    cursor = await conn.execute(sql.SQL("{}{} limit 0").format(sql.SQL(DESCRIBE), sql.SQL(query)), prepare=False)
    return tuple(Column(column.name, column.type_code) for column in cursor.description or ())


async def bounds(conn: AsyncConnection[Any], layers: Sequence[tuple[str, str, int]], *, timeout_ms: int) -> BBox | None:
    """Return west, south, east and north of the layers' data, in degrees; None where there are none.

    *layers* are (sub-query with alias, geometry column, SRID).
    """
    await conn.execute(sql.SQL("set local statement_timeout = {}").format(sql.Literal(timeout_ms)))
    boxes: list[BBox] = []
    for query, geom_column, srid in layers:
        statement = sql.SQL(
            "select st_xmin(box), st_ymin(box), st_xmax(box), st_ymax(box) from (select st_transform(st_setsrid("
            "st_extent(cdbq.{geom})::geometry, {srid}), 4326) as box from {query}) as extent where box is not null"
        ).format(geom=sql.Identifier(geom_column), srid=sql.Literal(srid), query=sql.SQL(query))
        cursor = await conn.execute(statement, prepare=False)
        row = await cursor.fetchone()
        if row is not None and all(value is not None and math.isfinite(value) for value in row):
            boxes.append((float(row[0]), float(row[1]), float(row[2]), float(row[3])))
    if not boxes:
        return None
    west, south, east, north = zip(*boxes, strict=True)
    return min(west), min(south), max(east), max(north)
