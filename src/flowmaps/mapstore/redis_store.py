"""Maps in Redis or Valkey: one key a map with its time to live, and a sorted set of tokens for each tenant."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Self, cast

import redis.asyncio as redis
from redis.exceptions import RedisError

from flowmaps.errors import StoreUnavailable
from flowmaps.mapstore.values import RENEW_SECONDS, StoredMap, most_maps, too_many, unknown_map
from flowmaps.settings import LimitSettings

_PREFIX = "flowmaps:"
_SAVE = """
-- KEYS: map, tenant's set. ARGV: token, body, lifetime in seconds, now, most maps of the tenant.
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', ARGV[4])
if not redis.call('ZSCORE', KEYS[2], ARGV[1]) and redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[5]) then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'NX')
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('ZADD', KEYS[2], ARGV[4] + ARGV[3], ARGV[1])
redis.call('EXPIRE', KEYS[2], ARGV[3] * 2)
return 1
"""


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError) as error:
        raise StoreUnavailable("the store of maps does not answer") from error


class RedisMapStore:
    """See `MapStore`; the connection pool is opened and closed as a context manager."""

    def __init__(self, url: str, limits: LimitSettings) -> None:
        self._limits = limits
        self._client: redis.Redis = redis.Redis.from_url(
            url, socket_timeout=5, socket_connect_timeout=5, max_connections=32, decode_responses=True
        )
        self._save = self._client.register_script(_SAVE)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def save(self, stored: StoredMap, *, share: float = 1) -> None:
        most = most_maps(self._limits.maps_per_tenant, share)
        body = json.dumps(
            {"topic": stored.topic, "document": stored.document, "created": stored.created.isoformat()},
            ensure_ascii=False,
        )
        keys = [_map_key(stored.token), _tenant_key(stored.topic)]
        arguments: list[str | float] = [
            stored.token,
            body,
            self._limits.map_lifetime_seconds,
            int(time.time()),
            most,
        ]
        with _translated():
            saved = await self._save(keys=keys, args=arguments)
        if not saved:
            raise too_many(most)

    async def load(self, token: str) -> StoredMap:
        lifetime = self._limits.map_lifetime_seconds
        with _translated():
            async with self._client.pipeline(transaction=False) as pipeline:
                pipeline.get(_map_key(token))
                pipeline.ttl(_map_key(token))
                body, left = await pipeline.execute()
        if body is None:
            raise unknown_map(token)
        stored = _stored(token, body)
        if left < lifetime - RENEW_SECONDS:
            with _translated():
                async with self._client.pipeline(transaction=False) as pipeline:
                    pipeline.expire(_map_key(token), lifetime)
                    pipeline.zadd(_tenant_key(stored.topic), {token: int(time.time()) + lifetime}, xx=True)
                    pipeline.expire(_tenant_key(stored.topic), lifetime * 2)
                    await pipeline.execute()
        return stored

    async def revoke(self, token: str) -> bool:
        with _translated():
            body = cast("str | None", await self._client.getdel(_map_key(token)))
            if body is None:
                return False
            await self._client.zrem(_tenant_key(_stored(token, body).topic), token)
        return True

    async def maps_of(self, topic: str) -> list[StoredMap]:
        tokens = await self._tokens(topic)
        if not tokens:
            return []
        with _translated():
            bodies: Any = await self._client.mget([_map_key(token) for token in tokens])
        maps = [_stored(token, body) for token, body in zip(tokens, bodies, strict=True) if body is not None]
        return sorted(maps, key=lambda stored: (stored.created, stored.token))

    async def revoke_all(self, topic: str) -> int:
        tokens = await self._tokens(topic)
        if not tokens:
            return 0
        with _translated():
            removed = await self._client.delete(*(_map_key(token) for token in tokens))
            await self._client.delete(_tenant_key(topic))
        return int(removed)

    async def _tokens(self, topic: str) -> list[str]:
        with _translated():
            found: Any = await self._client.zrangebyscore(_tenant_key(topic), f"({int(time.time())}", "+inf")
        return [str(token) for token in found]

    async def purge_expired(self) -> int:
        """Return 0: the server itself forgets keys when their time is over."""
        return 0

    async def ready(self) -> None:
        with _translated():
            await self._client.ping()


def _map_key(token: str) -> str:
    return f"{_PREFIX}map:{token}"


def _tenant_key(topic: str) -> str:
    return f"{_PREFIX}tenant:{topic}"


def _stored(token: str, body: str) -> StoredMap:
    raw = json.loads(body)
    return StoredMap(token, raw["topic"], raw["document"], datetime.fromisoformat(raw["created"]))
