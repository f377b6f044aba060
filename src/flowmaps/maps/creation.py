"""Create a map: check it against the contract and the tenant's data, draw it once, and store it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
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
)
from flowmaps.mapconfig import Layer, signature
from flowmaps.mapconfig.values import MAPNIK
from flowmaps.maps.preparation import PreparedLayer, PreparedMap, at_layer
from flowmaps.maps.resolution import resolve
from flowmaps.maps.services import Services
from flowmaps.maps.tiles import plan_of
from flowmaps.mapstore import StoredMap
from flowmaps.render import RenderJob
from flowmaps.render.describe import BBox, Column, bounds, describe
from flowmaps.render.job import Block
from flowmaps.telemetry import timed
from flowmaps.tile import TileCoord

PROBE = TileCoord(30, 0, 0)
"""The tile that a new map is drawn at: it hardly ever holds data, so it costs little and shows what Mapnik refuses."""
BOUNDS_TIMEOUT_MS = 2_000
MISSING_COLUMN = "42703"
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class CreatedMap:
    """What a client is told of a map; *last_updated* is the tenant's last change."""

    token: str
    last_updated: datetime
    layers: tuple[Mapping[str, Any], ...]
    bounds: BBox | None

    @property
    def layergroupid(self) -> str:
        return f"{self.token}:{round(self.last_updated.timestamp() * 1000)}"

    @property
    def document(self) -> dict[str, Any]:
        """The answer's body, as the contract shapes it, with *bounds* in degrees as an addition."""
        moment = self.last_updated.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {
            "layergroupid": self.layergroupid,
            "metadata": {"layers": list(self.layers), "bounds": list(self.bounds) if self.bounds else None},
            "last_updated": moment,
        }


async def create_map(
    services: Services, topic: object, document: object, *, aggregation: bool | None = None
) -> CreatedMap:
    """Check and store a map of the tenant *topic*; the same map has the same token.

    *aggregation* False turns the aggregation of points off.

    Raise `InvalidRequest`, `UnknownTenant`, `InvalidMapConfig` and its kin, or a `TemporaryError`.
    """
    if not isinstance(topic, str) or not topic:
        raise InvalidRequest("topic must be the name of a topic", member="topic")
    if document is None:
        raise InvalidRequest("map is missing", member="map")
    with timed("create-map", topic=""):
        await services.tenants.tenant(topic)
        resolved = await resolve(services, topic, document, aggregation=aggregation)
        prepared = await asyncio.to_thread(services.prepare, document, resolved)
        await _check_queries(services, topic, prepared)
        await _check_drawing(services, topic, prepared)
        accepted = resolved.stored_in(prepared.config.document)
        token = signature(accepted, tenant=topic, key=services.settings.secret_key.get_secret_value().encode())
        stored = StoredMap(token, topic, accepted, datetime.now(UTC))
        await services.store.save(stored)
        services.keep(stored, prepared)
        return await _described(services, stored, prepared)


async def describe_map(services: Services, token: str) -> CreatedMap:
    """Return what creation answered for a stored map, with today's time and bounds; raise `UnknownMap`."""
    loaded = await services.load(token)
    return await _described(services, loaded.stored, loaded.prepared)


async def _described(services: Services, stored: StoredMap, prepared: PreparedMap) -> CreatedMap:
    last_change, box = await asyncio.gather(
        services.tenants.last_change(stored.topic), _bounds(services, stored.topic, prepared)
    )
    layers = tuple(_layer_metadata(layer, prepared) for layer in prepared.config.layers)
    return CreatedMap(stored.token, last_change, layers, box)


def _layer_metadata(layer: Layer, prepared: PreparedMap) -> dict[str, Any]:
    metadata: dict[str, Any] = {"type": layer.type, "id": layer.id, "meta": {}}
    if layer.cartocss is not None:
        metadata["meta"]["cartocss"] = layer.cartocss
    if layer.type == MAPNIK:
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
                sources = await describe(conn, item.source_query()) if item.drawn_sql else columns
        except InvalidSQL as error:
            # Clients of the first servers know an error of the database by these two words.
            raised = InvalidSQL(f"Postgis Plugin: ERROR: {error.message}", sqlstate=error.sqlstate)
            raise at_layer(raised, item.layer, "sql") from error
        _check_columns(item, columns, sources)


def _check_columns(item: PreparedLayer, columns: Sequence[Column], sources: Sequence[Column]) -> None:
    """Check the columns that the layer names: of what is drawn, and for attributes of its source."""
    layer = item.layer
    drawn = {column.name for column in columns}
    wanted: list[tuple[str, str]] = [(layer.geom_column, "geom_column")]
    wanted += [(name, "interactivity") for name in layer.interactivity]
    if item.style is not None:
        wanted += [(name, "cartocss") for name in item.style.columns]
    if layer.attributes is not None:
        wanted += [(name, "attributes") for name in (layer.attributes.id, *layer.attributes.columns)]
    for name, option in wanted:
        if name not in ({column.name for column in sources} if option == "attributes" else drawn):
            text = f'Postgis Plugin: ERROR: column "{name}" does not exist'
            raise at_layer(InvalidSQL(text, sqlstate=MISSING_COLUMN), layer, option)


async def _check_drawing(services: Services, topic: str, prepared: PreparedMap) -> None:
    """Draw all layers once; where that fails, each by itself, to say which one it is."""
    if prepared.config.is_vector_only or not prepared.config.layers:
        return
    try:
        await _probe(services, topic, prepared, prepared.config.layers)
    except TemporaryError:
        raise
    except CallerError as error:
        for layer in prepared.config.layers:
            try:
                await _probe(services, topic, prepared, (layer,))
            except InvalidMapConfig as found:
                option = "cartocss" if isinstance(found, InvalidCartoCSS) else "sql"
                raise at_layer(found, layer, option) from error
        raise


async def _probe(services: Services, topic: str, prepared: PreparedMap, layers: Sequence[Layer]) -> None:
    plan = await plan_of(services, topic, prepared, tuple(layers), "png")
    await services.pool.render(RenderJob(plan, Block(PROBE, 1, 1), "png"))
