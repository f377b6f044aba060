"""Select the rows that one cell of an aggregation holds, or add them up. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from flowmaps.errors import InvalidMapConfig
from flowmaps.mapsql.aggregation import MOST_NAMES, ROW_IDS, aggregated_column
from flowmaps.mapsql.cells import CellAddress, address_expression, digest_expression
from flowmaps.mapsql.quoting import quoted_name
from flowmaps.mapsql.tokens import PIXEL_SIZE_AT_0, TokenValues, Variables, substitute_tokens
from flowmaps.tile import Bounds, TileCoord

FARTHEST_METRES = 1e9
"""Cells beyond this are nowhere near the world."""
_PARAMETER = "\0"
"""Stands for a parameter while a statement is put together; SQL cannot hold it otherwise."""


class Statement(NamedTuple):
    """SQL for psycopg with ``%s`` for its parameters."""

    sql: str
    parameters: tuple[object, ...]


class CellSource(NamedTuple):
    """A layer whose points are aggregated: its vetted SQL, where its points are, and how they are aggregated.

    *variables* are the operator's, for the SQL.
    """

    sql: str
    geom_column: str
    resolution: float
    dimensions: Mapping[str, str]
    conditions: Sequence[str]
    variables: Variables


class Summary(NamedTuple):
    """Rows of a cell added up by columns; *expressions* are SQL by name."""

    columns: tuple[str, ...]
    expressions: Mapping[str, str]


def cell_of_row(source: CellSource, zoom: int, comparison: str, value: object) -> Statement:
    """Return a query for the addresses of the cells of rows whose ``cartodb_id`` fits, at most two.

    *comparison* is a condition with ``{}`` for the column and ``%s`` for the value.
    """
    points = _points(source, zoom, TileCoord(0, 0, 0).bounds, "true")
    condition = comparison.replace("%s", _PARAMETER).format("cdb_points.cartodb_id")
    text = f"""
    select distinct {address_expression(source.dimensions)}
    from ({points}) as cdb_points where {condition} and cdb_cell_x is not null limit 2
    """  # noqa: S608
    return _statement(text, value)


def rows_of_cell(  # noqa: PLR0917
    source: CellSource, zoom: int, address: CellAddress, columns: Sequence[str], summary: Summary | None, most: int
) -> Statement | None:
    """Return a query for the rows of a cell, or for their summary; None for a cell that is nowhere.

    A cell that the filters of the aggregation leave out has no rows.
    """
    side = source.resolution * PIXEL_SIZE_AT_0 / 2**zoom
    if not max(abs(address.x), abs(address.y)) * side <= FARTHEST_METRES:
        return None
    # A little more than the cell, as edges are rounded; the numbers of the cell decide.
    around = side / 1000
    box = Bounds(
        address.x * side - around,
        address.y * side - around,
        (address.x + 1) * side + around,
        (address.y + 1) * side + around,
    )
    geom = f"cdb_source.{quoted_name(source.geom_column)}"
    points = _points(source, zoom, box, f"{geom} && st_makeenvelope({', '.join(map(repr, box))}, 3857)")
    parameters: list[object] = [address.x, address.y]
    digest = ""
    if address.digest is not None:
        digest = f"and {digest_expression(source.dimensions)} = {_PARAMETER}"
        parameters.append(address.digest)
    kept = ""
    if source.conditions:
        grouped = f"group by {', '.join(source.dimensions.values())}" if source.dimensions else ""
        having = " and ".join(source.conditions)
        kept = f"where exists (select 1 from cdb_cell as cdb_points {grouped} having {having})"  # noqa: S608
    text = f"""
    with cdb_cell as (
        select * from ({points}) as cdb_points
        where cdb_cell_x = {_PARAMETER}::float8 and cdb_cell_y = {_PARAMETER}::float8 {digest}
    )
    select {_listed(columns, summary)} from cdb_cell as cdb_points {kept} {_ordered(columns, summary)}
    limit {int(most)}
    """  # noqa: S608
    return _statement(text, *parameters)


def _listed(columns: Sequence[str], summary: Summary | None) -> str:
    if summary is None:
        return ", ".join(f"cdb_points.{quoted_name(name)}" for name in columns) or "null"
    parts = ["count(*)", *(f"cdb_points.{quoted_name(name)}" for name in summary.columns)]
    return ", ".join([*parts, *summary.expressions.values()])


def _ordered(columns: Sequence[str], summary: Summary | None) -> str:
    if summary is None:
        ids = [name for name in ROW_IDS if name in columns]
        return f"order by {', '.join(f'cdb_points.{name}' for name in ids)}" if ids else ""
    names = ", ".join(f"cdb_points.{quoted_name(name)}" for name in summary.columns)
    return f"group by {names} order by count(*) desc, {names}"


def _points(source: CellSource, zoom: int, box: Bounds, where: str) -> str:
    """Return the rows with the numbers of their cells; the source's tokens stand for *box* at the scale of *zoom*."""
    tile = TokenValues.of_tile(TileCoord(zoom, 0, 0), srid=3857, variables=source.variables)
    values = replace(tile, bbox=box)
    geom = f"cdb_source.{quoted_name(source.geom_column)}"
    # The same sum as in tiles, or points at edges would be in other cells.
    size = f"({source.resolution * PIXEL_SIZE_AT_0!r}::float8 / power(2::float8, {zoom}))"
    return f"""
        select cdb_source.*,
            floor(st_x({geom}) / {size}) as cdb_cell_x, floor(st_y({geom}) / {size}) as cdb_cell_y
        from ({substitute_tokens(source.sql, values)}
        ) as cdb_source where {where}
    """  # noqa: S608


def _statement(text: str, *parameters: object) -> Statement:
    return Statement(text.replace("%", "%%").replace(_PARAMETER, "%s"), parameters)


def parse_summary(raw: object, columns: Sequence[str]) -> Summary:
    """Return how rows are to be added up, from decoded JSON; raise `InvalidMapConfig`.

    *columns* are those of the rows: naming another one is an error of the caller's.
    """
    wanted = raw.get("columns") if isinstance(raw, Mapping) else None
    if not isinstance(raw, Mapping) or not isinstance(wanted, list) or not _are_names(wanted):
        raise InvalidMapConfig("Invalid aggregation input, columns should be and array of column names")
    expressions = raw.get("expressions")
    if expressions is not None and (not isinstance(expressions, Mapping) or len(expressions) > MOST_NAMES):
        text = "Invalid aggregation input, expressions should be and object with valid functions"
        raise InvalidMapConfig(text)
    written: dict[str, str] = {}
    for name, value in (expressions or {}).items():
        given = value if isinstance(value, Mapping) else {}
        if not isinstance(given.get("aggregated_column"), str):
            raise InvalidMapConfig("Invalid aggregation input, aggregated column should be an string")
        if not isinstance(given.get("aggregate_function"), str):
            raise InvalidMapConfig("Invalid aggregation input, aggregate function should be an string")
        _check_known(given["aggregated_column"], (*columns, "*"))
        written[name] = aggregated_column(name, given)
    names = tuple(dict.fromkeys(wanted))
    for name in names:
        _check_known(name, columns)
    if clashing := set(names) & set(written):
        raise InvalidMapConfig(f"The name {min(clashing)} is both a column and an expression")
    return Summary(names, written)


def _are_names(value: list[Any]) -> bool:
    return 0 < len(value) <= MOST_NAMES and all(isinstance(name, str) and name for name in value)


def _check_known(name: str, columns: Sequence[str]) -> None:
    if name not in columns:
        raise InvalidMapConfig(f'column "{name[:60]}" does not exist')
