"""Images and UTFGrids of mapnik layers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from flowmaps.render.blocks import BlockRenderer
from flowmaps.render.contract import Tile, TileRequest
from flowmaps.render.job import MapPlan
from flowmaps.render.pictures import Picture
from flowmaps.tile import TileCoord


@dataclass(frozen=True, slots=True)
class MapnikRenderer:
    """Draws with Mapnik what *plan* gives for a tile; *fields* are the columns of its grid.

    *pictures* are the fetched files that it uses.
    """

    blocks: BlockRenderer
    plan: Callable[[TileCoord], Awaitable[MapPlan]]
    default_encoding: str
    fields: tuple[str, ...] = ()
    pictures: Sequence[Picture] = ()

    async def render(self, request: TileRequest) -> Tile:
        wanted = request.format
        plan = await self.plan(request.tile)
        if wanted.family == "grid":
            body = await self.blocks.grid(
                plan, request.tile, freshness=request.freshness, fields=self.fields, pictures=self.pictures
            )
        else:
            body = await self.blocks.image(
                plan,
                request.tile,
                freshness=request.freshness,
                encoding=wanted.encoding or self.default_encoding,
                scale=request.scale,
                pictures=self.pictures,
            )
        return Tile(body, wanted.content_type)
