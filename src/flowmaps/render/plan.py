"""Write the Mapnik map of some layers over one tenant database; pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from psycopg.conninfo import conninfo_to_dict

from flowmaps.cartocss import LayerStyle, MapLayer, build_map
from flowmaps.render.job import MapPlan
from flowmaps.tile import WORLD

_DIRECT = ("host", "port", "dbname", "user", "password")
_ENVIRONMENT = {
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "options": "PGOPTIONS",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
}
_DEGREES = "-180,-90,180,90"
_METRES = f"{-WORLD},{-WORLD},{WORLD},{WORLD}"


@dataclass(frozen=True, slots=True)
class PlannedLayer:
    """A layer ready to be drawn: its style, and its SQL as a sub-query with alias."""

    style: LayerStyle
    table: str
    geom_column: str
    srid: int
    raster_band: int | None = None
    is_raster: bool = False
    minzoom: float | None = None
    maxzoom: float | None = None


def plan_map(
    layers: Sequence[PlannedLayer],
    *,
    conninfo: str,
    buffer_px: int,
    features_per_tile: int,
    connect_timeout_seconds: float = 5,
    pictures: Sequence[tuple[str, int]] = (),
) -> MapPlan:
    """Return the map that draws *layers*, the bottom one first, over the database that *conninfo* names.

    *buffer_px* is in tile pixels; a stylesheet's own ``buffer-size`` outranks it.
    *pictures* are the files that the styles got for addresses, each with its size in memory, in bytes.
    Mapnik's reader takes few of libpq's parameters; the others, such as TLS, reach it through the environment.
    """
    parts = {name: str(value) for name, value in conninfo_to_dict(conninfo).items() if value is not None}
    database = {name: parts[name] for name in _DIRECT if name in parts}
    environment = tuple((variable, parts[name]) for name, variable in _ENVIRONMENT.items() if name in parts)
    xml = build_map(
        [
            MapLayer(
                layer.style,
                _datasource(layer, database, features_per_tile, connect_timeout_seconds),
                srs=f"epsg:{layer.srid}",
                minzoom=None if layer.minzoom is None else int(-(-layer.minzoom // 1)),
                maxzoom=None if layer.maxzoom is None else int(layer.maxzoom // 1),
                attributes={"cache-features": "true"},
            )
            for layer in layers
        ],
        attributes={"buffer-size": str(buffer_px)},
    )
    key = hashlib.blake2b(repr((xml, environment)).encode(), digest_size=16).hexdigest()
    return MapPlan(key, xml, environment, tuple(pictures))


def _datasource(
    layer: PlannedLayer, database: Mapping[str, str], features_per_tile: int, connect_timeout_seconds: float
) -> dict[str, str]:
    """Return the reader's parameters. The extent is given, so that the reader never asks the whole table for it."""
    parameters = {
        **database,
        "table": layer.table,
        "srid": str(layer.srid),
        "extent": _DEGREES if layer.srid == 4326 else _METRES,
        "connect_timeout": str(max(1, round(connect_timeout_seconds))),
        # The connection then lives and dies with the map object, and a bounded cache of those bounds connections.
        "persist_connection": "false",
        "initial_size": "1",
        "max_size": "1",
    }
    if layer.is_raster:
        raster = {"type": "pgraster", "raster_field": layer.geom_column, "clip_rasters": "true"}
        if layer.raster_band:
            raster["band"] = str(layer.raster_band)
        return raster | parameters
    return {
        "type": "postgis",
        "geometry_field": layer.geom_column,
        "row_limit": str(features_per_tile),
        "simplify_geometries": "true",
        **parameters,
    }
