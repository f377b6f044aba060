"""Tiles of a selection that mixes kinds of layers: each drawn by its own renderer, then laid over each other."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from flowmaps.errors import InvalidMapConfig, RemoteTimeout, RemoteUnavailable
from flowmaps.render.contract import Renderer, Tile, TileRequest
from flowmaps.render.formats import FORMATS
from flowmaps.render.job import ComposeJob, Part
from flowmaps.render.plain import TRANSPARENT, solid
from flowmaps.render.pool import RenderPool
from flowmaps.tile import TILE_PX

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class BlendPart:
    """One renderer; *is_remote* marks http layers, whose failures leave a hole instead of no tile at all."""

    renderer: Renderer
    is_remote: bool = False


@dataclass(frozen=True, slots=True)
class BlendRenderer:
    """Lays the tiles of *parts* over each other, the bottom one first."""

    parts: Sequence[BlendPart]
    pool: RenderPool
    default_encoding: str

    async def render(self, request: TileRequest) -> Tile:
        wanted = request.format
        side = TILE_PX * request.scale
        if len(self.parts) == 1 and not self.parts[0].is_remote:
            return await self.parts[0].renderer.render(request)
        # Full colour between the renderers, whatever the client gets in the end.
        inner = TileRequest(request.tile, FORMATS["png32"], request.scale, request.freshness)
        drawn = await asyncio.gather(*(self._part(part, inner) for part in self.parts))
        bodies = [body for body in drawn if body is not None]
        if not bodies:
            return Tile(solid(TRANSPARENT, side, wanted.name), wanted.content_type)
        job = ComposeJob((side, side), tuple(Part(body) for body in bodies), wanted.encoding or self.default_encoding)
        (body,) = await self.pool.render(job)
        return Tile(body, wanted.content_type)

    async def _part(self, part: BlendPart, request: TileRequest) -> bytes | None:
        try:
            return (await part.renderer.render(request)).body
        except RemoteTimeout:
            raise
        except (RemoteUnavailable, InvalidMapConfig) as error:
            if not part.is_remote:
                raise
            _log.info("a layer is left out of a blend", error=error.message)
            return None
