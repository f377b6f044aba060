"""Tiles of a plain layer: one colour, or an image that is repeated."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image

from flowmaps.errors import FlowMapsError, InvalidMapConfig, RemoteTimeout
from flowmaps.mapconfig.layer_options import PlainOptions, Rgba
from flowmaps.render.contract import Tile, TileRequest
from flowmaps.render.job import PatternJob
from flowmaps.render.pool import RenderPool
from flowmaps.render.remote import RemoteImages
from flowmaps.tile import TILE_PX


@dataclass(frozen=True, slots=True)
class PlainRenderer:
    """Fills tiles."""

    options: PlainOptions
    remote: RemoteImages
    pool: RenderPool
    default_encoding: str

    async def render(self, request: TileRequest) -> Tile:
        wanted = request.format
        if self.options.color is not None:
            return Tile(solid(self.options.color, TILE_PX * request.scale, wanted.name), wanted.content_type)
        url = self.options.image_url or ""
        try:
            image = await self.remote.fetch_kept(url)
            job = PatternJob(
                image,
                (TILE_PX * request.tile.x, TILE_PX * request.tile.y),
                TILE_PX,
                request.scale,
                wanted.encoding or self.default_encoding,
            )
            (body,) = await self.pool.render(job)
        except RemoteTimeout:
            raise
        except FlowMapsError as error:
            text = f"Invalid imageUrl for 'plain' layer: {error.message}"
            raise InvalidMapConfig(text, member="imageUrl", kind="layer") from error
        return Tile(body, wanted.content_type)


@lru_cache(maxsize=256)
def solid(color: Rgba, side: int, name: str) -> bytes:
    """Return a tile of one colour in a raster format; PNG with a palette of that one entry."""
    red, green, blue, alpha = color
    body = io.BytesIO()
    if name in ("jpg", "jpeg"):
        mixed = tuple(round(channel * alpha + 255 * (1 - alpha)) for channel in (red, green, blue))
        Image.new("RGB", (side, side), mixed).save(body, "JPEG", quality=85)
    elif name == "webp":
        Image.new("RGBA", (side, side), (red, green, blue, round(alpha * 255))).save(body, "WEBP", quality=85)
    elif name == "png32":
        Image.new("RGBA", (side, side), (red, green, blue, round(alpha * 255))).save(body, "PNG")
    else:
        image = Image.new("P", (side, side), 0)
        image.putpalette((red, green, blue))
        transparency = bytes([round(alpha * 255)])
        image.save(body, "PNG", bits=1, transparency=transparency if alpha < 1 else None)
    return body.getvalue()


TRANSPARENT: Rgba = (0, 0, 0, 0.0)
