"""Describe the tiles of a map, or of one layer, as TileJSON 3.0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from flowmaps.errors import UnsupportedFormat
from flowmaps.mapconfig import Layer, MapConfig, select_layers
from flowmaps.mapconfig.values import MAPNIK
from flowmaps.maps.creation import CreatedMap, described_map
from flowmaps.maps.preparation import PreparedMap
from flowmaps.maps.services import Services
from flowmaps.maps.tiles import split_layergroupid
from flowmaps.render.describe import describe

Content = Literal["raster", "vector"]
DEEPEST_ZOOM = 22
"""What clients are told where a map has no limit of its own; they draw deeper zooms from these tiles."""
_WORDS = {16: "Boolean", 20: "Number", 21: "Number", 23: "Number", 700: "Number", 701: "Number", 1700: "Number"}
_TEXTS = frozenset((25, 1042, 1043, 705))


def contents_of(layers: Sequence[Layer], config: MapConfig) -> tuple[Content, ...]:
    """Return what tiles there are of *layers*, the usual kind first."""
    has_vectors = bool(layers) and all(layer.type == MAPNIK and not layer.is_raster for layer in layers)
    if config.is_vector_only:
        return ("vector",)
    return ("raster", "vector") if has_vectors else ("raster",)


def tilejson(base: str, created: CreatedMap, selector: str | None, content: Content) -> dict[str, Any]:
    """Return the TileJSON of the selected layers without what only the database knows; *base* is our own address."""
    config = created.prepared.config
    layers = select_layers(config, selector if selector is not None else _all_of(config))
    place = _place(config, selector)
    end = "png" if content == "raster" else "mvt"
    prefix = f"{base}/layergroup/{created.layergroupid}{place}"
    low, high = _zooms(config, layers)
    document: dict[str, Any] = {
        "tilejson": "3.0.0",
        "tiles": [f"{prefix}/{{z}}/{{x}}/{{y}}.{end}"],
        "scheme": "xyz",
        "minzoom": low,
        "maxzoom": high,
    }
    if created.bounds is not None:
        document["bounds"] = list(created.bounds)
    if content == "raster" and len(layers) == 1 and layers[0].interactivity:
        document["grids"] = [f"{prefix}/{{z}}/{{x}}/{{y}}.grid.json"]
    return document


def _all_of(config: MapConfig) -> str:
    return MAPNIK if any(layer.type == MAPNIK for layer in config.layers) else "all"


def _place(config: MapConfig, selector: str | None) -> str:
    if selector is not None:
        return f"/{selector}"
    return "" if _all_of(config) == MAPNIK else "/all"


def _zooms(config: MapConfig, layers: Sequence[Layer]) -> tuple[int, int]:
    lows = [layer.minzoom or 0 for layer in layers]
    highs = [DEEPEST_ZOOM if layer.maxzoom is None else layer.maxzoom for layer in layers]
    low = max(min(lows, default=0), config.minzoom or 0, 0)
    high = min(max(highs, default=DEEPEST_ZOOM), DEEPEST_ZOOM if config.maxzoom is None else config.maxzoom, 30)
    return int(-(-low // 1)), max(int(-(-low // 1)), int(high // 1))


def with_addresses(base: str, created: CreatedMap) -> dict[str, Any]:
    """Return creation's document with the addresses of tiles, of the map and of each layer."""
    document = created.document
    config = created.prepared.config
    if not config.layers:
        return document
    metadata = document["metadata"]
    selected = select_layers(config, _all_of(config))
    described = {content: tilejson(base, created, None, content) for content in contents_of(selected, config)}
    metadata["tilejson"] = described
    metadata["url"] = {
        content: {"urlTemplate": entry["tiles"][0], "subdomains": []} for content, entry in described.items()
    }
    for layer, entry in zip(config.layers, metadata["layers"], strict=True):
        entry["tilejson"] = {
            content: tilejson(base, created, str(layer.index), content) for content in contents_of([layer], config)
        }
    return document


async def answer_tilejson(
    services: Services, layergroupid: str, base: str, selector: str | None, content: Content | None
) -> dict[str, Any]:
    """Return the TileJSON of a stored map or of some layers of it; raise `UnknownMap`, `UnsupportedFormat`."""
    token, _ = split_layergroupid(layergroupid)
    created = await described_map(services, token, with_statistics=False)
    config = created.prepared.config
    layers = select_layers(config, selector if selector is not None else _all_of(config))
    offered = contents_of(layers, config)
    chosen = content or offered[0]
    if chosen not in offered:
        raise UnsupportedFormat(f"These layers have no {chosen} tiles")
    document = tilejson(base, created, selector, chosen)
    if chosen == "vector":
        loaded = await services.load(token)
        document["vector_layers"] = await _vector_layers(services, loaded.stored.topic, created.prepared, layers)
    return document


async def _vector_layers(
    services: Services, topic: str, prepared: PreparedMap, layers: Sequence[Layer]
) -> list[dict[str, Any]]:
    found = []
    async with services.tenants.reader(topic) as conn:
        for layer in dict.fromkeys(layers):
            columns = await describe(conn, prepared.layers[layer.index].query())
            fields = {
                column.name: _WORDS.get(column.type_oid, "String")
                for column in columns
                if column.name != layer.geom_column and (column.type_oid in _WORDS or column.type_oid in _TEXTS)
            }
            entry: dict[str, Any] = {"id": layer.id, "fields": fields}
            low, high = _zooms(prepared.config, [layer])
            found.append({**entry, "minzoom": low, "maxzoom": high})
    return found
