"""What the use cases of serve work with, opened and closed together."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import structlog

from flowmaps.cartocss import RefusedResource
from flowmaps.errors import FlowMapsError, StoreUnavailable
from flowmaps.mapconfig import Origin
from flowmaps.maps.preparation import PreparedMap, StyleResources, prepare_map
from flowmaps.maps.resolved import Resolved
from flowmaps.mapstore import MapStore, NamedMapStore, StoredMap, open_map_store
from flowmaps.mapstore.values import unknown_map
from flowmaps.render import BlockRenderer, Pictures, RenderPool
from flowmaps.render.remote import NotListed, RemoteImages
from flowmaps.settings import Settings
from flowmaps.tenants import TenantPools

LOADED_MAPS = 256
LOADED_SECONDS = 10.0
"""A map is read from the store anew after this, so that a revoked one stops being served."""
PURGE_SECONDS = 3600.0
TEMPLATES_MEMBER = "templates"
"""The member of a stored document that says which named maps it is made of, name → revision; a client's is dropped."""
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
    blocks: BlockRenderer
    remote: RemoteImages
    pictures: Pictures
    static_slots: asyncio.Semaphore
    named: NamedMapStore
    clock: Callable[[], float] = time.monotonic
    instances: dict[str, tuple[str, float]] = field(default_factory=dict)
    """Maps made of named maps: what was asked for → layergroupid, and until when it need not be made anew."""
    _loaded: OrderedDict[str, LoadedMap] = field(default_factory=OrderedDict)

    @property
    def resources(self) -> StyleResources:
        """What styles and SQL may use."""
        render = self.settings.render
        return StyleResources(
            self.pool.fonts, render.fallback_font, self.pool.assets, self._check_address, render.variables
        )

    def _check_address(self, address: str) -> None:
        try:
            self.remote.check_listed(address)
        except NotListed as error:
            raise RefusedResource(f"Unable to download '{address[:200]}': {error.message}") from error

    def prepare(
        self, document: object, resolved: Resolved | None = None, origins: Sequence[Origin] | None = None
    ) -> PreparedMap:
        """Return a document's map, vetted and compiled; raise `InvalidMapConfig` and its kin."""
        limits, resources = self.settings.limit, self.resources
        return prepare_map(document, limits=limits, resources=resources, resolved=resolved, origins=origins)

    async def load(self, token: str) -> LoadedMap:
        """Return a stored map; raise `UnknownMap`. While the store is away, maps in use go on."""
        known = self._loaded.get(token)
        if known is not None and self.clock() < known.until:
            self._loaded.move_to_end(token)
            return known
        try:
            stored = await self.store.load(token)
            await self._check_templates(stored)
        except StoreUnavailable:
            if known is None:
                raise
            known.until = self.clock() + 1
            return known
        except FlowMapsError:
            self.forget(token)
            raise
        prepared = known.prepared if known is not None else self._prepare_stored(stored)
        return self.keep(stored, prepared)

    def _prepare_stored(self, stored: StoredMap) -> PreparedMap:
        return self.prepare(stored.document, Resolved.of_stored(stored.document))

    async def _check_templates(self, stored: StoredMap) -> None:
        """Raise `UnknownMap` for a map made of a named map that was changed or deleted since."""
        templates = stored.document.get(TEMPLATES_MEMBER)
        if templates and await self.named.revisions(stored.topic, templates) != templates:
            await self.store.revoke(stored.token)
            raise unknown_map(stored.token)

    def keep(self, stored: StoredMap, prepared: PreparedMap) -> LoadedMap:
        loaded = LoadedMap(stored, prepared, self.clock() + LOADED_SECONDS)
        self._loaded[stored.token] = loaded
        self._loaded.move_to_end(stored.token)
        while len(self._loaded) > LOADED_MAPS:
            self._loaded.popitem(last=False)
        return loaded

    def forget(self, token: str) -> None:
        self._loaded.pop(token, None)

    def forget_instances(self, topic: str, name: str) -> None:
        """Ask the store anew for the maps made of a named map."""
        for token, loaded in list(self._loaded.items()):
            if loaded.stored.topic == topic and name in loaded.stored.document.get(TEMPLATES_MEMBER, ()):
                del self._loaded[token]


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """Yield the services; everything is closed at the end."""
    async with AsyncExitStack() as stack:
        tenants = await stack.enter_async_context(TenantPools(settings))
        store = await stack.enter_async_context(open_map_store(settings, tenants.master))
        pool = await stack.enter_async_context(RenderPool(settings.render))
        remote = await stack.enter_async_context(RemoteImages(settings.serve))
        pictures = await stack.enter_async_context(Pictures(settings.render, remote, pool))
        purging = asyncio.create_task(_purge(store))
        try:
            yield Services(
                settings,
                tenants,
                store,
                pool,
                BlockRenderer(pool, metatile=settings.render.metatile),
                remote,
                pictures,
                asyncio.Semaphore(settings.render.static_at_once),
                NamedMapStore(tenants.master, settings.limit),
            )
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
