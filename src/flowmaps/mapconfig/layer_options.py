"""The options of http and plain layers: addresses of remote tiles, and plain colours. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flowmaps.cartocss.color import make
from flowmaps.cartocss.reference import color_channels
from flowmaps.errors import InvalidMapConfig
from flowmaps.tile import TileCoord

Rgba = tuple[int, int, int, float]
"""Red, green and blue 0 to 255, alpha 0 to 1."""
MAX_URL_CHARS = 2048

_PLACEHOLDER = re.compile(r"\{\s*([^{}\s]*)\s*\}")
_HEX = re.compile(r"#(?:[0-9a-f]{3}|[0-9a-f]{6}|[0-9a-f]{8})")
_CALL = re.compile(r"(rgba?|hsla?)\(([^()]*)\)")
_PART = re.compile(r"\s*(-?\d*\.?\d+)(%?)\s*")


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """Where the tiles of an http layer are; *tms* counts rows from the south."""

    url_template: str
    subdomains: tuple[str, ...]
    tms: bool

    def address(self, tile: TileCoord) -> str:
        """Return a tile's address; raise `InvalidMapConfig` for a placeholder that stands for nothing."""
        row = (1 << tile.z) - tile.y - 1 if self.tms else tile.y
        values = {"z": str(tile.z), "x": str(tile.x), "y": str(row)}
        if self.subdomains:
            values["s"] = self.subdomains[abs(tile.x + row) % len(self.subdomains)]

        def fill(match: re.Match[str]) -> str:
            if match[1] not in values:
                text = f"No value provided for variable {match[0]}"
                raise InvalidMapConfig(text, kind="layer")
            return values[match[1]]

        return _PLACEHOLDER.sub(fill, self.url_template)


@dataclass(frozen=True, slots=True)
class PlainOptions:
    """A colour, or else an image that is repeated."""

    color: Rgba | None
    image_url: str | None


def http_options(options: Mapping[str, Any]) -> HttpOptions:
    """Return the options of an http layer; raise `InvalidMapConfig`."""
    template = options.get("urlTemplate")
    if not isinstance(template, str) or not template:
        raise InvalidMapConfig('Missing mandatory "urlTemplate" option', member="urlTemplate")
    if len(template) > MAX_URL_CHARS:
        raise InvalidMapConfig(f"urlTemplate is longer than {MAX_URL_CHARS} characters", member="urlTemplate")
    has_subdomain = any(match[1] == "s" for match in _PLACEHOLDER.finditer(template))
    given = options.get("subdomains")
    # A text counts as a list of characters, as it did for the first servers.
    subdomains = tuple(given) if isinstance(given, list | str) and given else ("a", "b", "c") if has_subdomain else ()
    if not all(isinstance(part, str) and re.fullmatch(r"[A-Za-z0-9-]{1,63}", part) for part in subdomains):
        raise InvalidMapConfig("subdomains must be a list of host name parts", member="subdomains")
    return HttpOptions(template, subdomains, tms=bool(options.get("tms")))


def plain_options(options: Mapping[str, Any]) -> PlainOptions:
    """Return the options of a plain layer; raise `InvalidMapConfig`. A colour outranks an image."""
    color, image = options.get("color"), options.get("imageUrl")
    if color is None or color in ("", 0):
        if not image:
            text = "Plain layer: at least one of the options, `color` or `imageUrl`, must be provided."
            raise InvalidMapConfig(text, member="color")
        if not isinstance(image, str) or len(image) > MAX_URL_CHARS:
            raise InvalidMapConfig("Invalid imageUrl for 'plain' layer: it must be an address", member="imageUrl")
        return PlainOptions(None, image)
    if isinstance(color, list):
        return PlainOptions(_from_list(color), None)
    parsed = parse_color(color) if isinstance(color, str) else None
    if parsed is None:
        text = f"Invalid color for 'plain' layer: Failed to parse color: \"{str(color)[:100]}\""
        raise InvalidMapConfig(text, member="color")
    return PlainOptions(parsed, None)


def _from_list(color: list[Any]) -> Rgba:
    if len(color) not in (3, 4) or not all(
        isinstance(part, int | float) and not isinstance(part, bool) and 0 <= part <= 255 for part in color
    ):
        raise InvalidMapConfig("Invalid color for 'plain' layer: invalid integer array", member="color")
    return int(color[0]), int(color[1]), int(color[2]), color[3] / 255 if len(color) == 4 else 1.0


def parse_color(text: str) -> Rgba | None:
    """Return a colour given as CSS name, ``#rgb``, ``#rrggbb``, ``#rrggbbaa``, ``rgb()``, ``hsl()`` or with alpha."""
    text = text.strip().lower()
    if (named := color_channels(text)) is not None:
        return round(named[0]), round(named[1]), round(named[2]), named[3]
    if _HEX.fullmatch(text):
        digits = text[1:] if len(text) > 4 else "".join(digit * 2 for digit in text[1:])
        channels = [int(digits[at : at + 2], 16) for at in range(0, len(digits), 2)]
        return channels[0], channels[1], channels[2], channels[3] / 255 if len(channels) == 4 else 1.0
    call = _CALL.fullmatch(text)
    return None if call is None else _from_call(call[1], call[2].split(","))


def _from_call(name: str, arguments: list[str]) -> Rgba | None:
    parts = [_PART.fullmatch(argument) for argument in arguments]
    if len(parts) != (4 if name.endswith("a") else 3):
        return None
    numbers = [(float(part[1]), part[2] == "%") for part in parts if part is not None]
    if len(numbers) != len(parts) or not all(math.isfinite(number) for number, _ in numbers):
        return None
    alpha = min(1.0, max(0.0, _share(*numbers[3]))) if len(numbers) == 4 else 1.0
    if name.startswith("rgb"):
        red, green, blue = (round(number * 2.55 if percent else number) for number, percent in numbers[:3])
        return _byte(red), _byte(green), _byte(blue), alpha
    shares = [number / 100 if percent else number for number, percent in numbers[1:3]]
    return (*make(numbers[0][0] % 360, shares[0], shares[1], alpha).channels, alpha)


def _share(number: float, is_percent: bool) -> float:
    return number / 100 if is_percent else number


def _byte(value: int) -> int:
    return min(255, max(0, value))
