"""Create a map: check it against the contract and the tenant's data, draw it once, and store it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from flowmaps.errors import (
    CallerError,
    InvalidCartoCSS,
    InvalidMapConfig,
    InvalidRequest,
    InvalidSQL,
    QueryTimeout,
    TemporaryError,
    UnknownRelation,
)
from flowmaps.mapconfig import Layer, signature
from flowmaps.mapconfig.values import MAPNIK
from flowmaps.maps.attributes import check_attributes
from flowmaps.maps.named_layers import expanded
from flowmaps.maps.preparation import PreparedLayer, PreparedMap, at_layer, position_in_style
from flowmaps.maps.renderers import renderer_of, times_of
from flowmaps.maps.resolution import resolve
from flowmaps.maps.services import TEMPLATES_MEMBER, Services
from flowmaps.maps.statistics import LayerStatistics, check_statistics, layer_statistics
from flowmaps.mapsql import original_offset, position_of
from flowmaps.mapstore import NamedMap, StoredMap
from flowmaps.render import TileRequest
from flowmaps.render.describe import DESCRIBE, BBox, Column, bounds, describe
from flowmaps.render.formats import FORMATS, Kind
from flowmaps.telemetry import timed
from flowmaps.tile import TileCoord

PROBE = TileCoord(30, 0, 0)
"""The tile that a new map is drawn at: it hardly ever holds data, so it costs little and shows what Mapnik refuses."""
BOUNDS_TIMEOUT_MS = 2_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MISSING_COLUMN = "42703"
_PROBED: Mapping[Kind, str] = {"mapnik": "png", "vector": "mvt", "torque": "torque.json"}
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class CreatedMap:
    """What a client is told of a map; *last_updated* is the tenant's last change."""

    token: str
    last_updated: datetime
    layers: tuple[Mapping[str, Any], ...]
    bounds: BBox | None
    torque: Mapping[str, Mapping[str, Any]]
    prepared: PreparedMap

    @property
    def freshness(self) -> str:
        """The cache buster: the tenant's last change in milliseconds."""
        return str((self.last_updated - EPOCH) // timedelta(milliseconds=1))

    @property
    def layergroupid(self) -> str:
        return f"{self.token}:{self.freshness}"

    @property
    def document(self) -> dict[str, Any]:
        """The answer's body, as the contract shapes it, with *bounds* in degrees as an addition."""
        moment = self.last_updated.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        metadata: dict[str, Any] = {
            "layers": [dict(layer) for layer in self.layers],
            "bounds": list(self.bounds) if self.bounds else None,
        }
        if self.torque:
            metadata["torque"] = dict(self.torque)
        return {"layergroupid": self.layergroupid, "metadata": metadata, "last_updated": moment}


async def create_map(
    services: Services,
    topic: object,
    document: object,
    *,
    aggregation: bool | None = None,
    instance_of: NamedMap | None = None,
) -> CreatedMap:
    """Check and store a map of the tenant *topic*; the same map has the same token.

    Layers of type named are replaced by those of their named maps, and the map lives no longer than these.
    *aggregation* False turns the aggregation of points off. *instance_of* is the named map that the document is from;
    the map lives no longer than it does.

    Raise `InvalidRequest`, `UnknownTenant`, `InvalidMapConfig` and its kin, or a `TemporaryError`.
    """
    if not isinstance(topic, str) or not topic:
        raise InvalidRequest("topic must be the name of a topic", member="topic")
    if document is None:
        raise InvalidRequest("map is missing", member="map")
    with timed("create-map", topic=""):
        await services.tenants.tenant(topic)
        whole = await expanded(services, topic, document)
        resolved = await resolve(services, topic, whole.document, aggregation=aggregation, origins=whole.origins)
        prepared = await asyncio.to_thread(services.prepare, whole.document, resolved, whole.origins)
        await _check_queries(services, topic, prepared)
        await _check_drawing(services, topic, prepared)
        accepted = dict(resolved.stored_in(prepared.config.document))
        if templates := (*whole.templates, *([] if instance_of is None else [instance_of])):
            accepted[TEMPLATES_MEMBER] = {template.name: template.revision for template in templates}
        token = signature(accepted, tenant=topic, key=services.settings.secret_key.get_secret_value().encode())
        stored = StoredMap(token, topic, accepted, datetime.now(UTC))
        share = services.settings.limit.named_map_share if instance_of is not None else 1
        await services.store.save(stored, share=share)
        services.keep(stored, prepared)
        return await _described(services, stored, prepared)


async def described_map(services: Services, token: str, *, with_statistics: bool = True) -> CreatedMap:
    """Return what creation answered for a stored map, with today's time, bounds and numbers; raise `UnknownMap`."""
    loaded = await services.load(token)
    return await _described(services, loaded.stored, loaded.prepared, with_statistics=with_statistics)


async def _described(
    services: Services, stored: StoredMap, prepared: PreparedMap, *, with_statistics: bool = True
) -> CreatedMap:
    last_change, box = await asyncio.gather(
        services.tenants.last_change(stored.topic), _bounds(services, stored.topic, prepared)
    )
    created = CreatedMap(stored.token, last_change, (), box, {}, prepared)
    torque = await _torque_metadata(services, stored.topic, prepared, created.freshness)
    statistics = (
        await layer_statistics(services, stored.topic, prepared, last_change) if with_statistics else LayerStatistics()
    )
    layers = tuple(
        _layer_metadata(layer, torque.get(str(layer.index)), statistics.get(layer.index), prepared)
        for layer in prepared.config.layers
    )
    return replace(created, layers=layers, torque=torque)


async def _torque_metadata(
    services: Services, topic: str, prepared: PreparedMap, freshness: str
) -> dict[str, Mapping[str, Any]]:
    """Return what clients need to play each torque layer, by its index as text."""
    found: dict[str, Mapping[str, Any]] = {}
    for item in prepared.layers.values():
        if item.torque is not None:
            try:
                times = await times_of(services, topic, prepared, item.layer, freshness)
            except InvalidSQL as error:
                raise at_layer(error, item.layer, "sql") from error
            found[str(item.layer.index)] = {
                **times.metadata(item.torque.properties.steps),
                "cartocss": item.layer.cartocss,
            }
    return found


def _layer_metadata(
    layer: Layer, torque: Mapping[str, Any] | None, statistics: Mapping[str, Any] | None, prepared: PreparedMap
) -> dict[str, Any]:
    metadata: dict[str, Any] = {"type": layer.type, "id": layer.id, "meta": dict(torque or {})}
    if layer.cartocss is not None:
        metadata["meta"]["cartocss"] = layer.cartocss
    if statistics is not None:
        metadata["meta"]["stats"] = dict(statistics)
    metadata["meta"] |= prepared.resolved.metadata(layer, is_vector_only=prepared.config.is_vector_only)
    if layer.interactivity:
        metadata["interactivity"] = list(layer.interactivity)
    return metadata


async def _bounds(services: Services, topic: str, prepared: PreparedMap) -> BBox | None:
    """Return where the data lie; None where that cannot be said in a short time."""
    queries = [
        (item.source_query(), item.layer.geom_column, item.layer.srid)
        for item in prepared.layers.values()
        if not item.layer.is_raster
    ]
    if not queries:
        return None
    try:
        async with services.tenants.reader(topic) as conn:
            return await bounds(conn, queries, timeout_ms=BOUNDS_TIMEOUT_MS)
    except (QueryTimeout, InvalidSQL) as error:
        _log.info("the bounds of a map are not known", error=error.message)
        return None


async def _check_queries(services: Services, topic: str, prepared: PreparedMap) -> None:
    """Ask PostgreSQL for the columns of each layer, and check that those the layer names are there."""
    for item in prepared.layers.values():
        try:
            async with services.tenants.reader(topic) as conn:
                columns = await describe(conn, item.query())
                rows = await describe(conn, item.source_query()) if item.aggregated_sql else columns
        except InvalidSQL as error:
            _locate(error, item)
            # Clients of the first servers know an error of the database by these words.
            error.args = (f"{_prefix(item)}{error.message}",)
            raise at_layer(error, item.layer, "sql")  # noqa: B904  the same error
        _check_columns(item, columns, rows)
        check_statistics(item, rows)
        await _check_attributes(services, topic, item)


def _prefix(item: PreparedLayer) -> str:
    return "TorqueRenderer: " if item.torque is not None else "Postgis Plugin: ERROR: "


def _locate(error: InvalidSQL, item: PreparedLayer) -> None:
    """Say where in the layer's own text PostgreSQL found the error."""
    if error.cursor is None or item.layer.sql is None or item.aggregated_sql is not None:
        return
    offset = error.cursor - 1 - len(DESCRIBE) - 1
    if offset >= 0:
        start = max(0, item.layer.sql.find(item.sql))
        error.position = position_of(item.layer.sql, start + original_offset(item.sql, item.tokens(), offset))


def _check_columns(item: PreparedLayer, columns: Sequence[Column], rows: Sequence[Column]) -> None:
    """Check the columns that the layer names: of what is drawn, and for attributes of its own rows."""
    layer = item.layer
    known = {column.name for column in columns}
    wanted: list[tuple[str, str]] = [(layer.geom_column, "geom_column")]
    wanted += [(name, "interactivity") for name in layer.interactivity]
    wanted += [(name, "columns") for name in layer.columns]
    for name, option in wanted:
        if name not in known:
            text = f'{_prefix(item)}column "{name}" does not exist'
            raise at_layer(InvalidSQL(text, sqlstate=MISSING_COLUMN), layer, option)
    if item.style is not None and (missing := item.style.missing_columns(known)):
        first = missing[0]
        error = InvalidSQL(_prefix(item) + first.text, sqlstate=MISSING_COLUMN)
        error.position = position_in_style(first)
        raise at_layer(error, layer, "cartocss")
    if layer.attributes is not None:
        for name in (layer.attributes.id, *layer.attributes.columns):
            if name not in {column.name for column in rows}:
                text = f'column "{name}" does not exist'
                raise at_layer(UnknownRelation(text, sqlstate=MISSING_COLUMN), layer, "attributes")


async def _check_attributes(services: Services, topic: str, item: PreparedLayer) -> None:
    """Run the query of the layer's attributes for one row."""
    if item.layer.attributes is None or item.layer.options.get("sql_raw"):
        return
    try:
        async with services.tenants.reader(topic) as conn:
            await check_attributes(conn, item)
    except InvalidSQL as error:
        raise at_layer(error, item.layer, "attributes")  # noqa: B904  the same error


async def _check_drawing(services: Services, topic: str, prepared: PreparedMap) -> None:
    """Draw all layers once; where that fails, each by itself, to say which one it is."""
    for layer in prepared.config.layers:
        if layer.type == "torque":
            try:
                await _probe(services, topic, prepared, [layer], "torque")
            except InvalidMapConfig as error:
                raise at_layer(error, layer, "sql")  # noqa: B904  the same error
    layers = [layer for layer in prepared.config.layers if layer.type == MAPNIK]
    if not layers:
        return
    kind: Kind = "vector" if prepared.config.is_vector_only else "mapnik"
    try:
        await _probe(services, topic, prepared, layers, kind)
    except TemporaryError:
        raise
    except CallerError as error:
        for layer in layers:
            try:
                await _probe(services, topic, prepared, [layer], kind)
            except InvalidMapConfig as found:
                option = "cartocss" if isinstance(found, InvalidCartoCSS) else "sql"
                raise at_layer(found, layer, option) from error
        raise


async def _probe(services: Services, topic: str, prepared: PreparedMap, layers: Sequence[Layer], kind: Kind) -> None:
    wanted = FORMATS[_PROBED[kind]]
    renderer = await renderer_of(services, topic, prepared, layers, kind, wanted)
    await renderer.render(TileRequest(PROBE, wanted, 1, f"probe {uuid.uuid4().hex}"))
