"""The formats of tiles, in one table, and which kind of renderer makes which."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from flowmaps.errors import UnsupportedFormat

Family = Literal["raster", "grid", "vector", "torque"]
Kind = Literal["mapnik", "vector", "torque", "http", "plain", "blend"]

JSON = "application/json; charset=utf-8"
MVT = "application/x-protobuf"


@dataclass(frozen=True, slots=True)
class TileFormat:
    """A format by its name in addresses; *encoding* is Mapnik's name of it, empty for the server's default PNG."""

    name: str
    family: Family
    content_type: str
    encoding: str = ""


FORMATS: Mapping[str, TileFormat] = {
    known.name: known
    for known in (
        TileFormat("png", "raster", "image/png"),
        TileFormat("png32", "raster", "image/png", "png32:z=3"),
        TileFormat("png8", "raster", "image/png", "png8:m=h:z=3"),
        TileFormat("jpg", "raster", "image/jpeg", "jpeg85"),
        TileFormat("jpeg", "raster", "image/jpeg", "jpeg85"),
        TileFormat("webp", "raster", "image/webp", "webp:quality=85"),
        TileFormat("grid.json", "grid", JSON),
        TileFormat("mvt", "vector", MVT),
        TileFormat("torque.json", "torque", JSON),
        TileFormat("json.torque", "torque", JSON),
        TileFormat("torque.bin", "torque", JSON),
        TileFormat("bin.torque", "torque", JSON),
        TileFormat("torque.png", "torque", "image/png"),
    )
}
RASTER_FORMATS = tuple(known.name for known in FORMATS.values() if known.family == "raster")

_MAKES: Mapping[Kind, tuple[Family, ...]] = {
    "mapnik": ("raster", "grid"),
    "vector": ("vector",),
    "torque": ("raster", "torque"),
    "http": ("raster",),
    "plain": ("raster",),
    "blend": ("raster",),
}


def tile_format(name: str, *, raster: Collection[str] = RASTER_FORMATS) -> TileFormat:
    """Return the format called *name*; raise `UnsupportedFormat`. *raster* are the image formats that are offered."""
    known = FORMATS.get(name)
    if known is None or (known.family == "raster" and name not in raster):
        raise unsupported(name)
    return known


def check_makes(kind: Kind, wanted: TileFormat) -> None:
    """Raise `UnsupportedFormat` unless renderers of *kind* make the format."""
    if wanted.family not in _MAKES[kind]:
        raise unsupported(wanted.name)


def unsupported(name: str) -> UnsupportedFormat:
    return UnsupportedFormat(f"Unsupported format {name[:40]}")
