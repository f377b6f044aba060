"""``flow-maps tenants``: look after the tenants' databases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated

import psycopg
import typer
from rich.markup import escape
from rich.table import Table

from flowmaps.commands.terminal import DryRun, EnvFile, Yes, console, parse_time, read_settings, say

app = typer.Typer(help="Look after the tenants' databases.", no_args_is_help=True)


@app.command("list")
def list_(env_file: EnvFile = None) -> None:
    """List the tenants: topic, state, server and database."""
    from flowmaps.tenants import list_tenants, translate_database_errors

    settings = read_settings(env_file)
    table = Table("topic", "state", "server", "database", box=None)
    with translate_database_errors(), psycopg.connect(settings.database.url.get_secret_value()) as conn:
        for tenant in list_tenants(conn, settings):
            table.add_row(escape(tenant.topic), tenant.state, tenant.server, tenant.database)
    console.print(table)


@app.command()
def show(topic: str, env_file: EnvFile = None) -> None:
    """Show one tenant: where it is, what it holds, how far it was read, what was rejected."""
    from flowmaps.tenants import TenantReader, describe_tenant, translate_database_errors

    settings = read_settings(env_file)
    with translate_database_errors(), psycopg.connect(settings.database.url.get_secret_value()) as conn:
        tenant = TenantReader(settings).find_tenant(conn, topic)
    if tenant is None:
        say(f"{topic}: no tenant")
        raise typer.Exit(1)
    say(f"topic        {tenant.topic}")
    say(f"state        {tenant.state}")
    say(f"database     {tenant.database} on {tenant.server} ({tenant.host}:{tenant.port})")
    say(f"roles        {tenant.owner.user}, {tenant.reader.user}")
    if tenant.state != "ready":
        return
    found = describe_tenant(tenant)
    say(f"datapoints   {found.datapoints} on the map, {found.removed} remembered without a location")
    say(f"size         {found.database_bytes} bytes, of which datapoints {found.table_bytes}")
    say(f"last change  {found.last_change.isoformat()}")
    say(f"connections  {found.connections}")
    say(f"rejected     {', '.join(f'{count} {reason}' for reason, count in found.rejected.items()) or 'none'}")
    say(f"open gaps    {found.open_gaps}")
    for offset in found.offsets:
        say(
            f"partition {offset.partition:<3}goes on at {offset.next_offset}"
            f" (cluster {offset.cluster_id}, {offset.updated_at.isoformat()})"
        )


@app.command()
def create(topic: str, env_file: EnvFile = None) -> None:
    """Create a topic's database before its first datapoint comes."""
    from flowmaps.tenants import migrate_master, provision_tenant

    settings = read_settings(env_file)
    migrate_master(settings.database.url.get_secret_value())
    tenant = provision_tenant(settings, topic)
    say(f"{tenant.topic}: {tenant.database} on {tenant.server}")


@app.command()
def migrate(*, dry_run: DryRun = False, env_file: EnvFile = None) -> None:
    """Bring the master database and every tenant's database up to date."""
    from flowmaps.tenants import (
        migrate_master,
        migrate_tenants,
        pending_migrations,
        pending_tenants,
        translate_database_errors,
    )

    settings = read_settings(env_file)
    url = settings.database.url.get_secret_value()
    if dry_run:
        with translate_database_errors(), psycopg.connect(url, autocommit=True) as conn:
            _say_migrations("master database", pending_migrations(conn, "master"), "lacks ")
        _say_all(pending_tenants(settings), "lacks ")
        return
    _say_migrations("master database", migrate_master(url), "")
    _say_all(migrate_tenants(settings), "")


def _say_all(found: Mapping[str, Iterable[str]], verb: str) -> None:
    for topic, names in found.items():
        _say_migrations(topic, names, verb)


def _say_migrations(what: str, names: Iterable[str], verb: str) -> None:
    text = ", ".join(names)
    say(f"{what}: {verb + text if text else 'up to date'}")


@app.command("rotate-credentials")
def rotate_credentials(
    topic: Annotated[str | None, typer.Argument(help="One topic.")] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Every tenant.")] = False,
    env_file: EnvFile = None,
) -> None:
    """Give the roles of a topic, or of every topic, new passwords; ingest and tiles go on."""
    from flowmaps import tenants

    if (topic is None) is not every:
        raise typer.BadParameter("give a topic, or --all")
    settings = read_settings(env_file)
    topics = [topic] if topic is not None else []
    if every:
        url = settings.database.url.get_secret_value()
        with tenants.translate_database_errors(), psycopg.connect(url) as conn:
            topics = [tenant.topic for tenant in tenants.list_tenants(conn, settings) if tenant.state == "ready"]
    for name in topics:
        tenants.rotate_credentials(settings, name)
        say(f"{name}: new passwords")


@app.command()
def drop(topic: str, *, yes: Yes = False, dry_run: DryRun = False, env_file: EnvFile = None) -> None:
    """Delete a tenant: its database with all its data, its roles, its maps.

    The topic's records stay in Kafka: the next one makes the tenant anew, with all that Kafka still has.
    """
    from flowmaps.tenants import TenantReader, describe_tenant, drop_tenant, translate_database_errors

    settings = read_settings(env_file)
    with translate_database_errors(), psycopg.connect(settings.database.url.get_secret_value()) as conn:
        tenant = TenantReader(settings).find_tenant(conn, topic)
    if tenant is None:
        say(f"{topic}: no tenant, nothing to delete")
        return
    if dry_run:
        held = f" with {describe_tenant(tenant).datapoints} datapoints" if tenant.state == "ready" else ""
        say(f"would delete database {tenant.database} on {tenant.server}{held}, and its roles")
        return
    if not yes:
        typer.confirm(f"Delete the database of {topic} with all its data?", abort=True)
    drop_tenant(settings, topic)
    say(f"{topic}: deleted")


@app.command()
def rewind(
    topic: str,
    *,
    offset: Annotated[int | None, typer.Option(min=0, help="Go on at this offset.")] = None,
    time: Annotated[
        datetime | None,
        typer.Option(
            parser=parse_time, metavar="TIME", help="Go on at this time: ISO 8601, or an age such as 2h or 7d."
        ),
    ] = None,
    partition: Annotated[int | None, typer.Option(min=0, help="One partition; default: all.")] = None,
    dry_run: DryRun = False,
    env_file: EnvFile = None,
) -> None:
    """Read a topic's records again, from an offset, a time, or the beginning; nothing is doubled by it."""
    from flowmaps.ingest.kafka import Observer
    from flowmaps.ingest.repair import rewind as rewind_topic

    if offset is not None and time is not None:
        raise typer.BadParameter("give --offset or --time, not both")
    settings = read_settings(env_file)
    to = offset if offset is not None else time
    with Observer(settings) as observer:
        moves = rewind_topic(settings, observer, topic, to, partition=partition, dry_run=dry_run)
    for move in moves:
        say(f"{topic}/{move.partition}: {'would go' if dry_run else 'goes'} on at {move.after}, was at {move.before}")
    if not moves:
        say(f"{topic}: nothing was read yet")
