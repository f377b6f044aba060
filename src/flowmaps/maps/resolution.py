"""Ask a tenant's data what a map leaves to them: the classes of ramps, and whether points are to be aggregated."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from psycopg import AsyncConnection
from psycopg import sql as psycopg_sql

from flowmaps.errors import InvalidCartoCSS, InvalidMapConfig, InvalidSQL
from flowmaps.mapconfig import Layer, MapConfig, Origin, parse_mapconfig
from flowmaps.mapconfig.values import MAPNIK, WEB_MERCATOR_SRID
from flowmaps.maps.preparation import PreparedLayer, at_layer
from flowmaps.maps.resolved import Resolved, ResolvedLayer
from flowmaps.maps.services import Services
from flowmaps.mapsql import vet
from flowmaps.mapsql.aggregation import FEATURE_COUNT, Aggregation, parse_aggregation
from flowmaps.render.classes import classify
from flowmaps.render.describe import describe
from flowmaps.turbocarto import Classes, Question, Stylesheet, read_ramps
from flowmaps.turbocarto import Resolved as ResolvedStyle

MOST_QUESTIONS = 64
"""Queries about classes that the creation of one map may cause."""
LOOKED_AT = 10_000
"""Rows whose geometry type is looked at, at the least."""
POINT = "ST_Point"


async def resolve(
    services: Services,
    topic: str,
    document: object,
    *,
    aggregation: bool | None = None,
    origins: Sequence[Origin] | None = None,
) -> Resolved:
    """Return what the tenant's data decide; *aggregation* False turns it off for the whole map.

    Raise `InvalidMapConfig` and its kin naming the layer, or a `TemporaryError`.
    """
    config = parse_mapconfig(document, limits=services.settings.limit, origins=origins)
    aggregations = _aggregations(config) if aggregation is not False else {}
    sheets = _stylesheets(config)
    if not aggregations and not sheets:
        return Resolved()
    layers: dict[int, ResolvedLayer] = {}
    known: dict[int, tuple[str, ...]] = {}
    for index, wanted in aggregations.items():
        columns = await _source_columns(services, topic, config, config.layers[index], wanted)
        if columns is not None:
            known[index] = columns
            layers[index] = ResolvedLayer(source_columns=columns)
    so_far = Resolved(layers)
    for index, sheet in sheets.items():
        layer = config.layers[index]
        sql = _vetted_sql(layer)
        drawn = so_far.aggregated_sql(layer, sql) or sql
        style = await _resolved_style(services, topic, layer, drawn, sheet)
        layers[index] = ResolvedLayer(style.cartocss, style.metadata, known.get(index))
    return Resolved(layers, tells_aggregation=bool(aggregations))


def _stylesheets(config: MapConfig) -> dict[int, Stylesheet]:
    """Return the stylesheets that have ramps, by layer."""
    sheets: dict[int, Stylesheet] = {}
    for layer in config.layers:
        if layer.cartocss is None or layer.sql is None:
            continue
        try:
            sheet = read_ramps(layer.cartocss)
        except InvalidCartoCSS as error:
            raise at_layer(error, layer, "cartocss") from error
        if sheet.ramps:
            sheets[layer.index] = sheet
    questions = sum(len(sheet.questions) for sheet in sheets.values())
    if questions > MOST_QUESTIONS:
        raise InvalidMapConfig(f"The map's ramps ask {questions} questions of the data, the limit is {MOST_QUESTIONS}")
    return sheets


def _aggregations(config: MapConfig) -> dict[int, Aggregation]:
    """Return the layers that may be aggregated: those that ask for it, and all of a map for vector tiles only."""
    found: dict[int, Aggregation] = {}
    for layer in config.layers:
        raw = layer.options.get("aggregation")
        if layer.type != MAPNIK or (raw is None and not config.is_vector_only):
            continue
        try:
            aggregation = parse_aggregation(raw)
        except InvalidMapConfig as error:
            raise at_layer(error, layer, "aggregation") from error
        if aggregation is not None:
            found[layer.index] = aggregation
    return found


def _vetted_sql(layer: Layer) -> str:
    try:
        return vet(layer.sql or "").sql
    except InvalidSQL as error:
        raise at_layer(error, layer, "sql") from error


async def _source_columns(
    services: Services, topic: str, config: MapConfig, layer: Layer, aggregation: Aggregation
) -> tuple[str, ...] | None:
    """Return the columns of the layer's query if its points are to be aggregated, else None.

    Where a layer asks for what cannot be, that is an error; where it asks for nothing it is left as it is.
    """
    if problem := _unfit(layer):
        return _left(problem, layer, config)
    item = PreparedLayer(layer, _vetted_sql(layer), None, variables=services.resources.variables)
    await _check_time_zones(services, topic, layer, aggregation)
    try:
        async with services.tenants.reader(topic) as conn:
            names = tuple(column.name for column in await describe(conn, item.query()))
            if problem := _unfit_columns(names, layer):
                return _left(problem, layer, config)
            count, kinds = await _look_at(conn, item, aggregation)
    except InvalidSQL:
        # A query that fails is refused with a better message when it is checked.
        return None
    if others := kinds - {POINT}:
        text = f"Unsupported geometry type: {min(others)}. Aggregation is available only for geometry type: {POINT}"
        return _left(text, layer, config)
    return names if count and count >= aggregation.threshold else None


async def _check_time_zones(services: Services, topic: str, layer: Layer, aggregation: Aggregation) -> None:
    """Raise `InvalidSQL` for a time zone that PostgreSQL does not know; tiles would say it only where data are."""
    for zone in {time.timezone for time in aggregation.times.values() if isinstance(time.timezone, str)}:
        try:
            async with services.tenants.reader(topic) as conn:
                await conn.execute("select timezone(%s, now())", [zone])
        except InvalidSQL as error:
            raise at_layer(error, layer, "aggregation")  # noqa: B904  the same error


def _left(problem: str, layer: Layer, config: MapConfig) -> tuple[str, ...] | None:
    """Return None, so that the layer is drawn as it is; raise where it asked for aggregation."""
    if config.is_vector_only:
        return None
    raise at_layer(InvalidMapConfig(problem), layer, "aggregation")


def _unfit(layer: Layer) -> str | None:
    """Return why a layer's geometries cannot be aggregated, before the data are asked."""
    if layer.is_raster:
        return "Aggregation is not available for rasters"
    if layer.srid != WEB_MERCATOR_SRID:
        return f"Aggregation needs a geometry column in EPSG:{WEB_MERCATOR_SRID}, the layer's srid is {layer.srid}"
    return None


def _unfit_columns(names: Sequence[str], layer: Layer) -> str | None:
    if FEATURE_COUNT in names:
        return f"The query returns a column {FEATURE_COUNT}, which aggregation adds"
    if len(set(names)) < len(names):
        return "The query returns two columns of one name, so that it cannot be aggregated"
    if layer.geom_column not in names:
        return f'column "{layer.geom_column}" does not exist'
    return None


async def _look_at(
    conn: AsyncConnection[Any], item: PreparedLayer, aggregation: Aggregation
) -> tuple[int, frozenset[str]]:
    """Return how many rows there are, counted up to the threshold, and the types of their geometries."""
    statement = psycopg_sql.SQL(
        "select count(*), array_agg(distinct kind) from (select st_geometrytype({geom}) as kind from {query} "
        "where {geom} is not null limit {most}) as looked_at"
    ).format(
        geom=psycopg_sql.SQL("cdbq.{}").format(psycopg_sql.Identifier(item.layer.geom_column)),
        query=psycopg_sql.SQL(item.query()),
        most=psycopg_sql.Literal(max(LOOKED_AT, min(10**12, int(aggregation.threshold) + 1))),
    )
    row = await (await conn.execute(statement, prepare=False)).fetchone()
    count, kinds = row or (0, None)
    return count, frozenset(kinds or ())


async def _resolved_style(services: Services, topic: str, layer: Layer, drawn: str, sheet: Stylesheet) -> ResolvedStyle:
    answers: dict[Question, Classes] = {}
    query = PreparedLayer(layer, drawn, None, variables=services.resources.variables).query()
    for question in sheet.questions:
        try:
            async with services.tenants.reader(topic) as conn:
                answers[question] = await classify(conn, query, question)
        except InvalidSQL as error:
            raise at_layer(sheet.unanswerable(question, error.message), layer, "cartocss") from error
    try:
        return await asyncio.to_thread(sheet.resolve, answers)
    except InvalidCartoCSS as error:
        raise at_layer(error, layer, "cartocss") from error
