"""Take from a tenant's reader role everything but reading the published view."""

from __future__ import annotations

from typing import Any, LiteralString

from psycopg import Connection, sql

from flowmaps.settings import TenantSettings
from flowmaps.tenants.registry import Tenant

_DANGEROUS: LiteralString = """
select p.oid::regprocedure::text
from pg_proc p
join pg_namespace n on n.oid = p.pronamespace
where n.nspname in ('pg_catalog', 'public')
  and (
    p.proname ~ '^(pg_sleep|pg_(try_)?advisory|lo_|lowrite|loread|dblink|pg_read_|pg_ls_|pg_stat_file|pg_logical_'
                '|pg_notify|pg_export_snapshot|pg_file_|pg_logdir|pg_current_logfile|txid_current$|pg_current_xact_id$'
                '|pg_cancel_backend|pg_terminate_backend|pg_reload_conf|pg_rotate_logfile|pg_log_backend'
                '|pg_stat_reset|pg_stat_get_activity|pg_replication_|pg_create_|pg_drop_|pg_copy_|pg_switch_|pg_wal_'
                '|currval|nextval|setval|lastval|pg_relation_filenode|pg_filenode_relation)'
    or p.proname in (
      'set_config', 'query_to_xml', 'query_to_xmlschema', 'query_to_xml_and_xmlschema', 'cursor_to_xml',
      'cursor_to_xmlschema', 'table_to_xml', 'table_to_xmlschema', 'table_to_xml_and_xmlschema', 'schema_to_xml',
      'schema_to_xmlschema', 'schema_to_xml_and_xmlschema', 'database_to_xml', 'database_to_xmlschema',
      'database_to_xml_and_xmlschema', 'ts_stat', 'inet_client_addr', 'inet_server_addr', 'pg_database_size',
      'pg_tablespace_size', 'st_fromgdalraster', 'st_estimatedextent', 'st_findextent', 'addgeometrycolumn',
      'dropgeometrycolumn', 'dropgeometrytable', 'updategeometrysrid', 'populate_geometry_columns',
      'postgis_extensions_upgrade', 'lockrow', 'unlockrows', 'addauth', 'checkauth', 'enablelongtransactions',
      'disablelongtransactions', 'longtransactionsenabled'
    )
  )
  and has_function_privilege('public', p.oid, 'execute')
order by 1
"""
"""Functions that wait, lock, read files, run a text as SQL, change settings or tell of other sessions."""


def lock_down_reader(conn: Connection[Any], tenant: Tenant, settings: TenantSettings) -> bool:
    """Set every privilege and setting of the reader, in a transaction of *conn*, the administrator in that database.

    Return whether PostgreSQL's own functions could be taken from it as well, which needs a superuser; without one
    the check of a map's SQL alone keeps them away.
    """
    reader, owner = sql.Identifier(tenant.reader.user), sql.Identifier(tenant.owner.user)
    database = sql.Identifier(tenant.database)
    statements = [
        "revoke all on database {database} from public",
        "grant connect on database {database} to {reader}",
        "revoke all on schema public from public",
        "grant usage on schema public to {reader}",
        "grant usage, create on schema public to {owner}",
        "revoke all on schema flowmaps from public",
        "grant select on public.datapoint to {reader}",
        "grant execute on function public.flowmaps_last_change() to {reader}",
        "alter role {reader} noinherit nocreatedb nocreaterole connection limit {connections}",
        "alter role {reader} in database {database} set default_transaction_read_only = 'on'",
        "alter role {reader} in database {database} set statement_timeout = {statement_timeout}",
        "alter role {reader} in database {database} set lock_timeout = '1s'",
        "alter role {reader} in database {database} set idle_in_transaction_session_timeout = '60s'",
        "alter role {reader} in database {database} set work_mem = {work_mem}",
        "alter role {reader} in database {database} set search_path = 'public'",
        # Compiling costs more than it saves on queries of one tile.
        "alter role {reader} in database {database} set jit = 'off'",
    ]
    names: dict[str, sql.Composable] = {
        "database": database,
        "reader": reader,
        "owner": owner,
        "connections": sql.Literal(settings.reader_connections),
        "statement_timeout": sql.Literal(f"{settings.statement_timeout_ms}ms"),
        "work_mem": sql.Literal(f"{settings.work_mem_kib}kB"),
    }
    with conn.transaction():
        for statement in statements:
            conn.execute(sql.SQL(statement).format(**names))
        superuser = _is_superuser(conn)
        if superuser:
            _revoke_functions(conn, reader, owner, database)
    return superuser


def _is_superuser(conn: Connection[Any]) -> bool:
    row = conn.execute("select rolsuper from pg_roles where rolname = current_user").fetchone()
    return bool(row and row[0])


def _revoke_functions(
    conn: Connection[Any], reader: sql.Identifier, owner: sql.Identifier, database: sql.Identifier
) -> None:
    for (signature,) in conn.execute(_DANGEROUS).fetchall():
        # PostgreSQL itself wrote the signature, quoted where it must be.
        function = sql.SQL(signature)
        conn.execute(sql.SQL("revoke execute on function {} from public").format(function))
        # Migrations lock, and a dump as the owner changes settings.
        conn.execute(sql.SQL("grant execute on function {} to {}").format(function, owner))
    for view in ("geometry_columns", "geography_columns"):
        conn.execute(sql.SQL("revoke all on public.{} from public").format(sql.Identifier(view)))
    conn.execute("revoke insert, update, delete, truncate on public.spatial_ref_sys from public")
    conn.execute(sql.SQL("alter role {} in database {} set temp_file_limit = '1GB'").format(reader, database))
