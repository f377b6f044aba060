"""Tenant databases on a real PostgreSQL with PostGIS: made once, closed to each other, and to the maps' own SQL."""

import asyncio
import json
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from flowmaps.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    Forbidden,
    InvalidSQL,
    QueryTimeout,
    TenantNotReady,
    UnknownTenant,
)
from flowmaps.settings import Settings, parse_settings
from flowmaps.tenants import (
    OwnerConnections,
    Tenant,
    TenantPools,
    database_name,
    drop_tenant,
    list_tenants,
    load_tenant,
    migrate_master,
    migrate_tenants,
    provision_tenant,
    rotate_credentials,
)
from flowstack.postgres import Postgres

KEY = "a key for tests, long enough"
PUBLISHED = [
    "identifier",
    "survey_id",
    "created_date_time",
    "last_update_date_time",
    "geom",
    "the_geom_webmercator",
    "properties",
]


def settings_for(url: str, **more: str) -> Settings:
    return parse_settings({"FLOWMAPS_DATABASE_URL": url, "FLOWMAPS_SECRET_KEY": KEY} | more)


@pytest.fixture(scope="module")
def master_url(postgres: Postgres) -> Iterator[str]:
    """A master database of this module's own, whose tenants are dropped in the end."""
    admin_url, name = postgres.url, f"master_{secrets.token_hex(4)}"
    with psycopg.connect(admin_url, autocommit=True) as conn:
        conn.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    url = make_conninfo(admin_url, dbname=name)
    migrate_master(url)
    yield url
    settings = settings_for(url)
    with psycopg.connect(url) as conn:
        topics = [tenant.topic for tenant in list_tenants(conn, settings)]
    for topic in topics:
        drop_tenant(settings, topic)
    with psycopg.connect(admin_url, autocommit=True) as conn:
        conn.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture(scope="module")
def settings(master_url: str) -> Settings:
    return settings_for(master_url)


@pytest.fixture
def topic() -> str:
    return f"t{secrets.token_hex(4)}.datapoint"


@pytest.fixture(scope="module")
def shared(settings: Settings) -> Tenant:
    """One tenant for tests that only look."""
    return provision_tenant(settings, f"shared{secrets.token_hex(4)}.datapoint")


def as_reader(tenant: Tenant, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(tenant.conninfo_reader) as conn:
        return conn.execute(statement.encode()).fetchall()


def test_a_tenant_is_made_once_and_found_again(settings: Settings, topic: str) -> None:
    first = provision_tenant(settings, topic)
    assert first.state == "ready"
    assert first.database == database_name(topic)
    assert provision_tenant(settings, topic) == first


def test_five_threads_make_one_tenant(settings: Settings, topic: str) -> None:
    barrier = threading.Barrier(5)

    def provision() -> Tenant:
        barrier.wait(timeout=30)
        return provision_tenant(settings, topic)

    with ThreadPoolExecutor(5) as pool:
        tenants = [future.result(timeout=60) for future in [pool.submit(provision) for _ in range(5)]]
    assert len({repr(tenant) for tenant in tenants}) == 1
    assert as_reader(tenants[0], "select count(*) from datapoint") == [(0,)]


def test_five_processes_make_one_tenant(master_url: str, topic: str) -> None:
    program = (
        "from flowmaps.settings import load_settings; from flowmaps.tenants import provision_tenant;"
        f"t = provision_tenant(load_settings(), {topic!r}); print(t.database, t.owner.user, t.reader.user)"
    )
    environ = os.environ | {"FLOWMAPS_DATABASE_URL": master_url, "FLOWMAPS_SECRET_KEY": KEY}
    started = [
        subprocess.Popen([sys.executable, "-c", program], env=environ, stdout=subprocess.PIPE, text=True, cwd="/")
        for _ in range(5)
    ]
    said = [process.communicate(timeout=90)[0].splitlines()[-1] for process in started]
    assert [process.returncode for process in started] == [0] * 5
    assert len(set(said)) == 1


@pytest.mark.parametrize("step", range(6))
def test_a_process_that_dies_between_two_steps_is_continued(settings: Settings, topic: str, step: int) -> None:
    done: list[str] = []

    def die_after(name: str) -> None:
        done.append(name)
        if len(done) > step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        provision_tenant(settings, topic, announce=die_after)
    with psycopg.connect(settings.database.url.get_secret_value()) as conn, pytest.raises(TenantNotReady):
        load_tenant(conn, settings, topic)
    assert as_reader(provision_tenant(settings, topic), "select count(*) from datapoint") == [(0,)]


def test_colliding_topics_have_databases_of_their_own(settings: Settings) -> None:
    stem = f"x{secrets.token_hex(4)}"
    topics = [f"{stem}.datapoint", f"{stem}-datapoint", f"{stem}_datapoint", f"{stem.upper()}.DATAPOINT"]
    names = [provision_tenant(settings, topic).database for topic in topics]
    assert len(set(names)) == len(topics)
    assert names[0] == f"afm_{stem}_datapoint"
    assert all(name.startswith(f"afm_{stem}_datapoint_") for name in names[1:])


@pytest.mark.parametrize(
    "topic",
    ['quote"d', "it's; drop table tenant", "spaces and\ttabs", "Überschwemmung 数据", "d" * 300, "%s {} \\ $1"],
    ids=["double-quote", "quote", "blanks", "other-alphabets", "long", "placeholders"],
)
def test_odd_topics_become_tenants(settings: Settings, topic: str) -> None:
    tenant = provision_tenant(settings, topic)
    assert as_reader(tenant, "select current_database()") == [(tenant.database,)]


def test_a_database_of_the_same_name_that_is_not_ours_is_left_alone(settings: Settings, topic: str) -> None:
    url = settings.database.url.get_secret_value()
    name = sql.Identifier(database_name(topic))
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(sql.SQL("create database {}").format(name))
        try:
            tenant = provision_tenant(settings, topic)
            assert tenant.database != database_name(topic)
            with psycopg.connect(make_conninfo(url, dbname=database_name(topic))) as other:
                assert other.execute("select to_regclass('public.datapoint')").fetchone() == (None,)
        finally:
            conn.execute(sql.SQL("drop database {}").format(name))


def test_passwords_are_not_in_the_master_database(settings: Settings, shared: Tenant) -> None:
    with psycopg.connect(settings.database.url.get_secret_value()) as conn:
        row = conn.execute("select t::text from flowmaps.tenant t where topic = %s", [shared.topic]).fetchone()
    assert row is not None
    for who in (shared.owner, shared.reader):
        password = who.password.get_secret_value()
        assert password not in row[0]
        assert password.encode().hex() not in row[0]
        assert password not in repr(shared)


def test_the_published_columns_are_all_that_the_reader_sees(shared: Tenant) -> None:
    with psycopg.connect(shared.conninfo_reader) as conn:
        cursor = conn.execute("select * from datapoint")
        assert [column.name for column in cursor.description or ()] == PUBLISHED
        readable = conn.execute(
            "select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace"
            " where n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')"
            " and c.relkind in ('r', 'v', 'm', 'p', 'f', 'S')"
            " and has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select')"
        ).fetchall()
    assert sorted(name for (name,) in readable) == ["datapoint", "spatial_ref_sys"]


@pytest.mark.parametrize(
    "statement",
    [
        "insert into datapoint (identifier) values ('x')",
        "update datapoint set survey_id = 'x'",
        "delete from datapoint",
        "truncate flowmaps.datapoint",
        "drop view datapoint",
        "select * from flowmaps.datapoint",
        "select * from flowmaps.consumer_offset",
        "create temporary table t (a int)",
        "create table public.t (a int)",
        "create schema s",
        "select pg_sleep(1)",
        "select pg_sleep_for('1 second')",
        "select pg_advisory_lock(1)",
        "select pg_try_advisory_lock_shared(1)",
        "select set_config('statement_timeout', '0', false)",
        "select lo_create(0)",
        "select lo_from_bytea(0, 'x')",
        "select pg_read_file('/etc/passwd')",
        "select pg_ls_dir('.')",
        "select query_to_xml('select 1', true, true, '')",
        "select pg_terminate_backend(pg_backend_pid())",
        "select pg_notify('c', 'x')",
        "copy (select 1) to '/tmp/x'",
        "copy (select 1) to program 'true'",
        "update spatial_ref_sys set srtext = ''",
        "begin; lock table datapoint in exclusive mode",
        "create extension dblink",
        "set role postgres",
    ],
)
@pytest.mark.parametrize("tries_to_write", [False, True])
def test_the_reader_can_do_nothing_but_read(shared: Tenant, statement: str, tries_to_write: bool) -> None:
    with psycopg.connect(shared.conninfo_reader, autocommit=True) as conn:
        if tries_to_write:
            conn.execute("set default_transaction_read_only = off")
        with pytest.raises(
            (
                psycopg.errors.InsufficientPrivilege,
                psycopg.errors.ReadOnlySqlTransaction,
                psycopg.errors.InvalidParameterValue,
                psycopg.errors.FeatureNotSupported,
            )
        ):
            conn.execute(statement.encode())


def test_the_reader_may_ask_for_what_maps_need(shared: Tenant) -> None:
    found = as_reader(shared, "select st_asmvtgeom(the_geom_webmercator, st_tileenvelope(0, 0, 0)) from datapoint")
    assert found == []
    assert as_reader(shared, "select st_srid(st_transform(st_setsrid(st_makepoint(1, 2), 4326), 3857))") == [(3857,)]


def test_the_readers_settings_hold(settings: Settings, shared: Tenant) -> None:
    with psycopg.connect(shared.conninfo_reader) as conn:
        values = {
            name: conn.execute(sql.SQL("show {}").format(sql.SQL(name))).fetchone()
            for name in ("statement_timeout", "work_mem", "default_transaction_read_only", "search_path")
        }
    assert values == {
        "statement_timeout": ("10s",),
        "work_mem": ("16MB",),
        "default_transaction_read_only": ("on",),
        "search_path": ("public",),
    }


def test_a_role_enters_its_own_database_only(settings: Settings, shared: Tenant, topic: str) -> None:
    other = provision_tenant(settings, topic)
    master = conninfo_to_dict(settings.database.url.get_secret_value())["dbname"]
    for conninfo in (shared.conninfo_reader, shared.conninfo_owner):
        for database in (other.database, master):
            with pytest.raises(psycopg.OperationalError, match="permission denied"):
                psycopg.connect(make_conninfo(conninfo, dbname=database))


@pytest.mark.parametrize("latitude", [90, -90, 89.999, 0])
@pytest.mark.parametrize("longitude", [180, -180, 0])
def test_the_mercator_point_is_kept_by_the_database(shared: Tenant, longitude: float, latitude: float) -> None:
    with psycopg.connect(shared.conninfo_owner) as conn:
        row = conn.execute(
            "insert into datapoint (identifier, geom) values ('m', st_setsrid(st_makepoint(%s, %s), 4326))"
            " returning st_x(the_geom_webmercator), st_y(the_geom_webmercator)",
            [longitude, latitude],
        ).fetchone()
        conn.rollback()
    assert row is not None
    assert row[0] == pytest.approx(longitude / 180 * 20037508.342789244)
    assert row[1] == pytest.approx({90: 1, -90: -1, 89.999: 1, 0: 0}[latitude] * 20037508.342789244, abs=1e-6)


def test_rotation_gives_new_passwords_and_pools_follow(settings: Settings, topic: str) -> None:
    before = provision_tenant(settings, topic)
    rotate_credentials(settings, topic)
    for conninfo in (before.conninfo_owner, before.conninfo_reader):
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(conninfo)

    async def read() -> None:
        async with TenantPools(settings) as pools, pools.reader(topic) as conn:
            await conn.execute("select 1")

    asyncio.run(read())


def test_a_new_secret_key_reads_what_the_previous_one_wrote(settings: Settings, master_url: str, topic: str) -> None:
    provision_tenant(settings, topic)
    environ = {"FLOWMAPS_SECRET_KEY": "a newer key, long enough", "FLOWMAPS_DATABASE_URL": master_url}
    changed = parse_settings(environ | {"FLOWMAPS_SECRET_KEY_PREVIOUS": KEY})
    assert provision_tenant(changed, topic).state == "ready"
    rotate_credentials(changed, topic)
    assert provision_tenant(parse_settings(environ), topic).state == "ready"
    with pytest.raises(ConfigurationError):
        provision_tenant(settings, topic)
    drop_tenant(parse_settings(environ), topic)


def test_a_dropped_tenant_leaves_nothing(settings: Settings, topic: str) -> None:
    tenant = provision_tenant(settings, topic)
    drop_tenant(settings, topic)
    with psycopg.connect(settings.database.url.get_secret_value()) as conn:
        assert conn.execute("select 1 from pg_database where datname = %s", [tenant.database]).fetchall() == []
        roles = [tenant.owner.user, tenant.reader.user]
        assert conn.execute("select 1 from pg_roles where rolname = any(%s)", [roles]).fetchall() == []
        with pytest.raises(UnknownTenant):
            load_tenant(conn, settings, topic)
    with pytest.raises(UnknownTenant):
        drop_tenant(settings, topic)


def test_migrations_run_once_and_refuse_a_newer_database(settings: Settings, topic: str) -> None:
    tenant = provision_tenant(settings, topic)
    url = settings.database.url.get_secret_value()
    assert migrate_master(url) == []
    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(migrate_master, url) for _ in range(4)]:
            assert future.result(timeout=30) == []
    with psycopg.connect(tenant.conninfo_owner) as conn:
        conn.execute("insert into flowmaps.migration (name) values ('9999_from_the_future')")
    with pytest.raises(ConfigurationError, match="9999_from_the_future"):
        migrate_tenants(settings)
    drop_tenant(settings, topic)


def test_migrating_tenants_brings_the_readers_settings_up_to_date(
    master_url: str, settings: Settings, topic: str
) -> None:
    tenant = provision_tenant(settings, topic)
    assert migrate_tenants(settings_for(master_url, FLOWMAPS_TENANT_STATEMENT_TIMEOUT_MS="2000"))[topic] == []
    assert as_reader(tenant, "show statement_timeout") == [("2s",)]
    migrate_tenants(settings)


def test_pools_translate_what_postgresql_says(master_url: str, settings: Settings, topic: str) -> None:
    provision_tenant(settings_for(master_url, FLOWMAPS_TENANT_STATEMENT_TIMEOUT_MS="200"), topic)
    cases = {
        "select nonsense": InvalidSQL,
        "select 1 / 0": InvalidSQL,
        "select * from flowmaps.datapoint": Forbidden,
        "select count(*) from generate_series(1, 100000000) a, generate_series(1, 1000) b": QueryTimeout,
    }

    async def run() -> None:
        async with TenantPools(settings) as pools:
            for statement, error in cases.items():
                with pytest.raises(error):
                    async with pools.reader(topic) as conn:
                        await conn.execute(statement.encode())
            async with pools.reader(topic) as conn:
                assert conn.info.transaction_status.name == "IDLE"
                await conn.execute("select 1")

    asyncio.run(run())


def test_a_pooled_connection_that_the_server_ended_is_never_handed_out(settings: Settings, topic: str) -> None:
    provision_tenant(settings, topic)

    async def backend(pools: TenantPools) -> int:
        async with pools.reader(topic) as conn:
            cursor = await conn.execute("select pg_backend_pid()")
            row = await cursor.fetchone()
        assert row is not None
        return int(row[0])

    async def run() -> None:
        now = 0.0
        async with TenantPools(settings, clock=lambda: now) as pools:
            first = await backend(pools)
            assert await backend(pools) == first
            for later in (0.0, 60.0):
                async with pools.master() as conn:
                    await conn.execute("select pg_terminate_backend(%s, 2000)", (first,))
                now += later
                second = await backend(pools)
                assert second != first
                first = second

    asyncio.run(run())


def test_pools_know_no_tenant_that_is_not_there(settings: Settings) -> None:
    async def ask(topic: str) -> None:
        async with TenantPools(settings) as pools:
            await pools.tenant(topic)

    for topic in ("never seen", "nul\0", "\ud800"):
        with pytest.raises(UnknownTenant):
            asyncio.run(ask(topic))


def test_the_time_of_the_last_change_is_read_as_the_reader(settings: Settings, topic: str) -> None:
    tenant = provision_tenant(settings, topic)

    async def last_changes() -> timedelta:
        async with TenantPools(settings) as pools:
            before = await pools.last_change(topic)
            with psycopg.connect(tenant.conninfo_owner) as conn:
                conn.execute("update flowmaps.change set last_change = last_change + interval '1 hour'")
            return await pools.last_change(topic) - before

    assert asyncio.run(last_changes()) == timedelta(hours=1)


def test_a_master_database_that_is_away_is_said_to_be() -> None:
    away = settings_for(
        "postgresql://u:p@127.0.0.1:1/x?connect_timeout=2", FLOWMAPS_DATABASE_CONNECT_TIMEOUT_SECONDS="0.5"
    )

    async def ask() -> None:
        async with TenantPools(away) as pools:
            await pools.ready()

    with pytest.raises(DatabaseUnavailable):
        asyncio.run(ask())
    with pytest.raises(DatabaseUnavailable):
        provision_tenant(away, "topic")


def test_tenants_are_placed_on_the_server_that_the_settings_name(master_url: str, topic: str) -> None:
    environ = {"FLOWMAPS_TENANT_SERVERS": json.dumps({"second": master_url}), "FLOWMAPS_TENANT_PLACEMENT": "second"}
    tenant = provision_tenant(settings_for(master_url, **environ), topic)
    assert tenant.server == "second"
    with pytest.raises(ConfigurationError, match="second"):
        provision_tenant(settings_for(master_url), topic)
    drop_tenant(settings_for(master_url, **environ), topic)


def test_a_reader_address_differs_from_the_writers(master_url: str, topic: str) -> None:
    settings = settings_for(master_url, FLOWMAPS_TENANT_READERS='{"master": "reader.invalid:6543"}')
    tenant = provision_tenant(settings, topic)
    parts = conninfo_to_dict(tenant.conninfo_reader)
    assert (parts["host"], parts["port"]) == ("reader.invalid", "6543")
    assert conninfo_to_dict(tenant.conninfo_owner)["host"] == tenant.host


def test_owner_connections_are_used_again_and_bounded(settings: Settings, shared: Tenant) -> None:
    with OwnerConnections(settings, most=1) as connections:
        with connections.connection(shared) as first:
            assert first.execute("select current_user").fetchone() == (shared.owner.user,)
        with connections.connection(shared) as second:
            assert second is first
        with connections.connection(shared) as third, connections.connection(shared) as fourth:
            assert third is not fourth
        assert third.closed != fourth.closed
        with pytest.raises(psycopg.errors.DivisionByZero), connections.connection(shared) as broken:
            broken.execute("select 1/0")
        assert broken.closed
    assert all(conn.closed for conn in (first, third, fourth))
