"""Aggregate the points of a map's query by the cells of a grid that covers the world: options in, SQL out. Pure.

A cell is *resolution* by *resolution* tile pixels. Cells are counted from the middle of the world and not from the
tile, and each is taken whole, so that a point counts once, and for the same cell in every tile of a zoom.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flowmaps.errors import InvalidMapConfig
from flowmaps.mapsql.cells import address_expression
from flowmaps.mapsql.quoting import quoted_name, quoted_text
from flowmaps.mapsql.time_dimension import TimeDimension, parse_time_dimension
from flowmaps.mapsql.tokens import PIXEL_SIZE_AT_0, SCALE_DENOMINATOR_AT_0

DEFAULT_THRESHOLD = 100_000
FEATURE_COUNT = "_cdb_feature_count"
PLACEMENTS = ("centroid", "point-grid", "point-sample")
FUNCTIONS = ("count", "avg", "sum", "min", "max", "mode")
ROW_ID = "cartodb_id"
"""What features of tiles are known by: the id of a row where the query has one, else the address of the cell."""
RESERVED = (ROW_ID, "the_geom", "the_geom_webmercator", FEATURE_COUNT)
ROW_IDS = (ROW_ID, "identifier", "id")
"""Columns that tell rows at the same place apart, where a query has them."""
MOST_NAMES = 64
MOST_VALUES = 1000
MAX_TEXT_CHARS = 1000
MOST_RESOLUTION = 16_384
_COMPARISONS = {
    "less_than": "<",
    "less_than_or_equal_to": "<=",
    "greater_than": ">",
    "greater_than_or_equal_to": ">=",
    "equal": "=",
    "not_equal": "<>",
    "in": "in",
    "not_in": "not in",
}
SOURCE_ALIAS = "cdb_points"
"""What expressions of columns and dimensions call the rows that they are of."""
_SHUFFLED = "hashfloat8(cdb_x + 1.7 * cdb_y)"
"""Puts points in an order that has nothing to do with where they lie."""
_RANGES = (("less_than", "less_than_or_equal_to"), ("greater_than", "greater_than_or_equal_to"))


@dataclass(frozen=True, slots=True)
class Aggregation:
    """The option ``aggregation`` of a layer.

    Without placement, columns, dimensions and filters it is the default one: a row of each cell, with all its columns.
    *columns* and *dimensions* are SQL expressions by name, *conditions* are ready for HAVING. *times* are those
    dimensions that are periods of time. *shows_rows* tells whether the rows of a cell may be asked for.
    """

    resolution: float = 1
    threshold: float = DEFAULT_THRESHOLD
    placement: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    dimensions: Mapping[str, str] = field(default_factory=dict)
    conditions: tuple[str, ...] = ()
    shows_rows: bool = True
    times: Mapping[str, TimeDimension] = field(default_factory=dict)

    @property
    def is_default(self) -> bool:
        return self.placement is None and not (self.columns or self.dimensions or self.conditions)


def parse_aggregation(raw: object) -> Aggregation | None:
    """Return the aggregation that the option asks for; None for ``false``. Raise `InvalidMapConfig`."""
    if raw is False:
        return None
    if raw is True or raw is None:
        return Aggregation()
    if not isinstance(raw, Mapping):
        raise InvalidMapConfig("The option aggregation must be an object or a boolean")
    columns = {name: aggregated_column(name, value) for name, value in _named(raw, "columns").items()}
    dimensions: dict[str, str] = {}
    times: dict[str, TimeDimension] = {}
    for name, value in _named(raw, "dimensions").items():
        column, time = _dimension(name, value)
        dimensions[name] = column if time is None else time.expression(column)
        if time is not None:
            times[name] = time
    if clashing := set(columns) & set(dimensions):
        raise InvalidMapConfig(f"The name {min(clashing)} is both a column and a dimension")
    placement = raw.get("placement")
    if placement is not None and placement not in PLACEMENTS:
        raise InvalidMapConfig(f"Invalid placement. Valid values: {', '.join(PLACEMENTS)}")
    known = {FEATURE_COUNT: "count(*)"} | columns | dimensions
    conditions = []
    for name, filters in _named(raw, "filters").items():
        if name not in known:
            raise InvalidMapConfig(f"Invalid filtered column: {name}")
        if condition := _condition(known[name], filters):
            conditions.append(condition)
    return Aggregation(
        resolution=min(_positive(raw, "resolution", 1), MOST_RESOLUTION),
        threshold=_positive(raw, "threshold", DEFAULT_THRESHOLD),
        # Columns alone ask for points that are samples.
        placement=placement or ("point-sample" if "columns" in raw else None),
        columns=columns,
        dimensions=dimensions,
        conditions=tuple(conditions),
        shows_rows=_flag(raw, "cluster", default=True),
        times=times,
    )


def aggregated_sql(source: str, aggregation: Aggregation, *, geom_column: str, columns: Sequence[str]) -> str:
    """Return SQL that aggregates *source*, a vetted query whose *columns* are known; substitution tokens stay in it.

    Names and values in it are quoted here; the source was vetted before.
    """
    geom = quoted_name(geom_column)
    size = _cell_size(aggregation.resolution)
    points = f"""
        select cdb_source.*, st_x(cdb_source.{geom}) as cdb_x, st_y(cdb_source.{geom}) as cdb_y,
            floor(st_x(cdb_source.{geom}) / {size}) as cdb_cell_x, floor(st_y(cdb_source.{geom}) / {size}) as cdb_cell_y
        from ({source}
        ) as cdb_source
        where cdb_source.{geom} && {_whole_cells(size)}
    """  # noqa: S608
    # The box includes its far edges, on which the next cells begin.
    within = f"cdb_cell_x < ceil(st_xmax(!bbox!) / {size}) and cdb_cell_y < ceil(st_ymax(!bbox!) / {size})"
    if aggregation.is_default:
        return _samples(points, within, columns)
    return _groups(points, within, aggregation, geom, size, ROW_ID in columns)


def _samples(points: str, within: str, columns: Sequence[str]) -> str:
    """Return a query for one row of each cell; which one is arbitrary, but the same in every tile."""
    listed = ", ".join(f"cdb_points.{quoted_name(name)}" for name in columns)
    if ROW_ID not in columns:
        listed += f", {address_expression({})} as {ROW_ID}"
    order = "".join(f", cdb_points.{name}::text" for name in ROW_IDS if name in columns)
    return f"""
    select distinct on (cdb_cell_x, cdb_cell_y) {listed},
        count(*) over (partition by cdb_cell_x, cdb_cell_y) as {FEATURE_COUNT}
    from ({points}) as cdb_points
    where {within}
    order by cdb_cell_x, cdb_cell_y, {_SHUFFLED}, cdb_x, cdb_y {order}
    """  # noqa: S608


def _groups(  # noqa: PLR0917
    points: str, within: str, aggregation: Aggregation, geom: str, size: str, has_id: bool
) -> str:
    match aggregation.placement:
        case "centroid":
            x, y = "avg(cdb_x)", "avg(cdb_y)"
        case "point-grid":
            x, y = f"(cdb_cell_x + 0.5) * {size}", f"(cdb_cell_y + 0.5) * {size}"
        case _:
            sample = f"(min(array[{_SHUFFLED}, cdb_x, cdb_y]))"
            x, y = f"{sample}[2]", f"{sample}[3]"
    named = {FEATURE_COUNT: "count(*)"} | dict(aggregation.columns) | dict(aggregation.dimensions)
    named[ROW_ID] = f"min(cdb_points.{ROW_ID})" if has_id else address_expression(aggregation.dimensions)
    listed = "".join(f", {expression} as {quoted_name(name)}" for name, expression in named.items())
    grouped = "".join(f", {expression}" for expression in aggregation.dimensions.values())
    having = f"having {' and '.join(aggregation.conditions)}" if aggregation.conditions else ""
    return f"""
    select st_setsrid(st_makepoint({x}, {y}), 3857) as {geom} {listed}
    from ({points}) as cdb_points
    where {within}
    group by cdb_cell_x, cdb_cell_y {grouped}
    {having}
    """  # noqa: S608


def _cell_size(resolution: float) -> str:
    """Return the side of a cell in metres, for the zoom that is drawn.

    The scale denominator tells the zoom in every format; it is rounded to a whole one, so that a cell's edges are
    exactly those of tiles.
    """
    zoom = (
        f"greatest(-8, least(40, round(ln({SCALE_DENOMINATOR_AT_0}::float8 / !scale_denominator!::float8)"
        " / ln(2::float8))))"
    )
    return f"({resolution * PIXEL_SIZE_AT_0!r}::float8 / power(2::float8, {zoom}))"


def _whole_cells(size: str) -> str:
    """Return the box of the cells that the drawn box touches."""
    edges = (
        f"floor(st_xmin(!bbox!) / {size}) * {size}, floor(st_ymin(!bbox!) / {size}) * {size}, "
        f"ceil(st_xmax(!bbox!) / {size}) * {size}, ceil(st_ymax(!bbox!) / {size}) * {size}"
    )
    return f"st_makeenvelope({edges}, 3857)"


def _named(raw: Mapping[str, Any], option: str) -> Mapping[str, Any]:
    value = raw.get(option)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidMapConfig(f"The option aggregation.{option} must be an object")
    if len(value) > MOST_NAMES:
        raise InvalidMapConfig(f"The option aggregation.{option} has {len(value)} names, the limit is {MOST_NAMES}")
    return value


def _flag(raw: Mapping[str, Any], option: str, *, default: bool) -> bool:
    value = raw.get(option, default)
    if not isinstance(value, bool):
        raise InvalidMapConfig(f"The option aggregation.{option} must be true or false")
    return value


def _positive(raw: Mapping[str, Any], option: str, default: float) -> float:
    value = raw.get(option, default)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value < math.inf:
        raise InvalidMapConfig(f"Invalid {option}, should be a number greather than 0")
    return float(value)


def aggregated_column(name: str, value: object) -> str:
    """Return the expression of an aggregated column."""
    _check_name(name)
    value = value if isinstance(value, Mapping) else {}
    function = value.get("aggregate_function", "count")
    if function not in FUNCTIONS:
        shown = str(function)[:40]
        raise InvalidMapConfig(f"Unsupported aggregation function {shown}, valid ones: {', '.join(FUNCTIONS)}")
    source = value.get("aggregated_column")
    if not isinstance(source, str) or not source:
        raise InvalidMapConfig("Invalid aggregated column, should be a non empty string")
    if source == "*":
        if function != "count":
            raise InvalidMapConfig(f"Invalid aggregated column, {function} needs the name of one")
        return "count(*)"
    column = _source_column(source)
    return f"mode() within group (order by {column})" if function == "mode" else f"{function}({column})"


def _dimension(name: str, value: object) -> tuple[str, TimeDimension | None]:
    """Return the column of a dimension as SQL, and how its times are split where it has a group."""
    _check_name(name)
    if isinstance(value, str):
        value = {"column": value}
    if not isinstance(value, Mapping) or not isinstance(value.get("column"), str) or not value["column"]:
        raise InvalidMapConfig(f"Invalid dimension {name}, should be a column's name or an object with column")
    column = _source_column(value["column"])
    return column, None if value.get("group") is None else parse_time_dimension(name, value)


def _check_name(name: str) -> None:
    if not name:
        raise InvalidMapConfig("Invalid column name, should be a non empty string")
    if name in RESERVED:
        raise InvalidMapConfig(f"Invalid column name {name}, it is always present in the result")
    quoted_name(name)


def _source_column(name: str) -> str:
    return f"cdb_points.{quoted_name(name)}"


def _condition(expression: str, filters: object) -> str:
    """Return the filters of a column, of which one must hold."""
    alternatives = filters if isinstance(filters, list) else [filters]
    if len(alternatives) > MOST_NAMES:
        raise InvalidMapConfig(f"A filter has {len(alternatives)} alternatives, the limit is {MOST_NAMES}")
    written = [part for part in (_alternative(expression, item) for item in alternatives) if part]
    return f"({' or '.join(written)})" if written else ""


def _alternative(expression: str, filters: object) -> str:
    if not isinstance(filters, Mapping):
        raise InvalidMapConfig("A filter must be an object of parameters")
    for name in filters:
        if name not in _COMPARISONS:
            raise InvalidMapConfig(f"Invalid filter parameter name: {str(name)[:60]}")
    is_range = all(sum(name in filters for name in side) <= 1 for side in _RANGES) and all(
        any(name in side for side in _RANGES) for name in filters
    )
    if len(filters) > 1 and not is_range:
        raise InvalidMapConfig("A filter has one parameter, or a less one together with a greater one")
    parts = [f"{expression} {_COMPARISONS[name]} {_operand(name, value)}" for name, value in filters.items()]
    return f"({' and '.join(parts)})" if parts else ""


def _operand(name: str, value: object) -> str:
    if name not in ("in", "not_in"):
        return _value(value)
    if not isinstance(value, list) or not value or len(value) > MOST_VALUES:
        raise InvalidMapConfig(f"The filter parameter {name} must be a list of 1 to {MOST_VALUES} values")
    return f"({', '.join(_value(item) for item in value)})"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float) and math.isfinite(value):
        return f"({value!r})"
    if isinstance(value, str) and len(value) <= MAX_TEXT_CHARS:
        return quoted_text(value)
    raise InvalidMapConfig(f"The value of a filter must be a number, a boolean or a text up to {MAX_TEXT_CHARS}")
