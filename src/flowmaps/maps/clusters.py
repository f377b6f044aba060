"""Answer the rows that one cell of aggregated points stands for."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from psycopg import AsyncConnection

from flowmaps.errors import InvalidMapConfig, InvalidRequest, TileOutOfRange, UnknownFeature
from flowmaps.mapconfig import Layer
from flowmaps.maps.attributes import layer_at, matching
from flowmaps.maps.plain import plain_value
from flowmaps.maps.preparation import PreparedLayer, at_layer
from flowmaps.maps.services import Services
from flowmaps.maps.tiles import check_map_zoom, split_layergroupid
from flowmaps.mapsql.aggregation import FEATURE_COUNT, ROW_ID, Aggregation, parse_aggregation
from flowmaps.mapsql.cells import CellAddress, parse_address
from flowmaps.mapsql.clusters import CellSource, Statement, Summary, cell_of_row, parse_summary, rows_of_cell
from flowmaps.render.describe import Column, describe

_GEOMETRIES = ("the_geom", "the_geom_webmercator")


async def answer_cluster(  # noqa: PLR0917
    services: Services, layergroupid: str, layer: str, zoom: str, cluster_id: str, summary: object
) -> tuple[bytes, bool]:
    """Return the rows of a cell as JSON, and whether ingest knows of every change of what it shows.

    *layer* is an index, *cluster_id* the ``cartodb_id`` of a feature in tiles of that *zoom*, *summary* decoded JSON
    that says how the rows are to be added up, or None.

    Raise `UnknownMap`, `InvalidMapConfig`, `UnknownFeature`, `InvalidRequest`, `InvalidSQL` or a `TemporaryError`.
    """
    token, _ = split_layergroupid(layergroupid)
    loaded = await services.load(token)
    limits = services.settings.limit
    found = layer_at(loaded.prepared.config, token, layer)
    item = loaded.prepared.layers.get(found.index)
    aggregation = _aggregation(item, found, token)
    z = _zoom(zoom, limits.max_zoom)
    if services.settings.serve.enforce_map_zoom:
        check_map_zoom(loaded.prepared.config, z)
    if item is None or not found.at_zoom(z):
        raise _unknown(cluster_id, found, z)
    source = CellSource(
        item.sql,
        found.geom_column,
        aggregation.resolution,
        aggregation.dimensions,
        aggregation.conditions,
        item.variables,
    )
    async with services.tenants.reader(loaded.stored.topic) as conn:
        columns = await describe(conn, item.source_query())
        shown = _shown(columns, found)
        added_up = None if summary is None else _summary(summary, shown, found)
        address = await _address(conn, source, columns, z, cluster_id, found)
        statement = rows_of_cell(source, z, address, shown, added_up, limits.cluster_rows + 1)
        if statement is None:
            raise _unknown(cluster_id, found, z)
        rows, types = await _fetch(conn, statement)
    if not rows:
        raise _unknown(cluster_id, found, z)
    names = shown if added_up is None else (FEATURE_COUNT, *added_up.columns, *added_up.expressions)
    document = {
        "rows": [
            {name: plain_value(value) for name, value in zip(names, row, strict=False)}
            for row in rows[: limits.cluster_rows]
        ],
        "fields": [{"name": name, "dataTypeID": oid} for name, oid in zip(names, types, strict=False)],
        "truncated": len(rows) > limits.cluster_rows,
    }
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    return body, loaded.prepared.is_tracked


def _aggregation(item: PreparedLayer | None, layer: Layer, token: str) -> Aggregation:
    """Return how the layer's points are aggregated; raise `InvalidMapConfig` where they are not, or do not show."""
    is_aggregated = item is not None and item.aggregated_sql is not None
    aggregation = parse_aggregation(layer.options.get("aggregation")) if is_aggregated else None
    text = f"Map {token} has no aggregation defined for layer {layer.index}"
    if aggregation is not None and not aggregation.shows_rows:
        text = f"Layer {layer.index} does not show the rows of its clusters"
    elif aggregation is not None:
        return aggregation
    raise at_layer(InvalidMapConfig(text, subtype="aggregation"), layer, "aggregation")


def _zoom(text: str, max_zoom: int) -> int:
    if not re.fullmatch(r"[0-9]+", text):
        message = f"Invalid zoom value ({text[:40]}). It should be an integer number greather than or equal to 0"
        raise InvalidRequest(message, member="z")
    if len(text) > 4 or int(text) > max_zoom:
        raise TileOutOfRange(f"Zoom out of range: {text[:40]}")
    return int(text)


def _shown(columns: Sequence[Column], layer: Layer) -> tuple[str, ...]:
    """Return the names of the columns that are no geometries."""
    geometries = {column.type_oid for column in columns if column.name == layer.geom_column}
    return tuple(
        column.name for column in columns if column.type_oid not in geometries and column.name not in _GEOMETRIES
    )


def _summary(raw: object, columns: Sequence[str], layer: Layer) -> Summary:
    try:
        return parse_summary(raw, columns)
    except InvalidMapConfig as error:
        error.subtype, error.member = "aggregation", "aggregation"
        raise at_layer(error, layer, "aggregation")  # noqa: B904  the same error


async def _address(  # noqa: PLR0917
    conn: AsyncConnection[Any],
    source: CellSource,
    columns: Sequence[Column],
    zoom: int,
    cluster_id: str,
    layer: Layer,
) -> CellAddress:
    """Return the cell that an id of a tile's feature means: a row's where the query has ids, else a cell's own."""
    if "\0" in cluster_id:
        raise InvalidRequest("the id of a cluster cannot hold a NUL character", member="id")
    text: str | None = cluster_id
    types = {column.name: column.type_oid for column in columns}
    if ROW_ID in types:
        comparison, value = matching(types[ROW_ID], cluster_id)
        rows, _ = await _fetch(conn, cell_of_row(source, zoom, comparison, value))
        if len(rows) > 1:
            message = f"Rows of several clusters have the {ROW_ID} {cluster_id[:60]}"
            raise at_layer(InvalidMapConfig(message, subtype="aggregation"), layer, "aggregation")
        text = str(rows[0][0]) if rows else None
    address = None if text is None else parse_address(text, source.dimensions)
    if address is None:
        raise _unknown(cluster_id, layer, zoom)
    return address


async def _fetch(conn: AsyncConnection[Any], statement: Statement) -> tuple[list[tuple[Any, ...]], list[int]]:
    cursor = await conn.execute(statement.sql.encode(), statement.parameters, prepare=False)
    return await cursor.fetchall(), [column.type_code for column in cursor.description or ()]


def _unknown(cluster_id: str, layer: Layer, zoom: int) -> UnknownFeature:
    return UnknownFeature(f"Layer {layer.index} has no cluster {cluster_id[:60]} at zoom {zoom}")
