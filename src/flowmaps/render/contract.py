"""What every renderer does: one tile of some layers of one map.

A kind of tile is one file beside this one: `raster` (Mapnik's images and grids), `vector`, `geojson`, `torque`,
`http`, `plain` and `blend`. A renderer is cheap to make, belongs to one map and selection, and may be asked for many
tiles at once. What is heavy, or reads bytes that others sent, is a job for the `RenderPool`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from flowmaps.render.formats import TileFormat
from flowmaps.tile import TileCoord


@dataclass(frozen=True, slots=True)
class TileRequest:
    """The tile that is wanted. Tiles of one *freshness* may answer for each other, others may not."""

    tile: TileCoord
    format: TileFormat
    scale: int = 1
    freshness: str = ""


@dataclass(frozen=True, slots=True)
class Tile:
    """A tile's body; *is_empty* is known of vector tiles only."""

    body: bytes
    content_type: str
    is_empty: bool | None = None


class Renderer(Protocol):
    """Draws tiles of the layers that it was made for."""

    async def render(self, request: TileRequest) -> Tile:
        """Return the tile; raise `CallerError` or `TemporaryError` kin. The format is one that the kind makes."""
