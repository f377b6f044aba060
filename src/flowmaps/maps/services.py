"""What the use cases of serve work with, opened and closed together."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import structlog

from flowmaps.errors import FlowMapsError, StoreUnavailable
from flowmaps.maps.preparation import PreparedMap, StyleResources, prepare_map
from flowmaps.mapstore import MapStore, StoredMap, open_map_store
from flowmaps.render import RenderPool, TileRenderer
from flowmaps.settings import Settings
from flowmaps.tenants import TenantPools

LOADED_MAPS = 256
LOADED_SECONDS = 10.0
"""A map is read from the store anew after this, so that a revoked one stops being served."""
PURGE_SECONDS = 3600.0
_log = structlog.get_logger()


@dataclass(slots=True)
class LoadedMap:
    """A stored map, ready to be drawn."""

    stored: StoredMap
    prepared: PreparedMap
    until: float


@dataclass(slots=True)
class Services:
    """The doors that serve has open, and the maps it has ready."""

    settings: Settings
    tenants: TenantPools
    store: MapStore
    pool: RenderPool
    tiles: TileRenderer
    clock: Callable[[], float] = time.monotonic
    _loaded: OrderedDict[str, LoadedMap] = field(default_factory=OrderedDict)

    def prepare(self, document: object) -> PreparedMap:
        """Return a document's map, vetted and compiled; raise `InvalidMapConfig` and its kin."""
        resources = StyleResources(self.pool.fonts, self.settings.render.fallback_font, self.pool.assets)
        return prepare_map(document, limits=self.settings.limit, resources=resources)

    async def load(self, token: str) -> LoadedMap:
        """Return a stored map; raise `UnknownMap`. While the store is away, maps in use go on."""
        known = self._loaded.get(token)
        if known is not None and self.clock() < known.until:
            self._loaded.move_to_end(token)
            return known
        try:
            stored = await self.store.load(token)
        except StoreUnavailable:
            if known is None:
                raise
            known.until = self.clock() + 1
            return known
        except FlowMapsError:
            self.forget(token)
            raise
        prepared = known.prepared if known is not None else self.prepare(stored.document)
        return self.keep(stored, prepared)

    def keep(self, stored: StoredMap, prepared: PreparedMap) -> LoadedMap:
        loaded = LoadedMap(stored, prepared, self.clock() + LOADED_SECONDS)
        self._loaded[stored.token] = loaded
        self._loaded.move_to_end(stored.token)
        while len(self._loaded) > LOADED_MAPS:
            self._loaded.popitem(last=False)
        return loaded

    def forget(self, token: str) -> None:
        self._loaded.pop(token, None)


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """Yield the services; everything is closed at the end."""
    async with AsyncExitStack() as stack:
        tenants = await stack.enter_async_context(TenantPools(settings))
        store = await stack.enter_async_context(open_map_store(settings, tenants.master))
        pool = await stack.enter_async_context(RenderPool(settings.render))
        purging = asyncio.create_task(_purge(store))
        try:
            yield Services(settings, tenants, store, pool, TileRenderer(pool, metatile=settings.render.metatile))
        finally:
            purging.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await purging


async def _purge(store: MapStore) -> None:
    """Delete expired maps now and then, for ever."""
    while True:
        try:
            if count := await store.purge_expired():
                _log.info("expired maps deleted", count=count)
        except FlowMapsError as error:
            _log.warning("expired maps are not deleted", error=error.message)
        await asyncio.sleep(PURGE_SECONDS)
