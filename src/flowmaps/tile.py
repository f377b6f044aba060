"""Address tiles: XYZ scheme in EPSG:3857, row 0 in the north."""

from __future__ import annotations

import math
from typing import NamedTuple

from flowmaps.errors import TileOutOfRange

WORLD = 20_037_508.342789244
"""Half the side of the web mercator world, in metres."""
TILE_PX = 256


class Bounds(NamedTuple):
    """An extent in metres, EPSG:3857."""

    xmin: float
    ymin: float
    xmax: float
    ymax: float


class TileCoord(NamedTuple):
    """A tile's zoom, column from the west and row from the north."""

    z: int
    x: int
    y: int

    @property
    def bounds(self) -> Bounds:
        """The tile's extent. Source: OGC 17-083r4, WebMercatorQuad."""
        side = 2 * WORLD / (1 << self.z)
        return Bounds(
            -WORLD + self.x * side, WORLD - (self.y + 1) * side, -WORLD + (self.x + 1) * side, WORLD - self.y * side
        )


def check_tile(tile: TileCoord, *, max_zoom: int) -> None:
    """Raise `TileOutOfRange` unless *tile* lies in the matrix of its zoom."""
    if not 0 <= tile.z <= max_zoom:
        raise TileOutOfRange(f"zoom {tile.z} is outside 0 to {max_zoom}")
    side = 1 << tile.z
    if not (0 <= tile.x < side and 0 <= tile.y < side):
        raise TileOutOfRange(f"tile {tile.z}/{tile.x}/{tile.y} is outside 0 to {side - 1}")


def mercator(longitude: float, latitude: float) -> tuple[float, float]:
    """Return metres in EPSG:3857 of a position in degrees, EPSG:4326; latitudes are cut at ±85.0511°."""
    latitude = max(-85.05112877980659, min(85.05112877980659, latitude))
    return (
        longitude * WORLD / 180,
        math.log(math.tan(math.pi / 4 + math.radians(latitude) / 2)) * WORLD / math.pi,
    )
