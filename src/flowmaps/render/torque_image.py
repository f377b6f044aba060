"""Draw one frame of a torque layer; run by the render worker."""

from __future__ import annotations

import io
import math

import mapnik
from PIL import Image, ImageDraw

from flowmaps.cartocss.torque import Rgba, TorqueLayer, TorqueSymbol
from flowmaps.render.job import TorqueJob
from flowmaps.render.picture import draw_svg
from flowmaps.render.pixels import BadImage, encode, even_size, from_pillow, lay, read_foreign
from flowmaps.render.svg import looks_like_svg
from flowmaps.tile import TILE_PX

_SMOOTH = 4
"""A sprite is drawn this many times larger and then reduced, for smooth edges."""
_LARGEST_SPRITE_PX = 510


def draw_torque(job: TorqueJob) -> bytes:
    """Return the frame as an image; each layer of the style has its own way of blending."""
    side = TILE_PX * job.scale
    canvas = mapnik.Image(side, side)
    canvas.premultiply()
    for layer in job.style.layers:
        if layer.colors:
            drawn = mapnik.Image(side, side)
            drawn.premultiply()
            _draw_layer(drawn, layer, job, "src-over")
            lay(canvas, _colorized(drawn, layer.colors), 0, 0, layer.comp_op)
        else:
            _draw_layer(canvas, layer, job, layer.comp_op)
    return encode(canvas, job.encoding)


def _draw_layer(canvas: mapnik.Image, layer: TorqueLayer, job: TorqueJob, comp_op: str) -> None:
    sprites: dict[tuple[int, float], mapnik.Image | None] = {}
    cell = job.resolution
    for offset in layer.offsets:
        for frame_offset, column, row, value in job.cells:
            if frame_offset != offset:
                continue
            key = (offset, value)
            if key not in sprites:
                symbol = layer.symbol(value, job.zoom, offset)
                sprites[key] = None if symbol is None else _sprite(symbol, job)
            sprite = sprites[key]
            if sprite is None:
                continue
            # The marker's middle is the middle of its cell, whose lower left corner the row counts from.
            x = (column * cell + cell / 2) * job.scale - sprite.width() / 2
            y = (TILE_PX - row * cell - cell / 2) * job.scale - sprite.height() / 2
            lay(canvas, sprite, math.floor(x + 0.5), math.floor(y + 0.5), comp_op)


def _sprite(symbol: TorqueSymbol, job: TorqueJob) -> mapnik.Image:
    if symbol.image is not None and symbol.image in job.images:
        try:
            return _picture(job.images[symbol.image], symbol.radius * job.scale)
        except BadImage:
            # As in browsers: a marker file that cannot be had gives way to a circle.
            return _shape(symbol, job.scale)
    return _shape(symbol, job.scale)


def _picture(body: bytes, radius: float) -> mapnik.Image:
    width = max(1, min(_LARGEST_SPRITE_PX, round(2 * radius)))
    if looks_like_svg(body):
        small = _without_margins(draw_svg(body, width))
    else:
        image = read_foreign(body)
        height = max(1, min(_LARGEST_SPRITE_PX, round(width * image.height / image.width)))
        small = image.convert("RGBa").resize((width, height), Image.Resampling.BILINEAR).convert("RGBA")
    loaded = from_pillow(small)
    loaded.premultiply()
    return loaded


def _without_margins(image: Image.Image) -> Image.Image:
    """Return *image* without what is clear on both sides of its middle."""
    left, top, right, bottom = image.getbbox() or (0, 0, image.width, image.height)
    across, down = min(left, image.width - right), min(top, image.height - bottom)
    return image.crop((across, down, image.width - across, image.height - down))


def _shape(symbol: TorqueSymbol, scale: int) -> mapnik.Image:
    """Return a circle or square; the line runs along its edge, half inside and half outside."""
    radius, line = symbol.radius * scale, symbol.line_width * scale
    side = even_size(2 * radius + line + 2)
    large = Image.new("RGBA", (side * _SMOOTH, side * _SMOOTH))
    _shape_at(large, side / 2, radius, symbol.fill, is_square=symbol.is_square)
    if symbol.line is not None:
        ring = Image.new("RGBA", large.size)
        _shape_at(ring, side / 2, radius + line / 2, symbol.line, is_square=symbol.is_square)
        if radius > line / 2:
            _shape_at(ring, side / 2, radius - line / 2, (0, 0, 0, 0.0), is_square=symbol.is_square)
        large = Image.alpha_composite(large, ring)
    reduced = large.convert("RGBa").resize((side, side), Image.Resampling.BOX).convert("RGBA")
    loaded = from_pillow(reduced)
    loaded.premultiply()
    return loaded


def _shape_at(image: Image.Image, middle: float, radius: float, color: Rgba | None, *, is_square: bool) -> None:
    if color is None:
        return
    pen = ImageDraw.Draw(image)
    low, high = (middle - radius) * _SMOOTH, (middle + radius) * _SMOOTH - 1
    ink = (*color[:3], round(color[3] * 255))
    if is_square:
        pen.rectangle((low, low, high, high), fill=ink)
    else:
        pen.ellipse((low, low, high, high), fill=ink)


def _colorized(image: mapnik.Image, colors: tuple[Rgba, ...]) -> mapnik.Image:
    """Return *image* with each pixel's colour taken from a ramp over its alpha."""
    image.demultiply()
    with Image.open(io.BytesIO(bytes(image.to_string("png32")))) as opened:
        alpha = opened.convert("RGBA").getchannel("A")
    bands = []
    for channel in range(3):
        table = [_ramp([int(color[channel]) for color in colors], value / 255) for value in range(256)]
        bands.append(alpha.point(table))
    loaded = from_pillow(Image.merge("RGBA", (*bands, alpha)))
    loaded.premultiply()
    return loaded


def _ramp(stops: list[int], at: float) -> int:
    if len(stops) == 1:
        return stops[0]
    place = at * (len(stops) - 1)
    index = min(int(place), len(stops) - 2)
    return round(stops[index] + (stops[index + 1] - stops[index]) * (place - index))
