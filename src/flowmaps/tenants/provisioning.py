"""Create, migrate, re-key and drop tenant databases.

Every step asks first whether it is done, so that a process killed between two of them is continued by the next.
An advisory lock in the master database, held by the session, lets one process at a time work on one topic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import structlog
from psycopg import Connection, sql
from psycopg.conninfo import make_conninfo

from flowmaps.errors import ConfigurationError, UnknownTenant
from flowmaps.settings import Settings
from flowmaps.tenants import names
from flowmaps.tenants.database_errors import translate_database_errors
from flowmaps.tenants.lockdown import lock_down_reader
from flowmaps.tenants.migrations import apply_migrations, pending_migrations
from flowmaps.tenants.registry import MASTER, Credentials, Tenant, TenantReader, password_context, server_url
from flowmaps.tenants.sealing import Sealer

Announce = Callable[[str], None]
_log = structlog.get_logger(__name__)
_LOCK_CLASS = 7_190_226


def migrate_master(url: str) -> list[str]:
    """Bring the master database at *url* to the newest schema and return the names of the migrations applied."""
    with translate_database_errors(), psycopg.connect(url, autocommit=True) as conn:
        applied = apply_migrations(conn, "master")
        if applied:
            _close_to_public(conn)
        return applied


def installation_id(url: str) -> str:
    """Return what tells this master database from every other one."""
    with translate_database_errors(), psycopg.connect(url) as conn:
        row = conn.execute("select id::text from flowmaps.installation").fetchone()
    if row is None:
        raise ConfigurationError("the master database is not complete", names=("FLOWMAPS_DATABASE_URL",))
    return str(row[0])


def provision_tenant(settings: Settings, topic: str, *, announce: Announce | None = None) -> Tenant:
    """Return the topic's tenant, ready for use; create what it lacks. *announce* is told of each step that is done."""
    tell = announce or (lambda step: _log.info("tenant step", topic=topic, step=step))
    reader = TenantReader(settings)
    with translate_database_errors(), _master(settings) as master:
        found = reader.find_tenant(master, topic)
        if found and found.state == "ready":
            return found
        with _topic_lock(master, topic):
            found = reader.find_tenant(master, topic)
            if found and found.state == "ready":
                return found
            if found and found.state == "dropping":
                _drop(settings, master, found)
                found = None
            tenant = found or _claim(settings, master, topic, reader)
            tell(f"claimed database {tenant.database}")
            tenant = _create(settings, master, tenant, reader, tell)
            master.execute(
                # The revision tells consumers of the topic's other partitions to read those from the beginning, too.
                "update flowmaps.tenant set state = 'ready', ready_at = clock_timestamp(), revision = revision + 1"
                " where id = %s",
                [tenant.id],
            )
            tell("ready")
            return reader.load_tenant(master, topic)


def migrate_tenant(tenant: Tenant) -> list[str]:
    """Bring one tenant database to the newest schema, as its owner, and return what was applied."""
    with translate_database_errors(), psycopg.connect(tenant.conninfo_owner, autocommit=True) as conn:
        return apply_migrations(conn, "tenant")


def migrate_tenants(settings: Settings, *, announce: Announce | None = None) -> dict[str, list[str]]:
    """Bring every ready tenant to the newest schema and its reader's privileges to the settings; return by topic."""
    applied: dict[str, list[str]] = {}
    with translate_database_errors(), _master(settings) as master:
        for tenant in TenantReader(settings).list_tenants(master):
            if tenant.state != "ready":
                continue
            with _topic_lock(master, tenant.topic):
                applied[tenant.topic] = migrate_tenant(tenant)
                _lock_down(settings, tenant)
            if announce:
                announce(f"{tenant.topic}: {', '.join(applied[tenant.topic]) or 'up to date'}")
    return applied


def pending_tenants(settings: Settings) -> dict[str, list[str]]:
    """Return, by topic, the migrations that `migrate_tenants` would apply; nothing is changed."""
    with translate_database_errors(), _master(settings) as master:
        tenants = [tenant for tenant in TenantReader(settings).list_tenants(master) if tenant.state == "ready"]
    found = {}
    for tenant in tenants:
        with translate_database_errors(), psycopg.connect(tenant.conninfo_owner, autocommit=True) as conn:
            found[tenant.topic] = pending_migrations(conn, "tenant")
    return found


def drop_tenant(settings: Settings, topic: str) -> None:
    """Delete the topic's database, roles, maps and rejected records; raise `UnknownTenant` where there is none."""
    with translate_database_errors(), _master(settings) as master, _topic_lock(master, topic):
        tenant = TenantReader(settings).find_tenant(master, topic)
        if tenant is None:
            raise UnknownTenant(f"topic {topic!r} has no tenant")
        master.execute("update flowmaps.tenant set state = 'dropping' where id = %s", [tenant.id])
        _drop(settings, master, tenant)


def rotate_credentials(settings: Settings, topic: str) -> Tenant:
    """Give both roles of the topic new passwords, sealed with the current secret key.

    Open connections go on. Whoever still has the old password is refused, reads the tenant anew and comes in.
    """
    reader, sealer = TenantReader(settings), Sealer(settings.secret_key)
    with translate_database_errors(), _master(settings) as master, _topic_lock(master, topic):
        tenant = reader.load_tenant(master, topic)
        fresh = {"owner": names.new_password(), "reader": names.new_password()}
        sealed = {part: sealer.seal(password, password_context(topic, part)) for part, password in fresh.items()}
        with _same_or_admin(settings, master, tenant.server) as admin, master.transaction():
            master.execute(
                "update flowmaps.tenant set owner_password = %s, reader_password = %s where id = %s",
                [sealed["owner"], sealed["reader"], tenant.id],
            )
            # On the master's own server this is the same transaction. Elsewhere a process that dies right between the
            # two commits leaves the roles' passwords unknown until the rotation is repeated.
            with admin.transaction():
                for part, role in (("owner", tenant.owner), ("reader", tenant.reader)):
                    _set_password(admin, role.user, fresh[part])
        return reader.load_tenant(master, topic)


@contextmanager
def _master(settings: Settings) -> Iterator[Connection[Any]]:
    with _admin(settings, "master") as conn:
        yield conn


@contextmanager
def _admin(settings: Settings, server: str, database: str | None = None) -> Iterator[Connection[Any]]:
    url = server_url(settings, server)
    conninfo = make_conninfo(url, dbname=database) if database else url
    timeout = max(2, round(settings.database.connect_timeout_seconds))
    with psycopg.connect(conninfo, autocommit=True, connect_timeout=timeout) as conn:
        yield conn


@contextmanager
def _same_or_admin(settings: Settings, master: Connection[Any], server: str) -> Iterator[Connection[Any]]:
    if server == MASTER:
        yield master
    else:
        with _admin(settings, server) as admin:
            yield admin


@contextmanager
def _topic_lock(master: Connection[Any], topic: str) -> Iterator[None]:
    key = [_LOCK_CLASS, topic]
    master.execute("select pg_advisory_lock(%s, hashtext(%s))", key)
    try:
        yield
    finally:
        if not master.closed and not master.broken:
            master.execute("select pg_advisory_unlock(%s, hashtext(%s))", key)


def _claim(
    settings: Settings, master: Connection[Any], topic: str, reader: TenantReader, *, taken: tuple[str, ...] = ()
) -> Tenant:
    """Write the topic's row with the best database name that no other topic has."""
    sealer, server = Sealer(settings.secret_key), settings.tenant.placement
    with master.transaction():
        # Two topics may want one name at once; whoever comes second must see the first.
        master.execute("lock table flowmaps.tenant in share row exclusive mode")
        used = {
            row[0] for row in master.execute("select database from flowmaps.tenant where server = %s", [server])
        } | set(taken)
        free = [name for name in names.database_names(topic) if name not in used]
        if not free:
            raise ConfigurationError(f"every database name for topic {topic!r} is taken on server {server!r}")
        master.execute("delete from flowmaps.tenant where topic = %s", [topic])
        master.execute(
            "insert into flowmaps.tenant"
            " (topic, server, database, owner_name, owner_password, reader_name, reader_password)"
            " values (%s, %s, %s, %s, %s, %s, %s)",
            [
                topic,
                server,
                free[0],
                names.new_role_name("owner"),
                sealer.seal(names.new_password(), password_context(topic, "owner")),
                names.new_role_name("reader"),
                sealer.seal(names.new_password(), password_context(topic, "reader")),
            ],
        )
        found = reader.find_tenant(master, topic)
    if found is None:
        raise UnknownTenant(f"topic {topic!r} has no tenant")
    return found


def _create(
    settings: Settings, master: Connection[Any], tenant: Tenant, reader: TenantReader, tell: Announce
) -> Tenant:
    taken: tuple[str, ...] = ()
    with _admin(settings, tenant.server) as admin:
        while True:
            for role in (tenant.owner, tenant.reader):
                _create_role(admin, role)
            tell("roles")
            if _create_database(admin, tenant):
                break
            # A database of this name belongs to something else on that server: leave it alone.
            _drop_roles(admin, tenant)
            taken = (*taken, tenant.database)
            tenant = _claim(settings, master, tenant.topic, reader, taken=taken)
        tell("database")
    with _admin(settings, tenant.server, tenant.database) as admin:
        admin.execute("create extension if not exists postgis with schema public")
        admin.execute(sql.SQL("grant usage, create on schema public to {}").format(sql.Identifier(tenant.owner.user)))
    tell("extension")
    migrate_tenant(tenant)
    tell("tables")
    _lock_down(settings, tenant)
    tell("privileges")
    return tenant


def _lock_down(settings: Settings, tenant: Tenant) -> None:
    with _admin(settings, tenant.server, tenant.database) as admin:
        if not lock_down_reader(admin, tenant, settings.tenant):
            _log.warning(
                "the administrator is no superuser: functions of PostgreSQL stay open to the reader role",
                topic=tenant.topic,
                server=tenant.server,
            )


def _create_role(admin: Connection[Any], role: Credentials) -> None:
    name = sql.Identifier(role.user)
    known = admin.execute("select 1 from pg_roles where rolname = %s", [role.user]).fetchone()
    if not known:
        admin.execute(sql.SQL("create role {} login nosuperuser").format(name))
        # Only a member may make a role the owner of a database; a superuser needs no membership.
        admin.execute(
            sql.SQL("grant {} to current_user").format(name)
            if not _superuser(admin)
            else sql.SQL("comment on role {} is 'Flow Maps'").format(name)
        )
    _set_password(admin, role.user, role.password.get_secret_value())


def _superuser(admin: Connection[Any]) -> bool:
    row = admin.execute("select rolsuper from pg_roles where rolname = current_user").fetchone()
    return bool(row and row[0])


def _set_password(admin: Connection[Any], user: str, password: str) -> None:
    """Send the password as its SCRAM verifier, so that no log of the server ever sees it."""
    verifier = admin.pgconn.encrypt_password(password.encode(), user.encode(), b"scram-sha-256").decode()
    admin.execute(sql.SQL("alter role {} password {}").format(sql.Identifier(user), sql.Literal(verifier)))


def _create_database(admin: Connection[Any], tenant: Tenant) -> bool:
    """Create the database, or return False where one of that name belongs to another role."""
    row = admin.execute(
        "select pg_get_userbyid(datdba) from pg_database where datname = %s", [tenant.database]
    ).fetchone()
    if row is not None:
        return bool(row[0] == tenant.owner.user)
    admin.execute(
        sql.SQL("create database {} owner {} template template0 encoding 'UTF8'").format(
            sql.Identifier(tenant.database), sql.Identifier(tenant.owner.user)
        )
    )
    return True


def _drop(settings: Settings, master: Connection[Any], tenant: Tenant) -> None:
    with _admin(settings, tenant.server) as admin:
        row = admin.execute(
            "select pg_get_userbyid(datdba) from pg_database where datname = %s", [tenant.database]
        ).fetchone()
        if row is not None and row[0] == tenant.owner.user:
            admin.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(tenant.database)))
        _drop_roles(admin, tenant)
    with master.transaction():
        for table in ("stored_map", "named_map", "rejected", "tenant"):
            master.execute(
                sql.SQL("delete from flowmaps.{} where topic = %s").format(sql.Identifier(table)), [tenant.topic]
            )


def _drop_roles(admin: Connection[Any], tenant: Tenant) -> None:
    for role in (tenant.reader, tenant.owner):
        admin.execute(sql.SQL("drop role if exists {}").format(sql.Identifier(role.user)))


def _close_to_public(conn: Connection[Any]) -> None:
    """Keep tenants' roles out of the master database; its owner alone may enter, and whom the operator names."""
    conn.execute(
        sql.SQL("revoke connect, temporary on database {} from public").format(sql.Identifier(conn.info.dbname))
    )
