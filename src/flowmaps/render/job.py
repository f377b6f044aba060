"""What a render worker is asked for, and what it answers; values that travel between processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from flowmaps.tile import TILE_PX, WORLD, Bounds, TileCoord

Problem = Literal["sql", "style", "database", "timeout", "forbidden"]


@dataclass(frozen=True, slots=True)
class MapPlan:
    """A map as a worker loads it: Mapnik XML with its datasources, and libpq's environment for them.

    *key* names the map object in a worker's cache, so it must differ wherever XML or environment do.
    """

    key: str
    xml: str
    environment: tuple[tuple[str, str], ...] = ()

    def __repr__(self) -> str:
        return f"MapPlan({self.key!r})"


class Block(NamedTuple):
    """Tiles drawn together: the north-western one, and how many columns and rows."""

    origin: TileCoord
    columns: int
    rows: int

    @property
    def bounds(self) -> Bounds:
        first = self.origin.bounds
        side = 2 * WORLD / (1 << self.origin.z)
        return Bounds(first.xmin, first.ymax - self.rows * side, first.xmin + self.columns * side, first.ymax)

    @property
    def size_px(self) -> tuple[int, int]:
        return self.columns * TILE_PX, self.rows * TILE_PX

    @property
    def tiles(self) -> list[TileCoord]:
        """The tiles in row-major order."""
        z, x, y = self.origin
        return [TileCoord(z, x + column, y + row) for row in range(self.rows) for column in range(self.columns)]


def block_of(tile: TileCoord, side: int) -> Block:
    """Return the block of at most *side* by *side* tiles that *tile* belongs to, cut at the world's edge."""
    across = 1 << tile.z
    x, y = tile.x - tile.x % side, tile.y - tile.y % side
    return Block(TileCoord(tile.z, x, y), min(side, across - x), min(side, across - y))


@dataclass(frozen=True, slots=True)
class RenderJob:
    """Draw *block* of *plan*: PNG in Mapnik's *encoding*, or the UTFGrid of the map's first layer with *fields*."""

    plan: MapPlan
    block: Block
    output: Literal["png", "grid"]
    encoding: str = "png"
    scale: int = 1
    fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rendered:
    """The bodies of a block's tiles in row-major order, or what Mapnik refused and why."""

    tiles: tuple[bytes, ...] = ()
    problem: Problem | None = None
    message: str = ""
    layer: str | None = None
