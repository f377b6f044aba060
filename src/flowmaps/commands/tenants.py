"""``flow-maps tenants``: look after the tenants' databases."""

from __future__ import annotations

from typing import Annotated

import psycopg
import typer
from rich.markup import escape
from rich.table import Table

from flowmaps.commands.terminal import EnvFile, console, read_settings

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


@app.command("create")
def create(topic: str, env_file: EnvFile = None) -> None:
    """Create a topic's database before its first datapoint comes."""
    from flowmaps.tenants import migrate_master, provision_tenant

    settings = read_settings(env_file)
    migrate_master(settings.database.url.get_secret_value())
    tenant = provision_tenant(settings, topic)
    console.print(f"{escape(tenant.topic)}: {tenant.database} on {tenant.server}", highlight=False)


@app.command("migrate")
def migrate(env_file: EnvFile = None) -> None:
    """Bring the master database and every tenant's database up to date."""
    from flowmaps.tenants import migrate_master, migrate_tenants

    settings = read_settings(env_file)
    migrate_master(settings.database.url.get_secret_value())
    for topic, steps in migrate_tenants(settings).items():
        console.print(f"{escape(topic)}: {', '.join(steps) or 'up to date'}", highlight=False)


@app.command("rotate")
def rotate(topic: str, env_file: EnvFile = None) -> None:
    """Give the topic's roles new passwords."""
    from flowmaps.tenants import rotate_credentials

    rotate_credentials(read_settings(env_file), topic)
    console.print(f"{escape(topic)}: new passwords", highlight=False)


@app.command("drop")
def drop(
    topic: str,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    env_file: EnvFile = None,
) -> None:
    """Delete a tenant: its database with all its data, and its roles."""
    from flowmaps.tenants import drop_tenant

    if not yes:
        typer.confirm(f"Delete the database of {topic} with all its data?", abort=True)
    drop_tenant(read_settings(env_file), topic)
    console.print(f"{escape(topic)}: deleted", highlight=False)
