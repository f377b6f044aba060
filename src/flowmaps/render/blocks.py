"""Draw single tiles as parts of blocks: one drawing serves all who ask for the same block at the same time."""

from __future__ import annotations

import asyncio
import functools
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Literal

from flowmaps.render.job import Block, MapJob, MapPlan, block_of
from flowmaps.render.pictures import Picture
from flowmaps.render.pool import RenderPool
from flowmaps.tile import TileCoord

KEPT_SECONDS = 30.0
KEPT_BYTES = 64 * 1024 * 1024
BlockKey = tuple[str, str, str, int, tuple[str, ...], Block]


class BlockRenderer:
    """Answers tiles from a `RenderPool`; the neighbours that were drawn along are kept for a moment."""

    def __init__(self, pool: RenderPool, *, metatile: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._pool = pool
        self._metatile = metatile
        self._clock = clock
        self._running: dict[BlockKey, asyncio.Task[tuple[bytes, ...]]] = {}
        self._kept: OrderedDict[BlockKey, tuple[float, dict[TileCoord, bytes]]] = OrderedDict()
        self._kept_bytes = 0

    async def image(
        self,
        plan: MapPlan,
        tile: TileCoord,
        *,
        freshness: str,
        encoding: str,
        scale: int,
        pictures: Sequence[Picture] = (),
    ) -> bytes:
        """Return the image of *tile*. Tiles of one *freshness* may answer for each other, others may not.

        *pictures* are those of the plan; they are referred to until it is drawn, whoever goes away before.
        """
        return await self._tile(plan, tile, freshness, "image", encoding, scale, (), pictures)

    async def grid(
        self,
        plan: MapPlan,
        tile: TileCoord,
        *,
        freshness: str,
        fields: tuple[str, ...],
        pictures: Sequence[Picture] = (),
    ) -> bytes:
        """Return the UTFGrid of *tile* as JSON; see `image`."""
        return await self._tile(plan, tile, freshness, "grid", "", 1, fields, pictures)

    async def _tile(  # noqa: PLR0917  the parts of a key
        self,
        plan: MapPlan,
        tile: TileCoord,
        freshness: str,
        output: Literal["image", "grid"],
        encoding: str,
        scale: int,
        fields: tuple[str, ...],
        pictures: Sequence[Picture],
    ) -> bytes:
        block = block_of(tile, self._metatile)
        key = (plan.key, freshness, f"{output}:{encoding}", scale, fields, block)
        kept = self._kept.get(key)
        if kept is not None and kept[0] > self._clock():
            return kept[1][tile]
        task = self._running.get(key)
        if task is None:
            job = MapJob(plan, block, output, encoding, scale, fields)
            task = asyncio.create_task(self._draw(key, job))
            self._running[key] = task
            task.add_done_callback(functools.partial(self._finish, key, pictures))
        # A caller who goes away must not take the drawing from the others.
        bodies = await asyncio.shield(task)
        return bodies[block.tiles.index(tile)]

    async def _draw(self, key: BlockKey, job: MapJob) -> tuple[bytes, ...]:
        bodies = await self._pool.render(job)
        if len(bodies) > 1:
            self._keep(key, dict(zip(job.block.tiles, bodies, strict=True)))
        return bodies

    def _finish(self, key: BlockKey, _pictures: Sequence[Picture], task: asyncio.Task[tuple[bytes, ...]]) -> None:
        self._running.pop(key, None)
        if not task.cancelled():
            # Fetched here, so that a failure that nobody waited for is no unhandled one.
            task.exception()

    def _keep(self, key: BlockKey, tiles: dict[TileCoord, bytes]) -> None:
        self._drop(key)
        self._kept[key] = (self._clock() + KEPT_SECONDS, tiles)
        self._kept_bytes += _size(tiles)
        while self._kept and (self._kept_bytes > KEPT_BYTES or next(iter(self._kept.values()))[0] <= self._clock()):
            self._drop(next(iter(self._kept)))

    def _drop(self, key: BlockKey) -> None:
        gone = self._kept.pop(key, None)
        if gone is not None:
            self._kept_bytes -= _size(gone[1])


def _size(tiles: dict[TileCoord, bytes]) -> int:
    return sum(len(body) for body in tiles.values())
