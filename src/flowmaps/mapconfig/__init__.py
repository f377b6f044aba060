"""The MapConfig: its values, parsing with the contract's checks, selection of layers, and its signature. Pure."""

from flowmaps.mapconfig.parsing import parse_mapconfig
from flowmaps.mapconfig.selection import select_layers
from flowmaps.mapconfig.signature import canonical, signature
from flowmaps.mapconfig.values import AttributesOption, Layer, MapConfig, Origin, VectorExtents, vector_extents

__all__ = [
    "AttributesOption",
    "Layer",
    "MapConfig",
    "Origin",
    "VectorExtents",
    "canonical",
    "parse_mapconfig",
    "select_layers",
    "signature",
    "vector_extents",
]
