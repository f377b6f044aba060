"""Images and UTFGrids of mapnik layers."""

from __future__ import annotations

from dataclasses import dataclass

from flowmaps.render.blocks import BlockRenderer
from flowmaps.render.contract import Tile, TileRequest
from flowmaps.render.job import MapPlan


@dataclass(frozen=True, slots=True)
class MapnikRenderer:
    """Draws *plan* with Mapnik; *fields* are the columns of its grid."""

    blocks: BlockRenderer
    plan: MapPlan
    default_encoding: str
    fields: tuple[str, ...] = ()

    async def render(self, request: TileRequest) -> Tile:
        wanted = request.format
        if wanted.family == "grid":
            body = await self.blocks.grid(self.plan, request.tile, freshness=request.freshness, fields=self.fields)
        else:
            body = await self.blocks.image(
                self.plan,
                request.tile,
                freshness=request.freshness,
                encoding=wanted.encoding or self.default_encoding,
                scale=request.scale,
            )
        return Tile(body, wanted.content_type)
