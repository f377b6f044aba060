"""MapConfig and Layer as frozen values."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from flowmaps.errors import InvalidMapConfig
from flowmaps.mapconfig.statistics_option import StatisticsOption

MAPNIK = "mapnik"
LAYER_TYPES = (MAPNIK, "torque", "http", "plain")
DEFAULT_GEOM_COLUMN = "the_geom_webmercator"
WEB_MERCATOR_SRID = 3857
DEFAULT_EXTENT = 4096
DEFAULT_SIMPLIFY_EXTENT = 256
LARGEST_EXTENT = 2_147_483_647
_INTEGER = re.compile(r"\s*([-+]?\d+)")


@dataclass(frozen=True, slots=True)
class AttributesOption:
    """Which columns the attributes endpoint shows, and the column that identifies a feature."""

    id: str
    columns: tuple[str, ...]


class Origin(NamedTuple):
    """Where a layer was in what the caller sent; *is_named* where it is one of the named map that stood there."""

    number: int
    is_named: bool = False

    def member(self, path: str) -> str:
        """Return the JSON path of what the caller wrote; of a named map that is its name and nothing else."""
        return f"layers[{self.number}].{'options.name' if self.is_named else path}"


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer; *id* is the explicit id or the generated one, *options* are kept as they came.

    *minzoom* and *maxzoom* are included; None is no limit. *columns* are properties in GeoJSON tiles.
    """

    index: int
    origin: Origin
    id: str
    is_explicit_id: bool
    type: str
    options: Mapping[str, Any]
    sql: str | None
    cartocss: str | None
    cartocss_version: str | None
    geom_column: str
    is_raster: bool
    srid: int
    raster_band: int | None
    interactivity: tuple[str, ...]
    attributes: AttributesOption | None
    minzoom: float | None
    maxzoom: float | None
    affected_tables: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    statistics: StatisticsOption = field(default_factory=StatisticsOption)

    def __hash__(self) -> int:
        return hash((self.index, self.id))

    @property
    def is_vector(self) -> bool:
        """Whether the layer has no style, and so is for vector tiles only."""
        return (
            self.type == MAPNIK
            and self.sql is not None
            and "cartocss" not in self.options
            and "cartocss_version" not in self.options
        )

    def at_zoom(self, zoom: int) -> bool:
        return (self.minzoom is None or zoom >= self.minzoom) and (self.maxzoom is None or zoom <= self.maxzoom)


@dataclass(frozen=True, slots=True)
class MapConfig:
    """A checked map; *document* is what is stored and signed."""

    document: Mapping[str, Any]
    version: str
    layers: tuple[Layer, ...]
    buffersize: Mapping[str, int]
    minzoom: float | None
    maxzoom: float | None

    @property
    def is_vector_only(self) -> bool:
        return bool(self.layers) and all(layer.is_vector for layer in self.layers)

    def buffer_px(self, tile_format: str, default: int) -> int:
        """Return the buffer for a format, in tile pixels; 0 is a value, not unset."""
        return self.buffersize.get(tile_format, default)


class VectorExtents(NamedTuple):
    """Size of the vector tile grid, and of the grid that geometries are simplified to; units per tile side."""

    extent: int
    simplify_extent: int


def vector_extents(config: MapConfig) -> VectorExtents:
    """Return the extents that all layers agree on; raise `InvalidMapConfig` where they do not."""
    declared = [_scalar(layer.options.get("vector_extent")) for layer in config.layers]
    extents = list(dict.fromkeys(DEFAULT_EXTENT if value is None else value for value in declared))
    if len(extents) > 1:
        raise InvalidMapConfig(f"Multiple extent values in mapConfig ({_joined(extents)})", member="vector_extent")
    has_extent = any(value is not None for value in declared)
    extent = _integer(extents[0]) if has_extent else DEFAULT_EXTENT
    if extent is None or not 1 <= extent <= LARGEST_EXTENT:
        text = f"Invalid vector_extent. Must be between 1 and {LARGEST_EXTENT}"
        raise InvalidMapConfig(text, member="vector_extent")
    if not any("vector_simplify_extent" in layer.options for layer in config.layers):
        return VectorExtents(extent, extent if has_extent else DEFAULT_SIMPLIFY_EXTENT)
    simplify = [
        _scalar(
            layer.options.get("vector_simplify_extent", layer.options.get("vector_extent", DEFAULT_SIMPLIFY_EXTENT))
        )
        for layer in config.layers
    ]
    distinct = list(dict.fromkeys(simplify))
    if len(distinct) > 1:
        text = f"Multiple simplify extent values in mapConfig ({_joined(distinct)})"
        raise InvalidMapConfig(text, member="vector_simplify_extent")
    value = _integer(distinct[0])
    if value is None or not 1 <= value <= extent:
        text = f"Invalid vector_simplify_extent ({distinct[0]}). Must be between 1 and vector_extent [{extent}]"
        raise InvalidMapConfig(text, member="vector_simplify_extent")
    return VectorExtents(extent, value)


def _scalar(value: object) -> object:
    """Return *value* where it can be compared with others, or its text."""
    return value if value is None or isinstance(value, int | float | str) else repr(value)[:40]


def _joined(values: list[Any]) -> str:
    return ",".join(str(value) for value in values)


def _integer(value: object) -> int | None:
    """Return the integer that *value* starts with, as the field's first servers read it."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return int(value) if math.isfinite(value) else None
    match = _INTEGER.match(value) if isinstance(value, str) else None
    return int(match[1]) if match else None
