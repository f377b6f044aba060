"""Hold the connections to tenant databases: `TenantPools` for serve, which is async, `OwnerConnections` for ingest."""

from __future__ import annotations

import asyncio
import select
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self
from weakref import WeakKeyDictionary

import psycopg
from psycopg import AsyncConnection, Connection
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from flowmaps.errors import DatabaseUnavailable
from flowmaps.settings import Settings
from flowmaps.tenants.database_errors import translate_database_errors
from flowmaps.tenants.registry import Tenant, TenantReader

TENANT_SECONDS = 10.0
"""A tenant's row is read anew after this, so that rotated passwords and dropped tenants are noticed."""
UNCHECKED_SECONDS = 5.0
"""A pooled connection used within this time is taken for alive."""
MAX_POOLS = 200
_STATEMENT_TIMEOUT_MS = 120_000


@dataclass(slots=True)
class _Pool:
    pool: AsyncConnectionPool[AsyncConnection[Any]]
    conninfo: str
    users: int = 0


@dataclass(slots=True)
class _Known:
    tenant: Tenant
    until: float


class TenantPools:
    """Tenants by topic, and a small pool of reader connections for each; opened and closed as a context manager."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._reader = TenantReader(settings)
        self._known: dict[str, _Known] = {}
        self._pools: OrderedDict[str, _Pool] = OrderedDict()
        self._used: WeakKeyDictionary[AsyncConnection[Any], float] = WeakKeyDictionary()
        self._lock = asyncio.Lock()
        self._stack = AsyncExitStack()
        self._master: AsyncConnectionPool[AsyncConnection[Any]] | None = None

    async def __aenter__(self) -> Self:
        database = self._settings.database
        self._master = self._new_pool(database.url.get_secret_value(), database.pool_size)
        await self._stack.enter_async_context(self._master)
        return self

    async def __aexit__(self, *_: object) -> None:
        while self._pools:
            await self._pools.popitem()[1].pool.close()
        await self._stack.aclose()

    @asynccontextmanager
    async def master(self) -> AsyncIterator[AsyncConnection[Any]]:
        """Yield a connection to the master database; committed at the end, rolled back after an error."""
        if self._master is None:
            raise RuntimeError("the pools were not entered")
        with translate_database_errors():
            async with self._master.connection() as conn:
                yield conn

    async def tenant(self, topic: str) -> Tenant:
        """Return the topic's tenant; raise `UnknownTenant`, `TenantNotReady` or `DatabaseUnavailable`."""
        known = self._known.get(topic)
        if known and self._clock() < known.until:
            return known.tenant
        try:
            async with self.master() as conn:
                tenant = await self._reader.load_tenant_async(conn, topic)
        except DatabaseUnavailable:
            # Tiles of a known tenant go on while the master database is away.
            if known is None:
                raise
            known.until = self._clock() + 1
            return known.tenant
        except Exception:
            self._known.pop(topic, None)
            raise
        self._known[topic] = _Known(tenant, self._clock() + TENANT_SECONDS)
        return tenant

    @asynccontextmanager
    async def reader(self, topic: str) -> AsyncIterator[AsyncConnection[Any]]:
        """Yield a connection of the topic's reader role in a read-only transaction, which is always rolled back."""
        tenant = await self.tenant(topic)
        entry = await self._pool(tenant)
        entry.users += 1
        try:
            with translate_database_errors():
                async with entry.pool.connection() as conn:
                    try:
                        yield conn
                    finally:
                        if not conn.closed:
                            await conn.rollback()
                            self._used[conn] = self._clock()
        except DatabaseUnavailable as error:
            if isinstance(error.__cause__, PoolTimeout):
                # The pool hides why it cannot connect; a rotated password is one reason.
                self._known.pop(topic, None)
            raise
        finally:
            entry.users -= 1

    async def last_change(self, topic: str) -> datetime:
        """Return when ingest last changed the topic's data, as seen by the database that tiles are read from."""
        async with self.reader(topic) as conn:
            cursor = await conn.execute("select public.flowmaps_last_change()")
            row = await cursor.fetchone()
        if row is None or row[0] is None:
            raise DatabaseUnavailable(f"the database of topic {topic!r} is not complete")
        moment: datetime = row[0]
        return moment

    async def ready(self) -> None:
        """Raise `DatabaseUnavailable` where the master database does not answer."""
        async with self.master() as conn:
            await conn.execute("select 1")

    async def _pool(self, tenant: Tenant) -> _Pool:
        conninfo = tenant.conninfo_reader
        async with self._lock:
            entry = self._pools.get(tenant.topic)
            if entry and entry.conninfo == conninfo:
                self._pools.move_to_end(tenant.topic)
                return entry
            if entry:
                del self._pools[tenant.topic]
                await entry.pool.close()
            await self._make_room()
            pool = self._new_pool(conninfo, self._settings.tenant.reader_pool_size, configure=_read_only)
            await pool.open()
            self._pools[tenant.topic] = _Pool(pool, conninfo)
            return self._pools[tenant.topic]

    async def _check(self, conn: AsyncConnection[Any]) -> None:
        """Raise where a pooled connection is broken.

        One that was used a moment ago, and whose server has not said anything since, needs no question: a server that
        goes away says so. That spares most tiles a round trip.
        """
        used = self._used.get(conn)
        if used is None or self._clock() - used > UNCHECKED_SECONDS or _has_input(conn):
            await AsyncConnectionPool.check_connection(conn)

    async def _make_room(self) -> None:
        idle = [topic for topic, entry in self._pools.items() if not entry.users]
        for topic in idle[: max(0, len(self._pools) - MAX_POOLS + 1)]:
            await self._pools.pop(topic).pool.close()

    def _new_pool(
        self, conninfo: str, size: int, configure: Callable[[AsyncConnection[Any]], Any] | None = None
    ) -> AsyncConnectionPool[AsyncConnection[Any]]:
        timeout = self._settings.database.connect_timeout_seconds
        return AsyncConnectionPool(
            conninfo,
            # Prepared statements would be lost behind PgBouncer.
            kwargs={"prepare_threshold": None, "connect_timeout": max(2, round(timeout))},
            min_size=0,
            max_size=size,
            max_waiting=size * 25,
            timeout=timeout,
            max_idle=self._settings.tenant.idle_seconds,
            # After this the pool gives up until the next request asks.
            reconnect_timeout=timeout,
            configure=configure,
            check=self._check,
            open=False,
        )


def _has_input(conn: AsyncConnection[Any]) -> bool:
    """Whether the server has sent something, or closed the connection."""
    poller = select.poll()
    poller.register(conn.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
    return bool(poller.poll(0))


async def _read_only(conn: AsyncConnection[Any]) -> None:
    await conn.set_read_only(True)


@dataclass(slots=True)
class _Idle:
    conn: Connection[Any]
    since: float


@dataclass(slots=True)
class OwnerConnections:
    """Connections of tenants' owner roles, for threads; at most *most* are kept open while nobody uses them."""

    settings: Settings
    most: int = 16
    clock: Callable[[], float] = time.monotonic
    _idle: OrderedDict[str, _Idle] = field(default_factory=OrderedDict)
    _busy: set[Connection[Any]] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close(list(self._take(0)))

    @contextmanager
    def connection(self, tenant: Tenant) -> Iterator[Connection[Any]]:
        """Yield an autocommit connection as the tenant's owner; it is closed after an error, else kept for the next.

        PostgreSQL's errors rise as they are: what a refused row means is for ingest to say.
        """
        key = tenant.conninfo_owner
        with self._lock:
            idle = self._idle.pop(key, None)
        conn = idle.conn if idle else self._open(key)
        self._busy.add(conn)
        try:
            yield conn
        except BaseException:
            conn.close()
            raise
        finally:
            self._busy.discard(conn)
        if conn.closed:
            return
        with self._lock:
            earlier = self._idle.pop(key, None)
            self._idle[key] = _Idle(conn, self.clock())
        self._close([earlier.conn] if earlier else [])
        self._close(list(self._take(self.most)))

    def cancel(self) -> None:
        """Make PostgreSQL give up what still runs on these connections."""
        for conn in tuple(self._busy):
            with suppress(psycopg.Error):
                # A server that does not even take this is left to the keepalives below.
                conn.cancel_safe(timeout=2)

    def _open(self, conninfo: str) -> Connection[Any]:
        return psycopg.connect(
            conninfo,
            autocommit=True,
            application_name="flow-maps ingest",
            options=f"-c statement_timeout={_STATEMENT_TIMEOUT_MS} -c lock_timeout=30000",
            # A server that vanished without a word is noticed within about 30 seconds.
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=4,
            tcp_user_timeout=30_000,
        )

    def _take(self, most: int) -> Iterator[Connection[Any]]:
        """Remove and yield what is too old or too many."""
        with self._lock:
            oldest = self.clock() - self.settings.tenant.idle_seconds
            for key, idle in list(self._idle.items()):
                if len(self._idle) > most or idle.since < oldest:
                    yield self._idle.pop(key).conn

    @staticmethod
    def _close(connections: list[Connection[Any]]) -> None:
        for conn in connections:
            conn.close()
