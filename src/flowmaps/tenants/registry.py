"""Know the tenants: who has which database on which server, and with what roles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, LiteralString

from psycopg import AsyncConnection, Connection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row
from pydantic import SecretStr

from flowmaps.errors import ConfigurationError, TenantNotReady, UnknownTenant
from flowmaps.settings import Settings
from flowmaps.tenants.sealing import Sealer

MASTER = "master"
_NOT_INHERITED = frozenset({"dbname", "user", "password", "passfile", "service", "options", "application_name"})
_COLUMNS: LiteralString = (
    "id, topic, server, database, owner_name, owner_password, reader_name, reader_password, state from flowmaps.tenant"
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """A role of PostgreSQL that may log in."""

    user: str
    password: SecretStr


@dataclass(frozen=True, slots=True)
class Tenant:
    """One topic's database; *address* is libpq's parameters of the writer, *reader_address* of the reader."""

    id: int
    topic: str
    database: str
    server: str
    owner: Credentials
    reader: Credentials
    state: str
    address: Mapping[str, str]
    reader_address: Mapping[str, str]

    @property
    def host(self) -> str:
        return self.address.get("host", "")

    @property
    def port(self) -> int:
        return int(self.address.get("port", "5432").split(",")[0])

    @property
    def conninfo_owner(self) -> str:
        """Connection string for libpq, with the password in it: never log it."""
        return _conninfo(tuple(self.address.items()), self.database, self.owner)

    @property
    def conninfo_reader(self) -> str:
        """Connection string for libpq, with the password in it: never log it."""
        return _conninfo(tuple(self.reader_address.items()), self.database, self.reader)


@lru_cache(maxsize=1024)
def _conninfo(address: tuple[tuple[str, str], ...], database: str, who: Credentials) -> str:
    """Every tile asks for it, and libpq's parser is slow."""
    return make_conninfo("", **dict(address), dbname=database, user=who.user, password=who.password.get_secret_value())


def server_url(settings: Settings, server: str) -> str:
    """Return the administrator's URL of a PostgreSQL server; raise `ConfigurationError` where it is not configured."""
    if server == MASTER:
        return settings.database.url.get_secret_value()
    if server not in settings.tenant.servers:
        raise ConfigurationError(
            f"tenants live on server {server!r}, which is not configured", names=("FLOWMAPS_TENANT_SERVERS",)
        )
    return settings.tenant.servers[server].get_secret_value()


def server_address(settings: Settings, server: str) -> dict[str, str]:
    """Return libpq's parameters of the server, TLS among them, without database, user and password."""
    parameters = conninfo_to_dict(server_url(settings, server))
    address = {name: str(value) for name, value in parameters.items() if name not in _NOT_INHERITED}
    address.setdefault("connect_timeout", str(max(2, round(settings.database.connect_timeout_seconds))))
    return address


def reader_address(settings: Settings, server: str) -> dict[str, str]:
    """Return as `server_address`, at the host and port that maps read from."""
    address = server_address(settings, server)
    if server in settings.tenant.readers:
        host, _, port = settings.tenant.readers[server].rpartition(":")
        address |= {"host": host, "port": port}
        address.pop("hostaddr", None)
    return address


def password_context(topic: str, part: str) -> str:
    return f"tenant {topic!r} {part}"


class TenantReader:
    """Turns rows of the master database into tenants."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._sealer = Sealer(settings.secret_key, settings.secret_key_previous)

    def tenant(self, row: Mapping[str, Any]) -> Tenant:
        return Tenant(
            id=row["id"],
            topic=row["topic"],
            database=row["database"],
            server=row["server"],
            owner=self._credentials(row, "owner"),
            reader=self._credentials(row, "reader"),
            state=row["state"],
            address=server_address(self._settings, row["server"]),
            reader_address=reader_address(self._settings, row["server"]),
        )

    def _credentials(self, row: Mapping[str, Any], part: str) -> Credentials:
        password = self._sealer.open(bytes(row[f"{part}_password"]), password_context(row["topic"], part))
        return Credentials(row[f"{part}_name"], SecretStr(password))

    def list_tenants(self, conn: Connection[Any]) -> list[Tenant]:
        """Return every tenant, ready or not, in the order of their topics."""
        with conn.cursor(row_factory=dict_row) as cursor:
            cursor.execute("select " + _COLUMNS + " order by topic")
            return [self.tenant(row) for row in cursor]

    def find_tenant(self, conn: Connection[Any], topic: str) -> Tenant | None:
        """Return the topic's tenant in any state, or None."""
        with conn.cursor(row_factory=dict_row) as cursor:
            cursor.execute("select " + _COLUMNS + " where topic = %s", [_storable(topic)])
            row = cursor.fetchone()
        return self.tenant(row) if row else None

    def load_tenant(self, conn: Connection[Any], topic: str) -> Tenant:
        """Return the topic's tenant; raise `UnknownTenant` or `TenantNotReady`."""
        return _ready(self.find_tenant(conn, topic), topic)

    async def load_tenant_async(self, conn: AsyncConnection[Any], topic: str) -> Tenant:
        """Return the topic's tenant; raise `UnknownTenant` or `TenantNotReady`."""
        async with conn.cursor(row_factory=dict_row) as cursor:
            await cursor.execute("select " + _COLUMNS + " where topic = %s", [_storable(topic)])
            row = await cursor.fetchone()
        return _ready(self.tenant(row) if row else None, topic)


def list_tenants(conn: Connection[Any], settings: Settings) -> list[Tenant]:
    return TenantReader(settings).list_tenants(conn)


def load_tenant(conn: Connection[Any], settings: Settings, topic: str) -> Tenant:
    return TenantReader(settings).load_tenant(conn, topic)


def touch_tenant(conn: Connection[Any], topic: str) -> None:
    """Tell running consumers to look at the topic's tenant again; *conn* is to the master database."""
    conn.execute("update flowmaps.tenant set revision = revision + 1 where topic = %s", [topic])


def _ready(tenant: Tenant | None, topic: str) -> Tenant:
    if tenant is None:
        raise UnknownTenant(f"no datapoint of topic {topic!r} has arrived yet")
    if tenant.state != "ready":
        raise TenantNotReady(f"the database of topic {topic!r} is still being prepared")
    return tenant


def _storable(topic: str) -> str:
    """Return *topic*, unless PostgreSQL could not even be asked for it."""
    if "\0" in topic or _has_surrogates(topic):
        raise UnknownTenant("no topic has such a name")
    return topic


def _has_surrogates(text: str) -> bool:
    return any("\ud800" <= char <= "\udfff" for char in text)
