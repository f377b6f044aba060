"""Substitution tokens: ``!bbox!`` and its like, which stand for what is being drawn."""

from __future__ import annotations

import re
from dataclasses import dataclass

from flowmaps.tile import TILE_PX, WORLD, Bounds, TileCoord

TOKEN = re.compile(r"!(@?[A-Za-z_][A-Za-z0-9_]*)!")
ALIAS = "cdbq"
PIXEL_SIZE_AT_0 = 2 * WORLD / TILE_PX
"""Metres per tile pixel at zoom 0."""
METRES_PER_PIXEL_OF_SCREEN = 0.000_28
SCALE_DENOMINATOR_AT_0 = "559082264.0287178"


@dataclass(frozen=True, slots=True)
class TokenValues:
    """What the tokens stand for; the box is in metres, EPSG:3857, and is given in the layer's *srid*."""

    bbox: Bounds
    srid: int
    scale_denominator: str
    pixel_width: str
    pixel_height: str

    @classmethod
    def of_tile(cls, tile: TileCoord, *, srid: int, buffer_px: float = 0) -> TokenValues:
        """Return the values for a tile with a buffer in tile pixels around it."""
        pixel = PIXEL_SIZE_AT_0 / (1 << tile.z)
        grown = buffer_px * pixel
        xmin, ymin, xmax, ymax = tile.bounds
        denominator = SCALE_DENOMINATOR_AT_0 if tile.z == 0 else repr(pixel / METRES_PER_PIXEL_OF_SCREEN)
        return cls(
            Bounds(xmin - grown, ymin - grown, xmax + grown, ymax + grown), srid, denominator, repr(pixel), repr(pixel)
        )

    @property
    def envelope(self) -> str:
        """The box as an SQL expression in the layer's reference system."""
        box = "ST_MakeEnvelope({!r}, {!r}, {!r}, {!r}, 3857)".format(*self.bbox)
        return box if self.srid == 3857 else f"ST_Transform({box}, {self.srid})"

    def text(self, name: str) -> str:
        """Return what the token *name* stands for; an unknown one is NULL."""
        match name:
            case "bbox":
                return self.envelope
            case "scale_denominator":
                return self.scale_denominator
            case "pixel_width":
                return self.pixel_width
            case "pixel_height":
                return self.pixel_height
            case _:
                return "NULL"


def substitute_tokens(sql: str, values: TokenValues) -> str:
    """Return *sql* with the four tokens filled in, everywhere, and any other ``!word!`` as NULL."""
    return TOKEN.sub(lambda match: values.text(match[1]), sql)


def original_offset(sql: str, values: TokenValues, offset: int) -> int:
    """Return the place in *sql* of a character of the text that `substitute_tokens` makes of it."""
    shift = 0
    for match in TOKEN.finditer(sql):
        filled = len(values.text(match[1]))
        start = match.start() + shift
        if offset < start:
            break
        if offset < start + filled:
            return match.start()
        shift += filled - len(match[0])
    return min(max(0, offset - shift), len(sql))


def blank_tokens(sql: str) -> str:
    """Return *sql* with each token as a NULL of the same length, so that it parses and positions stay."""
    return TOKEN.sub(lambda match: "null".ljust(len(match[0])), sql)


def subquery(sql: str) -> str:
    """Return *sql* as a sub-query with alias; the line break ends a comment that the text may end with."""
    return f"({sql}\n) AS {ALIAS}"
