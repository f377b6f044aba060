"""Keep created maps by token, with expiry: in the master database, or in Redis or Valkey.

A stored map names its tenant; database credentials are never part of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from flowmaps.mapstore.named_maps import NamedMap, NamedMapStore, TooManyNamedMaps, UnknownNamedMap
from flowmaps.mapstore.postgresql import Connect, PostgresMapStore
from flowmaps.mapstore.redis_store import RedisMapStore
from flowmaps.mapstore.values import MapStore, StoredMap, TooManyMaps
from flowmaps.settings import Settings

__all__ = [
    "MapStore",
    "NamedMap",
    "NamedMapStore",
    "PostgresMapStore",
    "RedisMapStore",
    "StoredMap",
    "TooManyMaps",
    "TooManyNamedMaps",
    "UnknownNamedMap",
    "open_map_store",
]


@asynccontextmanager
async def open_map_store(settings: Settings, master: Connect) -> AsyncIterator[MapStore]:
    """Yield the store that the settings choose; *master* gives connections to the master database."""
    url = settings.map_store.get_secret_value()
    if url:
        async with RedisMapStore(url, settings.limit) as store:
            yield store
    else:
        yield PostgresMapStore(master, settings.limit)
