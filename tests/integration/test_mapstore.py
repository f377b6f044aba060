"""Both stores of maps do the same: PostgreSQL and Redis, real ones."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
import redis.asyncio as redis

from flowmaps.errors import StoreUnavailable, UnknownMap
from flowmaps.mapstore import MapStore, PostgresMapStore, RedisMapStore, StoredMap, TooManyMaps
from flowmaps.settings import LimitSettings
from flowmaps.tenants import migrate_master
from flowstack.postgres import Postgres
from flowstack.processes import free_port

LIMITS = LimitSettings(map_lifetime_seconds=3600, maps_per_tenant=3)


@dataclass
class Opened:
    """A store, and how a test makes time pass for one of its maps."""

    store: MapStore
    age: Callable[[str, int], Awaitable[None]]
    seconds_left: Callable[[str], Awaitable[int]]


@pytest.fixture(scope="module")
def master_url(postgres: Postgres) -> str:
    url = postgres.url_of(postgres.new_database())
    migrate_master(url)
    return url


@pytest.fixture(params=["postgresql", "redis"])
async def opened(request: pytest.FixtureRequest, master_url: str, redis_url: str) -> AsyncIterator[Opened]:
    opening = redis_store(redis_url) if request.param == "redis" else postgresql_store(master_url)
    async with opening as store:
        yield store


@asynccontextmanager
async def redis_store(url: str) -> AsyncIterator[Opened]:
    async with RedisMapStore(url, LIMITS) as store, redis.Redis.from_url(url) as client:

        async def age(token: str, seconds: int) -> None:
            left = await client.ttl(f"flowmaps:map:{token}")
            await client.expire(f"flowmaps:map:{token}", left - seconds)

        async def seconds_left(token: str) -> int:
            return int(await client.ttl(f"flowmaps:map:{token}"))

        yield Opened(store, age, seconds_left)


@asynccontextmanager
async def postgresql_store(url: str) -> AsyncIterator[Opened]:
    @asynccontextmanager
    async def connect() -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        async with await psycopg.AsyncConnection.connect(url) as conn:
            yield conn

    async def age(token: str, seconds: int) -> None:
        async with connect() as conn:
            await conn.execute(
                "update flowmaps.stored_map set used_at = used_at - make_interval(secs => %s),"
                " expires_at = expires_at - make_interval(secs => %s) where token = %s",
                [seconds, seconds, token],
            )

    async def seconds_left(token: str) -> int:
        async with connect() as conn:
            cursor = await conn.execute(
                "select extract(epoch from expires_at - now())::integer from flowmaps.stored_map where token = %s",
                [token],
            )
            row = await cursor.fetchone()
            return int(row[0]) if row else -2

    yield Opened(PostgresMapStore(connect, LIMITS), age, seconds_left)


def new_map(topic: str = "", **document: Any) -> StoredMap:
    topic = topic or f"topic-{secrets.token_hex(4)}"
    return StoredMap(secrets.token_hex(16), topic, {"version": "1.0.0", **document}, datetime.now(UTC))


async def test_a_map_comes_back_as_it_was_sent(opened: Opened) -> None:
    stored = new_map(b=1.5, a=["é", "\u2028", None, {"z": 0, "y": ""}])
    await opened.store.save(stored)
    assert await opened.store.load(stored.token) == stored
    assert list((await opened.store.load(stored.token)).document) == ["version", "b", "a"]


async def test_an_unknown_token_is_said_to_be(opened: Opened) -> None:
    with pytest.raises(UnknownMap, match="Invalid or nonexistent map configuration token"):
        await opened.store.load("0" * 32)
    assert await opened.store.revoke("0" * 32) is False


async def test_an_unused_map_expires_and_a_used_one_does_not(opened: Opened) -> None:
    stored, used = new_map(), new_map()
    await opened.store.save(stored)
    await opened.store.save(used)
    for token in (stored.token, used.token):
        await opened.age(token, 1800)
    await opened.store.load(used.token)
    assert await opened.seconds_left(used.token) > 3500
    assert await opened.seconds_left(stored.token) < 1801
    await opened.age(stored.token, 1799)
    await opened.age(used.token, 1799)
    await asyncio.sleep(1.1)
    with pytest.raises(UnknownMap):
        await opened.store.load(stored.token)
    assert (await opened.store.load(used.token)).token == used.token
    await opened.store.purge_expired()
    assert await opened.seconds_left(stored.token) == -2


async def test_creating_a_map_again_gives_it_its_whole_life(opened: Opened) -> None:
    stored = new_map()
    await opened.store.save(stored)
    await opened.age(stored.token, 3000)
    await opened.store.save(stored)
    assert await opened.seconds_left(stored.token) > 3500


async def test_a_revoked_map_is_gone(opened: Opened) -> None:
    stored = new_map()
    await opened.store.save(stored)
    assert await opened.store.revoke(stored.token) is True
    with pytest.raises(UnknownMap):
        await opened.store.load(stored.token)
    assert await opened.store.maps_of(stored.topic) == []


async def test_all_maps_of_a_tenant_can_be_revoked_and_no_others(opened: Opened) -> None:
    first, second, other = new_map("same"), new_map("same"), new_map()
    for stored in (first, second, other):
        await opened.store.save(stored)
    assert {stored.token for stored in await opened.store.maps_of("same")} == {first.token, second.token}
    assert await opened.store.revoke_all("same") == 2
    assert await opened.store.revoke_all("same") == 0
    assert await opened.store.maps_of("same") == []
    assert await opened.store.load(other.token) == other


async def test_a_tenant_has_a_limit_that_parallel_requests_do_not_pass(opened: Opened) -> None:
    maps = [new_map("greedy") for _ in range(8)]
    answers = await asyncio.gather(*(opened.store.save(stored) for stored in maps), return_exceptions=True)
    assert sum(isinstance(answer, TooManyMaps) for answer in answers) == 5
    kept = await opened.store.maps_of("greedy")
    assert len(kept) == 3
    # A map that is there may be created again, and another tenant is not touched.
    await opened.store.save(kept[0])
    await opened.store.save(new_map())
    await opened.store.revoke_all("greedy")


async def test_a_store_that_answers_is_ready(opened: Opened) -> None:
    await opened.store.ready()


async def test_a_redis_that_is_away_is_said_to_be() -> None:
    async with RedisMapStore(f"redis://127.0.0.1:{free_port()}/0", LIMITS) as store:
        for action in (store.load("0" * 32), store.save(new_map()), store.revoke("0" * 32), store.ready()):
            with pytest.raises(StoreUnavailable):
                await action


async def test_neither_store_holds_credentials(opened: Opened) -> None:
    """A stored map names its tenant; who reads the store learns no way into a database."""
    fields = set(StoredMap.__dataclass_fields__)
    assert fields == {"token", "topic", "document", "created"}
    stored = new_map()
    await opened.store.save(stored)
    assert (await opened.store.load(stored.token)).topic == stored.topic
