"""Substitution tokens: ``!bbox!`` and its like stand for what is being drawn, ``!@name!`` for render variables.

A variable is a literal of SQL, whatever it holds: `vet` sees to it that it never stands inside quotes or a comment.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from flowmaps.mapsql.quoting import quoted_text
from flowmaps.tile import TILE_PX, WORLD, Bounds, TileCoord

TOKEN = re.compile(r"!(@?[A-Za-z_][A-Za-z0-9_]*)!")
BLANK = "null"
ALIAS = "cdbq"
PIXEL_SIZE_AT_0 = 2 * WORLD / TILE_PX
"""Metres per tile pixel at zoom 0."""
METRES_PER_PIXEL_OF_SCREEN = 0.000_28
SCALE_DENOMINATOR_AT_0 = "559082264.0287178"
Variables = Mapping[str, str | bool | int | float]


@dataclass(frozen=True, slots=True)
class TokenValues:
    """What the tokens stand for; the box is in metres, EPSG:3857, and is given in the layer's *srid*.

    *variables* are SQL literals by name.
    """

    bbox: Bounds
    srid: int
    scale_denominator: str
    pixel_width: str
    pixel_height: str
    variables: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_tile(
        cls, tile: TileCoord, *, srid: int, buffer_px: float = 0, variables: Variables | None = None
    ) -> TokenValues:
        """Return the values for a tile with a buffer in tile pixels around it.

        *variables* are the operator's. Those that are built in tell the tile: zoom (also as ``zoom_level``), column and
        row, and its box without the buffer as a JSON array of metres, EPSG:3857.
        """
        pixel = PIXEL_SIZE_AT_0 / (1 << tile.z)
        grown = buffer_px * pixel
        xmin, ymin, xmax, ymax = tile.bounds
        denominator = SCALE_DENOMINATOR_AT_0 if tile.z == 0 else repr(pixel / METRES_PER_PIXEL_OF_SCREEN)
        built_in: Variables = {"x": tile.x, "y": tile.y, "bbox": json.dumps(tile.bounds), **zoom_variables(tile.z)}
        return cls(
            Bounds(xmin - grown, ymin - grown, xmax + grown, ymax + grown),
            srid,
            denominator,
            repr(pixel),
            repr(pixel),
            literals({**(variables or {}), **built_in}),
        )

    @property
    def envelope(self) -> str:
        """The box as an SQL expression in the layer's reference system."""
        box = "ST_MakeEnvelope({!r}, {!r}, {!r}, {!r}, 3857)".format(*self.bbox)
        return box if self.srid == 3857 else f"ST_Transform({box}, {self.srid})"

    def text(self, name: str) -> str:
        """Return what the token *name* stands for; an unknown one is NULL."""
        if name.startswith("@"):
            return self.variables.get(name[1:], "NULL")
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
    """Return *sql* with the tokens and variables filled in, everywhere, and any other ``!word!`` as NULL."""
    return TOKEN.sub(lambda match: values.text(match[1]), sql)


def substitute_variables(sql: str, variables: Variables) -> str:
    """Return *sql* with these variables filled in; other tokens stay for Mapnik."""
    known = literals(variables)
    return TOKEN.sub(lambda match: known.get(match[1][1:], match[0]) if match[1][0] == "@" else match[0], sql)


def zoom_variables(zoom: int) -> dict[str, int]:
    """Return the variables that tell the zoom, by both names that the field's servers gave it."""
    return {"zoom": zoom, "zoom_level": zoom}


def literals(variables: Variables) -> dict[str, str]:
    """Return each variable as a text of SQL; PostgreSQL reads such a literal as a number where it needs one."""
    return {name: quoted_text(variable_text(value)) for name, value in variables.items()}


def variable_text(value: str | bool | int | float) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


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
    return TOKEN.sub(lambda match: BLANK.ljust(len(match[0])), sql)


def subquery(sql: str) -> str:
    """Return *sql* as a sub-query with alias; the line break ends a comment that the text may end with."""
    return f"({sql}\n) AS {ALIAS}"
