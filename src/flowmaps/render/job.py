"""What a render worker is asked for, and what it answers; values that travel between processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from flowmaps.cartocss import TorqueStyle
from flowmaps.tile import TILE_PX, WORLD, Bounds, TileCoord

Problem = Literal["sql", "style", "database", "timeout", "forbidden", "image"]


@dataclass(frozen=True, slots=True)
class MapPlan:
    """A map as a worker loads it: Mapnik XML with its datasources, and libpq's environment for them.

    *key* names the map object in a worker's cache, so it must differ wherever XML or environment do.
    """

    key: str
    xml: str
    environment: tuple[tuple[str, str], ...] = ()
    pictures: tuple[tuple[str, int], ...] = ()
    """The fetched files that the map draws, each with the bytes that it takes in memory."""

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
class MapJob:
    """Draw *block* of *plan*: images in Mapnik's *encoding*, or the UTFGrid of the map's first layer with *fields*."""

    plan: MapPlan
    block: Block
    output: Literal["image", "grid"]
    encoding: str = "png"
    scale: int = 1
    fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """An image laid at a place of another, in pixels; scaled to *size* where that is given.

    *is_foreign* marks what came from another server: only a few formats of a bounded size are read then.
    """

    body: bytes
    x: int = 0
    y: int = 0
    size: tuple[int, int] | None = None
    is_foreign: bool = False


@dataclass(frozen=True, slots=True)
class ComposeJob:
    """Lay *parts* over each other, the bottom one first, on a transparent canvas of *size* pixels."""

    size: tuple[int, int]
    parts: tuple[Part, ...]
    encoding: str
    output: Literal["compose"] = "compose"


@dataclass(frozen=True, slots=True)
class PatternJob:
    """Fill a canvas of *side* pixels with a foreign image, whose first copy starts at minus *offset*."""

    body: bytes
    offset: tuple[int, int]
    side: int
    scale: int
    encoding: str
    output: Literal["pattern"] = "pattern"


@dataclass(frozen=True, slots=True)
class TorqueJob:
    """Draw one frame of a torque layer.

    *cells* are (frame offset, column, row from the bottom, value); *resolution* is a cell's side in tile pixels, and
    *images* the bodies of the style's marker files by address.
    """

    style: TorqueStyle
    zoom: int
    resolution: float
    cells: tuple[tuple[int, int, int, float], ...]
    images: Mapping[str, bytes]
    scale: int
    encoding: str
    output: Literal["torque"] = "torque"


@dataclass(frozen=True, slots=True)
class PictureJob:
    """Turn a picture of unknown origin, of at most *side_px* pixels a side, into a file that Mapnik may read.

    The answer is one body: PNG or SVG, written anew.
    """

    body: bytes
    side_px: int
    output: Literal["picture"] = "picture"


Job = MapJob | ComposeJob | PatternJob | TorqueJob | PictureJob


@dataclass(frozen=True, slots=True)
class Rendered:
    """The bodies of a block's tiles in row-major order (of other jobs: one image), or what was refused and why."""

    tiles: tuple[bytes, ...] = ()
    problem: Problem | None = None
    message: str = ""
    layer: str | None = None
