"""Tiles of an http layer: another server's, under the rules of `remote`."""

from __future__ import annotations

from dataclasses import dataclass

from flowmaps.errors import InvalidMapConfig, RemoteUnavailable
from flowmaps.mapconfig.layer_options import HttpOptions
from flowmaps.render.contract import Tile, TileRequest
from flowmaps.render.job import ComposeJob, Part
from flowmaps.render.pool import RenderPool
from flowmaps.render.remote import NotListed, RemoteImages
from flowmaps.tile import TILE_PX


@dataclass(frozen=True, slots=True)
class HttpRenderer:
    """Fetches the tile, and encodes it anew: nothing of a remote answer but its pixels reaches a client."""

    options: HttpOptions
    remote: RemoteImages
    pool: RenderPool
    default_encoding: str

    async def render(self, request: TileRequest) -> Tile:
        side = TILE_PX * request.scale
        part = Part(await self._body(request), size=(side, side), is_foreign=True)
        job = ComposeJob((side, side), (part,), request.format.encoding or self.default_encoding)
        try:
            (body,) = await self.pool.render(job)
        except RemoteUnavailable as error:
            url = self.options.address(request.tile)
            raise RemoteUnavailable(f"Unable to fetch http tile: {url}: {error.message}") from error
        return Tile(body, request.format.content_type)

    async def _body(self, request: TileRequest) -> bytes:
        url = self.options.address(request.tile)
        try:
            return await self.remote.fetch(url)
        except NotListed as error:
            fallback = self.remote.fallback
            if fallback is not None:
                return fallback
            text = 'Invalid "urlTemplate" for http layer'
            raise InvalidMapConfig(text, member="urlTemplate", kind="layer") from error
