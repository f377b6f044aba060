"""Maps in the table `flowmaps.stored_map` of the master database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import Json

from flowmaps.errors import DatabaseUnavailable, StoreUnavailable
from flowmaps.mapstore.values import RENEW_SECONDS, StoredMap, most_maps, too_many, unknown_map
from flowmaps.settings import LimitSettings

Connect = Callable[[], AbstractAsyncContextManager[AsyncConnection[Any]]]


class MasterTable:
    """A store that is a table of the master database, reached over *connect*; *what* names it in messages."""

    def __init__(self, connect: Connect, limits: LimitSettings, what: str) -> None:
        self._connect = connect
        self._limits = limits
        self._what = what

    @asynccontextmanager
    async def _rows(self) -> AsyncIterator[AsyncConnection[Any]]:
        """Yield a connection; raise `StoreUnavailable` where there is none."""
        try:
            async with self._connect() as conn:
                yield conn
        except DatabaseUnavailable as error:
            raise StoreUnavailable(f"the store of {self._what} does not answer") from error


class PostgresMapStore(MasterTable):
    """See `MapStore`."""

    def __init__(self, connect: Connect, limits: LimitSettings) -> None:
        super().__init__(connect, limits, "maps")

    async def save(self, stored: StoredMap, *, share: float = 1) -> None:
        most = most_maps(self._limits.maps_per_tenant, share)
        async with self._rows() as conn:
            # Counting and inserting are one step for each tenant, or parallel requests would pass the limit.
            await conn.execute("select pg_advisory_xact_lock(hashtext('flowmaps map'), hashtext(%s))", [stored.topic])
            cursor = await conn.execute(
                "select count(*) from flowmaps.stored_map where topic = %s and token <> %s and expires_at > now()",
                [stored.topic, stored.token],
            )
            row = await cursor.fetchone()
            if row is not None and row[0] >= most:
                raise too_many(most)
            await conn.execute(
                """
                insert into flowmaps.stored_map (token, topic, document, created_at, expires_at)
                values (%s, %s, %s, %s, now() + make_interval(secs => %s))
                on conflict (token) do update set used_at = now(), expires_at = excluded.expires_at
                """,
                [stored.token, stored.topic, Json(stored.document), stored.created, self._limits.map_lifetime_seconds],
            )

    async def load(self, token: str) -> StoredMap:
        async with self._rows() as conn, conn.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(
                """
                select token, topic, document, created_at, used_at < now() - make_interval(secs => %s) as is_stale
                from flowmaps.stored_map where token = %s and expires_at > now()
                """,
                [RENEW_SECONDS, token],
            )
            row = await cursor.fetchone()
            if row is None:
                raise unknown_map(token)
            if row["is_stale"]:
                await cursor.execute(
                    """
                    update flowmaps.stored_map set used_at = now(), expires_at = now() + make_interval(secs => %s)
                    where token = %s
                    """,
                    [self._limits.map_lifetime_seconds, token],
                )
        return _stored(row)

    async def revoke(self, token: str) -> bool:
        async with self._rows() as conn:
            cursor = await conn.execute("delete from flowmaps.stored_map where token = %s", [token])
            return cursor.rowcount > 0

    async def maps_of(self, topic: str) -> list[StoredMap]:
        async with self._rows() as conn, conn.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(
                """
                select token, topic, document, created_at from flowmaps.stored_map
                where topic = %s and expires_at > now() order by created_at, token
                """,
                [topic],
            )
            return [_stored(row) for row in await cursor.fetchall()]

    async def revoke_all(self, topic: str) -> int:
        async with self._rows() as conn:
            cursor = await conn.execute("delete from flowmaps.stored_map where topic = %s", [topic])
            return cursor.rowcount

    async def purge_expired(self) -> int:
        async with self._rows() as conn:
            cursor = await conn.execute("delete from flowmaps.stored_map where expires_at <= now()")
            return cursor.rowcount

    async def ready(self) -> None:
        async with self._rows() as conn:
            await conn.execute("select 1")


def _stored(row: DictRow) -> StoredMap:
    return StoredMap(row["token"], row["topic"], row["document"], row["created_at"])
