"""Compose, fill and encode images; run by the render worker, which a broken or hostile image may cost its life."""

from __future__ import annotations

import io
import math
import re
from collections import OrderedDict
from collections.abc import Sequence

import mapnik
from PIL import Image, UnidentifiedImageError

from flowmaps.render.job import ComposeJob, Part, PatternJob
from flowmaps.tile import TILE_PX

FOREIGN_FORMATS = ("PNG", "JPEG", "GIF", "WEBP")
LARGEST_FOREIGN_PX = 4096 * 4096
_LEVEL = re.compile(r":z=\d+")


class BadImage(Exception):
    """The bytes are no image that is read here."""


def compose(job: ComposeJob) -> bytes:
    """Return the parts over each other, encoded."""
    canvas = mapnik.Image(*job.size)
    canvas.premultiply()
    for part in job.parts:
        lay(canvas, load(part), part.x, part.y)
    return encode(canvas, job.encoding)


def fill_pattern(job: PatternJob) -> bytes:
    """Return a canvas covered by copies of an image, without a seam to the neighbouring tiles."""
    image = read_foreign(job.body)
    if job.scale != 1:
        image = _resized(image, (image.width * job.scale, image.height * job.scale))
    side = job.side * job.scale
    row = Image.new("RGBA", (side, image.height))
    for x in range(-(job.offset[0] * job.scale % image.width), side, image.width):
        row.paste(image, (x, 0))
    canvas = Image.new("RGBA", (side, side))
    for y in range(-(job.offset[1] * job.scale % image.height), side, image.height):
        canvas.paste(row, (0, y))
    drawn = from_pillow(canvas)
    drawn.premultiply()
    return encode(drawn, job.encoding)


def load(part: Part) -> mapnik.Image:
    """Return a part's image, premultiplied; raise `BadImage`."""
    if part.is_foreign or part.size is not None:
        image = read_foreign(part.body)
        if part.size is not None and image.size != part.size:
            image = _resized(image, part.size)
        loaded = from_pillow(image)
    else:
        loaded = mapnik.Image.from_string(part.body)
    loaded.premultiply()
    return loaded


def read_foreign(body: bytes) -> Image.Image:
    """Return an image of unknown origin as RGBA; raise `BadImage`."""
    try:
        with Image.open(io.BytesIO(body), formats=FOREIGN_FORMATS) as image:
            if not 0 < image.width * image.height <= LARGEST_FOREIGN_PX:
                raise BadImage(f"an image of {image.width} by {image.height} pixels is too large")
            return image.convert("RGBA")
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadImage("the answer is no image that is read here") from error


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return *image* scaled bilinearly; premultiplied, so that transparent pixels lend no colour."""
    return image.convert("RGBa").resize(size, Image.Resampling.BILINEAR).convert("RGBA")


def from_pillow(image: Image.Image) -> mapnik.Image:
    """Return Mapnik's image of a Pillow one; PNG is the only way across."""
    body = io.BytesIO()
    image.convert("RGBA").save(body, "PNG", compress_level=1)
    return mapnik.Image.from_string(body.getvalue())


def lay(canvas: mapnik.Image, image: mapnik.Image, x: int, y: int, comp_op: str = "src-over") -> None:
    """Put *image* on *canvas*, both premultiplied."""
    canvas.composite(image, COMP_OPS.get(comp_op, mapnik.CompositeOp.src_over), 1.0, x, y)


def encode(image: mapnik.Image, encoding: str) -> bytes:
    """Return the encoded image; JPEG knows no transparency, so that is laid on white."""
    if encoding.startswith("jpeg"):
        ground = mapnik.Image(image.width(), image.height())
        ground.fill(mapnik.Color("white"))
        ground.premultiply()
        if not image.premultiplied():
            image.premultiply()
        lay(ground, image, 0, 0)
        image = ground
    if image.premultiplied():
        image.demultiply()
    return bytes(image.to_string(encoding))


class SolidTiles:
    """Encodings of tiles of one colour: most tiles of a map are empty, and encoding costs more than drawing those."""

    MOST = 256

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[int, int, str], bytes] = OrderedDict()

    def encode(self, view: mapnik.ImageView, pixel: int, encoding: str) -> bytes:
        """Return a square view encoded whose pixels all are *pixel*; as small as the encoding can be."""
        key = (pixel, view.width(), encoding)
        body = self._known.pop(key, None)
        if body is None:
            smallest = _LEVEL.sub("", encoding) + ":z=9" if encoding.startswith("png") else encoding
            body = bytes(view.to_string(smallest))
        self._known[key] = body
        if len(self._known) > self.MOST:
            self._known.popitem(last=False)
        return body


_SOLID = SolidTiles()


def tiles_of(image: mapnik.Image, columns: int, rows: int, scale: int, encoding: str) -> Sequence[bytes]:
    """Return the tiles that *image* consists of, encoded, in row-major order."""
    if encoding.startswith("jpeg"):
        ground = mapnik.Image(image.width(), image.height())
        ground.fill(mapnik.Color("white"))
        ground.premultiply()
        image.premultiply()
        lay(ground, image, 0, 0)
        ground.demultiply()
        image = ground
    side = TILE_PX * scale
    return [
        _tile_of(image, column * side, row * side, side, encoding) for row in range(rows) for column in range(columns)
    ]


def _tile_of(image: mapnik.Image, x: int, y: int, side: int, encoding: str) -> bytes:
    view = image.view(x, y, side, side)
    if view.is_solid():
        return _SOLID.encode(view, image.get_pixel(x, y), encoding)
    return bytes(view.to_string(encoding))


def even_size(length: float) -> int:
    """Return the least even number of pixels that holds *length*."""
    return 2 * math.ceil(length / 2)


COMP_OPS = {name.replace("_", "-"): value for name, value in mapnik.CompositeOp.__members__.items()} | {
    # The names of the canvas of browsers, where torque styles come from.
    "lighter": mapnik.CompositeOp.plus,
    "source-over": mapnik.CompositeOp.src_over,
    "source-in": mapnik.CompositeOp.src_in,
    "source-out": mapnik.CompositeOp.src_out,
    "source-atop": mapnik.CompositeOp.src_atop,
    "destination-over": mapnik.CompositeOp.dst_over,
    "destination-in": mapnik.CompositeOp.dst_in,
    "destination-out": mapnik.CompositeOp.dst_out,
    "destination-atop": mapnik.CompositeOp.dst_atop,
}
