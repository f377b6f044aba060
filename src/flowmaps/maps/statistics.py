"""Tell what a map's layers hold: how many rows the planner expects, and what their option ``metadata`` asks for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime
from typing import Any

import structlog
from psycopg import AsyncConnection

from flowmaps.errors import Forbidden, InvalidSQL, QueryTimeout
from flowmaps.mapconfig.statistics_option import ColumnStatistics, Sample
from flowmaps.mapconfig.values import MAPNIK
from flowmaps.maps.plain import plain_value
from flowmaps.maps.preparation import PreparedLayer, PreparedMap, at_layer
from flowmaps.maps.services import Services
from flowmaps.mapsql.aggregation import SOURCE_ALIAS, parse_aggregation
from flowmaps.render.describe import Column, describe
from flowmaps.render.statistics import (
    TEXTS,
    categories,
    column_ranges,
    counted_rows,
    estimated_rows,
    expression_range,
    geometry_type,
    limit_time,
    sampled_rows,
    type_words,
)

TIMEOUT_MS = 2_000
"""What the statistics of one map may take together; those that are not ready by then are left out."""
UNKNOWN = -1
"""The number of rows where the planner cannot be asked, as the first servers told it."""
MOST_CATEGORIES = 16_384
"""Categories that one map tells; columns after that have none."""
REMEMBERED_SECONDS = 60.0
_log = structlog.get_logger()

LayerStatistics = dict[int, dict[str, Any]]
_Ask = Callable[[AsyncConnection[Any], PreparedLayer, dict[str, Any]], Awaitable[None]]


async def layer_statistics(
    services: Services, topic: str, prepared: PreparedMap, last_change: datetime
) -> LayerStatistics:
    """Return `meta.stats` of the mapnik layers by index; what cannot be told in time is not there.

    Raise a `TemporaryError` where the database is away.
    """
    key = ("statistics", last_change)
    known: LayerStatistics | None = prepared.recall(key, services.clock())
    if known is None:
        known = await _Asking(services, topic, prepared).all_layers()
        prepared.remember(key, known, services.clock() + REMEMBERED_SECONDS)
    return known


def check_statistics(item: PreparedLayer, columns: tuple[Column, ...]) -> None:
    """Raise `InvalidSQL` where the option names a column that the layer's query does not return."""
    sample = item.layer.statistics.sample
    names = {column.name for column in columns}
    for name in (sample and sample.columns) or ():
        if name not in names:
            error = InvalidSQL(f'column "{name}" does not exist', sqlstate="42703")
            raise at_layer(error, item.layer, "metadata.sample.include_columns")


class _Asking:
    """Asks for the statistics of one map within its time."""

    def __init__(self, services: Services, topic: str, prepared: PreparedMap) -> None:
        self._services = services
        self._topic = topic
        self._items = [item for item in prepared.layers.values() if item.layer.type == MAPNIK]
        self._until = services.clock() + TIMEOUT_MS / 1000
        self._categories = MOST_CATEGORIES

    async def all_layers(self) -> LayerStatistics:
        found: LayerStatistics = {item.layer.index: {"estimatedFeatureCount": UNKNOWN} for item in self._items}
        # What costs nothing first, for all layers.
        for item in self._items:
            await self._ask(item, found[item.layer.index], self._estimate)
        for item in self._items:
            for ask in self._asked(item):
                await self._ask(item, found[item.layer.index], ask)
        return found

    def _asked(self, item: PreparedLayer) -> Iterator[_Ask]:
        """Yield what the layer's option asks for, the cheapest first."""
        option = item.layer.statistics
        if option.geometry_type and not item.layer.is_raster:
            yield self._geometry_type
        if option.columns or option.column_statistics:
            yield self._columns
        if option.feature_count:
            yield self._feature_count
        if option.aggregated_zoom is not None:
            yield self._aggregated_count
        if option.column_statistics:
            yield self._column_values
        if option.dimensions:
            yield self._dimensions
        if option.sample:
            yield self._sample

    async def _ask(self, item: PreparedLayer, told: dict[str, Any], ask: _Ask) -> None:
        left_ms = int((self._until - self._services.clock()) * 1000)
        if left_ms <= 0:
            return
        try:
            async with self._services.tenants.reader(self._topic) as conn:
                await limit_time(conn, left_ms)
                await ask(conn, item, told)
        except (QueryTimeout, InvalidSQL, Forbidden) as error:
            # The map itself was tested; that its numbers are not known is no reason to have no map.
            _log.info("statistics of a layer are not known", layer=item.layer.index, error=error.message)

    @staticmethod
    async def _estimate(conn: AsyncConnection[Any], item: PreparedLayer, told: dict[str, Any]) -> None:
        told["estimatedFeatureCount"] = await estimated_rows(conn, item.source_query())

    @staticmethod
    async def _geometry_type(conn: AsyncConnection[Any], item: PreparedLayer, told: dict[str, Any]) -> None:
        kind = await geometry_type(conn, item.source_query(), item.layer.geom_column)
        if kind is not None:
            told["geometryType"] = kind

    @staticmethod
    async def _columns(conn: AsyncConnection[Any], item: PreparedLayer, told: dict[str, Any]) -> None:
        words = await type_words(conn, await describe(conn, item.source_query()))
        told["columns"] = {name: {"type": word} for name, word in words.items()}

    @staticmethod
    async def _feature_count(conn: AsyncConnection[Any], item: PreparedLayer, told: dict[str, Any]) -> None:
        told["featureCount"] = await counted_rows(conn, item.source_query())

    @staticmethod
    async def _aggregated_count(conn: AsyncConnection[Any], item: PreparedLayer, told: dict[str, Any]) -> None:
        zoom = item.layer.statistics.aggregated_zoom or 0
        told["aggrFeatureCount"] = await counted_rows(conn, item.query_of_world(zoom))

    async def _column_values(self, conn: AsyncConnection[Any], item: PreparedLayer, told: dict[str, Any]) -> None:
        option = item.layer.statistics.column_statistics or ColumnStatistics()
        if "columns" not in told:
            return
        columns = await describe(conn, item.source_query())
        for name, values in (await column_ranges(conn, item.source_query(), columns)).items():
            told["columns"][name] |= {function: plain_value(value) for function, value in values.items()}
        for column in columns:
            most = min(option.top_categories, self._categories)
            if column.type_oid in TEXTS and most:
                found = await categories(
                    conn, item.source_query(), column.name, most, include_nulls=option.include_nulls
                )
                self._categories -= len(found)
                told["columns"][column.name]["categories"] = found

    @staticmethod
    async def _dimensions(conn: AsyncConnection[Any], item: PreparedLayer, told: dict[str, Any]) -> None:
        aggregation = parse_aggregation(item.layer.options.get("aggregation"))
        if aggregation is None:
            return
        told["dimensions"] = {}
        for name, time in aggregation.times.items():
            expression = aggregation.dimensions[name]
            least, greatest = await expression_range(conn, item.source_query(), expression, SOURCE_ALIAS)
            word = "string" if time.is_iso else "number"
            told["dimensions"][name] = {"params": time.params, "min": least, "max": greatest, "type": word}

    @staticmethod
    async def _sample(conn: AsyncConnection[Any], item: PreparedLayer, told: dict[str, Any]) -> None:
        sample = item.layer.statistics.sample or Sample()
        columns = sample.columns
        if columns is None:
            columns = tuple(dict.fromkeys(column.name for column in await describe(conn, item.source_query())))
        rows = await sampled_rows(conn, item.source_query(), columns, sample.rows)
        told["sample"] = [{name: plain_value(value) for name, value in row.items()} for row in rows]
