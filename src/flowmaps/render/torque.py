"""Tiles of a torque layer: counts by cell and frame as JSON, or one frame as an image.

The world of this format is 40075017 metres wide exactly, a cell is a whole number of its steps, and a point belongs to
the cell whose index is its rounded place, as clients of the format expect.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

import structlog
from psycopg import AsyncConnection, sql

from flowmaps.cartocss import TorqueStyle
from flowmaps.errors import FlowMapsError, InvalidSQL
from flowmaps.render.contract import Tile, TileRequest
from flowmaps.render.describe import describe
from flowmaps.render.job import TorqueJob
from flowmaps.render.pictures import Pictures
from flowmaps.render.pool import RenderPool
from flowmaps.tile import TILE_PX, TileCoord

WORLD_WIDTH = 40_075_017.0
PREFIX = "TorqueRenderer: "
_DATE_TYPES = frozenset((1082, 1083, 1114, 1184, 1266))
"""date, time, timestamp, timestamptz, timetz."""
_CLOCK_TYPES = frozenset((1083, 1266))
"""Times of day are never infinite, and cannot be asked whether they are."""

_log = structlog.get_logger()

Connect = Callable[[], AbstractAsyncContextManager[AsyncConnection[Any]]]


@dataclass(frozen=True, slots=True)
class TorqueSource:
    """A torque layer's data; *query* gives its SQL as a sub-query with alias, tokens of a tile filled in."""

    query: Callable[[TileCoord], str]
    geom_column: str
    srid: int
    style: TorqueStyle


@dataclass(frozen=True, slots=True)
class TorqueRange:
    """The times of a layer: *start* and *end* in seconds or in the column's numbers, *step* that of one frame."""

    column: str
    type_oid: int
    start: float
    end: float
    count: int
    step: float

    @property
    def column_type(self) -> Literal["date", "number"]:
        return "date" if self.type_oid in _DATE_TYPES else "number"

    def metadata(self, steps: int) -> dict[str, Any]:
        """Return what clients are told of the layer."""
        return {
            "start": _whole(self.start * 1000),
            "end": _whole(self.end * 1000),
            "steps": steps,
            "data_steps": self.count,
            "column_type": self.column_type,
        }


async def torque_range(conn: AsyncConnection[Any], source: TorqueSource) -> TorqueRange:
    """Return the range of a layer's times; raise `InvalidSQL` where its query lacks a column."""
    properties = source.style.properties
    query = source.query(TileCoord(0, 0, 0))
    columns = {column.name: column.type_oid for column in await describe(conn, query)}
    # The name was never quoted by the first servers, so PostgreSQL lowered it.
    name = next((name for name in (properties.column, properties.column.lower()) if name in columns), None)
    if name is None:
        wanted = properties.column
        raise InvalidSQL(f"{PREFIX}Layer query did not return the requested time-attribute column '{wanted}'")
    if source.geom_column not in columns:
        raise InvalidSQL(f'{PREFIX}column "{source.geom_column}" does not exist', sqlstate="42703")
    statement = sql.SQL("select count(*), min({time}), max({time}) from {query} where {finite}").format(
        time=_time(name, columns[name]), query=_raw(query), finite=_finite(name, columns[name])
    )
    row = await (await conn.execute(statement, prepare=False)).fetchone()
    count, low, high = row or (0, None, None)
    start, end = float(low or 0), float(high or 0)
    parts = min(properties.steps, count)
    step = (end - start + 1) / parts if parts else 1.0
    return TorqueRange(name, columns[name], start, end, count, step if math.isfinite(step) and step > 0 else 1.0)


def _time(name: str, type_oid: int) -> sql.Composed:
    column = sql.SQL("cdbq.{}").format(sql.Identifier(name))
    form = "date_part('epoch', {})" if type_oid in _DATE_TYPES else "{}::float8"
    return sql.SQL(form).format(column)


def _finite(name: str, type_oid: int) -> sql.Composed:
    """Return the condition that leaves out what is no time: null, infinity, and numbers that are none."""
    column = sql.SQL("cdbq.{}").format(sql.Identifier(name))
    if type_oid in _CLOCK_TYPES:
        return sql.SQL("{} is not null").format(column)
    if type_oid in _DATE_TYPES:
        return sql.SQL("isfinite({})").format(column)
    return sql.SQL("{0}::float8 > '-infinity' and {0}::float8 < 'infinity'").format(column)


def _raw(query: str) -> sql.SQL:
    """Return the map's own SQL for a statement without parameters; it was vetted, and runs as the reader role."""
    return sql.SQL(query)


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell's value in one frame; *row* counts from the south."""

    column: int
    row: int
    frame: int
    value: float


async def torque_cells(  # noqa: PLR0917
    conn: AsyncConnection[Any],
    source: TorqueSource,
    times: TorqueRange,
    tile: TileCoord,
    frames: tuple[int, int] | None,
    buffer_cells: int,
    limit: int,
) -> list[Cell]:
    """Return at most *limit* cells of a tile; *frames* bounds them, both ends included.

    Without a buffer, what lies beyond the last cell counts into it; with one, into the cells around the tile.
    """
    properties = source.style.properties
    cell = WORLD_WIDTH / TILE_PX / (1 << tile.z) * properties.resolution
    side = WORLD_WIDTH / (1 << tile.z)
    xmin, ymin = -WORLD_WIDTH / 2 + tile.x * side, WORLD_WIDTH / 2 - (tile.y + 1) * side
    across = round(TILE_PX / properties.resolution)
    grown = buffer_cells * cell
    box = sql.SQL("st_makeenvelope({}, {}, {}, {}, 3857)").format(
        *(sql.Literal(edge) for edge in (xmin - grown, ymin - grown, xmin + side + grown, ymin + side + grown))
    )
    geom = sql.SQL("cdbq.{}").format(sql.Identifier(source.geom_column))
    in_metres = geom if source.srid == 3857 else sql.SQL("st_transform({}, 3857)").format(geom)
    condition = sql.SQL("{} && {} and {}").format(
        geom,
        box if source.srid == 3857 else sql.SQL("st_transform({}, {})").format(box, sql.Literal(source.srid)),
        _finite(times.column, times.type_oid),
    )
    frame = sql.SQL("floor(({} - {}) / {})").format(
        _time(times.column, times.type_oid), sql.Literal(times.start), sql.Literal(times.step)
    )
    if frames is not None:
        condition = sql.SQL("{} and {} between {} and {}").format(
            condition, frame, sql.Literal(frames[0]), sql.Literal(frames[1])
        )
    low, high = sql.Literal(-buffer_cells), sql.Literal(across - 1 + buffer_cells)
    statement = sql.SQL(
        """
        select greatest({low}, least({high}, round((st_x(torque__point) - {xmin}) / {cell})))::int as torque_x,
               greatest({low}, least({high}, round((st_y(torque__point) - {ymin}) / {cell})))::int as torque_y,
               torque__frame::int, ({countby}
               )::float8
        from (
            select *, {metres} as torque__point, {frame} as torque__frame from {query} where {condition} offset 0
        ) as cdbq
        group by 1, 2, 3
        limit {limit}
        """
    ).format(
        low=low,
        high=high,
        xmin=sql.Literal(xmin),
        ymin=sql.Literal(ymin),
        cell=sql.Literal(cell),
        countby=_raw(properties.countby),
        metres=in_metres,
        frame=frame,
        query=_raw(source.query(tile)),
        condition=condition,
        limit=sql.Literal(limit),
    )
    cursor = await conn.execute(statement, prepare=False)
    rows = await cursor.fetchall()
    return [Cell(x, y, d, value) for x, y, d, value in rows if value is not None and math.isfinite(value)]


def data_document(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Return the data tile: for each cell its frames and their values."""
    found: dict[tuple[int, int], dict[str, Any]] = {}
    for cell in cells:
        entry = found.setdefault(
            (cell.column, cell.row),
            {"x__uint8": cell.column, "y__uint8": cell.row, "vals__uint8": [], "dates__uint16": []},
        )
        entry["vals__uint8"].append(_whole(cell.value))
        entry["dates__uint16"].append(cell.frame)
    return list(found.values())


def frame_cells(
    cells: Sequence[Cell], step: int, offsets: Sequence[int], *, is_cumulative: bool
) -> tuple[tuple[int, int, int, float], ...]:
    """Return (frame offset, column, row, value) of what is drawn at *step*; a value of 0 draws nothing.

    Values are whole; of single frames they are cut at 255, as the format's bytes hold no more.
    """
    drawn: list[tuple[int, int, int, float]] = []
    for offset in offsets:
        sums: dict[tuple[int, int], float] = {}
        for cell in cells:
            if cell.frame <= step - offset if is_cumulative else cell.frame == step - offset:
                place = (cell.column, cell.row)
                sums[place] = sums.get(place, 0) + cell.value
        for (column, row), total in sorted(sums.items()):
            value = round(max(0, total) if is_cumulative else min(255, max(0, total)))
            if value:
                drawn.append((offset, column, row, float(value)))
    return tuple(drawn)


@dataclass(frozen=True, slots=True)
class TorqueRenderer:
    """Answers a torque layer's tiles; *times* gives the range that tiles of one freshness share.

    *drawn_step* is the frame of images, *features_per_tile* bounds the values of a tile.
    """

    connect: Connect
    source: TorqueSource
    times: Callable[[str], Awaitable[TorqueRange]]
    pool: RenderPool
    pictures: Pictures
    drawn_step: int
    features_per_tile: int
    default_encoding: str

    async def render(self, request: TileRequest) -> Tile:
        times = await self.times(request.freshness)
        wanted = request.format
        if wanted.content_type.startswith("image/"):
            return Tile(await self._image(request, times), wanted.content_type)
        async with prefixed(), self.connect() as conn:
            cells = await torque_cells(conn, self.source, times, request.tile, None, 0, self.features_per_tile)
        return Tile(await asyncio.to_thread(_encoded, cells), wanted.content_type)

    async def _image(self, request: TileRequest, times: TorqueRange) -> bytes:
        style = self.source.style
        properties = style.properties
        offsets = sorted({offset for layer in style.layers for offset in layer.offsets})
        step = max(0, min(self.drawn_step, properties.steps - 1))
        first = 0 if properties.is_cumulative else step - max(offsets, default=0)
        buffer_cells = math.ceil(properties.buffer_px / 2 / properties.resolution)
        async with prefixed(), self.connect() as conn:
            cells = await torque_cells(
                conn, self.source, times, request.tile, (first, step), buffer_cells, self.features_per_tile
            )
        job = TorqueJob(
            style=style,
            zoom=request.tile.z,
            resolution=properties.resolution,
            cells=await asyncio.to_thread(frame_cells, cells, step, offsets, is_cumulative=properties.is_cumulative),
            images=await self._images(style.files),
            scale=request.scale,
            encoding=request.format.encoding or self.default_encoding,
        )
        (body,) = await self.pool.render(job)
        return body

    async def _images(self, addresses: Sequence[str]) -> Mapping[str, bytes]:
        """Return the marker files that can be had; circles stand for the others."""
        found = await asyncio.gather(*(self._body(address) for address in addresses))
        return {address: body for address, body in zip(addresses, found, strict=True) if body is not None}

    async def _body(self, address: str) -> bytes | None:
        try:
            picture = await self.pictures.get(address)
            return await asyncio.to_thread(picture.read)
        except (FlowMapsError, OSError) as error:
            _log.info("a marker file cannot be had", url=address, error=str(error))
            return None


@asynccontextmanager
async def prefixed() -> AsyncIterator[None]:
    """Say of PostgreSQL's refusals that they concern a torque layer, as clients know them."""
    try:
        yield
    except InvalidSQL as error:
        if not error.message.startswith(PREFIX):
            error.args = (f"{PREFIX}{error.message}",)
        raise


def _encoded(cells: Sequence[Cell]) -> bytes:
    return json.dumps(data_document(cells), separators=(",", ":")).encode()


def _whole(value: float) -> int | float:
    return int(value) if float(value).is_integer() else value
